package drift

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
	"turbofan/stat"
)

const (
	// chunkRows is the most rows that are worked on at a time.
	chunkRows = 8192
	// blockRows is how many of them one processor takes.
	blockRows = 1024
)

// Collector takes the readings of a window page by page and keeps what Judge needs of them: counts, a sample, and a little
// of each unit. A window of a million readings needs no more memory than one of fifty thousand of as many units. It uses
// all processors, which changes no result, but is not safe for concurrent use.
type Collector struct {
	ref    *reference.Reference
	cfg    Config
	places *atlas
	found  *stat.Comparison
	tracks []track // by channel of the profile
	fixed  []fixed // sensors that never varied
	usual  usual
	chunk  chunk

	total         int // readings that fit the schema
	rows          int // of them, that can be judged
	judged        int // units with such rows
	foreign       int // readings left out: their condition cannot be used yet
	misfit        int // readings left out: not as many values as the schema has
	known, others counts
	strayed       map[visit]struct{} // who was in which of the others
	index         map[string]int32   // of units, into units
	units         []unitState        // in order of their first reading
	cellOf        []int32            // [unit][condition of places.known], into cells; 0 is none, -1 a condition that was commissioned
	cells         []cell             // the first is nobody's
	seen          bool               // any reading
	from, to      int64
}

// unitState is what a window says of one unit beside its sensors.
type unitState struct {
	id     string
	judged bool
	newest int // cycle
	late   int
	twice  int
}

// cell is one unit in one condition of training.
type cell struct {
	rows  float64
	scale float64 // of its ages, summed over the rows
}

// visit is a unit in one of the conditions that cannot be used.
type visit struct {
	condition int
	unit      int32
}

// What stands for a condition where there is none.
const (
	foreignRow = -1 // not known, or not well enough
	misfitRow  = -2 // not as many values as the schema has
)

// chunk is a stretch of readings on its way through the collector.
type chunk struct {
	columns               [][]float64 // [channel][row], as they came; then normalised, of the rows that can be judged alone
	condition             []int32     // by row, of places.known
	seed                  []uint64    // by row, see reference.Seed
	unit, cell, meanPlace []int32     // by row
	since                 []float64   // by row, cycles after the age of the mean there
	age, of               []int       // age and unit of the rows that can be judged
}

// reset makes room for so many rows of so many channels.
func (c *chunk) reset(rows, channels int) {
	if rows > cap(c.condition) {
		// Columns that are a power of two apart would share few lines of the processor's cache.
		stride := rows + 8
		all := make([]float64, stride*channels)
		c.columns = make([][]float64, channels)
		for j := range c.columns {
			c.columns[j] = all[j*stride : j*stride+rows : j*stride+rows]
		}
		c.condition, c.seed, c.since = make([]int32, rows), make([]uint64, rows), make([]float64, rows)
		c.unit, c.cell, c.meanPlace = make([]int32, rows), make([]int32, rows), make([]int32, rows)
		c.age, c.of = make([]int, 0, rows), make([]int, 0, rows)
	}
	for j := range c.columns {
		c.columns[j] = c.columns[j][:rows]
	}
	c.condition, c.seed, c.since = c.condition[:rows], c.seed[:rows], c.since[:rows]
	c.unit, c.cell, c.meanPlace = c.unit[:rows], c.cell[:rows], c.meanPlace[:rows]
	c.age, c.of = c.age[:0], c.of[:0]
}

// NewCollector starts a window. unseen are the conditions learned since training; see Conditions. An error means that
// the configuration breaks a rule or that the reference does not fit together.
func NewCollector(ref *reference.Reference, unseen []condition.Regime, cfg Config) (*Collector, error) {
	if err := cfg.validateRule(); err != nil {
		return nil, err
	}
	cfg.MinRows = min(cfg.MinRows, cfg.Window)
	if cfg.Rank == 0 {
		cfg.Rank = rankOf(len(ref.Keep))
	}
	found, err := ref.Profile.NewComparison()
	if err != nil {
		return nil, fmt.Errorf("judge drift: %w", err)
	}
	c := &Collector{ref: ref, cfg: cfg, places: newAtlas(cfg, ref.Normalizer, unseen), found: found, usual: newUsual(ref), fixed: newFixed(ref),
		strayed: map[visit]struct{}{}, index: map[string]int32{}, cells: make([]cell, 1)}
	for j := range ref.Keep {
		c.tracks = append(c.tracks, newTrack(ref, j, c.places.known.Regimes, &c.usual))
	}
	return c, nil
}

// Add takes the next readings in order of arrival; it keeps none of them. After an error the collector is of no more use.
func (c *Collector) Add(readings []turbofan.StoredReading) error {
	for part := range slices.Chunk(readings, chunkRows) {
		if err := c.add(part); err != nil {
			return fmt.Errorf("judge drift: %w", err)
		}
	}
	return nil
}

