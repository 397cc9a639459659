package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"turbofan"
)

// stagingDir holds what is being written; nothing in it can be reached by a URI.
const stagingDir = ".staging"

// registryDir holds the files of versions that CreateVersion made, which nobody may write to any more.
const registryDir = "registry"

// ListArtifacts implements turbofan.ArtifactStore.
func (r *Registry) ListArtifacts(ctx context.Context, uri string) ([]turbofan.Artifact, error) {
	p, err := r.find(ctx, uri)
	if err != nil {
		return nil, err
	}
	f, err := p.root.Open(filepath.FromSlash(p.rel))
	if isAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	if !info.IsDir() {
		return nil, nil
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("list artifacts: %w", err)
	}
	out := make([]turbofan.Artifact, 0, len(entries))
	for _, e := range entries {
		if p.isRoot() && p.root == r.files && e.Name() == stagingDir {
			continue
		}
		info, err := e.Info()
		switch {
		case isAbsent(err):
			continue // deleted meanwhile
		case err != nil:
			return nil, fmt.Errorf("list artifacts: %w", err)
		case info.IsDir():
			out = append(out, turbofan.Artifact{Path: e.Name(), IsDir: true})
		case info.Mode().IsRegular():
			out = append(out, turbofan.Artifact{Path: e.Name(), Size: info.Size()})
		}
	}
	sortArtifacts(out)
	return out, nil
}

func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// OpenArtifact implements turbofan.ArtifactStore.
func (r *Registry) OpenArtifact(ctx context.Context, uri string) (io.ReadSeekCloser, turbofan.Artifact, error) {
	p, err := r.find(ctx, uri)
	if err != nil {
		return nil, turbofan.Artifact{}, err
	}
	absent := turbofan.Errorf(turbofan.ENotFound, "No such artifact: '%s'", p.rel)
	f, err := p.root.Open(filepath.FromSlash(p.rel))
	if isAbsent(err) {
		return nil, turbofan.Artifact{}, absent
	}
	if err != nil {
		return nil, turbofan.Artifact{}, fmt.Errorf("open artifact: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, turbofan.Artifact{}, errors.Join(fmt.Errorf("open artifact: %w", err), f.Close())
	}
	if !info.Mode().IsRegular() {
		return nil, turbofan.Artifact{}, errors.Join(absent, f.Close())
	}
	return f, turbofan.Artifact{Path: path.Base(p.rel), Size: info.Size()}, nil
}

// PutArtifact implements turbofan.ArtifactStore.
func (r *Registry) PutArtifact(ctx context.Context, uri string, body io.Reader) error {
	p, err := r.locate(uri)
	if err != nil {
		return err
	}
	if p.isRoot() || strings.HasSuffix(uri, "/") {
		return invalid("Invalid path")
	}
	if err := r.refuseRegistered(ctx, p); err != nil {
		return err
	}
	// The staging folder is beside what is written, so that the rename stays on one disk.
	staged := path.Join(stagingDir, newID())
	if err := p.root.MkdirAll(stagingDir, 0o755); err != nil {
		return fmt.Errorf("put artifact: %w", err)
	}
	n, err := writeFile(p.root, staged, &contextReader{ctx, body})
	if err == nil {
		err = moveFile(p.root, staged, p.rel)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(p.root.Remove(staged)))
	}
	r.bytes.Add(float64(n))
	return nil
}

// contextReader ends a copy when its caller has gone.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

func moveFile(root *os.Root, from, to string) error {
	if info, err := root.Stat(filepath.FromSlash(to)); err == nil && info.IsDir() {
		return invalid("'%s' is a folder", to)
	}
	if err := root.MkdirAll(filepath.FromSlash(path.Dir(to)), 0o755); err != nil {
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
			return invalid("A part of the path '%s' is a file", to)
		}
		if errors.Is(err, syscall.ENAMETOOLONG) {
			return invalid("A part of the path is too long")
		}
		return fmt.Errorf("put artifact: %w", err)
	}
	if err := root.Rename(filepath.FromSlash(from), filepath.FromSlash(to)); err != nil {
		if errors.Is(err, syscall.ENAMETOOLONG) {
			return invalid("A part of the path is too long")
		}
		return fmt.Errorf("put artifact: %w", err)
	}
	return nil
}

func ignoreAbsent(err error) error {
	if isAbsent(err) {
		return nil
	}
	return err
}

// refuseRegistered keeps the files of registered versions as they are.
func (r *Registry) refuseRegistered(ctx context.Context, p place) error {
	parts := strings.SplitN(p.rel, "/", 3)
	if p.root != r.files || parts[0] != registryDir {
		return nil
	}
	if len(parts) == 1 {
		return invalid("Invalid path")
	}
	used, err := r.isStorage(ctx, versionURI(parts[1]))
	if err != nil {
		return err
	}
	if used {
		return turbofan.Errorf(turbofan.EConflict, "The files of a registered model version cannot be changed")
	}
	return nil
}

// isStorage reports whether a version's files are at uri.
func (r *Registry) isStorage(ctx context.Context, uri string) (bool, error) {
	found, _, err := r.store.SearchModelVersions(ctx, turbofan.SearchQuery{Limit: 1, Where: []turbofan.SearchTerm{
		{Entity: turbofan.EntityAttribute, Key: "storage", Op: turbofan.OpEqual, Text: uri},
	}})
	return len(found) > 0, err
}

// DeleteArtifact implements turbofan.ArtifactStore.
func (r *Registry) DeleteArtifact(ctx context.Context, uri string) error {
	p, err := r.locate(uri)
	if err != nil {
		return err
	}
	if p.isRoot() {
		return invalid("Invalid path")
	}
	if err := r.refuseRegistered(ctx, p); err != nil {
		return err
	}
	if err := p.root.RemoveAll(filepath.FromSlash(p.rel)); err != nil && !isAbsent(err) {
		return fmt.Errorf("delete artifact: %w", err)
	}
	return nil
}
