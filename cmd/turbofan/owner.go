package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
)

// tagProcess is on every run that a command begins: the name of the file, in the folder run-owners of the data directory,
// that the process holds locked for as long as it lives. A run that is RUNNING while nobody holds its file was left by a
// process that was killed.
const tagProcess = "turbofan.process"

// ownerName is what an owner's file is called, with a dot before it while it is being made. What is called otherwise, is no
// plain file or holds something else is not ours to touch: people choose the data directory.
var ownerName = regexp.MustCompile(`^\.?[0-9a-f]{16}$`)

// owner is this process as one that begins runs.
type owner struct {
	file *os.File
	path string
}

// ownedRuns is what stands in an owner's file.
type ownedRuns struct {
	Experiment string `json:"experiment"`
	// Registry is the tracking server's address without user and password; empty for the registry of the data directory.
	Registry string `json:"registry,omitempty"`
}

// registryName is the address of the registry that cfg names, without what is secret in it.
func registryName(cfg config) string {
	u, err := url.Parse(cfg.TrackingURI)
	if err != nil {
		return "" // settings are checked before: there is none
	}
	u.User = nil
	return strings.TrimSuffix(u.String(), "/")
}

// ownRuns makes this process the owner of the runs that it is about to begin in an experiment.
func ownRuns(cfg config, experiment string) (*owner, error) {
	dir := cfg.path("run-owners")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("own runs: %w", err)
	}
	var id [8]byte
	rand.Read(id[:]) // never fails
	name := hex.EncodeToString(id[:])
	o := &owner{path: filepath.Join(dir, name)}
	b, err := json.Marshal(ownedRuns{Experiment: experiment, Registry: registryName(cfg)})
	if err != nil {
		return nil, fmt.Errorf("own runs: %w", err)
	}
	// It is locked before it has the name by which others look for it.
	hidden := filepath.Join(dir, "."+name)
	if o.file, err = os.OpenFile(hidden, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("own runs: %w", err)
	}
	_, err = o.file.Write(b)
	if err == nil {
		err = syscall.Flock(int(o.file.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		err = os.Rename(hidden, o.path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("own runs: %w", err), o.file.Close(), os.Remove(hidden))
	}
	return o, nil
}

// tags returns tags with that of the owner.
func (o *owner) tags(tags map[string]string) map[string]string {
	tags = maps.Clone(tags)
	tags[tagProcess] = filepath.Base(o.path)
	return tags
}

// release gives the runs up. Where one of them could not be ended, as err says, the next start looks for it.
func (o *owner) release(err error) {
	if err == nil {
		err = os.Remove(o.path)
	}
	_ = errors.Join(err, o.file.Close()) // a file that stays is looked at by the next start
}

// endLeftRuns ends the runs that processes left that were killed, in the registry that cfg names, and returns how many
// there were. Those of processes that live are left alone, and so are those in other registries.
func endLeftRuns(ctx context.Context, cfg config, tracking turbofan.Tracking) (int, error) {
	dir := cfg.path("run-owners")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("end runs that were left: %w", err)
	}
	ended := 0
	for _, f := range files {
		if !ownerName.MatchString(f.Name()) || !f.Type().IsRegular() {
			continue
		}
		n, err := endLeftBy(ctx, cfg, tracking, filepath.Join(dir, f.Name()))
		if err != nil {
			return ended, fmt.Errorf("end runs that were left: %w", err)
		}
		ended += n
	}
	return ended, nil
}

// tellLeftRuns is endLeftRuns for a command, whose own work does not depend on it.
func tellLeftRuns(cmd *cobra.Command, cfg config, tracking turbofan.Tracking) {
	if _, err := endLeftRuns(cmd.Context(), cfg, tracking); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "runs of commands that were killed stay open: %v\n", err)
	}
}

func endLeftBy(ctx context.Context, cfg config, tracking turbofan.Tracking, path string) (ended int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // its process has just ended
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return 0, nil // it lives
	case err != nil:
		return 0, fmt.Errorf("lock %s: %w", path, err)
	}
	if strings.HasPrefix(filepath.Base(path), ".") {
		info, err := f.Stat()
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			return 0, err // it is being made
		}
		return 0, os.Remove(path) // no run has its name
	}
	var kept ownedRuns
	if json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(&kept) != nil || kept.Experiment == "" || kept.Registry != registryName(cfg) {
		return 0, nil
	}
	runs, err := tracking.OpenRuns(ctx, kept.Experiment, map[string]string{tagProcess: filepath.Base(path)})
	if err != nil {
		return 0, err
	}
	for _, run := range runs {
		if err := tracking.EndRun(ctx, run.ID, turbofan.RunKilled); err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
			return ended, err
		}
		ended++
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return ended, err
	}
	return ended, nil
}

// endLeft is endLeftRuns for a process that serves: the registry may start after it, and is asked until it answers.
func (p *platform) endLeft(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, 10*time.Minute) {
		n, err := endLeftRuns(ctx, p.cfg, p.tracking)
		if n > 0 {
			p.log.Info("ended runs of processes that were killed", "runs", n)
		}
		if err == nil || ctx.Err() != nil {
			return nil
		}
		p.log.Warn("runs of processes that were killed stay open", "error", err, "again_in", wait)
		if pause(ctx, wait) != nil {
			return nil
		}
	}
}
