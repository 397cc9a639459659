package dataset

import (
	"math"
	"math/rand/v2"
	"strconv"

	"turbofan"
)

// SynthConfig says what fleet Synthesize makes. Zero values take the defaults.
type SynthConfig struct {
	Name       string  // of the sets; default "SYNTH"
	Conditions int     // operating conditions, 1 (the default) to 6
	Faults     int     // ways to fail: 1, wear of the high-pressure compressor (the default), or 2, of the fan as well
	TrainUnits int     // default 100
	TestUnits  int     // default 100
	Seed       int64   // the same seed gives the same fleet
	Noise      float64 // of the sensors, in multiples of what C-MAPSS shows; default 1
}

// SynthSubset returns the configuration that stands in for a C-MAPSS subset, with as many engines, conditions and ways
// to fail; false for a name that is none of FD001 to FD004.
func SynthSubset(name string, seed int64) (SynthConfig, bool) {
	c := SynthConfig{Name: name, Seed: seed}
	switch name {
	case "FD001":
		c.Conditions, c.Faults, c.TrainUnits, c.TestUnits = 1, 1, 100, 100
	case "FD002":
		c.Conditions, c.Faults, c.TrainUnits, c.TestUnits = 6, 1, 260, 259
	case "FD003":
		c.Conditions, c.Faults, c.TrainUnits, c.TestUnits = 1, 2, 100, 100
	case "FD004":
		c.Conditions, c.Faults, c.TrainUnits, c.TestUnits = 6, 2, 249, 248
	default:
		return SynthConfig{}, false
	}
	return c, true
}

func (c SynthConfig) normal() SynthConfig {
	if c.Name == "" {
		c.Name = "SYNTH"
	}
	if c.TrainUnits <= 0 {
		c.TrainUnits = 100
	}
	if c.TestUnits <= 0 {
		c.TestUnits = 100
	}
	if !(c.Noise > 0) {
		c.Noise = 1
	}
	c.Conditions = min(max(c.Conditions, 1), 6)
	c.Faults = min(max(c.Faults, 1), 2)
	return c
}

// Synthesize makes a fleet whose readings look like those of C-MAPSS. An engine begins with some wear and a small offset in
// each sensor, as manufacture leaves them. One of its parts then loses health exponentially until it fails. A sensor shows
// the condition flown, the wear of the failing part, and noise. Training engines run to failure; test engines are stopped
// before that, and their truth is known. The damage model follows Saxena et al. 2008 in outline.
func Synthesize(c SynthConfig) (train, test *Set) {
	c = c.normal()
	plant := newPlant(c)
	train = &Set{Name: c.Name, Schema: turbofan.CMAPSS()}
	test = &Set{Name: c.Name, Schema: turbofan.CMAPSS()}
	// One generator for each engine: a longer fleet begins like a shorter one.
	engine := func(side uint64, i int) *rand.Rand {
		return rand.New(rand.NewPCG(uint64(c.Seed)*4+side, uint64(c.Conditions*10+c.Faults)<<32+uint64(i)))
	}
	for i := range c.TrainUnits {
		train.Units = append(train.Units, plant.live(engine(0, i), strconv.Itoa(i+1), false))
	}
	var truth []float64
	for i := range c.TestUnits {
		u := plant.live(engine(1, i), strconv.Itoa(i+1), true)
		test.Units = append(test.Units, u)
		truth = append(truth, float64(u.FailedAtCycle-lastCycle(&u)))
	}
	train.Digest = digest(formatCMAPSS(train))
	test.Digest = truthDigest(digest(formatCMAPSS(test)), digest(formatRUL(truth)))
	return train, test
}

// plant holds what all engines of a fleet have in common.
type plant struct {
	config    SynthConfig
	settings  [6][cmapssSettings]float64
	healthy   [6][cmapssSensors]float64
	noise     [cmapssSensors]float64
	decimals  [cmapssSensors]int
	signature [2][cmapssSensors]float64
	scales    [cmapssSensors]bool
}

