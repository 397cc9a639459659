package httpapi

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

var littleEndian = binary.LittleEndian

// inference is a request of the Open Inference Protocol.
type inference struct {
	id        string
	stateless bool
	binary    bool // answer every tensor in binary
	inputs    []inputTensor
	outputs   []wantedTensor
}

// inputTensor is a tensor as a request describes it.
type inputTensor struct {
	name, datatype string
	shape          []int
	from, to       int // where its data stand in the JSON; 0 when they do not
	size           int // of its binary data, -1 when there are none
}

type wantedTensor struct {
	outputTensor
	binary bool
}

// inputDatatypes are the types that a reading's tensor may have.
func inputDatatypes() []string {
	return []string{"BYTES", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64"}
}

// widthOf returns the bytes of one value in binary.
func widthOf(datatype string) int {
	bits, err := strconv.Atoi(strings.TrimLeft(datatype, "UINTFP"))
	if err != nil {
		return 0 // BYTES
	}
	return bits / 8
}

// readInference reads the JSON of a request.
func (p *predictions) readInference(c *call) (*inference, error) {
	head := c.body
	if text := c.r.Header.Get(inferenceLength); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > len(c.body) {
			return nil, turbofan.Invalid(inferenceLength, "must be a whole number from 0 to the body's %d bytes, not %q", len(c.body), clip([]byte(text)))
		}
		head = c.body[:n]
	} else if kind := c.contentType(); kind != mimeBinary {
		if err := c.requireJSON(); err != nil {
			return nil, err
		}
	}
	s := &c.scanner
	s.reset(head)
	s.nan = true
	if err := openRequest(s, `{"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}`); err != nil {
		return nil, err
	}
	in := &inference{stateless: true}
	err := object(s, "", "an inference request", []string{"id", "parameters", "inputs", "outputs"}, func(key string) error {
		switch key {
		case "id":
			return text(s, key, &in.id)
		case "parameters":
			return parameters(s, key, map[string]*bool{"stateless": &in.stateless, "binary_data_output": &in.binary}, nil)
		case "inputs":
			return p.readInputs(s, in)
		}
		return in.readOutputs(s)
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, err
	}
	if len(in.inputs) == 0 {
		return nil, turbofan.Invalid("inputs", "must hold at least one tensor")
	}
	if len(in.outputs) == 0 {
		for _, o := range outputTensors() {
			in.outputs = append(in.outputs, wantedTensor{outputTensor: o})
		}
	}
	for i := range in.outputs {
		in.outputs[i].binary = in.outputs[i].binary || in.binary
	}
	return in, nil
}

// parameters reads an object of parameters into the flags and numbers of those names. Others are free: the protocol lets
// clients send what they like.
func parameters(s *scanner, at string, flags map[string]*bool, numbers map[string]*int) error {
	if null, err := s.null(); null || err != nil {
		return err
	}
	if s.peek() != '{' {
		return s.mismatch(at, "must be an object")
	}
	s.pos++
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil || !more {
			return err
		}
		name := at + "." + string(key)
		switch v, n := flags[string(key)], numbers[string(key)]; {
		case v != nil:
			seen := false
			err = flag(s, name, v, &seen)
		case n != nil:
			var given *int
			if given, err = whole(s, name); err == nil && given != nil {
				*n = *given
			}
		default:
			err = s.skip(1)
		}
		if err != nil {
			return err
		}
	}
}

func (p *predictions) readInputs(s *scanner, in *inference) error {
	if s.peek() != '[' {
		return s.mismatch("inputs", "must be an array of tensors")
	}
	s.pos++
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil || !more {
			return err
		}
		at := "inputs[" + strconv.Itoa(len(in.inputs)) + "]"
		if len(in.inputs) > len(p.decoder.fields) {
			return turbofan.Invalid("inputs", "has more tensors than a reading has fields")
		}
		if s.peek() != '{' {
			return s.mismatch(at, "must be an object")
		}
		s.pos++
		t := inputTensor{size: -1}
		err = object(s, at+".", "a tensor", []string{"name", "shape", "datatype", "parameters", "data"}, func(key string) error {
			switch key {
			case "name":
				return text(s, at+"."+key, &t.name)
			case "datatype":
				return text(s, at+"."+key, &t.datatype)
			case "shape":
				return readShape(s, at+".shape", &t.shape)
			case "parameters":
				return parameters(s, at+"."+key, nil, map[string]*int{"binary_data_size": &t.size})
			}
			if s.peek() != '[' {
				return s.mismatch(at+".data", "must be an array")
			}
			t.from = s.pos
			err := s.skip(0)
			t.to = s.pos
			return err
		})
		if err != nil {
			return err
		}
		if err := t.check(at); err != nil {
			return err
		}
		in.inputs = append(in.inputs, t)
	}
}

