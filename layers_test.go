package turbofan_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
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