// newPlant returns the constants of the generator: round numbers read off the public data, so that the scales of
// sensors and conditions are familiar.
func newPlant(c SynthConfig) *plant {
	return &plant{
		config:   c,
		settings: [6][cmapssSettings]float64{{0, 0, 100}, {10, 0.25, 100}, {20, 0.70, 100}, {25, 0.62, 60}, {35, 0.84, 100}, {42, 0.84, 100}},
		healthy: [6][cmapssSensors]float64{
			{518.67, 642.30, 1585.9, 1401.2, 14.62, 21.605, 554.0, 2388.04, 9054, 1.30, 47.31, 521.94, 2388.03, 8136, 8.412, 0.03, 392.0, 2388, 100, 38.95, 23.369},
			{489.05, 604.54, 1497.7, 1303.9, 10.52, 15.487, 394.7, 2318.86, 8777, 1.26, 45.26, 371.76, 2388.06, 8130, 8.633, 0.03, 368.6, 2319, 100, 28.62, 17.171},
			{491.19, 607.22, 1481.3, 1246.6, 9.35, 13.648, 334.7, 2323.91, 8721, 1.08, 44.24, 315.05, 2388.04, 8060, 9.202, 0.02, 364.3, 2324, 100, 24.53, 14.715},
			{462.54, 536.65, 1259.1, 1044.7, 7.05, 9.023, 175.5, 1915.32, 8008, 0.94, 36.62, 164.66, 2028.22, 7873, 10.876, 0.02, 306.4, 1915, 84.93, 14.31, 8.585},
			{449.44, 555.47, 1362.8, 1125.3, 5.48, 7.997, 194.6, 2222.93, 8348, 1.02, 41.78, 183.15, 2388.02, 8067, 9.303, 0.02, 333.2, 2223, 100, 14.87, 8.925},
			{445.00, 549.39, 1350.3, 1121.4, 3.91, 5.712, 138.7, 2211.90, 8319, 1.02, 41.93, 130.59, 2387.98, 8083, 9.349, 0.02, 330.0, 2212, 100, 10.62, 6.371},
		},
		noise:    [cmapssSensors]float64{0, 0.30, 4.0, 4.1, 0, 0.002, 0.41, 0.034, 4.1, 0, 0.10, 0.31, 0.034, 3.1, 0.02, 0, 0.96, 0, 0, 0.10, 0.06},
		decimals: [cmapssSensors]int{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 4, 2, 0, 0, 2, 2, 4},
		signature: [2][cmapssSensors]float64{
			// A worn high-pressure compressor runs hotter and faster and delivers less pressure.
			{0, 1.1, 13.5, 23, 0, 0, -2.1, 0.22, 29, 0, 0.70, -1.9, 0.22, 20, 0.095, 0, 3.5, 0, 0, -0.43, -0.25},
			// A worn fan passes less air: the core works more, bypass ratio falls and the core's pressures rise.
			{0, 1.0, 18, 26, 0, -0.03, 12, 0.60, 62, 0.014, 0.88, 11.5, 0.60, 50, -0.16, 0, 4.8, 0, 0, 0.50, 0.31},
		},
		// What flows and presses scales with the density of the air; temperatures and speeds shift alike everywhere.
		scales: [cmapssSensors]bool{5: true, 6: true, 11: true, 19: true, 20: true},
	}
}

// engineTraits are drawn once in the life of an engine.
type engineTraits struct {
	fault     int
	life      int     // cycles to failure
	wear      float64 // health already lost when new, as a share
	curvature float64 // of the loss of health
	offset    [cmapssSensors]float64
	shift     [cmapssSensors]float64 // reading at failure minus reading without wear, at sea level
}

