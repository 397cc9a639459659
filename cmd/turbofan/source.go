package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
)

// locateData finds the data set, by flag or configuration, then TURBOFAN_DATA, then the usual places.
func locateData(explicit string) (dataset.Location, error) {
	return dataset.Locate(explicit, os.Getenv("TURBOFAN_DATA"))
}

// baselineOf reads the training units of the subsets: what every model learns from, whatever production adds.
func baselineOf(dir string, subsets []string) (model.Data, error) {
	var d model.Data
	var digests []string
	for _, name := range subsets {
		train, _, err := dataset.LoadCMAPSS(dir, name)
		if err != nil {
			return d, err
		}
		d.Schema = train.Schema
		d.Units = append(d.Units, train.Units...)
		for range train.Units {
			d.Origin = append(d.Origin, name)
		}
		digests = append(digests, name+":"+train.Digest)
	}
	if len(d.Units) == 0 {
		return d, turbofan.Invalid("dataset.subsets", "name no subset to train on")
	}
	d.Digest = strings.Join(digests, ",")
	return d, nil
}

// lazyBaseline reads the baseline when a job asks for it: a platform starts without its training data.
func lazyBaseline(c config) func(context.Context) (model.Data, error) {
	return func(context.Context) (model.Data, error) {
		loc, err := locateData(c.Dataset.Dir)
		if err != nil {
			return model.Data{}, fmt.Errorf("find training data: %w", err)
		}
		return baselineOf(loc.Dir, c.Dataset.Subsets)
	}
}

// acquireData finds the data as locateData does; where there is none it downloads the public archive, and without a
// network it makes a synthetic fleet and says so loudly.
func acquireData(ctx context.Context, explicit, dataDir string, subsets []string, seed int64, bar *progress) (dataset.Location, error) {
	loc, err := locateData(explicit)
	if err == nil {
		bar.say("data: %s (%s)", loc.Dir, loc.Source)
		return loc, nil
	}
	if turbofan.ErrorCode(err) != turbofan.ENotFound {
		return loc, err
	}
	bar.say("no data here: downloading NASA's C-MAPSS")
	raw := filepath.Join("data", "raw")
	err = dataset.Fetch(ctx, raw, nil, func(p dataset.Progress) {
		if p.Note != "" {
			bar.say("  %s", p.Note)
		} else if p.Total > 0 {
			bar.update(float64(p.Done)/float64(p.Total), false, "%s from %s", p.Stage, p.Source)
		}
	})
	if err == nil {
		return dataset.Locate(raw, "")
	}
	if ctx.Err() != nil {
		return loc, ctx.Err()
	}
	bar.say("  %v", err)
	dir := filepath.Join(dataDir, fmt.Sprintf("synthetic-%d-%s", seed, strings.Join(subsets, "-")))
	bar.say("*** SYNTHETIC DATA: the download failed, so this run uses a fleet made by turbofan's own generator. ***\n*** Its numbers say nothing about real engines. ***")
	if _, err := os.Stat(dir); err == nil {
		return dataset.Locate(dir, "")
	}
	var pairs []dataset.Pair
	for _, s := range subsets {
		cfg, ok := dataset.SynthSubset(s, seed)
		if !ok {
			return loc, turbofan.Invalid("--subsets", "there is no synthetic fleet for %q; choose from %s", s, strings.Join(dataset.Subsets(), ", "))
		}
		train, test := dataset.Synthesize(cfg)
		pairs = append(pairs, dataset.Pair{Train: train, Test: test})
	}
	if err := dataset.WriteCMAPSS(dir, pairs...); err != nil {
		return loc, err
	}
	return dataset.Locate(dir, "")
}
