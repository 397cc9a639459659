package httpapi

import (
	"fmt"
	"math"
	"strconv"

	"turbofan"
)

// fieldKind says what a field of a reading fills.
type fieldKind uint8

const (
	unitField fieldKind = iota + 1
	cycleField
	settingsField
	sensorsField
	settingField // one setting by its name or alias
	sensorField  // one sensor by its name or alias
)

type fieldRef struct {
	kind  fieldKind
	index int
}

// readingDecoder reads readings of one schema. It never changes after it is made.
type readingDecoder struct {
	schema *turbofan.Schema
	fields map[string]fieldRef
}

func newReadingDecoder(schema *turbofan.Schema) *readingDecoder {
	d := &readingDecoder{schema: schema, fields: make(map[string]fieldRef)}
	// Names of the schema are entered last, so that a sensor called "unit" stays a sensor.
	for _, name := range []string{"unit_id", "unit", "unit_number", "engine_id"} {
		d.fields[name] = fieldRef{kind: unitField}
	}
	for _, name := range []string{"cycle", "time_cycles", "time_in_cycles"} {
		d.fields[name] = fieldRef{kind: cycleField}
	}
	d.fields["settings"] = fieldRef{kind: settingsField}
	d.fields["sensors"] = fieldRef{kind: sensorsField}
	for i, c := range schema.Settings {
		d.add(c, fieldRef{settingField, i})
	}
	for i, c := range schema.Sensors {
		d.add(c, fieldRef{sensorField, i})
	}
	if schema.UnitColumn != "" {
		d.fields[schema.UnitColumn] = fieldRef{kind: unitField}
	}
	if schema.CycleColumn != "" {
		d.fields[schema.CycleColumn] = fieldRef{kind: cycleField}
	}
	return d
}

func (d *readingDecoder) add(c turbofan.Channel, ref fieldRef) {
	d.fields[c.Name] = ref
	for _, alias := range c.Aliases {
		d.fields[alias] = ref
	}
}

// names returns the field names that a hint may propose: the canonical ones.
func (d *readingDecoder) names() []string {
	out := []string{"unit_id", "cycle", "settings", "sensors"}
	return append(append(out, d.schema.SettingNames()...), d.schema.SensorNames()...)
}

// path is where a reading stands in the request, written out only when an error names it.
type path struct {
	base  string
	index int // -1 when the reading is no element of a list
}

func (p path) String() string {
	if p.index < 0 {
		return p.base
	}
	if p.base == "line" {
		return "line " + strconv.Itoa(p.index)
	}
	return p.base + "[" + strconv.Itoa(p.index) + "]"
}

// How the settings, or the sensors, of a reading were given so far.
const (
	notGiven   = iota
	givenWhole // as one array or one object
	givenFlat  // one field of the reading a channel
)

// partial is a reading while it is being read.
type partial struct {
	reading           turbofan.Reading
	unit, cycle       bool
	settings, sensors int
	given             [turbofan.MaxChannels / 64]uint64 // channels given by name: settings first, then sensors
	count             int                               // how many bits are set
}

// begin prepares p for the next reading. Its values are allocated here and belong to the reading from then on: services
// keep them, so they cannot be pooled.
func (d *readingDecoder) begin(p *partial) {
	n := len(d.schema.Settings)
	values := make([]float64, n+len(d.schema.Sensors))
	*p = partial{reading: turbofan.Reading{Settings: values[:n:n], Sensors: values[n:]}}
}

// decode reads one reading, which begins with '{'.
func (d *readingDecoder) decode(s *scanner, p *partial, at path) error {
	d.begin(p)
	if s.peek() != '{' {
		return s.mismatch(at.String(), "must be an object")
	}
	s.pos++
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil {
			return err
		}
		if !more {
			return d.finish(p, at)
		}
		ref, known := d.fields[string(key)]
		if !known {
			return unknownField(at.String()+".", string(key), "a reading", d.names())
		}
		if err := d.field(s, p, ref, at); err != nil {
			return err
		}
	}
}

