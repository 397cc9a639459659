package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

// searchTable says how one kind of thing is searched: where its attributes stand and which tables hold what belongs
// to it.
type searchTable struct {
	from       string // table and alias
	id         string // the key that its own tables refer to
	attributes map[string]searchColumn
	owned      map[turbofan.SearchEntity]ownedTable
	order      []orderKey // the default order, which also breaks ties; it must be unique
}

type searchColumn struct {
	expr     string
	number   bool
	nullable bool
}

// ownedTable holds keys and values of things: on joins it to them.
type ownedTable struct{ name, on string }

// orderKey is a column of the order, never null.
type orderKey struct {
	expr string
	desc bool
	// fixed says that the column is the same for every row of this search; name is then what it is elsewhere.
	fixed bool
	name  string
}

// searchSQL is a search under construction. Nothing of a query goes into the text: values are arguments, and columns
// come from the searchTable.
type searchSQL struct {
	table    *searchTable
	dialect  dialect
	joins    []string
	joinArgs []any
	where    []string
	args     []any
	keys     []orderKey
}

func (t *searchTable) search(d dialect, terms []turbofan.SearchTerm, orders []turbofan.SearchOrder) (*searchSQL, error) {
	s := &searchSQL{table: t, dialect: d}
	for _, term := range terms {
		if err := s.addTerm(term); err != nil {
			return nil, err
		}
	}
	for _, o := range orders {
		if err := s.addOrder(o); err != nil {
			return nil, err
		}
	}
	s.keys = append(s.keys, t.order...)
	return s, nil
}

func (s *searchSQL) and(cond string, args ...any) {
	s.where = append(s.where, cond)
	s.args = append(s.args, args...)
}

func (s *searchSQL) addTerm(t turbofan.SearchTerm) error {
	if t.Entity == turbofan.EntityAttribute {
		col, ok := s.table.attributes[t.Key]
		if !ok {
			return invalid("Invalid attribute key '%s' specified.", t.Key)
		}
		cond, args, err := s.compare(col.expr, col.number, t)
		if err != nil {
			return err
		}
		s.and(cond, args...)
		return nil
	}
	if t.Entity == turbofan.EntityDataset {
		return s.addDatasetTerm(t)
	}
	owned, ok := s.table.owned[t.Entity]
	if !ok {
		return invalid("Invalid entity type '%s'.", t.Entity)
	}
	if t.Entity == turbofan.EntityTag && t.Key == promptTag {
		if cond, args, special := promptTerm(owned, t); special {
			s.and(cond, args...)
			return nil
		}
	}
	if t.Op == turbofan.OpIsNull || t.Op == turbofan.OpIsNotNull {
		not := ""
		if t.Op == turbofan.OpIsNull {
			not = "NOT "
		}
		s.and(fmt.Sprintf("%sEXISTS (SELECT 1 FROM %s o WHERE %s AND o.key = ?)", not, owned.name, owned.on), t.Key)
		return nil
	}
	metric, value := t.Entity == turbofan.EntityMetric, "o.value"
	if metric {
		// The rows of one run are few, and the index of values holds those of all: SQLite would take it.
		value = s.dialect.unindexed(value)
	}
	cond, args, err := s.compare(value, metric, t)
	if err != nil {
		return err
	}
	if metric {
		cond = nanTerm(s.dialect.unindexed("o.is_nan"), cond, t.Op)
		if len(t.Datasets) > 0 {
			more, refs := datasetTerm(t.Datasets)
			cond, args = cond+" AND "+more, append(args, refs...)
		}
	}
	s.and(fmt.Sprintf("EXISTS (SELECT 1 FROM %s o WHERE %s AND o.key = ? AND %s)", owned.name, owned.on, cond),
		append([]any{t.Key}, args...)...)
	return nil
}

// nanTerm keeps the zero that stands for NaN, where the column isNaN says so, out of a comparison; NaN is unequal to every
// number.
func nanTerm(isNaN, cond string, op turbofan.SearchOp) string {
	if op == turbofan.OpNotEqual {
		return "(" + isNaN + " = 1 OR " + cond + ")"
	}
	return isNaN + " = 0 AND " + cond
}

func datasetTerm(refs []turbofan.DatasetRef) (string, []any) {
	var parts []string
	var args []any
	for _, r := range refs {
		if r.Digest == "" {
			parts, args = append(parts, "o.dataset_name = ?"), append(args, r.Name)
			continue
		}
		parts, args = append(parts, "(o.dataset_name = ? AND o.dataset_digest = ?)"), append(args, r.Name, r.Digest)
	}
	return "(" + strings.Join(parts, " OR ") + ")", args
}

// promptTag marks a registered model that is a prompt. Every stock client asks for models without it, and means those
// that never had the tag as well.
const promptTag = "mlflow.prompt.is_prompt"

func promptTerm(owned ownedTable, t turbofan.SearchTerm) (string, []any, bool) {
	without := t.Op == turbofan.OpNotEqual && t.Text == "true" || t.Op == turbofan.OpEqual && t.Text == "false"
	if !without {
		return "", nil, false
	}
	return fmt.Sprintf("NOT EXISTS (SELECT 1 FROM %s o WHERE %s AND o.key = ? AND o.value = 'true')", owned.name, owned.on),
		[]any{promptTag}, true
}

