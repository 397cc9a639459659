package turbofan

import "strconv"

// Count writes n things for people: "1 unit", "2 units".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
