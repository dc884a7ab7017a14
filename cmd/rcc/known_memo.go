package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// knownName is the folder of what was found in the cache.
const knownName = ".known"

// knownVersion counts with every change of what is found in the same files.
const knownVersion = 2

func (d dirs) known() string { return filepath.Join(d.Cache, knownName) }

// A placesMemo is what was found, and what was not, in the cache. What was damaged
// has another key.
type placesMemo struct {
	Key    string    `json:"key"`
	Places []place   `json:"places"`
	Failed []netLine `json:"failed,omitempty"`
	Late   bool      `json:"late,omitempty"` // there was no time for all of it
	When   time.Time `json:"when"`
}

// lateFor is how long what was found in a hurry stands before there is another try.
const lateFor = time.Hour

func (m *placesMemo) stands(key string) bool {
	age := time.Since(m.When)
	return m.Key == key && (!m.Late || 0 <= age && age < lateFor)
}

// rememberPlaces is what find finds, which is looked for once for a key, if find
// says that it is worth it.
func rememberPlaces(cache, key string, find func() (placesMemo, bool)) placesMemo {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", knownVersion, key))
	key = hex.EncodeToString(sum[:])
	file := filepath.Join(cache, key)
	var memo placesMemo
	if readJSON(file, &memo) == nil && memo.stands(key) {
		return memo
	}
	memo, keep := find()
	memo.Key, memo.When = key, time.Now()
	if keep && os.MkdirAll(cache, 0o700) == nil {
		_ = writeJSON(file, memo, false) // it is found again next time
	}
	return memo
}
