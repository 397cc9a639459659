package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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

// claimStore keeps two processes with a registry each from working on the jobs of one store: each would promote in its own
// registry, and go on serving what the other took back. Trainers that share a registry may share a store, as many as
// there are. A process whose claim has lapsed, and was taken by another, ends, as it would not have started.
func (p *platform) claimStore(ctx context.Context) error {
	if !p.cfg.Store.shared() || p.cfg.Store.Registry || p.cfg.TrackingURI != "" || !p.has(roleRegistry) {
		return nil
	}
	id, err := registryID(p.cfg.path("registry.id"))
	if err != nil {
		return err
	}
	const lease = "registry"
	claim := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, claimLease/2)
		defer cancel()
		got, err := p.state.Acquire(ctx, lease, id, claimLease)
		if err != nil || got {
			return err
		}
		return turbofan.Errorf(turbofan.EConflict, "another process trains over the store %s with a registry of its own; let both use one: store.registry, tracking_uri, or urls.registry without the role registry", p.state.Name())
	}
	if err := claim(ctx); err != nil {
		return err
	}
	p.closers = append(p.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimLease/2)
		defer cancel()
		return p.state.Release(ctx, lease, id)
	})
	p.run = append(p.run, func(ctx context.Context) error { return p.keepClaim(ctx, claim) })
	return nil
}

// keepClaim renews a claim until ctx ends. It returns the error of one that was lost; a store that does not answer is
// asked again soon, so that a process that another one replaced meanwhile learns of it before it promotes.
func (p *platform) keepClaim(ctx context.Context, claim func(context.Context) error) error {
	next := claimLease / 3
	for pause(ctx, next) == nil {
		err := claim(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case turbofan.ErrorCode(err) == turbofan.EConflict:
			return err
		case err != nil:
			p.log.Warn("claim the store for this registry", "error", err)
			next = time.Second
		default:
			next = claimLease / 3
		}
	}
	return nil
}

// registryID reads the name by which a registry in a file is told from others, and gives it one at first. Processes that
// start together over one directory agree on it: one at a time looks.
func registryID(path string) (_ string, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("name the registry: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("name the registry: lock %s: %w", path, err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "", fmt.Errorf("name the registry: %w", err)
	}
	if id := strings.TrimSpace(string(b)); id != "" {
		return id, nil
	}
	var fresh [8]byte
	rand.Read(fresh[:]) // never fails, see crypto/rand
	id := hex.EncodeToString(fresh[:])
	if _, err := f.WriteAt([]byte(id), 0); err != nil {
		return "", fmt.Errorf("name the registry: %w", err)
	}
	return id, nil
}
