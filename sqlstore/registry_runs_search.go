package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"turbofan"
)

// SearchRuns implements turbofan.RunStore.
func (d *RegistryDB) SearchRuns(ctx context.Context, query turbofan.SearchQuery) ([]turbofan.Run, string, error) {
	experiments := make([]int64, 0, len(query.ExperimentIDs))
	for _, id := range query.ExperimentIDs {
		if key, err := experimentKey(id); err == nil {
			experiments = append(experiments, key) // an experiment that cannot be has no runs
		}
	}
	if len(experiments) == 0 {
		return nil, "", nil
	}
	var found []foundRun
	var next string
	err := d.view(ctx, func(q queryer) error {
		var err error
		found, next, err = d.searchRuns(ctx, q, query, experiments)
		if err != nil {
			return err
		}
		return loadRuns(ctx, q, found)
	})
	runs := make([]turbofan.Run, len(found))
	for i := range found {
		runs[i] = found[i].run
	}
	return runs, next, err
}

// searchRuns finds one page of runs. There are three ways to it: from a condition that few runs meet; along the index
// of a metric that the runs are ordered by; or along the index of start times, past runs that do not match.
func (d *RegistryDB) searchRuns(ctx context.Context, q queryer, query turbofan.SearchQuery, experiments []int64) ([]foundRun, string, error) {
	s, err := runsTable().search(d.db.dialect, query.Where, query.OrderBy)
	if err != nil {
		return nil, "", err
	}
	// What the index of the order bounds by itself needs no other start, however few runs it leaves.
	bounds, others := boundsOfOrder(query)
	rare, ok, err := s.rare(ctx, q, others)
	if err != nil {
		return nil, "", err
	}
	if ok {
		if s, err = runsTable().search(d.db.dialect, slices.Concat(bounds, rare.others), query.OrderBy); err != nil {
			return nil, "", err
		}
		s.and(rare.cond, rare.args...)
		return s.runs(ctx, q, query, experiments, true)
	}
	if len(query.OrderBy) > 0 && query.OrderBy[0].Entity == turbofan.EntityMetric {
		along, ok, err := alongMetric(d.db.dialect, query, bounds, others)
		if err != nil {
			return nil, "", err
		}
		if ok {
			found, next, err := along.runs(ctx, q, query, experiments, true)
			if err != nil || next != "" || len(bounds) > 0 {
				return found, next, err
			}
			// The page reaches runs without the metric, which are not in its index and which no bound leaves out.
		}
	}
	return s.runs(ctx, q, query, experiments, false)
}

// boundsOfOrder parts the conditions into those on the metric that is ordered by first, as far as no run without a number
// for it meets them, and the others.
func boundsOfOrder(query turbofan.SearchQuery) (bounds, others []turbofan.SearchTerm) {
	if len(query.OrderBy) == 0 || query.OrderBy[0].Entity != turbofan.EntityMetric {
		return nil, query.Where
	}
	for _, t := range query.Where {
		ordered := t.Entity == turbofan.EntityMetric && t.Key == query.OrderBy[0].Key && len(t.Datasets) == 0
		switch t.Op {
		case turbofan.OpEqual, turbofan.OpLess, turbofan.OpLessEqual, turbofan.OpGreater, turbofan.OpGreaterEqual:
			if ordered {
				bounds = append(bounds, t)
				continue
			}
		}
		others = append(others, t)
	}
	return bounds, others
}

// runs reads one page; elsewhere keeps the planner from starting at the index of start times.
func (s *searchSQL) runs(ctx context.Context, q queryer, query turbofan.SearchQuery, experiments []int64, elsewhere bool) ([]foundRun, string, error) {
	column := "r.experiment_id"
	if elsewhere {
		column = s.dialect.unindexed(column)
	}
	s.and(column+" IN ("+marks(len(experiments))+")", anys(experiments)...)
	s.view("r.lifecycle_stage", query.View)
	return readPage(ctx, q, s, runColumns, query, scanRun)
}

// rareMatches is how many runs a condition may match for a search to start from them. Above it, walking the runs in
// order meets a page full of matches sooner.
const rareMatches = 2000

// rareStart is a condition that few runs meet, as one on the keys of runs, and the conditions beside it.
type rareStart struct {
	cond   string
	args   []any
	others []turbofan.SearchTerm
}

// rare looks for a condition that few runs meet, for a search to start from the index of its values.
func (s *searchSQL) rare(ctx context.Context, q queryer, terms []turbofan.SearchTerm) (rareStart, bool, error) {
	for i, t := range terms {
		table, cond, args := "", "", []any{t.Key}
		switch {
		case t.Entity == turbofan.EntityMetric && t.Op != turbofan.OpNotEqual:
			c, more, err := s.compare("o.value", true, t)
			if err != nil {
				return rareStart{}, false, err
			}
			table, cond, args = "latest_metrics", nanTerm("o.is_nan", c, t.Op), append(args, more...)
		case (t.Entity == turbofan.EntityParam || t.Entity == turbofan.EntityTag) && t.Op == turbofan.OpEqual:
			table, cond, args = s.table.owned[t.Entity].name, "substr(o.value, 1, 100) = substr(?, 1, 100) AND o.value = ?", append(args, t.Text, t.Text)
		default:
			continue
		}
		from := "SELECT o.run_id FROM " + table + " o WHERE o.key = ? AND " + cond
		n := 0
		err := each(ctx, q, func(rows *sql.Rows) error { return rows.Scan(&n) },
			"SELECT COUNT(*) FROM ("+from+" LIMIT ?) AS few", append(slices.Clone(args), rareMatches+1)...)
		if err != nil {
			return rareStart{}, false, err
		}
		if n <= rareMatches {
			return rareStart{"r.id IN (" + from + ")", args, slices.Delete(slices.Clone(terms), i, i+1)}, true, nil
		}
	}
	return rareStart{}, false, nil
}

// alongMetric is the search over runs that have a number for the metric that is ordered by first, in the order of its
// index, which bounds bound. Its pages go on with tokens of the general search, and the other way round; a token from
// past those runs is not for it.
func alongMetric(d dialect, query turbofan.SearchQuery, bounds, others []turbofan.SearchTerm) (*searchSQL, bool, error) {
	s, err := runsTable().search(d, others, query.OrderBy)
	if err != nil {
		return nil, false, err
	}
	if query.PageToken != "" {
		after, err := s.decodeToken(query.PageToken)
		if err != nil {
			return nil, false, err
		}
		if after[0] != int64(0) {
			return nil, false, nil
		}
	}
	s.joins[0] = strings.TrimPrefix(s.joins[0], "LEFT ")
	s.and("o1.is_nan = 0")
	s.keys[0] = orderKey{expr: "0", fixed: true, name: s.keys[0].expr}
	s.keys[1] = orderKey{expr: "o1.value", desc: s.keys[1].desc, name: s.keys[1].expr}
	for _, t := range bounds {
		cond, args, err := s.compare("o1.value", true, t)
		if err != nil {
			return nil, false, err
		}
		s.and(cond, args...)
	}
	return s, true, nil
}