// field reads the value of one field.
func (d *readingDecoder) field(s *scanner, p *partial, ref fieldRef, at path) (err error) {
	switch ref.kind {
	case unitField:
		if p.unit {
			return turbofan.Invalid(at.String()+".unit_id", "is given more than once")
		}
		p.unit = true
		p.reading.UnitID, err = readUnitID(s, at)
	case cycleField:
		if p.cycle {
			return turbofan.Invalid(at.String()+".cycle", "is given more than once")
		}
		p.cycle = true
		p.reading.Cycle, err = readCycle(s, at)
	case settingsField:
		err = d.whole(s, p, &p.settings, settingField, at)
	case sensorsField:
		err = d.whole(s, p, &p.sensors, sensorField, at)
	case settingField:
		err = d.flat(s, p, &p.settings, ref, at)
	case sensorField:
		err = d.flat(s, p, &p.sensors, ref, at)
	}
	return err
}

// group returns the values, channels and JSON name of the settings or of the sensors.
func (d *readingDecoder) group(p *partial, kind fieldKind) (values []float64, channels []turbofan.Channel, name string) {
	if kind == settingField {
		return p.reading.Settings, d.schema.Settings, "settings"
	}
	return p.reading.Sensors, d.schema.Sensors, "sensors"
}

// whole reads the settings or the sensors as an array in the schema's order or as an object by name.
func (d *readingDecoder) whole(s *scanner, p *partial, how *int, kind fieldKind, at path) error {
	values, channels, name := d.group(p, kind)
	if *how != notGiven {
		return turbofan.Invalid(at.String()+"."+name, "is given more than once")
	}
	*how = givenWhole
	switch s.peek() {
	case '[':
		return d.array(s, values, channels, kind, at)
	case '{':
		s.pos++
	default:
		return s.mismatch(at.String()+"."+name, "must be an array of numbers, or an object of numbers by name")
	}
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil {
			return err
		}
		if !more {
			return d.complete(p, kind, at)
		}
		ref, known := d.fields[string(key)]
		if !known || ref.kind != kind {
			names := make([]string, len(channels))
			for i := range channels {
				names[i] = channels[i].Name
			}
			return unknownField(at.String()+"."+name+".", string(key), "one of the "+name+" of "+d.schema.Name, names)
		}
		if err := d.named(s, p, ref, at); err != nil {
			return err
		}
	}
}

// array reads values in the order of channels.
func (d *readingDecoder) array(s *scanner, values []float64, channels []turbofan.Channel, kind fieldKind, at path) error {
	s.pos++
	n := 0
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if n >= len(channels) {
			// Too long: the rest is only counted, for the message.
			if err := s.skip(0); err != nil {
				return err
			}
			n++
			continue
		}
		v, ok, err := channelValue(s, kind)
		if err != nil {
			return err
		}
		if !ok {
			return notANumber(fmt.Sprintf("%s.%s[%d]", at, groupName(kind), n), channels[n].Name, kind)
		}
		values[n] = v
		n++
	}
	if n != len(channels) {
		return turbofan.Invalid(at.String()+"."+groupName(kind), "must have %d values, one a %s of %s; it has %d", len(channels), kindName(kind), d.schema.Name, n)
	}
	return nil
}

// flat reads one channel that stands beside unit_id and cycle.
func (d *readingDecoder) flat(s *scanner, p *partial, how *int, ref fieldRef, at path) error {
	if *how == givenWhole {
		_, channels, name := d.group(p, ref.kind)
		return turbofan.Invalid(at.String()+"."+channels[ref.index].Name, "is given more than once: %s holds it already", name)
	}
	*how = givenFlat
	return d.named(s, p, ref, at)
}

// named reads the value of one channel that was given by name.
func (d *readingDecoder) named(s *scanner, p *partial, ref fieldRef, at path) error {
	values, channels, _ := d.group(p, ref.kind)
	bit := ref.index
	if ref.kind == sensorField {
		bit += len(d.schema.Settings)
	}
	name := channels[ref.index].Name
	if p.given[bit/64]&(1<<(bit%64)) != 0 {
		return turbofan.Invalid(at.String()+"."+name, "is given more than once")
	}
	p.given[bit/64] |= 1 << (bit % 64)
	p.count++
	v, ok, err := channelValue(s, ref.kind)
	if err != nil {
		return err
	}
	if !ok {
		return notANumber(at.String()+"."+name, name, ref.kind)
	}
	values[ref.index] = v
	return nil
}

// complete reports the first channel of a kind that was not given by name.
func (d *readingDecoder) complete(p *partial, kind fieldKind, at path) error {
	_, channels, group := d.group(p, kind)
	offset, hint := 0, "every setting must be given"
	if kind == sensorField {
		offset, hint = len(d.schema.Settings), "send null where it has no value"
	}
	for i := range channels {
		if bit := offset + i; p.given[bit/64]&(1<<(bit%64)) == 0 {
			return turbofan.Invalid(at.String()+"."+group, "%s is missing; %s", channels[i].Name, hint)
		}
	}
	return nil
}

