package turbofan

import (
	"net/netip"
	"strings"
)

// PrivateHost reports whether hostport, the Host of an HTTP request, is an IP address, a single word or a name of a private
// network. A server that asks for no key should answer no other: by DNS rebinding a public web page can point its own name
// at this machine and make a visitor's browser send requests here, but only under that public name.
func PrivateHost(hostport string) bool {
	host := hostport
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.IndexByte(host, ':') == i || strings.HasSuffix(host[:i], "]")) {
		host = host[:i]
	}
	host = strings.ToLower(strings.Trim(strings.TrimSuffix(host, "."), "[]"))
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") && !strings.Contains(host, ":") {
		return true
	}
	for _, suffix := range [...]string{".localhost", ".local", ".internal", ".svc", ".svc.cluster.local", ".test"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}