func (s *searchSQL) addDatasetTerm(t turbofan.SearchTerm) error {
	if s.table.from != runsFrom {
		return invalid("Invalid entity type 'dataset'.")
	}
	if t.Key == "context" {
		cond, args, err := s.compare("o.value", false, t)
		if err != nil {
			return err
		}
		s.and("EXISTS (SELECT 1 FROM run_dataset_tags o WHERE o.run_id = r.id AND o.key = 'mlflow.data.context' AND "+cond+")", args...)
		return nil
	}
	if t.Key != "name" && t.Key != "digest" {
		return invalid("Invalid attribute key '%s' specified.", t.Key)
	}
	cond, args, err := s.compare("d."+t.Key, false, t)
	if err != nil {
		return err
	}
	s.and("EXISTS (SELECT 1 FROM run_datasets o JOIN datasets d ON d.id = o.dataset_id WHERE o.run_id = r.id AND "+cond+")", args...)
	return nil
}

// compare returns the condition of one term on an expression.
func (s *searchSQL) compare(expr string, number bool, t turbofan.SearchTerm) (string, []any, error) {
	var value any = t.Text
	if number {
		value = t.Number
	}
	switch t.Op {
	case turbofan.OpEqual, turbofan.OpNotEqual:
		op := "="
		if t.Op == turbofan.OpNotEqual {
			op = "<>"
		}
		return expr + " " + op + " ?", []any{value}, nil
	case turbofan.OpLess, turbofan.OpLessEqual, turbofan.OpGreater, turbofan.OpGreaterEqual:
		if !number {
			return "", nil, invalid("Invalid comparator '%s' for a text", t.Op)
		}
		return expr + " " + string(t.Op) + " ?", []any{value}, nil
	case turbofan.OpLike, turbofan.OpILike:
		if number {
			return "", nil, invalid("Invalid comparator '%s' for a number", t.Op)
		}
		cond, pattern := s.dialect.like(expr, t.Text, t.Op == turbofan.OpILike)
		return cond, []any{pattern}, nil
	case turbofan.OpIn, turbofan.OpNotIn:
		if len(t.List) == 0 || len(t.List) > 10_000 {
			return "", nil, invalid("%s needs a list of 1 to 10000 values", t.Op)
		}
		return expr + " " + string(t.Op) + " (" + marks(len(t.List)) + ")", anys(t.List), nil
	}
	return "", nil, invalid("Invalid comparator '%s'", t.Op)
}

// addOrder puts what is absent last in both directions, and NaN before it.
func (s *searchSQL) addOrder(o turbofan.SearchOrder) error {
	if o.Entity == turbofan.EntityAttribute {
		col, ok := s.table.attributes[o.Key]
		if !ok {
			return invalid("Invalid order_by entity with key '%s'", o.Key)
		}
		if !col.nullable {
			s.keys = append(s.keys, orderKey{expr: col.expr, desc: o.Descending})
			return nil
		}
		s.keys = append(s.keys,
			orderKey{expr: "CASE WHEN " + col.expr + " IS NULL THEN 1 ELSE 0 END"},
			orderKey{expr: "COALESCE(" + col.expr + ", 0)", desc: o.Descending})
		return nil
	}
	owned, ok := s.table.owned[o.Entity]
	if !ok {
		return invalid("Invalid order_by entity type '%s'", o.Entity)
	}
	as := "o" + strconv.Itoa(len(s.joins)+1)
	on := strings.ReplaceAll(owned.on, "o.", as+".")
	join := owned.name + " " + as
	args := []any{o.Key}
	if o.Dataset.Name != "" {
		cond, refs := datasetTerm([]turbofan.DatasetRef{o.Dataset})
		on += " AND " + strings.ReplaceAll(cond, "o.", as+".")
		args = append(args, refs...)
	}
	s.joins = append(s.joins, "LEFT JOIN "+join+" ON "+as+".key = ? AND "+on)
	s.joinArgs = append(s.joinArgs, args...)
	if o.Entity == turbofan.EntityMetric {
		s.keys = append(s.keys,
			orderKey{expr: "CASE WHEN " + as + ".value IS NULL THEN 2 WHEN " + as + ".is_nan = 1 THEN 1 ELSE 0 END"},
			orderKey{expr: "COALESCE(" + as + ".value, 0.0)", desc: o.Descending})
		return nil
	}
	s.keys = append(s.keys,
		orderKey{expr: "CASE WHEN " + as + ".value IS NULL THEN 1 ELSE 0 END"},
		orderKey{expr: "COALESCE(" + as + ".value, '')", desc: o.Descending})
	return nil
}