// finish checks that the reading is whole and keeps the schema's rules.
func (d *readingDecoder) finish(p *partial, at path) error {
	if !p.cycle {
		return turbofan.Invalid(at.String()+".cycle", "is missing")
	}
	for _, g := range [2]struct {
		how  int
		kind fieldKind
	}{{p.settings, settingField}, {p.sensors, sensorField}} {
		_, channels, group := d.group(p, g.kind)
		switch {
		case g.how == notGiven && len(channels) > 0:
			return turbofan.Invalid(at.String()+"."+group, "is missing; it must have %d values, one a %s of %s", len(channels), kindName(g.kind), d.schema.Name)
		case g.how == givenFlat:
			if err := d.complete(p, g.kind, at); err != nil {
				return err
			}
		}
	}
	if p.unit {
		return d.validate(p, at)
	}
	return nil // the caller may know the unit of the whole list
}

// validate checks the finished reading. The path is written only for a reading that fails: this is the hot path.
func (d *readingDecoder) validate(p *partial, at path) error {
	if p.reading.Validate(d.schema, "") == nil {
		return nil
	}
	return p.reading.Validate(d.schema, at.String())
}

// channelValue reads a number; null is NaN for a sensor. False means that the value is no finite number; it was not
// consumed then.
func channelValue(s *scanner, kind fieldKind) (float64, bool, error) {
	switch c := s.peek(); {
	case c == '-' || c >= '0' && c <= '9':
		text, err := s.number()
		if err != nil {
			return 0, false, err
		}
		v, err := strconv.ParseFloat(string(text), 64)
		return v, err == nil, nil
	case c == 'n':
		if err := s.literal("null"); err != nil {
			return 0, false, err
		}
		return math.NaN(), kind == sensorField, nil
	case c == 'N' && s.nan:
		return math.NaN(), kind == sensorField, s.literal("NaN")
	case c == '"' || c == 't' || c == 'f' || c == '{' || c == '[':
		return 0, false, nil
	}
	return 0, false, s.expected("a number")
}

func notANumber(field, name string, kind fieldKind) error {
	if kind == sensorField {
		return turbofan.Invalid(field, "%s must be a finite number, or null where it is missing", name)
	}
	return turbofan.Invalid(field, "%s must be a finite number", name)
}

func groupName(kind fieldKind) string {
	if kind == sensorField {
		return "sensors"
	}
	return "settings"
}

func kindName(kind fieldKind) string {
	if kind == sensorField {
		return "sensor"
	}
	return "setting"
}

// readUnitID reads a string or a whole number, which data sets often use to name units.
func readUnitID(s *scanner, at path) (string, error) {
	switch c := s.peek(); {
	case c == '"':
		b, err := s.str()
		return string(b), err
	case c == '-' || c >= '0' && c <= '9':
		text, err := s.number()
		if err != nil {
			return "", err
		}
		if n, ok := wholeNumber(text); ok {
			return strconv.FormatInt(n, 10), nil
		}
		return "", turbofan.Invalid(at.String()+".unit_id", "must be a string or a whole number, not %s", clip(text))
	}
	return "", s.mismatch(at.String()+".unit_id", "must be a string or a whole number")
}

// readCycle reads a whole number; its range is the schema's business.
func readCycle(s *scanner, at path) (int, error) {
	field := func() string { return at.String() + ".cycle" }
	const rule = "must be a whole number from 1 to %d"
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return 0, s.mismatch(field(), fmt.Sprintf(rule, turbofan.MaxCycle))
	}
	text, err := s.number()
	if err != nil {
		return 0, err
	}
	n, ok := wholeNumber(text)
	if !ok {
		return 0, turbofan.Invalid(field(), rule+", not %s", turbofan.MaxCycle, clip(text))
	}
	return int(n), nil
}

// wholeNumber reads a JSON number that has no fraction, in any spelling: 31, 31.0 and 3.1e1 are the same.
func wholeNumber(text []byte) (int64, bool) {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// clip shortens a token that a message quotes.
func clip(text []byte) string {
	const most = 64
	if len(text) > most {
		return string(text[:most]) + "..."
	}
	return string(text)
}
