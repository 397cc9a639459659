package turbofan

import (
	"fmt"
	"math"
	"strconv"
)

// Channel is one column of a reading: a setting or a sensor.
type Channel struct {
	Name string `json:"name" yaml:"name"`
	// Aliases are other names that a request or a file may use.
	Aliases []string `json:"aliases,omitempty" yaml:"aliases,omitempty"`
	// Unit is the physical unit, such as "degR"; for people only.
	Unit        string `json:"unit,omitempty" yaml:"unit,omitempty"`
	Description string `json:"description,omitempty" yaml:"description,omitempty"`
	// Min and Max bound what the sensor can say at all; a reading outside is refused. Nil means unbounded.
	Min *float64 `json:"min,omitempty" yaml:"min,omitempty"`
	Max *float64 `json:"max,omitempty" yaml:"max,omitempty"`
	// Tolerance, for a setting, is the distance within which two values mean the same operating condition. Zero asks
	// the learner to choose one from the training data.
	Tolerance float64 `json:"tolerance,omitempty" yaml:"tolerance,omitempty"`
}

// Schema says what a reading of one kind of equipment holds. The order of Settings and Sensors is the order of the
// values in every Reading.
type Schema struct {
	Name     string    `json:"name" yaml:"name"`
	Settings []Channel `json:"settings" yaml:"settings"`
	Sensors  []Channel `json:"sensors" yaml:"sensors"`
	// UnitColumn and CycleColumn are the names of those columns in a CSV file.
	UnitColumn  string `json:"unit_column,omitempty" yaml:"unit_column,omitempty"`
	CycleColumn string `json:"cycle_column,omitempty" yaml:"cycle_column,omitempty"`
}

// Limits that keep a hostile schema or reading bounded.
const (
	MaxChannels   = 512
	MaxUnitIDLen  = 128
	MaxCycle      = 10_000_000
	maxNameLength = 64
)

// CMAPSS returns the schema of NASA's turbofan data: three settings and twenty-one sensors.
// Descriptions follow Saxena et al. 2008, table 2.
func CMAPSS() Schema {
	s := Schema{Name: "cmapss", UnitColumn: "unit_id", CycleColumn: "cycle"}
	tolerance := [3]float64{1, 0.05, 5}
	about := [3]string{"altitude (thousand feet)", "Mach number", "throttle resolver angle"}
	for i := range 3 {
		n := strconv.Itoa(i + 1)
		s.Settings = append(s.Settings, Channel{
			Name: "setting_" + n, Aliases: []string{"op_setting_" + n, "operational_setting_" + n, "set" + n, "os" + n},
			Tolerance: tolerance[i], Description: about[i],
		})
	}
	sensors := [21][2]string{
		{"T2 total temperature at fan inlet", "degR"}, {"T24 total temperature at LPC outlet", "degR"},
		{"T30 total temperature at HPC outlet", "degR"}, {"T50 total temperature at LPT outlet", "degR"},
		{"P2 pressure at fan inlet", "psia"}, {"P15 total pressure in bypass duct", "psia"},
		{"P30 total pressure at HPC outlet", "psia"}, {"Nf physical fan speed", "rpm"},
		{"Nc physical core speed", "rpm"}, {"epr engine pressure ratio", ""},
		{"Ps30 static pressure at HPC outlet", "psia"}, {"phi fuel flow to Ps30", "pps/psi"},
		{"NRf corrected fan speed", "rpm"}, {"NRc corrected core speed", "rpm"}, {"BPR bypass ratio", ""},
		{"farB burner fuel-air ratio", ""}, {"htBleed bleed enthalpy", ""}, {"Nf_dmd demanded fan speed", "rpm"},
		{"PCNfR_dmd demanded corrected fan speed", "rpm"}, {"W31 HPT coolant bleed", "lbm/s"},
		{"W32 LPT coolant bleed", "lbm/s"},
	}
	for i, d := range sensors {
		n := strconv.Itoa(i + 1)
		s.Sensors = append(s.Sensors, Channel{
			Name: "sensor_" + n, Aliases: []string{"s" + n, "s_" + n, "sensor_measurement_" + n, "sensor" + n},
			Unit: d[1], Description: d[0],
		})
	}
	return s
}

// Validate reports the first rule that the schema breaks.
func (s Schema) Validate() error {
	if s.Name == "" {
		return Invalid("schema.name", "is missing")
	}
	if len(s.Sensors) == 0 {
		return Invalid("schema.sensors", "must name at least one sensor")
	}
	if n := len(s.Sensors) + len(s.Settings); n > MaxChannels {
		return Invalid("schema.sensors", "%d channels are more than the %d allowed", n, MaxChannels)
	}
	seen := map[string]string{s.UnitColumn: "unit_column", s.CycleColumn: "cycle_column"}
	delete(seen, "")
	check := func(kind string, cs []Channel) error {
		for i, c := range cs {
			field := fmt.Sprintf("schema.%s[%d]", kind, i)
			if c.Name == "" || len(c.Name) > maxNameLength {
				return Invalid(field+".name", "must have 1 to %d characters", maxNameLength)
			}
			for _, name := range append([]string{c.Name}, c.Aliases...) {
				if err := ValidateVisible(name); err != nil {
					return Invalid(field, "the name %q %s", name, err)
				}
				if other, dup := seen[name]; dup {
					return Invalid(field, "the name %q is already taken by %s", name, other)
				}
				seen[name] = field
			}
			for _, bound := range []*float64{c.Min, c.Max} {
				if bound != nil && (math.IsNaN(*bound) || math.IsInf(*bound, 0)) {
					return Invalid(field, "the bounds of channel %s must be finite numbers; leave out a bound that there is not", c.Name)
				}
			}
			if c.Min != nil && c.Max != nil && *c.Min > *c.Max {
				return Invalid(field, "min %g is above max %g", *c.Min, *c.Max)
			}
			if c.Tolerance < 0 || math.IsNaN(c.Tolerance) || math.IsInf(c.Tolerance, 0) {
				return Invalid(field+".tolerance", "must be a finite number of at least 0")
			}
		}
		return nil
	}
	if err := check("settings", s.Settings); err != nil {
		return err
	}
	return check("sensors", s.Sensors)
}

// SensorNames returns the names of the sensors in order.
func (s Schema) SensorNames() []string { return names(s.Sensors) }

// SettingNames returns the names of the settings in order.
func (s Schema) SettingNames() []string { return names(s.Settings) }

func names(cs []Channel) []string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.Name
	}
	return out
}
