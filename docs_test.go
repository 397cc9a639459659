package turbofan_test

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

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
	for _, m := range regexp.MustCompile("(?m)^\\| \\[`([a-z/]+)`\\]\\(.*$").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]]++
		for _, file := range regexp.MustCompile("`([a-z_]+[.]go)`").FindAllStringSubmatch(m[0], -1) {
			if _, err := os.Stat(filepath.Join(strings.TrimPrefix(m[1], module), file[1])); err != nil {
				t.Errorf("%s: %s is to be begun at a file that is not there: %v", architecture, m[1], err)
			}
		}
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

// link is a link of a Markdown page: the file, empty for the page itself, and the heading.
var link = regexp.MustCompile(`\]\(([^):#]*)(#[^)]+)?\)`)

// heading is a heading of a Markdown page.
var heading = regexp.MustCompile(`(?m)^#+ (.+)$`)

// TestLinks follows the links of every page to files of the repository and to headings of pages.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages = append(pages, "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
	texts, anchors := map[string]string{}, map[string][]string{}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		texts[page] = string(text)
		for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
			anchors[page] = append(anchors[page], anchor(m[1]))
		}
	}
	for page, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to := page
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link to %s leads nowhere: %v", page, m[1], err)
			}
			if m[2] != "" && !slices.Contains(anchors[to], m[2]) {
				t.Errorf("%s: the link to %s%s leads to no heading", page, m[1], m[2])
			}
		}
	}
}

// anchor is what leads to a heading, as GitHub makes it.
func anchor(heading string) string {
	return "#" + strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
