package turbofan

import (
	"net/netip"
	"strings"
)

// PrivateHost reports whether hostport, the Host of an HTTP request, is an address, a single word or a name of a private
// network. A page from elsewhere can make a browser send only its own name, also when that name has come to mean this
// machine (DNS rebinding): where nobody is asked for a key, other names are not to be answered.
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