func readShape(s *scanner, at string, shape *[]int) error {
	const most = 8
	if s.peek() != '[' {
		return s.mismatch(at, "must be an array of whole numbers")
	}
	s.pos++
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil || !more {
			return err
		}
		n, err := whole(s, at+"["+strconv.Itoa(len(*shape))+"]")
		if err != nil {
			return err
		}
		if n == nil || *n < 1 || len(*shape) == most {
			return turbofan.Invalid(at, "must have 1 to %d dimensions of at least 1", most)
		}
		*shape = append(*shape, *n)
	}
}

// check reports what a tensor's description lacks.
func (t *inputTensor) check(at string) error {
	switch {
	case t.name == "":
		return turbofan.Invalid(at+".name", "is missing")
	case len(t.shape) == 0:
		return turbofan.Invalid(at+".shape", "is missing")
	case !slices.Contains(inputDatatypes(), t.datatype):
		return turbofan.Invalid(at+".datatype", "must be one of %s, not %q", strings.Join(inputDatatypes(), ", "), clip([]byte(t.datatype)))
	case t.from == 0 && t.size < 0:
		return turbofan.Invalid(at+".data", "is missing")
	case t.from != 0 && t.size >= 0:
		return turbofan.Invalid(at+".data", "is given beside parameters.binary_data_size; send one of them")
	}
	return nil
}

func (in *inference) readOutputs(s *scanner) error {
	if null, err := s.null(); null || err != nil {
		return err
	}
	if s.peek() != '[' {
		return s.mismatch("outputs", "must be an array")
	}
	s.pos++
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil || !more {
			return err
		}
		at := "outputs[" + strconv.Itoa(len(in.outputs)) + "]"
		if s.peek() != '{' {
			return s.mismatch(at, "must be an object")
		}
		s.pos++
		var w wantedTensor
		name := ""
		err = object(s, at+".", "a tensor that is asked for", []string{"name", "parameters"}, func(key string) error {
			if key == "name" {
				return text(s, at+".name", &name)
			}
			return parameters(s, at+"."+key, map[string]*bool{"binary_data": &w.binary}, nil)
		})
		if err != nil {
			return err
		}
		known := outputTensors()
		i := slices.IndexFunc(known, func(o outputTensor) bool { return o.name == name })
		if i < 0 {
			return unknownOutput(at, name)
		}
		if slices.ContainsFunc(in.outputs, func(o wantedTensor) bool { return o.name == name }) {
			return turbofan.Invalid(at+".name", "%s is asked for more than once", name)
		}
		w.outputTensor = known[i]
		in.outputs = append(in.outputs, w)
	}
}

func unknownOutput(at, name string) error {
	if name == "" {
		return turbofan.Invalid(at+".name", "is missing")
	}
	return turbofan.Invalid(at+".name", "must be one of %s, not %q", strings.Join(outputNames(), ", "), clip([]byte(name)))
}

