package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"turbofan"
)

// maxParts is how many parts an upload may have, as at S3.
const maxParts = 10_000

// uploadDir is where the parts of an upload wait; sweep deletes those that were given up.
func uploadDir(id string) string { return path.Join(stagingDir, uploadPrefix+id) }

// uploadTarget is the file that says where an upload is to be.
const uploadTarget = "target"

// partName holds the tag, so that a part that is sent twice is two files and nobody needs a lock.
func partName(p turbofan.UploadPart) string { return fmt.Sprintf("%05d-%s", p.Number, p.Tag) }

// StartUpload implements turbofan.UploadStore.
func (r *Registry) StartUpload(ctx context.Context, uri string) (string, error) {
	p, err := r.writable(ctx, uri)
	if err != nil {
		return "", err
	}
	id := newID()
	if err := r.files.MkdirAll(uploadDir(id), 0o755); err != nil {
		return "", fmt.Errorf("start upload: %w", err)
	}
	if _, err := writeFile(r.files, path.Join(uploadDir(id), uploadTarget), strings.NewReader(p.rel)); err != nil {
		return "", fmt.Errorf("start upload: %w", err)
	}
	return id, nil
}

// writable is locate for a file that is about to be written among the registry's own files.
func (r *Registry) writable(ctx context.Context, uri string) (place, error) {
	p, err := r.locate(uri)
	if err != nil {
		return p, err
	}
	if p.isRoot() || p.root != r.files || strings.HasSuffix(uri, "/") {
		return p, invalid("Invalid path")
	}
	return p, r.refuseRegistered(ctx, p)
}

// uploadFor checks that an upload exists, and that it is one to target unless that is empty.
func (r *Registry) uploadFor(id, target string) error {
	unknown := turbofan.Errorf(turbofan.ENotFound, "No such upload: '%.40s'", id)
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || strings.ToLower(id) != id {
		return unknown
	}
	want, err := r.files.ReadFile(path.Join(uploadDir(id), uploadTarget))
	if isAbsent(err) || err == nil && target != "" && string(want) != target {
		return unknown
	}
	if err != nil {
		return fmt.Errorf("read upload: %w", err)
	}
	return nil
}

// PutPart implements turbofan.UploadStore. The tag is the SHA-256 of the part.
func (r *Registry) PutPart(ctx context.Context, upload string, number int, body io.Reader) (string, error) {
	if number < 1 || number > maxParts {
		return "", invalid("The number of a part must be from 1 to %d, not %d", maxParts, number)
	}
	if err := r.uploadFor(upload, ""); err != nil {
		return "", err
	}
	sum := sha256.New()
	staged := path.Join(stagingDir, newID())
	_, err := writeFile(r.files, staged, io.TeeReader(&contextReader{ctx, body}, sum))
	part := turbofan.UploadPart{Number: number, Tag: hex.EncodeToString(sum.Sum(nil))}
	if err == nil {
		err = r.files.Rename(filepath.FromSlash(staged), filepath.FromSlash(path.Join(uploadDir(upload), partName(part))))
	}
	if err != nil {
		err = errors.Join(err, ignoreAbsent(r.files.Remove(staged)))
		if errors.Is(err, fs.ErrNotExist) {
			return "", turbofan.Errorf(turbofan.ENotFound, "No such upload: '%s'", upload) // it was aborted meanwhile
		}
		return "", fmt.Errorf("put part: %w", err)
	}
	return part.Tag, nil
}

// CompleteUpload implements turbofan.UploadStore.
func (r *Registry) CompleteUpload(ctx context.Context, uri, upload string, parts []turbofan.UploadPart) error {
	p, err := r.writable(ctx, uri)
	if err != nil {
		return err
	}
	if err := r.uploadFor(upload, p.rel); err != nil {
		return err
	}
	if len(parts) == 0 || len(parts) > maxParts {
		return invalid("An upload has from 1 to %d parts, not %d", maxParts, len(parts))
	}
	for i, part := range parts {
		if i > 0 && part.Number <= parts[i-1].Number {
			return invalid("The parts of an upload must be in ascending order: %d follows %d", part.Number, parts[i-1].Number)
		}
		if b, err := hex.DecodeString(part.Tag); err != nil || len(b) != sha256.Size {
			return invalid("Part %d was not sent with this tag", part.Number)
		}
	}
	staged := path.Join(stagingDir, newID())
	n, err := r.joinParts(ctx, upload, staged, parts)
	if err == nil {
		err = moveFile(r.files, staged, p.rel)
	}
	if err != nil {
		return errors.Join(err, ignoreAbsent(r.files.Remove(staged)))
	}
	r.bytes.Add(float64(n))
	return r.dropUpload(upload)
}

// joinParts writes the parts one after the other into a new file.
func (r *Registry) joinParts(ctx context.Context, upload, to string, parts []turbofan.UploadPart) (total int64, err error) {
	out, err := r.files.OpenFile(filepath.FromSlash(to), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, fmt.Errorf("join parts: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for _, part := range parts {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		in, err := r.files.Open(filepath.FromSlash(path.Join(uploadDir(upload), partName(part))))
		if isAbsent(err) {
			return total, invalid("Part %d was not sent with this tag", part.Number)
		}
		if err != nil {
			return total, fmt.Errorf("join parts: %w", err)
		}
		// From file to file the system copies by itself, and shares the blocks where the disk can.
		n, err := io.Copy(out, in)
		total += n
		if err := errors.Join(err, in.Close()); err != nil {
			return total, fmt.Errorf("join parts: %w", err)
		}
	}
	if err := out.Sync(); err != nil {
		return total, fmt.Errorf("join parts: %w", err)
	}
	return total, nil
}

// AbortUpload implements turbofan.UploadStore.
func (r *Registry) AbortUpload(ctx context.Context, uri, upload string) error {
	p, err := r.writable(ctx, uri)
	if err != nil {
		return err
	}
	if err := r.uploadFor(upload, p.rel); err != nil {
		if turbofan.ErrorCode(err) == turbofan.ENotFound {
			return nil
		}
		return err
	}
	return r.dropUpload(upload)
}

func (r *Registry) dropUpload(id string) error {
	if err := r.files.RemoveAll(filepath.FromSlash(uploadDir(id))); err != nil && !isAbsent(err) {
		return fmt.Errorf("end upload: %w", err)
	}
	return nil
}
