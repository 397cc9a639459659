package sqlstore

import (
	"context"
	"time"

	"turbofan"
)

const (
	// freshFor is how long a database that answered counts as there, and one that did not as away.
	freshFor = time.Second
	// probeFor is how long it may take to answer.
	probeFor = time.Second
	// busyFor is how long a commit may take before the store counts as one that takes no writes.
	busyFor = 5 * time.Second
)

// Ready is EUnavailable while the store does not answer, or does not take writes. It may be called in a busy loop: under
// load the answers to others tell, otherwise the database is asked once a second at most.
func (s *State) Ready(ctx context.Context) error {
	if !s.w.open() {
		return errClosed()
	}
	began, failing := s.w.cause()
	if err := overdue("store", began); err != nil {
		return err
	}
	if failing == nil && (s.cfg.DSN == "" || time.Since(time.Unix(0, s.heard.Load())) < freshFor) {
		return nil
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	if time.Since(s.asked) < freshFor {
		return s.answer
	}
	// The first who asks answers for all that wait here: that one may go away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeFor)
	defer cancel()
	s.answer = s.probe(ctx, failing)
	s.asked = time.Now()
	return s.answer
}

// overdue is EUnavailable for a commit under way since began, the zero time where none is, that takes too long.
func overdue(what string, began time.Time) error {
	if began.IsZero() || time.Since(began) < busyFor {
		return nil
	}
	return turbofan.Errorf(turbofan.EUnavailable, "the %s does not take writes now: a commit has been under way for %s", what, time.Since(began).Round(time.Second))
}

// probe asks the database: for a row to be written where the newest commit failed, else for any answer.
func (s *State) probe(ctx context.Context, failing error) error {
	if failing != nil {
		if _, err := s.Acquire(ctx, "probe", "probe", time.Millisecond); err != nil {
			return turbofan.Wrap(turbofan.EUnavailable, err, "the store does not take writes now")
		}
		return nil
	}
	const nothing = "SELECT 1 WHERE 1 = 0"
	if err := s.rows(ctx, "ask", nothing, nil, nil); err != nil {
		return turbofan.Wrap(turbofan.EUnavailable, err, "the store does not answer now")
	}
	return nil
}

// Ready is EUnavailable while the database does not answer, or does not take writes.
func (d *RegistryDB) Ready(ctx context.Context) error {
	if err := overdue("registry", moment(d.began.Load())); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	err := d.view(ctx, func(q queryer) error {
		return each(ctx, q, nil, "SELECT 1 WHERE 1 = 0")
	})
	if err != nil {
		return turbofan.Wrap(turbofan.EUnavailable, err, "the registry's database does not answer now")
	}
	return nil
}
