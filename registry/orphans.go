package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

const uploadPrefix = "upload-"

// Tend sweeps from time to time until ctx ends; that a sweep failed is logged, and the next one tries again.
func (r *Registry) Tend(ctx context.Context) error {
	tick := time.NewTicker(r.sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r.trySweep(ctx)
	}
}

// trySweep sweeps. What it could not look at or delete is logged: it takes room and harms nobody.
func (r *Registry) trySweep(ctx context.Context) {
	if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn(cannotSweep, "error", err)
	}
}

const cannotSweep = "cannot delete what was left of artifacts"

// sweep deletes staged files, uploads in parts of which nothing came for long, and folders of versions that have no row:
// what a process left that died between copying and registering, or a client that went away. Young ones stay, they
// may be another process's work. One that cannot be read or deleted is logged and keeps no other from being looked at.
func (r *Registry) sweep(ctx context.Context) error {
	now := r.now()
	folder := func(root *os.Root, dir string, keep func(name string) (bool, error)) error {
		entries, err := fs.ReadDir(root.FS(), dir)
		if isAbsent(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for orphaned artifacts: %w", err)
		}
		for _, e := range entries {
			age := r.orphanAge
			if strings.HasPrefix(e.Name(), uploadPrefix) {
				age = r.uploadAge
			}
			name := path.Join(dir, e.Name())
			old, err := untouched(ctx, root, name, now.Add(-age))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				r.log.Warn(cannotSweep, "path", name, "error", err)
			}
			if err != nil || !old {
				continue
			}
			if used, err := keep(e.Name()); err != nil {
				return fmt.Errorf("look for orphaned artifacts: %w", err)
			} else if used {
				continue
			}
			if err := root.RemoveAll(filepath.FromSlash(name)); err != nil {
				r.log.Warn(cannotSweep, "path", name, "error", err)
				continue
			}
			r.log.Info("deleted orphaned artifacts", "path", name)
		}
		return nil
	}
	never := func(string) (bool, error) { return false, nil }
	err := errors.Join(folder(r.files, stagingDir, never),
		folder(r.files, registryDir, func(name string) (bool, error) { return r.isStorage(ctx, versionURI(name)) }))
	if r.shared != nil {
		err = errors.Join(err, folder(r.shared, stagingDir, never))
	}
	return err
}

// untouched reports whether nothing of a file or a folder was written since then.
func untouched(ctx context.Context, root *os.Root, name string, since time.Time) (bool, error) {
	err := fs.WalkDir(root.FS(), name, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(since) {
			return errTouched
		}
		return err
	})
	if errors.Is(err, errTouched) || isAbsent(err) { // it is being written, or is moved to its place just now
		return false, nil
	}
	return err == nil, err
}

var errTouched = errors.New("was written lately")
