package mlflow

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

// grammar says what a filter or an order of one kind of thing may speak of.
type grammar struct {
	entities   []turbofan.SearchEntity
	attributes map[string]attribute // by every name that clients use
	nulls      bool                 // IS NULL and IS NOT NULL are known
}

type attribute struct {
	name   string // the name that stores know
	number bool
	list   bool // IN is allowed
	text   bool // LIKE and != are allowed; without it and without number, only =
	order  bool // order_by is allowed
}

// Bounds that keep a hostile filter from costing more than it is worth.
const (
	maxFilterLength = 64 << 10
	maxFilterTerms  = 100
	maxFilterList   = 5000
)

// entityNames are the names by which clients call an entity.
func entityNames() map[string]turbofan.SearchEntity {
	return map[string]turbofan.SearchEntity{
		"metric": turbofan.EntityMetric, "metrics": turbofan.EntityMetric,
		"param": turbofan.EntityParam, "params": turbofan.EntityParam, "parameter": turbofan.EntityParam, "parameters": turbofan.EntityParam,
		"tag": turbofan.EntityTag, "tags": turbofan.EntityTag,
		"attribute": turbofan.EntityAttribute, "attributes": turbofan.EntityAttribute, "attr": turbofan.EntityAttribute, "run": turbofan.EntityAttribute,
		"dataset": turbofan.EntityDataset, "datasets": turbofan.EntityDataset,
	}
}

// filterParser reads "ident op value AND …". There is no OR, no NOT and no parenthesis around clauses.
type filterParser struct {
	*grammar
	rest string
}

// parseFilter returns the conditions of a filter; an empty one has none.
func (g *grammar) parseFilter(filter string) ([]turbofan.SearchTerm, error) {
	if len(filter) > maxFilterLength {
		return nil, invalid("Invalid filter string: it is longer than %d bytes", maxFilterLength)
	}
	p := &filterParser{grammar: g, rest: filter}
	p.space()
	if p.rest == "" {
		return nil, nil
	}
	var terms []turbofan.SearchTerm
	for {
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		terms = append(terms, t)
		if len(terms) > maxFilterTerms {
			return nil, invalid("Invalid filter string: it has more than %d clauses", maxFilterTerms)
		}
		p.space()
		if p.rest == "" {
			return terms, nil
		}
		if !p.keyword("AND") {
			return nil, p.badClause()
		}
	}
}

func (p *filterParser) badClause() error {
	return invalid("Invalid clause(s) in filter string: '%s'", shorten(p.rest))
}

func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

