package httpapi

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"turbofan"
)

// Access is what a key allows. Each step allows what those before it do.
type Access int

// The steps of access.
const (
	Open     Access = iota // no key at all: health, and metrics where they are open
	Viewer                 // read everything
	Device                 // send readings and outcomes: a gateway beside the machine
	Operator               // retrain, promote, write to the registry
)

// ParseAccess reads the name of a step: viewer, device or operator.
func ParseAccess(name string) (Access, error) {
	for a := Viewer; a <= Operator; a++ {
		if name == a.String() {
			return a, nil
		}
	}
	return Open, turbofan.Errorf(turbofan.EInvalid, "must be viewer, device or operator, not %q", name)
}

func (a Access) String() string { return [...]string{"open", "viewer", "device", "operator"}[a] }

// Key is one API key as a server knows it: by name and digest, never by its text.
type Key struct {
	Name   string
	Access Access
	// Rate bounds the key's requests a second on each port; 0 takes what Guard is told.
	Rate   float64
	digest [sha256.Size]byte
}

// keyPrefix lets people and secret scanners recognise a key, and HideKeys; the tokens of signed addresses begin with
// tokenPrefix, which is as long.
const (
	keyPrefix   = "tfk_"
	tokenPrefix = "tft_"
)

// nextSecret returns where the next key or token begins, or -1.
func nextSecret(text []byte) int {
	key, token := bytes.Index(text, []byte(keyPrefix)), bytes.Index(text, []byte(tokenPrefix))
	if key < 0 || token >= 0 && token < key {
		return token
	}
	return key
}

// HideKeys returns text with every key that NewKey may have made replaced by "tfk_…", every token of a signed address by
// "tft_…", and text itself where there is neither. Whoever puts a key into a URL has it in logs and error messages
// otherwise.
func HideKeys(text []byte) []byte {
	at := nextSecret(text)
	if at < 0 {
		return text
	}
	var out []byte
	for ; at >= 0; at = nextSecret(text) {
		out = append(append(out, text[:at+len(keyPrefix)]...), "…"...)
		text = bytes.TrimLeftFunc(text[at+len(keyPrefix):], func(r rune) bool {
			return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
		})
	}
	return append(out, text...)
}

// NewKey makes a key of 256 random bits and the line by which a server knows it.
func NewKey(name string, access Access) (secret, line string, err error) {
	if err := checkKeyName(name); err != nil {
		return "", "", err
	}
	var b [32]byte
	rand.Read(b[:]) // never fails
	secret = keyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	sum := sha256.Sum256([]byte(secret))
	return secret, fmt.Sprintf("%s %s sha256:%s", name, access, hex.EncodeToString(sum[:])), nil
}

func checkKeyName(name string) error {
	const longest = 64
	if name == "" || len(name) > longest || strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.@", r))
	}) {
		return turbofan.Invalid("name", "must have 1 to %d letters, digits and - _ . @, not %q", longest, name)
	}
	return nil
}

// ParseKeys reads lines of "NAME ACCESS sha256:DIGEST [rate=NUMBER]", as NewKey writes them; empty ones and those that
// begin with # are passed over. field is what errors name. At least one key must be there.
func ParseKeys(text, field string) ([]Key, error) {
	var out []Key
	seen := map[string]bool{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		k, err := parseKey(words)
		if err == nil && seen[k.Name] {
			err = turbofan.Errorf(turbofan.EInvalid, "the name %s is given twice", k.Name)
		}
		if err != nil {
			return nil, turbofan.Invalid(fmt.Sprintf("%s:%d", field, n), "%s", turbofan.ErrorMessage(err))
		}
		seen[k.Name] = true
		out = append(out, k)
	}
	if len(out) == 0 {
		return nil, turbofan.Invalid(field, "holds no key; turbofan keys new makes one")
	}
	return out, nil
}

// parseKey never repeats a word that may be a key's text.
func parseKey(words []string) (k Key, err error) {
	if len(words) < 3 || len(words) > 4 {
		return k, turbofan.Errorf(turbofan.EInvalid, "a key is a name, an access and a digest, such as: gateway-7 device sha256:1f0c…")
	}
	if err := checkKeyName(words[0]); err != nil {
		return k, err
	}
	k.Name = words[0]
	if k.Access, err = ParseAccess(words[1]); err != nil {
		return k, turbofan.Errorf(turbofan.EInvalid, "the access of %s %s", k.Name, turbofan.ErrorMessage(err))
	}
	digest, ok := strings.CutPrefix(words[2], "sha256:")
	b, err := hex.DecodeString(digest)
	if !ok || err != nil || len(b) != sha256.Size {
		return k, turbofan.Errorf(turbofan.EInvalid, "the digest of %s must be sha256: and 64 hexadecimal digits; keep the key itself out of the file", k.Name)
	}
	copy(k.digest[:], b)
	if len(words) == 4 {
		text, ok := strings.CutPrefix(words[3], "rate=")
		if k.Rate, err = strconv.ParseFloat(text, 64); !ok || err != nil || !(k.Rate > 0) || math.IsInf(k.Rate, 0) {
			return k, turbofan.Errorf(turbofan.EInvalid, "the rate of %s must be rate= and requests a second above 0", k.Name)
		}
	}
	return k, nil
}

