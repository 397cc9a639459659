package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"turbofan"
)

func sortArtifacts(as []turbofan.Artifact) {
	slices.SortFunc(as, func(a, b turbofan.Artifact) int { return cmp.Compare(a.Path, b.Path) })
}

// writeFile writes a new file and makes sure that it is on disk.
func writeFile(root *os.Root, name string, body io.Reader) (int64, error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, fmt.Errorf("write file: %w", err)
	}
	n, err := io.Copy(f, body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return n, fmt.Errorf("write file: %w", err)
	}
	return n, nil
}

// syncFolder makes the names in a folder survive a power cut. Windows has no such call, and needs none.
func syncFolder(root *os.Root, name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// copyTree copies the regular files and folders of from into the new folder to of root and makes sure that they are
// on disk. Links and devices are EInvalid: what they mean elsewhere is not known here.
func copyTree(ctx context.Context, from fs.FS, root *os.Root, to string) (int64, error) {
	var total int64
	var folders []string
	err := fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		target := path.Join(to, name)
		if d.IsDir() {
			folders = append(folders, target)
			return root.Mkdir(filepath.FromSlash(target), 0o755)
		}
		if !d.Type().IsRegular() {
			return invalid("'%s' is neither a file nor a folder", name)
		}
		f, err := from.Open(name)
		if err != nil {
			return err
		}
		n, err := writeFile(root, target, &contextReader{ctx, f})
		total += n
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return total, fmt.Errorf("copy folder: %w", err)
	}
	for _, folder := range folders {
		if err := syncFolder(root, folder); err != nil {
			return total, err
		}
	}
	return total, nil
}

// stage copies dir into the staging folder and returns the name of the copy.
func (r *Registry) stage(ctx context.Context, dir string) (string, int64, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", 0, &turbofan.Error{Code: turbofan.EInvalid, Message: "the artifact folder cannot be read", Err: err}
	}
	if !info.IsDir() {
		return "", 0, invalid("the artifact folder '%s' is not a folder", filepath.Base(dir))
	}
	if err := r.files.MkdirAll(stagingDir, 0o755); err != nil {
		return "", 0, fmt.Errorf("stage artifacts: %w", err)
	}
	staged := path.Join(stagingDir, newID())
	n, err := copyTree(ctx, os.DirFS(dir), r.files, staged)
	if err != nil {
		return "", n, errors.Join(err, r.files.RemoveAll(staged))
	}
	return staged, n, nil
}

// publish moves a staged folder to its place in one step.
func (r *Registry) publish(staged, to string) error {
	if err := r.files.MkdirAll(path.Dir(to), 0o755); err != nil {
		return fmt.Errorf("publish artifacts: %w", err)
	}
	// A large copy may have begun long ago; until its row is there it must not look like one that was left.
	now := r.now()
	if err := r.files.Chtimes(staged, now, now); err != nil {
		return fmt.Errorf("publish artifacts: %w", err)
	}
	if err := r.files.Rename(staged, to); err != nil {
		return fmt.Errorf("publish artifacts: %w", err)
	}
	return syncFolder(r.files, path.Dir(to))
}

// fetchTree copies a folder of root to dir, which is new, so that dir is there whole and checked by its manifest or not at
// all.
func fetchTree(ctx context.Context, root *os.Root, rel, dir string, check func(manifest []byte) error) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return turbofan.Errorf(turbofan.EConflict, "the folder to fetch into is already there: %s", dir)
	}
	info, err := root.Stat(filepath.FromSlash(rel))
	if isAbsent(err) || err == nil && !info.IsDir() {
		return turbofan.Errorf(turbofan.ENotFound, "the artifacts of the model version are gone")
	}
	if err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	temp, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-*")
	if err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	target, err := os.OpenRoot(temp)
	if err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	defer target.Close()
	source, err := fs.Sub(root.FS(), rel)
	if err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	if _, err := copyTree(ctx, source, target, "whole"); err != nil {
		return err
	}
	manifest, err := target.ReadFile("whole/" + turbofan.ManifestFile)
	if err != nil && !isAbsent(err) {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	if err := check(manifest); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(temp, "whole"), dir); err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	return nil
}