// tensorRows turns the tensors of a request into readings.
func (p *predictions) tensorRows(c *call, in *inference) ([]turbofan.Reading, error) {
	tail := c.body[len(c.scanner.data):]
	columns := make([]column, len(in.inputs))
	rows := in.inputs[0].shape[0]
	if rows > c.api.cfg.MaxReadings {
		return nil, tooMany("inputs", "readings", c.api.cfg.MaxReadings)
	}
	for i := range in.inputs {
		t := &in.inputs[i]
		at := "inputs[" + strconv.Itoa(i) + "]"
		if t.shape[0] != rows {
			return nil, turbofan.Invalid(at+".shape", "must have as many rows as inputs[0], %d, not %d", rows, t.shape[0])
		}
		width := 1
		for _, n := range t.shape[1:] {
			if width *= n; n > turbofan.MaxChannels || width > turbofan.MaxChannels {
				return nil, turbofan.Invalid(at+".shape", "has more than %d values a row", turbofan.MaxChannels)
			}
		}
		unit := p.decoder.fields[t.name].kind == unitField
		if t.datatype == "BYTES" && !unit {
			return nil, turbofan.Invalid(at+".datatype", "of %s must be a type of numbers, not BYTES", clip([]byte(t.name)))
		}
		columns[i] = column{name: t.name, width: width}
		var err error
		if t.size >= 0 {
			if t.size > len(tail) {
				return nil, turbofan.Invalid(at+".parameters.binary_data_size", "is %d, but %d bytes of binary data are left", t.size, len(tail))
			}
			err = t.binary(&columns[i], tail[:t.size], rows*width, at)
			tail = tail[t.size:]
		} else {
			err = t.json(c, &columns[i], unit, rows*width, at)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(tail) > 0 {
		return nil, turbofan.Invalid("body", "has %d bytes of binary data that belong to no tensor", len(tail))
	}
	return p.decoder.table(&c.partial, columns, rows, tableRows, "input")
}

// json reads a tensor's data from the JSON.
func (t *inputTensor) json(c *call, col *column, unit bool, n int, at string) error {
	s := &scanner{data: c.scanner.data[:t.to], pos: t.from, nan: true}
	switch err := flatten(s, col, unit, at+".data", n, 0); {
	case errors.Is(err, errTooMany):
		return turbofan.Invalid(at+".data", "must have %d values as its shape says; it has more", n)
	case err != nil:
		return err
	}
	if got := len(col.numbers) + len(col.texts); got != n {
		return turbofan.Invalid(at+".data", "must have %d values as its shape says; it has %d", n, got)
	}
	if strings.Contains(t.datatype, "INT") {
		for i, v := range col.numbers {
			if v != math.Trunc(v) {
				return turbofan.Invalid(at+".data["+strconv.Itoa(i)+"]", "must be a whole number as datatype %s says", t.datatype)
			}
		}
	}
	return nil
}

// binary reads a tensor's data from the bytes behind the JSON.
func (t *inputTensor) binary(c *column, data []byte, n int, at string) error {
	if t.datatype == "BYTES" {
		for range n {
			if len(data) < 4 || uint64(littleEndian.Uint32(data)) > uint64(len(data)-4) {
				return turbofan.Invalid(at, "has less binary data than its shape says")
			}
			size := littleEndian.Uint32(data)
			c.texts, data = append(c.texts, string(data[4:4+size])), data[4+size:]
		}
		if len(data) > 0 {
			return turbofan.Invalid(at, "has more binary data than its shape says")
		}
		return nil
	}
	width := widthOf(t.datatype)
	if len(data) != n*width {
		return turbofan.Invalid(at+".parameters.binary_data_size", "must be %d for %d values of %s, not %d", n*width, n, t.datatype, len(data))
	}
	for ; len(data) > 0; data = data[width:] {
		if err := t.value(c, data[:width], at); err != nil {
			return err
		}
	}
	return nil
}

// value appends one number.
func (t *inputTensor) value(c *column, b []byte, at string) error {
	var bits uint64
	for i, v := range b {
		bits |= uint64(v) << (8 * i)
	}
	switch {
	case t.datatype == "FP64":
		c.numbers = append(c.numbers, math.Float64frombits(bits))
	case t.datatype == "FP32":
		c.numbers = append(c.numbers, float64(math.Float32frombits(uint32(bits))))
	case t.datatype == "FP16":
		c.numbers = append(c.numbers, half(uint16(bits)))
	case t.datatype[0] == 'U':
		if bits > math.MaxInt64 {
			return turbofan.Invalid(at, "has the value %d, which is more than a reading can hold", bits)
		}
		c.whole = append(c.whole, int64(bits))
	default:
		shift := 64 - 8*len(b)
		c.whole = append(c.whole, int64(bits<<shift)>>shift)
	}
	return nil
}

// half returns what the bits of an IEEE 754 binary16 stand for.
func half(bits uint16) float64 {
	sign := 1.0
	if bits>>15 == 1 {
		sign = -1
	}
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}
