package mlflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"turbofan"
)

func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return &turbofan.Error{Code: turbofan.EInvalid, Message: "the artifact folder cannot be read", Err: err}
	}
	if !info.IsDir() {
		return invalid("the artifact folder '%s' is not a folder", filepath.Base(dir))
	}
	return nil
}

// proxied returns the path of a URI below the server's artifact root; "" is the root.
func (c *Client) proxied(uri string) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", false
	}
	switch u.Scheme {
	case "mlflow-artifacts":
		// Another host than ours would be another server, which this client has no say with.
		if u.Host != "" && u.Host != c.base.Host {
			return "", false
		}
		return strings.Trim(u.Path, "/"), true
	case "http", "https":
		_, rel, ok := strings.Cut(u.Path, "/mlflow-artifacts/artifacts")
		return strings.Trim(rel, "/"), ok && u.Host == c.base.Host
	}
	return "", false
}

// shared returns the folder of a URI on a disk that the server shares with this process.
func shared(uri string) (string, bool) {
	if filepath.IsAbs(uri) {
		return filepath.Clean(uri), true
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" {
		return "", false
	}
	return filepath.FromSlash(path.Clean(u.Path)), true
}

func unreachable(uri string) error {
	scheme, _, _ := strings.Cut(uri, ":")
	return invalid("artifacts at %s: URIs are out of reach: run the MLflow server with --serve-artifacts", scheme)
}

func artifactPath(rel string) string { return "/api/2.0" + proxyPath + "artifacts/" + rel }

// uploadTree writes the files below dir to uri.
func (c *Client) uploadTree(ctx context.Context, uri, dir string) error {
	rel, ok := c.proxied(uri)
	folder, local := shared(uri)
	if !ok && !local {
		return unreachable(uri)
	}
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("upload artifacts: %w", err)
		}
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() {
			return invalid("'%s' is neither a file nor a folder", name)
		}
		from := filepath.Join(dir, filepath.FromSlash(name))
		if local {
			return copyFile(ctx, from, filepath.Join(folder, filepath.FromSlash(name)))
		}
		resp, err := c.do(ctx, send{method: http.MethodPut, path: artifactPath(path.Join(rel, name)), file: func() (io.ReadCloser, int64, error) {
			return openFile(from)
		}})
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

func openFile(name string) (io.ReadCloser, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("upload artifact: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("upload artifact: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

func copyFile(ctx context.Context, from, to string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("copy artifact: %w", err)
	}
	f, _, err := openFile(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return saveFile(to, f, -1)
}

// saveFile writes a new file; size, unless it is negative, is how long it must be.
func saveFile(name string, from io.Reader, size int64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("save artifact: %w", err)
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("save artifact: %w", err)
	}
	n, err := io.Copy(f, from)
	if err == nil {
		err = f.Sync()
	}
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("%w: %d of %d bytes came", io.ErrUnexpectedEOF, n, size)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save artifact: %w", err)
	}
	return nil
}

// discard deletes, as well as it can, what was uploaded for a version that failed.
func (c *Client) discard(ctx context.Context, uri string) {
	ctx = context.WithoutCancel(ctx)
	if rel, ok := c.proxied(uri); ok && rel != "" {
		if resp, err := c.do(ctx, send{method: http.MethodDelete, path: artifactPath(rel)}); err == nil {
			_ = resp.Body.Close() // nothing of it is read
		}
		return
	}
	if folder, ok := shared(uri); ok {
		_ = os.RemoveAll(folder) // it is nobody's
	}
}

// downloadTree copies the folder at uri to dir, which is new, so that dir is there whole and checked by its manifest or not
// at all.
func (c *Client) downloadTree(ctx context.Context, uri, dir string, check func(manifest []byte) error) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return turbofan.Errorf(turbofan.EConflict, "the folder to fetch into is already there: %s", dir)
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
	whole := filepath.Join(temp, "whole")
	n := 0
	if rel, ok := c.proxied(uri); ok {
		n, err = c.downloadFolder(ctx, rel, whole, 0)
	} else if folder, ok := shared(uri); ok {
		n, err = copyFolder(ctx, folder, whole)
	} else {
		return unreachable(uri)
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return turbofan.Errorf(turbofan.ENotFound, "the artifacts of the model version are gone")
	}
	manifest, err := os.ReadFile(filepath.Join(whole, turbofan.ManifestFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	if err := check(manifest); err != nil {
		return err
	}
	if err := os.Rename(whole, dir); err != nil {
		return fmt.Errorf("fetch artifacts: %w", err)
	}
	return nil
}

// maxFolderDepth ends a listing that goes round in circles.
const maxFolderDepth = 32

func (c *Client) downloadFolder(ctx context.Context, rel, to string, depth int) (int, error) {
	if depth > maxFolderDepth {
		return 0, invalid("the artifacts are nested more than %d folders deep", maxFolderDepth)
	}
	var list struct {
		Files []struct {
			Path  string  `json:"path"`
			IsDir bool    `json:"is_dir"`
			Size  wireInt `json:"file_size"`
		} `json:"files"`
	}
	s := send{method: http.MethodGet, path: strings.TrimSuffix(artifactPath(""), "/"), query: url.Values{"path": {rel}}}
	if err := c.getJSON(ctx, s, &list); err != nil {
		return 0, err
	}
	total := 0
	for _, f := range list.Files {
		if f.Path == "" || path.Base(f.Path) != f.Path || !filepath.IsLocal(f.Path) {
			return total, invalid("the MLflow server lists a file of a name that is not safe: %q", f.Path)
		}
		target := filepath.Join(to, f.Path)
		if f.IsDir {
			n, err := c.downloadFolder(ctx, path.Join(rel, f.Path), target, depth+1)
			total += n
			if err != nil {
				return total, err
			}
			continue
		}
		if err := c.downloadFile(ctx, path.Join(rel, f.Path), target, int64(f.Size)); err != nil {
			return total, err
		}
		total++
	}
	return total, nil
}

// downloadFile gets one file, and once more when it came short: MLflow sends files without their length.
func (c *Client) downloadFile(ctx context.Context, rel, to string, size int64) error {
	var err error
	for range 2 {
		var resp *http.Response
		resp, err = c.do(ctx, send{method: http.MethodGet, path: artifactPath(rel)})
		if err != nil {
			return err
		}
		err = errors.Join(saveFile(to, resp.Body, size), resp.Body.Close())
		if err == nil || ctx.Err() != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
	}
	return err
}

func copyFolder(ctx context.Context, from, to string) (int, error) {
	n := 0
	err := fs.WalkDir(os.DirFS(from), ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == "." {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fetch artifacts: %w", err)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		n++
		return copyFile(ctx, filepath.Join(from, filepath.FromSlash(name)), filepath.Join(to, filepath.FromSlash(name)))
	})
	return n, err
}