func (p *plant) traits(rng *rand.Rand) engineTraits {
	var e engineTraits
	if p.config.Faults == 2 && rng.Float64() < 0.4 {
		e.fault = 1
	}
	// Lives are skewed: few engines last very long, none fails young.
	if e.fault == 0 {
		e.life = 128 + int(math.Exp(4.2+0.55*clipped(rng)))
	} else {
		e.life = 160 + int(math.Exp(4.75+0.5*clipped(rng)))
	}
	e.wear = 0.12 * rng.Float64()
	e.curvature = 3.8 + 0.4*clipped(rng)
	// How far the core speeds up depends on the engine more than on anything else that is seen.
	core := rng.ExpFloat64()
	if e.fault == 1 {
		core = 1 + 0.12*clipped(rng)
	}
	coreOffset := 1.4 * clipped(rng)
	for k := range cmapssSensors {
		e.offset[k] = 0.5 * p.noise[k] * clipped(rng)
		e.shift[k] = p.signature[e.fault][k] * (1 + 0.1*clipped(rng))
		if k == 8 || k == 13 {
			e.shift[k] = p.signature[e.fault][k] * core
			e.offset[k] = p.noise[k] * coreOffset
		}
	}
	return e
}

// clipped returns a standard normal number within three deviations, so that no engine is absurd.
func clipped(rng *rand.Rand) float64 {
	return math.Max(-3, math.Min(3, rng.NormFloat64()))
}

// health returns the share of health lost at a cycle: e.wear when new, 1 at failure.
func (e *engineTraits) health(cycle int) float64 {
	x := float64(cycle) / float64(e.life)
	return e.wear + (1-e.wear)*math.Expm1(e.curvature*x)/math.Expm1(e.curvature)
}

// live returns the history of one engine up to failure or, when it is stopped, up to a cycle before.
func (p *plant) live(rng *rand.Rand, id string, stopped bool) turbofan.History {
	e := p.traits(rng)
	last := e.life
	if stopped {
		rul := 6 + rng.IntN(140)
		last = max(e.life-rul, 20+rng.IntN(20))
	}
	values := make([]float64, last*cmapssValues)
	readings := make([]turbofan.Reading, last)
	for i := range readings {
		v := values[i*cmapssValues : (i+1)*cmapssValues : (i+1)*cmapssValues]
		p.read(rng, &e, i+1, v)
		readings[i] = turbofan.Reading{UnitID: id, Cycle: i + 1, Settings: v[:cmapssSettings:cmapssSettings], Sensors: v[cmapssSettings:]}
	}
	return turbofan.History{UnitID: id, Readings: readings, FailedAtCycle: e.life}
}

// read fills v with the settings and sensors of one cycle.
func (p *plant) read(rng *rand.Rand, e *engineTraits, cycle int, v []float64) {
	at := 0
	if p.config.Conditions > 1 {
		// One cycle in four is a cruise at the top when all conditions are flown; the others share the rest.
		at = min(int(rng.Float64()*(float64(p.config.Conditions)+0.75)), p.config.Conditions-1)
	}
	jitter := [cmapssSettings]float64{0.002, 0.0003, 0}
	for k := range cmapssSettings {
		v[k] = rounded(p.settings[at][k]+jitter[k]*clipped(rng), 4)
	}
	lost := e.health(cycle)
	for k := range cmapssSensors {
		shift := e.shift[k] * lost
		if p.scales[k] {
			shift *= p.healthy[at][k] / p.healthy[0][k]
		}
		noise := p.noise[k] * p.config.Noise * rng.NormFloat64()
		v[cmapssSettings+k] = rounded(p.healthy[at][k]+e.offset[k]+shift+noise, p.decimals[k])
	}
}

// rounded returns the float64 nearest to v at so many decimals, the one that reading the printed text gives.
func rounded(v float64, decimals int) float64 {
	p := exact[decimals]
	v = math.Round(v*p) / p
	if v == 0 {
		return 0 // not the negative zero, which prints with a sign
	}
	return v
}
