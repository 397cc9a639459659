package httpapi

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"turbofan"
)

// codec turns the nouns of package turbofan into JSON and back by their tags. It exists beside encoding/json for one
// reason: numbers that are not known. encoding/json fails on NaN and leaves zero where it reads null; the codec writes
// null and reads it back as NaN, so that an error rate nobody could measure does not arrive as a perfect one.
type codec struct {
	plans sync.Map // reflect.Type -> *plan
}

// plan is how one struct type is written.
type plan struct {
	fields []planField
	byName map[string]int
}

type planField struct {
	name      string
	index     []int
	omitEmpty bool
	omitZero  bool
}

func (c *codec) plan(t reflect.Type) *plan {
	if p, ok := c.plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{byName: make(map[string]int)}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		p.byName[name] = len(p.fields)
		p.fields = append(p.fields, planField{
			name: name, index: f.Index, omitEmpty: strings.Contains(options, "omitempty"), omitZero: strings.Contains(options, "omitzero"),
		})
	}
	actual, _ := c.plans.LoadOrStore(t, p)
	return actual.(*plan)
}

// append appends v as JSON. A nil slice is an empty array and a nil map an empty object: callers iterate, not ask.
func (c *codec) append(dst []byte, v any) []byte { return c.appendValue(dst, reflect.ValueOf(v)) }

func (c *codec) appendValue(dst []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Float64:
		return appendFloat(dst, v.Float())
	case reflect.Int, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10)
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool())
	case reflect.String:
		return appendString(dst, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return append(dst, "null"...)
		}
		return c.appendValue(dst, v.Elem())
	case reflect.Slice:
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = c.appendValue(dst, v.Index(i))
		}
		return append(dst, ']')
	case reflect.Map:
		return c.appendMap(dst, v)
	case reflect.Struct:
		return c.appendStruct(dst, v)
	}
	return append(dst, "null"...)
}

func (c *codec) appendMap(dst []byte, v reflect.Value) []byte {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, k.String())
		dst = append(dst, ':')
		dst = c.appendValue(dst, v.MapIndex(k))
	}
	return append(dst, '}')
}

func (c *codec) appendStruct(dst []byte, v reflect.Value) []byte {
	if t, ok := v.Interface().(time.Time); ok {
		return appendTime(dst, t)
	}
	if p, ok := v.Interface().(turbofan.Prediction); ok {
		return appendPrediction(dst, &p)
	}
	dst = append(dst, '{')
	comma := false
	for _, f := range c.plan(v.Type()).fields {
		fv := v.FieldByIndex(f.index)
		if f.omitZero && fv.IsZero() || f.omitEmpty && isEmpty(fv) {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = appendString(dst, f.name)
		dst = append(dst, ':')
		dst = c.appendValue(dst, fv)
	}
	return append(dst, '}')
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// decode reads data into *v. Fields that v does not have are passed over, so that a newer server does not break an
// older client.
func (c *codec) decode(data []byte, v any) error {
	s := &scanner{data: data}
	if err := c.decodeValue(s, reflect.ValueOf(v).Elem(), 0); err != nil {
		return err
	}
	return s.end()
}

func (c *codec) decodeValue(s *scanner, v reflect.Value, depth int) error {
	if depth > maxDepth {
		return s.bad("more than %d levels deep", maxDepth)
	}
	if null, err := s.null(); null || err != nil {
		if v.Kind() == reflect.Float64 {
			v.SetFloat(math.NaN())
		} else {
			v.SetZero()
		}
		return err
	}
	switch v.Kind() {
	case reflect.Float64, reflect.Int, reflect.Int64:
		return decodeNumber(s, v)
	case reflect.Bool:
		b, err := s.boolean()
		v.SetBool(b)
		return err
	case reflect.String:
		text, err := decodeString(s)
		v.SetString(text)
		return err
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return c.decodeValue(s, v.Elem(), depth+1)
	case reflect.Slice:
		return c.decodeSlice(s, v, depth)
	case reflect.Map:
		return c.decodeMap(s, v, depth)
	case reflect.Struct:
		return c.decodeStruct(s, v, depth)
	}
	return fmt.Errorf("decode %s: no such kind on the wire", v.Type())
}

func decodeNumber(s *scanner, v reflect.Value) error {
	text, err := s.number()
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Float64 {
		f, err := strconv.ParseFloat(string(text), 64)
		v.SetFloat(f)
		return err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	v.SetInt(n)
	return err
}

func decodeString(s *scanner) (string, error) {
	if s.peek() != '"' {
		return "", s.expected("a string")
	}
	b, err := s.str()
	return string(b), err
}

func (c *codec) decodeSlice(s *scanner, v reflect.Value, depth int) error {
	if err := s.open('['); err != nil {
		return err
	}
	v.SetZero()
	for first := true; ; first = false {
		if more, err := s.nextElement(first); err != nil || !more {
			return err
		}
		v.Grow(1)
		v.SetLen(v.Len() + 1)
		if err := c.decodeValue(s, v.Index(v.Len()-1), depth+1); err != nil {
			return err
		}
	}
}

func (c *codec) decodeMap(s *scanner, v reflect.Value, depth int) error {
	if err := s.open('{'); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil || !more {
			return err
		}
		k := reflect.ValueOf(string(key)).Convert(v.Type().Key())
		element := reflect.New(v.Type().Elem()).Elem()
		if err := c.decodeValue(s, element, depth+1); err != nil {
			return err
		}
		v.SetMapIndex(k, element)
	}
}

func (c *codec) decodeStruct(s *scanner, v reflect.Value, depth int) error {
	if v.Type() == reflect.TypeFor[time.Time]() {
		text, err := decodeString(s)
		if err != nil {
			return err
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		v.Set(reflect.ValueOf(t))
		return err
	}
	if err := s.open('{'); err != nil {
		return err
	}
	p := c.plan(v.Type())
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil || !more {
			return err
		}
		i, known := p.byName[string(key)]
		if !known {
			err = s.skip(depth + 1)
		} else {
			err = c.decodeValue(s, v.FieldByIndex(p.fields[i].index), depth+1)
		}
		if err != nil {
			return err
		}
	}
}
