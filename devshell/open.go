package devshell

import (
	"context"
	"fmt"
)

// Cached returns the shell of a source if it is in the cache, and nil if Nix
// would have to make it.
func (c *Cache) Cached(ctx context.Context, n *Nix, s Source) (*Shell, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	version, err := c.Version(ctx, n)
	if err != nil {
		return nil, err
	}
	return c.hit(s.key(version, n.surroundings(s))), nil
}

// Open returns the shell of a key that Shell has told before. It starts nothing.
func (c *Cache) Open(key string) (*Shell, error) {
	if !isKey(key) {
		return nil, fmt.Errorf("cannot open the dev shell %q: that is no key", key)
	}
	if shell := c.hit(key); shell != nil {
		return shell, nil
	}
	return nil, fmt.Errorf("cannot open the dev shell %s: it is gone from the cache, or from the store; a new task makes it again", key)
}
