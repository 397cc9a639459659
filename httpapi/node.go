package httpapi

import (
	"reflect"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// node is a JSON object whose members keep their order: the order of a schema's properties is the order of a BentoML
// client's positional arguments.
type node []member

type member struct {
	key   string
	value any // nil, bool, int, float64, string, raw, node, []string, []node or []raw
}

// raw is JSON already.
type raw string

func (n node) append(dst []byte) []byte {
	dst = append(dst, '{')
	for i, m := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, m.key)
		dst = append(dst, ':')
		dst = appendAny(dst, m.value)
	}
	return append(dst, '}')
}

func appendAny(dst []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(dst, v)
	case int:
		return strconv.AppendInt(dst, int64(v), 10)
	case float64:
		return appendFloat(dst, v)
	case string:
		return appendString(dst, v)
	case raw:
		return append(dst, v...)
	case node:
		return v.append(dst)
	case []string:
		return appendList(dst, v)
	case []node:
		return appendList(dst, v)
	case []raw:
		return appendList(dst, v)
	}
	return append(dst, "null"...)
}

func appendList[T any](dst []byte, list []T) []byte {
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendAny(dst, v)
	}
	return append(dst, ']')
}

// with returns n with one more member.
func (n node) with(key string, value any) node {
	return append(n[:len(n):len(n)], member{key, value})
}

// get returns the member of that key, or nil.
func (n node) get(key string) any {
	for _, m := range n {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// schemas derives JSON Schema from the Go types that travel, so that a document cannot forget a field that an answer
// has: BentoML's client drops what the schema does not list.
type schemas struct {
	codec *codec
	// components holds the named types in the order of their first use; nil writes every type in place.
	components *node
	describe   map[string]string // "Type.field" or "Type" -> one sentence
}

func (s *schemas) of(t reflect.Type) node {
	switch t.Kind() {
	case reflect.Float64:
		return node{{"type", "number"}, {"nullable", true}}
	case reflect.Int, reflect.Int64:
		return node{{"type", "integer"}}
	case reflect.Bool:
		return node{{"type", "boolean"}}
	case reflect.Slice:
		return node{{"type", "array"}, {"items", s.of(t.Elem())}}
	case reflect.Map:
		return node{{"type", "object"}, {"additionalProperties", s.of(t.Elem())}}
	case reflect.Pointer:
		return s.nullable(s.of(t.Elem()))
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return node{{"type", "string"}, {"format", "date-time"}}
		}
		return s.named(t)
	}
	if words := wordsOf(t); words != nil {
		return node{{"type", "string"}, {"enum", words}}
	}
	return node{{"type", "string"}}
}

func (s *schemas) nullable(n node) node {
	if n.get("$ref") != nil {
		return node{{"nullable", true}, {"allOf", []node{n}}}
	}
	if n.get("nullable") != nil {
		return n
	}
	return n.with("nullable", true)
}

// wordsOf returns the values that a type of words can have.
func wordsOf(t reflect.Type) []string {
	switch t {
	case reflect.TypeFor[turbofan.Health]():
		return []string{string(turbofan.Healthy), string(turbofan.Watch), string(turbofan.Warning), string(turbofan.Critical)}
	case reflect.TypeFor[turbofan.Verdict]():
		return []string{string(turbofan.NoDrift), string(turbofan.Drifted), string(turbofan.InsufficientData)}
	case reflect.TypeFor[turbofan.JobStatus]():
		return []string{
			string(turbofan.JobPending), string(turbofan.JobInProgress), string(turbofan.JobSuccess),
			string(turbofan.JobFailure), string(turbofan.JobCancelled), string(turbofan.JobRefused),
		}
	}
	return nil
}

func (s *schemas) named(t reflect.Type) node {
	name := typeName(t)
	if s.components == nil || name == "" {
		return s.structure(t, name)
	}
	if s.components.get(name) == nil {
		place := len(*s.components)
		*s.components = append(*s.components, member{name, node{}}) // its place, and the end of a recursion
		(*s.components)[place].value = s.structure(t, name)
	}
	return ref(name)
}

func typeName(t reflect.Type) string {
	if t.Name() == "" {
		return ""
	}
	return strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
}

func (s *schemas) structure(t reflect.Type, name string) node {
	properties, required := node{}, []string{}
	for _, f := range s.codec.plan(t).fields {
		field := s.of(t.FieldByIndex(f.index).Type)
		if text := s.describe[name+"."+f.name]; text != "" && field.get("$ref") == nil {
			field = field.with("description", text)
		}
		properties = append(properties, member{f.name, field})
		if !f.omitEmpty && !f.omitZero {
			required = append(required, f.name)
		}
	}
	out := node{{"type", "object"}}
	if name != "" {
		out = append(out, member{"title", name})
	}
	if text := s.describe[name]; text != "" {
		out = append(out, member{"description", text})
	}
	out = append(out, member{"properties", properties})
	if len(required) > 0 {
		out = append(out, member{"required", required})
	}
	return out
}

func ref(name string) node { return node{{"$ref", "#/components/schemas/" + name}} }