func (p *filterParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n\f\v") }

// keyword takes a word, in any case, that ends where a word can end.
func (p *filterParser) keyword(word string) bool {
	p.space()
	if len(p.rest) < len(word) || !strings.EqualFold(p.rest[:len(word)], word) {
		return false
	}
	if after := p.rest[len(word):]; after != "" && isWord(after[0]) {
		return false
	}
	p.rest = p.rest[len(word):]
	return true
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (p *filterParser) term() (turbofan.SearchTerm, error) {
	var t turbofan.SearchTerm
	entity, key, err := p.identifier()
	if err != nil {
		return t, err
	}
	attr, err := p.resolve(&entity, &key)
	if err != nil {
		return t, err
	}
	op, err := p.operator()
	if err != nil {
		return t, err
	}
	t = turbofan.SearchTerm{Entity: entity, Key: key, Op: op}
	if err := p.checkOperator(t, attr); err != nil {
		return t, err
	}
	switch {
	case op == turbofan.OpIsNull || op == turbofan.OpIsNotNull:
		return t, nil
	case op == turbofan.OpIn || op == turbofan.OpNotIn:
		t.List, err = p.listValue()
		return t, err
	case attr.number:
		t.Number, err = p.numberValue(entity, key)
		return t, err
	}
	t.Text, err = p.textValue(entity)
	return t, err
}

// identifier reads [entity.]key: bare, or with parts in back ticks or double quotes.
func (p *filterParser) identifier() (turbofan.SearchEntity, string, error) {
	p.space()
	start := p.rest
	var key strings.Builder
	entity, dotted, read := "", false, false
	for p.rest != "" {
		c := p.rest[0]
		switch {
		case c == '`' || c == '"':
			end := strings.IndexByte(p.rest[1:], c)
			if end < 0 {
				return "", "", invalid("Invalid clause(s) in filter string: '%s'", shorten(start))
			}
			key.WriteString(p.rest[1 : 1+end])
			p.rest = p.rest[end+2:]
			read = true
			continue
		case c == '.' && !dotted:
			dotted = true
			entity = key.String()
			key.Reset()
		case strings.IndexByte(" \t\r\n\f\v=!<>()',;", c) >= 0:
			goto done
		default:
			key.WriteByte(c)
			read = true
		}
		p.rest = p.rest[1:]
	}
done:
	if !read || key.Len() == 0 {
		return "", "", invalid("Invalid clause(s) in filter string: '%s'", shorten(start))
	}
	if !dotted {
		return turbofan.EntityAttribute, key.String(), nil
	}
	kind, ok := entityNames()[entity]
	if !ok || !slices.Contains(p.entities, kind) {
		return "", "", invalid("Invalid entity type '%s'. Valid values are %s", entity, p.entityList())
	}
	return kind, key.String(), nil
}

func (g *grammar) entityList() string {
	names := make([]string, len(g.entities))
	for i, e := range g.entities {
		names[i] = "'" + string(e) + "'"
	}
	return "[" + strings.Join(names, ", ") + "]"
}

// resolve replaces the names of attributes by the stores' and says what can be done with the key.
func (g *grammar) resolve(entity *turbofan.SearchEntity, key *string) (attribute, error) {
	switch *entity {
	case turbofan.EntityMetric:
		return attribute{number: true, order: true}, nil
	case turbofan.EntityParam, turbofan.EntityTag:
		return attribute{text: true, order: true}, nil
	case turbofan.EntityDataset:
		if *key != "name" && *key != "digest" && *key != "context" {
			return attribute{}, invalid("Invalid dataset key '%s' specified. Valid keys are '['context', 'digest', 'name']'", *key)
		}
		return attribute{text: true, list: true}, nil
	}
	attr, ok := g.attributes[*key]
	if !ok {
		var keys []string
		for k := range g.attributes {
			keys = append(keys, "'"+k+"'")
		}
		slices.Sort(keys)
		return attr, invalid("Invalid attribute key '%s' specified. Valid keys are [%s]", *key, strings.Join(keys, ", "))
	}
	*key = attr.name
	return attr, nil
}

func (p *filterParser) operator() (turbofan.SearchOp, error) {
	p.space()
	for _, op := range []turbofan.SearchOp{turbofan.OpNotEqual, turbofan.OpLessEqual, turbofan.OpGreaterEqual, turbofan.OpEqual, turbofan.OpLess, turbofan.OpGreater} {
		if strings.HasPrefix(p.rest, string(op)) {
			p.rest = p.rest[len(op):]
			return op, nil
		}
	}
	if strings.HasPrefix(p.rest, "<>") {
		return "", p.badClause()
	}
	before := p.rest
	switch {
	case p.keyword("LIKE"):
		return turbofan.OpLike, nil
	case p.keyword("ILIKE"):
		return turbofan.OpILike, nil
	case p.keyword("IN"):
		return turbofan.OpIn, nil
	case p.keyword("NOT") && p.keyword("IN"):
		return turbofan.OpNotIn, nil
	case p.nulls && p.keyword("IS"):
		if p.keyword("NULL") {
			return turbofan.OpIsNull, nil
		}
		if p.keyword("NOT") && p.keyword("NULL") {
			return turbofan.OpIsNotNull, nil
		}
	}
	p.rest = before
	return "", p.badClause()
}

func (p *filterParser) checkOperator(t turbofan.SearchTerm, attr attribute) error {
	ok := t.Op == turbofan.OpEqual
	switch t.Op {
	case turbofan.OpLess, turbofan.OpLessEqual, turbofan.OpGreater, turbofan.OpGreaterEqual:
		ok = attr.number
	case turbofan.OpNotEqual:
		ok = attr.number || attr.text
	case turbofan.OpLike, turbofan.OpILike:
		ok = attr.text
	case turbofan.OpIn, turbofan.OpNotIn:
		ok = attr.list
	case turbofan.OpIsNull, turbofan.OpIsNotNull:
		ok = t.Entity == turbofan.EntityParam || t.Entity == turbofan.EntityTag
	}
	if !ok {
		return invalid("Invalid comparator '%s' for %s '%s'", t.Op, t.Entity, t.Key)
	}
	return nil
}

// quoted reads a text in single or double quotes; a doubled single quote stands for one.
func (p *filterParser) quoted() (string, bool) {
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", false
	}
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != quote {
			b.WriteByte(p.rest[i])
			continue
		}
		if quote == '\'' && i+1 < len(p.rest) && p.rest[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		p.rest = p.rest[i+1:]
		return b.String(), true
	}
	return "", false
}

// word is what stands where a value should.
func (p *filterParser) word() string {
	if i := strings.IndexAny(p.rest, " \t\r\n"); i >= 0 {
		return shorten(p.rest[:i])
	}
	return shorten(p.rest)
}

func (p *filterParser) textValue(entity turbofan.SearchEntity) (string, error) {
	p.space()
	at := p.word()
	s, ok := p.quoted()
	if !ok {
		return "", invalid("Expected a quoted string value for %s (e.g. 'my-value'). Got value %s", entity, at)
	}
	return s, nil
}

func (p *filterParser) numberValue(entity turbofan.SearchEntity, key string) (float64, error) {
	p.space()
	end := 0
	for end < len(p.rest) && strings.IndexByte("0123456789+-.eE", p.rest[end]) >= 0 {
		end++
	}
	v, err := strconv.ParseFloat(p.rest[:end], 64)
	if err != nil || end < len(p.rest) && isWord(p.rest[end]) {
		if entity == turbofan.EntityMetric {
			return 0, invalid("Expected numeric value type for metric. Found %s", p.word())
		}
		return 0, invalid("Expected numeric value type for numeric attribute: %s. Found %s", key, p.word())
	}
	p.rest = p.rest[end:]
	return v, nil
}

func (p *filterParser) listValue() ([]string, error) {
	bad := invalid("Expected a list of quoted string values, such as ('a', 'b'). Got value %s", p.word())
	p.space()
	if !strings.HasPrefix(p.rest, "(") {
		return nil, bad
	}
	p.rest = p.rest[1:]
	var list []string
	for {
		p.space()
		if strings.HasPrefix(p.rest, ")") && len(list) > 0 {
			break // a comma may stand last
		}
		s, ok := p.quoted()
		if !ok || len(list) >= maxFilterList {
			return nil, bad
		}
		list = append(list, s)
		p.space()
		if strings.HasPrefix(p.rest, ",") {
			p.rest = p.rest[1:]
			continue
		}
		break
	}
	if !strings.HasPrefix(p.rest, ")") {
		return nil, bad
	}
	p.rest = p.rest[1:]
	return list, nil
}

// parseOrder reads order_by items, each "ident [ASC|DESC]".
func (g *grammar) parseOrder(items []string) ([]turbofan.SearchOrder, error) {
	if len(items) > 20 {
		return nil, invalid("order_by has more than 20 items")
	}
	var out []turbofan.SearchOrder
	seen := map[string]bool{}
	for _, item := range items {
		if len(item) > maxFilterLength {
			return nil, invalid("Invalid order_by clause: it is longer than %d bytes", maxFilterLength)
		}
		p := &filterParser{grammar: g, rest: item}
		entity, key, err := p.identifier()
		if err != nil {
			return nil, invalid("Invalid order_by clause '%s'", shorten(item))
		}
		attr, err := g.resolve(&entity, &key)
		if err != nil {
			return nil, err
		}
		if !attr.order {
			return nil, invalid("Invalid order_by key '%s' specified.", key)
		}
		o := turbofan.SearchOrder{Entity: entity, Key: key}
		if p.keyword("DESC") {
			o.Descending = true
		} else {
			p.keyword("ASC")
		}
		p.space()
		if p.rest != "" {
			return nil, invalid("Invalid order_by clause '%s'. Could not be parsed.", shorten(item))
		}
		if name := fmt.Sprintf("%s.%s", entity, key); seen[name] {
			return nil, invalid("`order_by` contains duplicate fields: %s", shorten(item))
		} else {
			seen[name] = true
		}
		out = append(out, o)
	}
	return out, nil
}
