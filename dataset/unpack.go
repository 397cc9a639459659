package dataset

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Bounds of what an archive may unpack to, whatever its directory claims.
const (
	maxUnpacked = 256 << 20
	maxEntries  = 1000
	maxNesting  = 2
)

// unpack writes the wanted files of the archive into dir, which it creates anew, and checks the SHA-256 of each. Names
// in the archive choose among the wanted files and never make a path. NASA's archive holds another archive, so one is
// opened inside the other.
func (f *Fetcher) unpack(ctx context.Context, archive, dir string, want map[string]string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	in, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	u := unpacker{ctx: ctx, dir: dir, want: want, sums: map[string]string{}, limit: f.MaxUnpacked}
	if u.limit <= 0 {
		u.limit = maxUnpacked
	}
	u.budget = u.limit
	if err := u.archive(in, info.Size(), 0); err != nil {
		return err
	}
	var missing, differ []string
	for name, sum := range want {
		switch got, ok := u.sums[name]; {
		case !ok:
			missing = append(missing, name)
		case got != sum:
			differ = append(differ, name)
		}
	}
	slices.Sort(missing)
	slices.Sort(differ)
	if len(missing) > 0 {
		return fmt.Errorf("the archive lacks %s", strings.Join(missing, ", "))
	}
	if len(differ) > 0 {
		return fmt.Errorf("the archive holds another %s than was published (SHA-256 differs)", strings.Join(differ, ", "))
	}
	return nil
}

type unpacker struct {
	ctx    context.Context
	dir    string
	want   map[string]string
	sums   map[string]string
	limit  int64 // bytes that may come out of all archives
	budget int64 // bytes that may still come out
}

func (u *unpacker) archive(r io.ReaderAt, size int64, depth int) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return fmt.Errorf("what came is not a zip archive: %w", err)
	}
	if len(z.File) > maxEntries {
		return fmt.Errorf("the archive has %d entries, more than %d", len(z.File), maxEntries)
	}
	for _, entry := range z.File {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		name := path.Base(entry.Name)
		_, wanted := u.want[name]
		switch {
		case entry.FileInfo().IsDir():
		case wanted:
			err = u.file(entry, name)
		case strings.EqualFold(path.Ext(name), ".zip") && depth < maxNesting:
			err = u.nested(entry, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bounded opens an entry and returns a reader that fails once the whole has given more than it may.
func (u *unpacker) bounded(entry *zip.File) (io.ReadCloser, io.Reader, error) {
	in, err := entry.Open()
	if err != nil {
		return nil, nil, fmt.Errorf("open %s in the archive: %w", path.Base(entry.Name), err)
	}
	return in, &meter{r: io.LimitReader(in, u.budget+1), touch: func(n int) { u.budget -= int64(n) }}, nil
}

func (u *unpacker) overflow() error {
	if u.budget < 0 {
		return fmt.Errorf("the archive unpacks to more than %d MiB", u.limit>>20)
	}
	return nil
}

func (u *unpacker) file(entry *zip.File, name string) error {
	if _, twice := u.sums[name]; twice {
		return fmt.Errorf("the archive holds %s twice", name)
	}
	in, r, err := u.bounded(entry)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(u.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), r)
	if err == nil {
		// The rename of the directory must not reach the disk before what is in it.
		err = out.Sync()
	}
	if closing := out.Close(); err == nil {
		err = closing
	}
	if overflow := u.overflow(); overflow != nil {
		return overflow
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	u.sums[name] = hex.EncodeToString(h.Sum(nil))
	return nil
}

func (u *unpacker) nested(entry *zip.File, depth int) error {
	in, r, err := u.bounded(entry)
	if err != nil {
		return err
	}
	defer in.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(r, maxArchive+1))
	if overflow := u.overflow(); overflow != nil {
		return overflow
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", path.Base(entry.Name), err)
	}
	if b.Len() > maxArchive {
		return fmt.Errorf("the archive within the archive has more than %d MiB", maxArchive>>20)
	}
	return u.archive(bytes.NewReader(b.Bytes()), int64(b.Len()), depth+1)
}
