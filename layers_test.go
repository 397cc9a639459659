package turbofan_test

import (
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the import path of the root.
const module = "turbofan"

// house says, for each room, which other rooms it may enter. A package that is not in the table has no floor and fails
// the test: give it one here and in docs/architecture.md first.
var house = map[string][]string{
	// floor 1: the ground
	"":          {},
	"stat":      {},
	"tree":      {},
	"condition": {},
	"onnx":      {},
	// floor 2: services and what they stand on
	"feature":   {"", "condition"},
	"reference": {"", "stat", "condition"},
	"dataset":   {"", "stat"},
	"feedback":  {"", "stat"},
	"registry":  {""},
	"simulate":  {"", "stat"},
	// floor 2: adapters
	"sqlstore": {""},
	"httpapi":  {""},
	// a part of httpapi that stands alone: what it reads came from strangers
	"httpapi/parquet": {""},
	// a second door to httpapi's handler, which it is given as an http.Handler, and what protoc made of the protocol
	"grpcapi":           {},
	"grpcapi/inference": {},
	"mlflow":            {""},
	"console":           {"", "report"}, // it shows what report draws
	"webhook":           {""},
	"report":            {"", "stat"},
	// floor 3
	"drift": {"", "stat", "condition", "reference"},
	"model": {"", "stat", "tree", "condition", "onnx", "feature", "reference", "dataset"},
	// floor 4
	"predict": {"", "condition", "feature", "model"},
	"retrain": {"", "stat", "model"},
	"release": {"", "model"},
	// floor 5: the roof, which alone knows who is in the same process
	"cmd/turbofan": {"*"},
	// tests' own: a real PostgreSQL server, and ports
	"internal/postgrestest": {},
	"internal/porttest":     {},
}

// architecture is the page that tells a newcomer of the house.
const architecture = "docs/architecture.md"

// word is a word of the picture, such as a room's name.
var word = regexp.MustCompile(`[a-z/0-9]+`)

// TestArchitecturePage holds the page to the table: its picture shows each room once, above all that the room may enter,
// and its table of rooms has a row for each and no other.
func TestArchitecturePage(t *testing.T) {
	text, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "```\n")
	picture, _, ended := strings.Cut(after, "```\n")
	if !found || !ended {
		t.Fatalf("%s has no picture", architecture)
	}
	floor, drawn, below := map[string]int{}, map[string]int{}, 0
	for line := range strings.Lines(picture) {
		if n, err := strconv.Atoi(strings.TrimSpace(line[:min(5, len(line))])); err == nil {
			below = n
		}
		for _, w := range word.FindAllString(line, -1) {
			floor[w] = below
			drawn[w]++
		}
	}
	rows := map[string]int{}
	for _, m := range regexp.MustCompile("(?m)^\\| \\[`([a-z/]+)`\\]\\(").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]]++
	}
	for room, allowed := range house {
		name := cmp.Or(room, module)
		if drawn[name] != 1 || rows[name] != 1 {
			t.Errorf("%s: %s stands %d times in the picture and has %d rows in the table of rooms: it needs one of each", architecture, name, drawn[name], rows[name])
		}
		delete(rows, name)
		for _, other := range allowed {
			if other = cmp.Or(other, module); other != "*" && floor[name] <= floor[other] {
				t.Errorf("%s: the picture shows %s on floor %d and %s, which it may import, on floor %d", architecture, name, floor[name], other, floor[other])
			}
		}
	}
	for name := range rows {
		t.Errorf("%s: the table of rooms has a row for %s, which is no room of the house", architecture, name)
	}
}

// link is a link of a Markdown page to a file of the repository, without its anchor.
var link = regexp.MustCompile(`\]\(([^):#]+)[^)]*\)`)

// TestLinks follows the links of every page to other files.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md", "CHANGELOG.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: %v", page, m[1], err)
			}
		}
	}
}

// ground packages compute; they may not touch the world.
var ground = []string{"", "stat", "tree", "condition", "onnx"}

var worldly = []string{"os", "net", "net/http", "log", "log/slog", "database/sql", "flag", "os/exec", "os/signal", "syscall"}

// onlyIn lists imports that belong to some rooms alone, each with what to use elsewhere.
var onlyIn = map[string]struct {
	rooms   []string
	instead string
}{
	"database/sql":           {[]string{"sqlstore"}, "a store interface of the root package"},
	"modernc.org/sqlite":     {[]string{"sqlstore"}, "a store interface of the root package"},
	"google.golang.org/grpc": {[]string{"grpcapi", "grpcapi/inference"}, "the protocol's REST form"},
	"net/http":               {[]string{"httpapi", "grpcapi", "mlflow", "webhook", "console", "cmd/turbofan", "dataset"}, "a service interface of the root package"},
	"flag":                   {[]string{"cmd/turbofan"}, "a Config field"},
	"github.com/spf13/cobra": {[]string{"cmd/turbofan"}, "a Config field"},
}

func TestLayers(t *testing.T) {
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || isModule(file)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		room := path.Dir(filepath.ToSlash(file))
		if room == "." {
			room = ""
		}
		key := room
		if strings.HasPrefix(room, "cmd/turbofan/") {
			key = "cmd/turbofan"
		}
		allowed, known := house[key]
		if !known {
			t.Errorf("%s: package %q has no floor: give it one in layers_test.go and docs/architecture.md", file, room)
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, file, key, imported, allowed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImport(t *testing.T, file, room, imported string, allowed []string) {
	t.Helper()
	if other, ours := strings.CutPrefix(imported, module); ours && (other == "" || other[0] == '/') {
		other = strings.TrimPrefix(other, "/")
		below := strings.HasPrefix(other, room+"/") && room != ""
		if !below && !slices.Contains(allowed, other) && !slices.Contains(allowed, "*") {
			t.Errorf("%s: %q may not import %q: the house allows it %q", file, room, other, allowed)
		}
		return
	}
	if slices.Contains(ground, room) && slices.Contains(worldly, imported) {
		t.Errorf("%s: the ground may not import %s: slices in, numbers out", file, imported)
	}
	if (room == "stat" || room == "tree" || room == "condition") && (imported == "context" || imported == "time") {
		t.Errorf("%s: %s may not import %s: it computes, its caller waits", file, room, imported)
	}
	if rule, bound := onlyIn[imported]; bound && !slices.Contains(rule.rooms, room) {
		t.Errorf("%s: only %q may import %s: use %s", file, rule.rooms, imported, rule.instead)
	}
}

// isModule reports whether dir is the root of a module of its own, which the table does not govern.
func isModule(dir string) bool {
	if dir == "." {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}
