package dataset_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"turbofan/dataset"
)

func TestReadTable(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       string // of the columns: name=values, or name!reason
	}{
		{"commas", "a,b\n1,x\n-2.5e3,y\n", `a=1 -2500 b!"x" in line 2 is not a finite number`},
		{"semicolons, decimal commas", "a;b\n1,5;2\n;NaN\n", "a=1.5 NaN b=2 NaN"},
		{"tabs", "a\tb\n1\t2\n", "a=1 b=2"},
		{"bars", "a|b\n1|2\n", "a=1 b=2"},
		{"one column", "a\n1\nnull\n", "a=1 NaN"},
		{"a separator in quotes", "\"a;b;c\",d\n1,2\n", "a;b;c=1 d=2"},
		{"a byte order mark, an index without a name", "\ufeff,a\n0,1\n", "column 1=0 a=1"},
		{"true and false", "a\ntrue\nFalse\n", "a=1 0"},
		{"thousands are no decimals", "a,b\n\"1,000\",2\n", `a!"1,000" in line 2 is not a finite number b=2`},
		{"infinity", "a\ninf\n", `a!"inf" in line 2 is not a finite number`},
		{"infinite cells among numbers", "a,b\n1,inf\n-Infinity,2\n1e999,3\n", "a=1 NaN NaN (2 infinite) b=NaN 2 3 (1 infinite)"},
		{"infinite cells and no number", "a\nna\n+inf\n", `a!"+inf" in line 3 is not a finite number`},
		{"infinite cells and text", "a\ninf\n1\nx\n", `a!"x" in line 4 is not a finite number`},
		{"hexadecimal", "a\n1\n0x1p9999\n", `a!"0x1p9999" in line 3 is not a finite number`},
		{"whole numbers beyond a double", "a\n9007199254740993\n", "a=9.007199254740992e+15"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := dataset.ReadTable(strings.NewReader(tt.text), "x.csv")
			if err != nil {
				t.Fatal(err)
			}
			var parts []string
			for _, c := range table.Columns {
				s := c.Name + "!" + c.Reason
				if c.Reason == "" {
					s = c.Name + "=" + numbers(c.Values)
					if c.Infinite > 0 {
						s += fmt.Sprintf(" (%d infinite)", c.Infinite)
					}
				}
				parts = append(parts, s)
			}
			if got := strings.Join(parts, " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	table, err := dataset.ReadTable(strings.NewReader("unit,a\nu 1,2\n7,3\n"), "x.csv", "unit")
	if err != nil || strings.Join(table.Column("unit").Texts, "|") != "u 1|7" || table.Column("a").Texts != nil || table.Column("b") != nil {
		t.Errorf("%+v, %v", table, err)
	}
}

func FuzzReadTable(f *testing.F) {
	for _, seed := range []string{"a,b\n1,x\n", "a;b\n1,5;\n", "\ufeffa\tb\n\"1\"\t2\n", "a\n\"\n", "\n\n", "a||\n1||\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := dataset.ReadTable(strings.NewReader(text), "x.csv", "a")
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, c := range table.Columns {
			if names[c.Name] || c.Name == "" {
				t.Fatalf("the name %q is not one column's", c.Name)
			}
			names[c.Name] = true
			if (c.Values == nil) == (c.Reason == "") || c.Values != nil && len(c.Values) != table.Rows || c.Texts != nil && len(c.Texts) != table.Rows {
				t.Fatalf("%+v of %d rows", c, table.Rows)
			}
			for _, v := range c.Values {
				if math.IsInf(v, 0) {
					t.Fatalf("%v in %s", v, c.Name)
				}
			}
		}
	})
}

func numbers(v []float64) string {
	parts := make([]string, len(v))
	for i, x := range v {
		parts[i] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(parts, " ")
}
