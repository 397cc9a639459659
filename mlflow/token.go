package mlflow

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strings"
	"time"
)

// transferTime is how long one file, or one part of it, may take to come or to go, and how long an address that was
// handed out for it is good.
const transferTime = time.Hour

// The query parameter that allows what its address says, and how its value begins: what hides secrets from logs knows it
// by that.
const (
	tokenParam  = "token"
	tokenPrefix = "tft_"
)

// signer signs the addresses that are handed out. Its key is this process's own: what another signed, or this one before
// a restart, is refused, and a client asks for new addresses.
type signer struct{ key [32]byte }

func newSigner() *signer {
	s := new(signer)
	rand.Read(s.key[:]) // never fails
	return s
}

// query is what to append to the address of path, as it is once decoded, so that method may be used there until expiry;
// nothing where there is no signer.
func (s *signer) query(method, path string, expiry time.Time) string {
	if s == nil {
		return ""
	}
	until := binary.BigEndian.AppendUint64(nil, uint64(expiry.Unix()))
	return "?" + tokenParam + "=" + tokenPrefix + base64.RawURLEncoding.EncodeToString(append(until, s.sum(method, path, until)...))
}

// sum needs no lengths: a method holds no line break, and until is always eight bytes.
func (s *signer) sum(method, path string, until []byte) []byte {
	m := hmac.New(sha256.New, s.key[:])
	m.Write([]byte(method + "\n" + path))
	m.Write(until)
	return m.Sum(nil)
}

// allows reports whether token was signed here for this method and path, and is still good.
func (s *signer) allows(token, method, path string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	until, sum := b[:8], b[8:]
	return hmac.Equal(sum, s.sum(method, path, until)) && time.Now().Unix() < int64(binary.BigEndian.Uint64(until))
}

// Signed reports whether the address of a request carries a token, and whether that is one of this handler's for just
// this method and path, and not yet expired: then it needs no key. See [HandlerConfig.SignAddresses].
func (h *Handler) Signed(r *http.Request) (carried, good bool) {
	token, carried := strings.CutPrefix(r.URL.Query().Get(tokenParam), tokenPrefix)
	return carried, carried && h.signer != nil && h.signer.allows(token, r.Method, r.URL.Path)
}

// allowTransfer gives a request the time that a file may take, instead of that of a call in JSON. A writer that has no
// deadlines has none to be moved.
func allowTransfer(c *http.ResponseController) {
	until := time.Now().Add(transferTime)
	_ = c.SetReadDeadline(until) // a download needs it too: past it the server takes the client for gone
	_ = c.SetWriteDeadline(until)
}
