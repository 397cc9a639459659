package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"turbofan"
)

// lockUnits keeps a process that answers and hears outcomes by itself alone with the units of a store in a file: it
// answers before its log is on disk, from states in memory, and would not notice what a unit told another process.
// Processes that know of each other (shared) look into the store first. The lock goes with the process, however that ends.
func (p *platform) lockUnits(shared bool) error {
	if p.cfg.Store.shared() {
		return nil
	}
	f, err := os.OpenFile(p.cfg.path("units.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("lock units: %w", err)
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = turbofan.Errorf(turbofan.EConflict, "another process answers from %s, and one that has both roles, predict and feedback, must be the only one: it keeps its units in memory; choose another --data-dir, leave the role predict to the other, or run predict and feedback apart", p.cfg.DataDir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	p.closers = append(p.closers, f.Close)
	return nil
}

// claimLease is how long after a process was last heard of another registry may take its place.
const claimLease = 30 * time.Second

// claimStore keeps processes with registries of their own from working on the jobs of one store: each would promote in
// its own, and go on serving what the others took back. Any number of trainers that share a registry share a store.
func (p *platform) claimStore(ctx context.Context) error {
	if !p.cfg.Store.shared() || p.cfg.Store.Registry || p.cfg.TrackingURI != "" || !p.has(roleRegistry) {
		return nil
	}
	id, err := registryID(p.cfg.path("registry.id"))
	if err != nil {
		return err
	}
	const lease = "registry"
	got, err := p.state.Acquire(ctx, lease, id, claimLease)
	if err != nil {
		return err
	}
	if !got {
		return turbofan.Errorf(turbofan.EConflict, "another process trains over the store %s with a registry of its own; let both use one: store.registry, tracking_uri, or urls.registry without the role registry", p.state.Name())
	}
	p.closers = append(p.closers, func() error { return p.state.Release(context.WithoutCancel(ctx), lease, id) })
	p.run = append(p.run, func(ctx context.Context) error {
		for pause(ctx, claimLease/3) == nil {
			if got, err := p.state.Acquire(ctx, lease, id, claimLease); ctx.Err() == nil && (err != nil || !got) {
				p.log.Warn("claim the store for this registry", "got", got, "error", err)
			}
		}
		return nil
	})
	return nil
}

// registryID reads the name by which a registry in a file is told from others, and gives it one at first.
func registryID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var fresh [8]byte
		rand.Read(fresh[:]) // never fails, see crypto/rand
		b = []byte(hex.EncodeToString(fresh[:]))
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("name the registry: %w", err)
	}
	id := strings.TrimSpace(string(b))
	if id == "" {
		return "", turbofan.Errorf(turbofan.EUnavailable, "%s is empty: remove it, and start again", path)
	}
	return id, nil
}
