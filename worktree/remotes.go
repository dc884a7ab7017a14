package worktree

import (
	"slices"
	"strings"
)

// A Remote is a place that git talks to for one of the repository's remotes.
type Remote struct {
	Name string // of the remote
	URL  string // in any form that git-fetch(1), "GIT URLS", has; it may hold a password
}

// Remotes lists where the remotes are fetched from and pushed to, sorted by name:
// each URL as it is configured, and as url.<base>.insteadOf and pushInsteadOf
// make it (git-config(1)). It starts no process.
func (r *Repo) Remotes() []Remote { return r.config.remotes() }

func (c config) remotes() (out []Remote) {
	add := func(name, url string) {
		if m := (Remote{name, url}); url != "" && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	for key, urls := range c {
		name, ok := strings.CutPrefix(key, "remote.")
		if !ok {
			continue
		}
		push := false
		if name, ok = strings.CutSuffix(name, ".url"); !ok {
			name, push = strings.CutSuffix(name, ".pushurl")
		}
		if !ok && !push {
			continue
		}
		for _, url := range urls {
			add(name, url)
			add(name, c.instead(url, ".insteadof"))
			// Only a URL that is not for pushing alone is rewritten for it.
			if !push {
				add(name, c.instead(url, ".pushinsteadof"))
			}
		}
	}
	slices.SortFunc(out, func(a, b Remote) int {
		return strings.Compare(a.Name+"\x00"+a.URL, b.Name+"\x00"+b.URL)
	})
	return out
}

// instead is url with the longest beginning that is configured replaced, "" when
// there is none (remote.c, alias_url).
func (c config) instead(url, variable string) string {
	longest, result := 0, ""
	for key, beginnings := range c {
		base, ok := strings.CutPrefix(key, "url.")
		if !ok {
			continue
		}
		if base, ok = strings.CutSuffix(base, variable); !ok {
			continue
		}
		for _, b := range beginnings {
			rest, ok := strings.CutPrefix(url, b)
			if ok && len(b) > longest {
				longest, result = len(b), base+rest
			}
		}
	}
	return result
}
