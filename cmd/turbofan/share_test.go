package main

import (
	"path/filepath"
	"testing"
)

// Processes that start together over one directory must call its registry by one name.
func TestRegistryIDsAgree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.id")
	type named struct {
		id  string
		err error
	}
	told := make(chan named)
	for range 16 {
		go func() {
			id, err := registryID(path)
			told <- named{id, err}
		}()
	}
	first := <-told
	if len(first.id) != 16 || first.err != nil {
		t.Fatalf("named %q, %v", first.id, first.err)
	}
	for range 15 {
		if next := <-told; next != first {
			t.Errorf("named %+v and %+v", first, next)
		}
	}
}
