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

// maxHolder bounds what names the holder of a token, in bytes: ten thousand addresses repeat it.
const maxHolder = 16

// query is what to append to the address of path, as it is once decoded, so that method may be used there on holder's
// behalf until expiry; nothing where there is no signer. A holder that is longer than maxHolder is nobody.
func (s *signer) query(holder, method, path string, expiry time.Time) string {
	if s == nil {
		return ""
	}
	if len(holder) > maxHolder {
		holder = ""
	}
	said := append(binary.BigEndian.AppendUint64(nil, uint64(expiry.Unix())), holder...)
	return "?" + tokenParam + "=" + tokenPrefix + base64.RawURLEncoding.EncodeToString(append(s.sum(method, path, said), said...))
}

// sum is over what the token says, when it ends and whose it is, and what it allows. It needs one length alone: a method
// holds no line break.
func (s *signer) sum(method, path string, said []byte) []byte {
	m := hmac.New(sha256.New, s.key[:])
	m.Write(append([]byte{byte(len(said))}, said...))
	m.Write([]byte(method + "\n" + path))
	return m.Sum(nil)
}

// allows reports whether token was signed here for this method and path, and is still good, and for whom.
func (s *signer) allows(token, method, path string) (holder string, good bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < sha256.Size+8 || len(b) > sha256.Size+8+maxHolder {
		return "", false
	}
	sum, said := b[:sha256.Size], b[sha256.Size:]
	if !hmac.Equal(sum, s.sum(method, path, said)) || time.Now().Unix() >= int64(binary.BigEndian.Uint64(said)) {
		return "", false
	}
	return string(said[8:]), true
}

// Signed reports whether the address of a request carries a token, and whether that is one of this handler's for just
// this method and path, and not yet expired: then it needs no key, as long as that of its holder is valid. See
// [HandlerConfig.SignFor].
func (h *Handler) Signed(r *http.Request) (holder string, carried, good bool) {
	token, carried := strings.CutPrefix(r.URL.Query().Get(tokenParam), tokenPrefix)
	if !carried || h.signer == nil {
		return "", carried, false
	}
	holder, good = h.signer.allows(token, r.Method, r.URL.Path)
	return holder, true, good
}

// allowTransfer gives a request the time that a file may take, instead of that of a call in JSON. A writer that has no
// deadlines has none to be moved.
func allowTransfer(c *http.ResponseController) {
	until := time.Now().Add(transferTime)
	_ = c.SetReadDeadline(until) // a download needs it too: past it the server takes the client for gone
	_ = c.SetWriteDeadline(until)
}
