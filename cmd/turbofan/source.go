package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// baselineCSV reads the units of other equipment that ran to failure. Where the file tells the end of no unit, each is
// taken to have failed after its last reading, as in C-MAPSS; where it tells some, the others are left out.
func baselineCSV(path string, schema turbofan.Schema) (model.Data, error) {
	f, err := os.Open(path)
	if err != nil {
		return model.Data{}, turbofan.Invalid("dataset.csv", "cannot open %s: %s", path, pathReason(err))
	}
	defer f.Close()
	set, err := dataset.ReadCSV(f, path, schema)
	if err != nil {
		return model.Data{}, err
	}
	known := func(h turbofan.History) bool { return h.FailedAtCycle > 0 }
	if !slices.ContainsFunc(set.Units, known) {
		set.RunToFailure()
	}
	d := model.Data{Schema: schema, Digest: filepath.Base(path) + ":" + set.Digest}
	for _, u := range set.Units {
		if known(u) {
			d.Units, d.Origin = append(d.Units, u), append(d.Origin, schema.Name)
		}
	}
	return d, nil
}

// baseline reads what every model of c learns from, whatever production adds, and says where it is. Equipment with a
// schema and no file learns from production alone.
func (c *config) baseline() (model.Data, string, error) {
	if c.Schema == "" {
		loc, err := locateData(c.Dataset.Dir)
		if err != nil {
			return model.Data{}, "", err
		}
		d, err := baselineOf(loc.Dir, c.Dataset.Subsets)
		return d, strings.Join(c.Dataset.Subsets, ", ") + " from " + loc.Dir, err
	}
	schema, err := c.schema()
	if err != nil || c.Dataset.CSV == "" {
		return model.Data{Schema: schema}, "", err
	}
	d, err := baselineCSV(c.Dataset.CSV, schema)
	return d, c.Dataset.CSV, err
}

// findBaseline says whether there is a baseline to train on, without reading it.
func (c *config) findBaseline() error {
	if c.Schema == "" {
		_, err := locateData(c.Dataset.Dir)
		return err
	}
	if c.Dataset.CSV == "" {
		return turbofan.Errorf(turbofan.ENotFound, "dataset.csv names no file of units that ran to failure")
	}
	if _, err := os.Stat(c.Dataset.CSV); err != nil {
		return turbofan.Invalid("dataset.csv", "cannot open %s: %s", c.Dataset.CSV, pathReason(err))
	}
	return nil
}

// lazyBaseline reads the baseline when a job asks for it: a platform starts without its training data.
func lazyBaseline(c config) func(context.Context) (model.Data, error) {
	return func(context.Context) (model.Data, error) {
		d, _, err := c.baseline()
		if err != nil {
			return model.Data{}, fmt.Errorf("find training data: %w", err)
		}
		return d, nil
	}
}

// acquireData finds the data as locateData does; where there is none it downloads the public archive, and without a
// network it makes a synthetic fleet and says so loudly.
func acquireData(ctx context.Context, explicit, dataDir string, subsets []string, seed int64, bar *progress) (dataset.Location, error) {
	loc, err := locateData(explicit)
	if err == nil {
		from := ""
		if loc.Source != loc.Dir {
			from = ", named by " + loc.Source
		}
		bar.say("data: %s%s", loc.Dir, from)
		return loc, nil
	}
	if turbofan.ErrorCode(err) != turbofan.ENotFound {
		return loc, err
	}
	bar.say("no data here: downloading NASA's C-MAPSS")
	raw := filepath.Join("data", "raw")
	show, finish := downloadProgress(bar.w)
	err = dataset.Fetch(ctx, raw, nil, show)
	finish()
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