// add takes readings in four steps: what their order matters for beside what it does not, row by row; what follows from
// both; and then channel by channel, so that each sensor's values and what is known of it stay close to the processor.
func (c *Collector) add(readings []turbofan.StoredReading) error {
	rows := len(readings)
	c.chunk.reset(rows, len(c.tracks))
	blocks := (rows + blockRows - 1) / blockRows
	each(1+blocks, rows, func(i int) {
		if i == 0 {
			c.admit(readings)
		} else {
			c.locate(readings, (i-1)*blockRows, min(i*blockRows, rows))
		}
	})
	c.settle(readings)
	each(len(c.tracks), rows, func(j int) { c.tracks[j].add(&c.chunk, j, len(c.units), len(c.cells)) })
	each(len(c.fixed), rows, func(j int) { c.fixed[j].add(readings, c.chunk.condition) })
	for j := range c.chunk.columns {
		c.chunk.columns[j] = c.chunk.columns[j][:len(c.chunk.age)]
	}
	if len(c.chunk.age) == 0 {
		return nil
	}
	return c.found.Add(c.chunk.columns, c.chunk.age, c.chunk.of)
}

// admit notes of which unit readings came, and whether in order.
func (c *Collector) admit(readings []turbofan.StoredReading) {
	if !c.seen {
		c.seen, c.from = true, readings[0].Seq
	}
	c.to = readings[len(readings)-1].Seq
	for i := range readings {
		c.chunk.unit[i] = c.unitOf(&readings[i].Reading)
	}
}

// unitOf returns the index of a reading's unit and notes whether it came in order.
func (c *Collector) unitOf(r *turbofan.Reading) int32 {
	i, seen := c.index[r.UnitID]
	if !seen {
		i = int32(len(c.units))
		c.index[r.UnitID], c.units = i, append(c.units, unitState{id: r.UnitID, newest: r.Cycle})
		c.cellOf = append(c.cellOf, make([]int32, len(c.places.known.Regimes))...)
		return i
	}
	u := &c.units[i]
	switch {
	case r.Cycle < u.newest:
		u.late++
	case r.Cycle == u.newest:
		u.twice++
	default:
		u.newest = r.Cycle
	}
	return i
}

// locate finds the conditions of some readings and lays their sensors out by channel.
func (c *Collector) locate(readings []turbofan.StoredReading, from, to int) {
	for i := from; i < to; i++ {
		r := &readings[i].Reading
		if !fits(c.places.known, r) {
			c.chunk.condition[i] = misfitRow
			continue
		}
		k := c.places.known.Find(r.Settings)
		c.chunk.condition[i], c.chunk.seed[i] = int32(k), reference.Seed(r)
		c.chunk.meanPlace[i], c.chunk.since[i] = c.usual.place(k, r.Cycle)
		for j, sensor := range c.ref.Keep {
			c.chunk.columns[j][i] = r.Sensors[sensor]
		}
	}
}

// settle counts the readings by their condition and gives each the cell of its unit.
func (c *Collector) settle(readings []turbofan.StoredReading) {
	conditions := len(c.places.known.Regimes)
	for i, k := range c.chunk.condition {
		u := c.chunk.unit[i]
		switch k {
		case misfitRow:
			c.misfit++
			continue
		case foreignRow:
			c.total++
			c.foreign++
			c.stray(readings[i].Settings, u)
			continue
		}
		c.total++
		c.rows++
		if !c.units[u].judged {
			c.units[u].judged = true
			c.judged++
		}
		at := &c.cellOf[int(u)*conditions+int(k)]
		if int(k) >= c.places.base {
			c.known.add(int(k), *at == 0)
			*at = -1
		} else if *at == 0 && c.usual.knows(int(k)) {
			*at = int32(len(c.cells))
			c.cells = append(c.cells, cell{})
		}
		c.chunk.cell[i] = max(*at, 0)
		if place := c.chunk.meanPlace[i]; place > 0 {
			c.cells[*at].rows++
			c.cells[*at].scale += c.usual.scales[place]
		}
		c.chunk.age, c.chunk.of = append(c.chunk.age, readings[i].Cycle), append(c.chunk.of, int(u))
	}
}

// stray counts a reading in a condition that cannot be used.
func (c *Collector) stray(settings []float64, unit int32) {
	k := c.places.other(settings)
	if k < 0 {
		return
	}
	_, again := c.strayed[visit{k, unit}]
	c.strayed[visit{k, unit}] = struct{}{}
	c.others.add(k, !again)
}

// conditions describes those that training never saw.
func (c *Collector) conditions() []turbofan.NewCondition {
	return append(c.known.describe(c.places.known.Regimes, true), c.others.describe(c.places.others.Regimes, false)...)
}

// fewRows is how many rows are not worth a second processor.
const fewRows = 512

// each calls f for 0..n-1, on all processors unless what there is to do is about few rows.
func each(n, rows int, f func(int)) {
	if n < 2 || rows < fewRows || runtime.GOMAXPROCS(0) < 2 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
}