// KeyRing holds the keys that are valid now. Its keys may be replaced while requests come.
type KeyRing struct{ keys atomic.Pointer[[]Key] }

// NewKeyRing returns a ring with keys.
func NewKeyRing(keys []Key) *KeyRing {
	r := new(KeyRing)
	r.Replace(keys)
	return r
}

// Replace makes keys the valid ones.
func (r *KeyRing) Replace(keys []Key) { r.keys.Store(&keys) }

// Find returns the key whose text is secret. It takes the same time whichever key matches, and whether one does.
func (r *KeyRing) Find(secret string) (Key, bool) {
	sum := sha256.Sum256([]byte(secret))
	keys, found := *r.keys.Load(), -1
	for i := range keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(keys[i].digest[:], sum[:]), i, found)
	}
	if found < 0 {
		return Key{}, false
	}
	return keys[found], true
}

// mark is the beginning of the digest of a key's text.
func (k *Key) mark() string { return string(k.digest[:12]) }

// marked returns the key of that mark.
func (r *KeyRing) marked(mark string) (Key, bool) {
	for _, k := range *r.keys.Load() {
		if k.mark() == mark {
			return k, true
		}
	}
	return Key{}, false
}

// secretOf returns the key that a request carries: as bearer token, in X-Api-Key, or as the password of basic
// authentication, which is what browsers and many tools can send.
func secretOf(h http.Header) string {
	if key := h.Get("X-Api-Key"); key != "" {
		return key
	}
	scheme, value, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok {
		return ""
	}
	switch value = strings.TrimSpace(value); {
	case strings.EqualFold(scheme, "Bearer"):
		return value
	case strings.EqualFold(scheme, "Basic"):
		b, err := base64.StdEncoding.DecodeString(value)
		if _, password, ok := strings.Cut(string(b), ":"); err == nil && ok {
			return password
		}
	}
	return ""
}

// needs returns the least access that a request to a role must have. Whatever is not known to read or to be a device's
// business is an operator's: a route that is added later is closed until somebody opens it here.
func needs(role string, r *http.Request, openMetrics bool) Access {
	switch r.URL.Path {
	case "/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready", "/ping", "/health":
		return Open
	case "/metrics":
		if openMetrics {
			return Open
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return Viewer
	case http.MethodPost:
	default:
		return Operator
	}
	switch role {
	case "predict":
		return needsOfPredict(r.URL.Path)
	case "feedback":
		if r.URL.Path == "/feedback" {
			return Device
		}
	case "registry":
		if readsRegistry(r.URL.Path) {
			return Viewer
		}
	}
	return Operator
}

// readsRegistry reports whether a POST to the registry only reads: MLflow's searches do. Paths of files, which may end
// like one, never count.
func readsRegistry(path string) bool {
	rest, ok := strings.CutPrefix(path, "/api/")
	if !ok {
		rest, ok = strings.CutPrefix(path, "/ajax-api/")
	}
	version, call, found := strings.Cut(rest, "/mlflow/")
	if !ok || !found || strings.Contains(version, "/") {
		return path == "/graphql"
	}
	return strings.HasSuffix(call, "/search") || strings.HasSuffix(call, "/get-latest-versions")
}

func needsOfPredict(path string) Access {
	switch path {
	case "/predict", "/predict_batch", "/invocations":
		return Device
	}
	if strings.HasPrefix(path, "/v2/models/") && strings.HasSuffix(path, "/infer") {
		return Device
	}
	return Operator
}

// NewKeyClient returns an HTTP client that sends key with every request, for the clients of this package and others; nil,
// their own default, where key is empty. It follows no redirect: a key must not travel on to another server.
func NewKeyClient(key string) *http.Client {
	if key == "" {
		return nil
	}
	return &http.Client{
		Transport:     &keyTransport{authorization: "Bearer " + key, base: newTransport()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type keyTransport struct {
	authorization string
	base          *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *keyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", t.authorization)
	return t.base.RoundTrip(r)
}

// CloseIdleConnections closes the connections that wait for another request.
func (t *keyTransport) CloseIdleConnections() { t.base.CloseIdleConnections() }
