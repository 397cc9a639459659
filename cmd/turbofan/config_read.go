package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"turbofan"
)

// setting is one value of a config, by the path of its key: drift.every, ports.predict.
type setting struct {
	key string
	get func() any
	set func(any)
}

// settings lists every value of c in the order of the struct, ports and urls once a role.
func (c *config) settings() []setting {
	return settingsOf(reflect.ValueOf(c).Elem(), "")
}

func settingsOf(v reflect.Value, prefix string) []setting {
	var out []setting
	for i := range v.NumField() {
		f := v.Field(i)
		key := prefix + v.Type().Field(i).Tag.Get("yaml")
		switch f.Kind() {
		case reflect.Struct:
			out = append(out, settingsOf(f, key+".")...)
		case reflect.Map:
			for _, role := range allRoles() {
				out = append(out, roleSetting(f, key, role))
			}
		default:
			out = append(out, setting{key, f.Interface, func(x any) { f.Set(reflect.ValueOf(x)) }})
		}
	}
	return out
}

// roleSetting is one entry of a map by role. The map is made anew at each change: configs are copied by value.
func roleSetting(m reflect.Value, key, role string) setting {
	get := func() any {
		if v := m.MapIndex(reflect.ValueOf(role)); v.IsValid() {
			return v.Interface()
		}
		return reflect.Zero(m.Type().Elem()).Interface()
	}
	set := func(x any) {
		fresh := reflect.MakeMap(m.Type())
		for _, k := range m.MapKeys() {
			fresh.SetMapIndex(k, m.MapIndex(k))
		}
		fresh.SetMapIndex(reflect.ValueOf(role), reflect.ValueOf(x))
		m.Set(fresh)
	}
	return setting{key + "." + role, get, set}
}

// env is the name of the environment variable that sets s: TURBOFAN_DRIFT_EVERY for drift.every.
func (s setting) env() string {
	return "TURBOFAN_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// parse sets s from text; the error says what text it must be.
func (s setting) parse(text string) error {
	var rule string
	switch s.get().(type) {
	case string:
		s.set(text)
		return nil
	case []string:
		list := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		s.set(list)
		return nil
	case bool:
		if text == "true" || text == "false" {
			s.set(text == "true")
			return nil
		}
		rule = "true or false"
	case int:
		n, err := strconv.Atoi(text)
		if err == nil {
			s.set(n)
			return nil
		}
		rule = "a whole number"
	case int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil {
			s.set(n)
			return nil
		}
		rule = "a whole number"
	case float64:
		x, err := strconv.ParseFloat(text, 64)
		if err == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
			s.set(x)
			return nil
		}
		rule = "a finite number"
	case durationConfig:
		d, err := time.ParseDuration(text)
		if err == nil {
			s.set(durationConfig(d))
			return nil
		}
		rule = "a duration such as 10m or 500ms"
	default:
		return fmt.Errorf("the setting has no form as text")
	}
	return fmt.Errorf("must be %s, not %q", rule, text)
}

const maxConfigSize = 1 << 20

// readFile overlays the YAML file at path. Keys that do not exist, keys given twice and values of the wrong kind are
// errors that name their line.
func (c *config) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return turbofan.Invalid("--config", "cannot open %s: %s", path, pathReason(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return turbofan.Invalid("--config", "cannot read %s: %s", path, pathReason(err))
	}
	if len(b) > maxConfigSize {
		return turbofan.Invalid("--config", "%s is larger than the 1 MiB allowed", path)
	}
	return c.readYAML(b, path)
}

// pathReason strips the operation and the path, which the message around it names already.
func pathReason(err error) string {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

func (c *config) readYAML(b []byte, file string) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return notYAML(err, file)
	}
	if err := dec.Decode(&more); err == nil {
		return turbofan.Invalid(fmt.Sprintf("%s:%d", file, more.Line), "a second document begins here; a configuration is one")
	} else if !errors.Is(err, io.EOF) {
		return notYAML(err, file)
	}
	r := configReader{file: file, settings: map[string]setting{}, sections: map[string][]string{}}
	for _, s := range c.settings() {
		r.settings[s.key] = s
		for key := s.key; ; {
			i := strings.LastIndexByte(key, '.')
			parent := key[:max(i, 0)]
			if name := key[i+1:]; !slices.Contains(r.sections[parent], name) {
				r.sections[parent] = append(r.sections[parent], name)
			}
			if i < 0 {
				break
			}
			key = parent
		}
	}
	if root := doc.Content[0]; root.Tag != "!!null" {
		return r.mapping(root, "")
	}
	return nil
}

var yamlLine = regexp.MustCompile(`^line (\d+): (.*)$`)