// page reads one page: scan gets the row's columns by calling dest with their targets.
func (s *searchSQL) page(ctx context.Context, q queryer, columns string, limit int, token string,
	scan func(dest func(...any) error) error) (string, error) {
	if limit < 1 {
		return "", invalid("Invalid value %d for parameter 'max_results' supplied. It must be a positive integer", limit)
	}
	where, args := slices.Clone(s.where), slices.Concat(s.joinArgs, s.args)
	if token != "" {
		after, err := s.decodeToken(token)
		if err != nil {
			return "", err
		}
		cond, more := s.after(after)
		where, args = append(where, cond), append(args, more...)
	}
	text := strings.Builder{}
	text.WriteString("SELECT " + columns)
	for _, k := range s.keys {
		text.WriteString(", " + k.expr)
	}
	text.WriteString(" FROM " + s.table.from + " " + strings.Join(s.joins, " "))
	if len(where) > 0 {
		text.WriteString(" WHERE " + strings.Join(where, " AND "))
	}
	text.WriteString(" ORDER BY " + s.orderBy() + " LIMIT ?")
	args = append(args, limit+1)

	next, n := "", 0
	last := make([]any, len(s.keys))
	err := each(ctx, q, func(rows *sql.Rows) error {
		if n == limit {
			next = s.encodeToken(last)
			n++
			return nil
		}
		n++
		return scan(func(dest ...any) error {
			for i := range last {
				dest = append(dest, &last[i])
			}
			return rows.Scan(dest...)
		})
	}, text.String(), args...)
	return next, err
}

// readPage reads one page of what a search finds, each row by scan.
func readPage[T any](ctx context.Context, q queryer, s *searchSQL, columns string, query turbofan.SearchQuery,
	scan func(dest func(...any) error) (T, error)) (found []T, next string, err error) {
	next, err = s.page(ctx, q, columns, query.Limit, query.PageToken, func(dest func(...any) error) error {
		row, err := scan(dest)
		found = append(found, row)
		return err
	})
	return found, next, err
}

// searchPage is readPage in a snapshot of its own, and load adds what other tables hold of the rows.
func searchPage[T any](ctx context.Context, d *RegistryDB, s *searchSQL, columns string, query turbofan.SearchQuery,
	scan func(dest func(...any) error) (T, error), load func(context.Context, queryer, []T) error) (found []T, next string, err error) {
	err = d.view(ctx, func(q queryer) error {
		if found, next, err = readPage(ctx, q, s, columns, query, scan); err != nil {
			return err
		}
		return load(ctx, q, found)
	})
	return found, next, err
}

func (s *searchSQL) orderBy() string {
	var parts []string
	for _, k := range s.keys {
		switch {
		case k.fixed:
		case k.desc:
			parts = append(parts, k.expr+" DESC")
		default:
			parts = append(parts, k.expr)
		}
	}
	return strings.Join(parts, ", ")
}

// after is the condition for rows that come after those key values: the first key that differs decides. A bound on
// the first key alone goes before it, for an index to start from.
func (s *searchSQL) after(values []any) (string, []any) {
	var parts, equal []string
	var args, before []any
	bound := ""
	var first any
	for i, k := range s.keys {
		if k.fixed {
			continue
		}
		op := " > ?"
		if k.desc {
			op = " < ?"
		}
		if bound == "" {
			bound, first = k.expr+strings.Replace(op, " ?", "= ?", 1), values[i]
		}
		parts = append(parts, strings.Join(append(slices.Clone(equal), k.expr+op), " AND "))
		args = append(append(args, before...), values[i])
		equal, before = append(equal, k.expr+" = ?"), append(before, values[i])
	}
	return bound + " AND ((" + strings.Join(parts, ") OR (") + "))", append([]any{first}, args...)
}

// pageToken is where a page ended. Order binds it to the order that it came from; the values in it are only ever
// arguments of a comparison.
type pageToken struct {
	Order uint32 `json:"o"`
	After []any  `json:"k"`
}

func (s *searchSQL) orderHash() uint32 {
	h := fnv.New32a()
	for _, k := range s.keys {
		fmt.Fprintf(h, "%s %t\x00", cmp.Or(k.name, k.expr), k.desc)
	}
	fmt.Fprint(h, s.joinArgs...)
	return h.Sum32()
}

func (s *searchSQL) encodeToken(values []any) string {
	text, err := json.Marshal(pageToken{Order: s.orderHash(), After: values})
	if err != nil {
		return "" // key values are finite numbers and texts
	}
	return base64.URLEncoding.EncodeToString(text)
}

func (s *searchSQL) decodeToken(token string) ([]any, error) {
	text, err := base64.URLEncoding.DecodeString(token)
	if err != nil {
		return nil, invalid("Invalid page token, could not base64-decode")
	}
	var t pageToken
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		return nil, invalid("Invalid page token, could not decode")
	}
	if t.Order != s.orderHash() || len(t.After) != len(s.keys) {
		return nil, invalid("Invalid page token: it belongs to a search with another order")
	}
	for i, v := range t.After {
		switch v := v.(type) {
		case string:
		case json.Number:
			if n, err := v.Int64(); err == nil {
				t.After[i] = n
			} else if f, err := v.Float64(); err == nil {
				t.After[i] = f
			} else {
				return nil, invalid("Invalid page token, could not decode")
			}
		default:
			return nil, invalid("Invalid page token, could not decode")
		}
	}
	return t.After, nil
}