// notYAML says where a file stops being YAML, without the words of the library's grammar where a plainer one is known.
func notYAML(err error, file string) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		file, text = file+":"+m[1], m[2]
	}
	for _, known := range [][2]string{
		{"mapping values are not allowed", "a value may not hold a colon and a blank unless it is quoted"},
		{"cannot start any token", "a line may not begin with a tab or one of @ and `; indent with blanks"},
		{"did not find expected ',' or", "a bracket or brace that was opened is not closed"},
		{"did not find expected key", "a key and a colon must stand here, indented like the keys before it"},
		{"could not find expected ':'", "a colon must follow the key"},
		{"found unexpected end of stream", "a quote that was opened is not closed"},
		{"UTF-8", "the file must be text in UTF-8"},
		{"control characters are not allowed", "the file must be text without control characters"},
		{"unknown anchor", "an alias names a value that is not there"},
	} {
		if strings.Contains(text, known[0]) {
			text = known[1]
		}
	}
	return turbofan.Invalid(file, "is not YAML: %s", text)
}

// configReader walks a YAML document beside the settings that there are.
type configReader struct {
	file     string
	settings map[string]setting
	sections map[string][]string // keys by section; "" is the top
}

func (r *configReader) errorf(n *yaml.Node, format string, args ...any) error {
	return turbofan.Invalid(fmt.Sprintf("%s:%d", r.file, n.Line), format, args...)
}

// mapping reads a section; key is its path, "" at the top.
func (r *configReader) mapping(n *yaml.Node, key string) error {
	if n.Kind != yaml.MappingNode {
		return r.errorf(n, "%smust hold keys and values such as %s, not %s", prefixed(key), r.sections[key][0]+": …", describeNode(n))
	}
	lines := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := k.Value
		if k.Kind != yaml.ScalarNode || !slices.Contains(r.sections[key], name) {
			return r.unknown(k, key)
		}
		if first, twice := lines[name]; twice {
			return r.errorf(k, "%s is given twice, first on line %d", dotted(key, name), first)
		}
		lines[name] = k.Line
		if err := r.value(v, dotted(key, name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *configReader) value(n *yaml.Node, key string) error {
	if n.Kind == yaml.AliasNode {
		return r.errorf(n, "%s is an alias; write the value out", key)
	}
	if n.Tag == "!!null" {
		return nil
	}
	s, leaf := r.settings[key]
	if !leaf {
		return r.mapping(n, key)
	}
	if list, ok := s.get().([]string); ok {
		if n.Kind != yaml.SequenceNode {
			return r.errorf(n, "%s must be a list such as [%s], not %s", key, strings.Join(list, ", "), describeNode(n))
		}
		list = []string{}
		for i, item := range n.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return r.errorf(item, "%s[%d] must be text, not %s", key, i, describeNode(item))
			}
			list = append(list, item.Value)
		}
		s.set(list)
		return nil
	}
	if n.Kind != yaml.ScalarNode {
		return r.errorf(n, "%s must be a single value, not %s", key, describeNode(n))
	}
	if err := s.parse(n.Value); err != nil {
		return r.errorf(n, "%s %s", key, err)
	}
	return nil
}

func (r *configReader) unknown(k *yaml.Node, section string) error {
	where := "a setting"
	if section != "" {
		where += " of " + section
	}
	if k.Kind != yaml.ScalarNode {
		return r.errorf(k, "a key must be a name, not %s", describeNode(k))
	}
	hint := "docs/configuration.md tells all of them"
	if section != "" {
		hint = "it has " + strings.Join(r.sections[section], ", ")
	}
	if near := nearest(k.Value, r.sections[section]); near != "" {
		hint = "did you mean " + near + "?"
	}
	return r.errorf(k, "%q is not %s; %s", k.Value, where, hint)
}

func dotted(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

func prefixed(key string) string {
	if key == "" {
		return "the file "
	}
	return key + " "
}

func describeNode(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "keys and values"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!null":
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

// readEnv overlays the environment: TURBOFAN_ and a setting's key in capitals, its dots as underscores. A variable that
// is empty is not there. Other variables of that beginning are left alone: Kubernetes makes some up from service names.
func (c *config) readEnv(lookup func(string) (string, bool)) error {
	for _, s := range c.settings() {
		text, ok := lookup(s.env())
		if !ok || text == "" {
			continue
		}
		if err := s.parse(text); err != nil {
			return turbofan.Invalid(s.env(), "%s", err)
		}
	}
	return nil
}

// nearest returns the name that text most likely meant, "" where none is near.
func nearest(text string, names []string) string {
	type candidate struct {
		name string
		far  int
	}
	var all []candidate
	const longest = 64 // a text beyond any name is near none
	if len(text) > longest {
		return ""
	}
	for _, n := range names {
		d := editDistance(strings.ToLower(text), n)
		if d <= max(1, len(n)/3) || len(text) >= 3 && strings.HasPrefix(n, strings.ToLower(text)) {
			all = append(all, candidate{n, d})
		}
	}
	if len(all) == 0 {
		return ""
	}
	return slices.MinFunc(all, func(a, b candidate) int { return cmp.Compare(a.far, b.far) }).name
}

// editDistance counts the insertions, deletions, replacements and swaps of neighbours that lead from a to b, in bytes.
func editDistance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range b {
		d[0][j+1] = j + 1
	}
	for i := range len(a) {
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d[i+1][j+1] = min(d[i][j+1]+1, d[i+1][j]+1, d[i][j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d[i+1][j+1] = min(d[i+1][j+1], d[i-1][j-1]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
