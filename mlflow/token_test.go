package mlflow_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan/mlflow"
	"turbofan/registry"
)

const artifacts = "/api/2.0/mlflow-artifacts/artifacts/"

// addresses asks for those of an upload in two parts and of a download.
func addresses(t *testing.T, h http.Handler, header ...string) (parts []string, download string) {
	t.Helper()
	var u upload
	created := ask(t, h, "POST", mpu+"create/some folder", `{"path":"a.bin","num_parts":2}`, header...)
	if err := json.Unmarshal([]byte(created.text), &u); err != nil || created.status != 200 || len(u.Credentials) != 2 {
		t.Fatalf("create: %+v (%v)", created, err)
	}
	var d struct{ URL string }
	signed := ask(t, h, "GET", "/api/2.0/mlflow-artifacts/presigned/a b/x%25.bin", ``, header...)
	if err := json.Unmarshal([]byte(signed.text), &d); err != nil || signed.status != 200 {
		t.Fatalf("presigned: %+v (%v)", signed, err)
	}
	for _, got := range []said{created, signed} {
		if !strings.Contains(got.text, `"headers":{}`) || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("an address comes with headers, or may be stored: %+v", got)
		}
	}
	return []string{u.Credentials[0].URL, u.Credentials[1].URL}, d.URL
}

// signing returns a handler that signs its addresses, over a registry that holds one file.
func signing(t *testing.T) *mlflow.Handler {
	t.Helper()
	r := openRegistry(t)
	if err := r.PutArtifact(t.Context(), "mlflow-artifacts:/a b/x%.bin", strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	return mlflow.NewHandler(r, mlflow.HandlerConfig{SignFor: holder})
}

// signed is what the handler says of a request for an address.
func signed(t *testing.T, h *mlflow.Handler, method, address string) (carried, good bool) {
	t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	by, carried, good := h.Signed(r)
	if want := holder(t.Context()); good && by != want || !good && by != "" {
		t.Errorf("%s %s is of %q, good %t", method, address, by, good)
	}
	return carried, good
}

// holder is whose addresses the handlers of these tests sign.
func holder(context.Context) string { return "twelve bytes" }

// altered changes one byte of what a token says.
func altered(query string, at int) string {
	head, text, _ := strings.Cut(query, "=tft_")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || at >= len(b) {
		return "cannot be altered"
	}
	b[at] ^= 1
	return head + "=tft_" + base64.RawURLEncoding.EncodeToString(b)
}

// A token is good for its method and its path alone, at the handler that signed it.
func TestTokensAllowOneThing(t *testing.T) {
	h := signing(t)
	const shared = "Bearer the-key-of-a-proxy"
	parts, download := addresses(t, h, "Authorization", shared, "X-Api-Key", shared)
	other, elsewhere := addresses(t, signing(t))
	token := func(address string) string {
		_, query, _ := strings.Cut(address, "?")
		return "?" + query
	}
	bare := func(address string) string { path, _, _ := strings.Cut(address, "?"); return path }
	first := token(parts[0])
	flipped := []byte(first)
	flipped[len(flipped)-3] ^= 1 // still of base64's letters, or not: neither is good
	for _, c := range []struct {
		what, method, address string
		carried, good         bool
	}{
		{"part 1", "PUT", parts[0], true, true},
		{"part 2", "PUT", parts[1], true, true},
		{"the file", "GET", download, true, true},
		{"another part", "PUT", bare(parts[1]) + first, true, false},
		{"a part's number goes on", "PUT", bare(parts[0]) + "0" + first, true, false},
		{"another upload", "PUT", bare(other[0]) + first, true, false},
		{"another process's", "PUT", other[0], true, false},
		{"another process's file", "GET", elsewhere, true, false},
		{"another method on a part", "GET", parts[0], true, false},
		{"writing a file", "PUT", download, true, false},
		{"deleting a file", "DELETE", download, true, false},
		{"another file", "GET", strings.Replace(download, "x%25", "y%25", 1), true, false},
		{"another spelling of the path", "GET", strings.Replace(download, "/api/", "//api/", 1), true, false},
		{"a call", "PUT", "http://localhost" + api + "runs/search" + first, true, false},
		{"tampered", "PUT", bare(parts[0]) + string(flipped), true, false},
		{"a later expiry", "PUT", bare(parts[0]) + altered(first, 32+3), true, false},
		{"another holder's", "PUT", bare(parts[0]) + altered(first, 32+8), true, false},
		{"nobody's", "PUT", bare(parts[0]) + first[:len(first)-16], true, false},
		{"cut short", "PUT", parts[0][:len(parts[0])-4], true, false},
		{"empty", "PUT", bare(parts[0]) + "?token=tft_", true, false},
		{"none", "PUT", bare(parts[0]), false, false},
		{"some other token", "PUT", bare(parts[0]) + "?token=next-page", false, false},
	} {
		if carried, good := signed(t, h, c.method, c.address); carried != c.carried || good != c.good {
			t.Errorf("%s: %s %s: carried %t, good %t", c.what, c.method, c.address, carried, good)
		}
	}
	for _, address := range append(parts, download) {
		if u, err := url.Parse(address); err != nil || strings.Contains(address, "the-key") {
			t.Errorf("%s (%v)", address, err)
		} else if method := map[bool]string{true: "GET", false: "PUT"}[address == download]; ask(t, h, method, u.EscapedPath()+"?"+u.RawQuery, "x").status != 200 {
			t.Errorf("%s %s is not answered", method, address)
		}
	}
	plain := mlflow.NewHandler(openRegistry(t), mlflow.HandlerConfig{})
	if _, good := signed(t, plain, "PUT", parts[0]); good {
		t.Error("a handler that signs nothing takes a token")
	}
}

func TestTokensExpire(t *testing.T) {
	h := signing(t)
	synctest.Test(t, func(t *testing.T) {
		parts, download := addresses(t, h)
		for _, c := range []struct {
			after time.Duration
			good  bool
		}{{0, true}, {time.Hour - time.Second, true}, {time.Second, false}, {24 * time.Hour, false}} {
			time.Sleep(c.after) // the bubble's clock
			for method, address := range map[string]string{"PUT": parts[0], "GET": download} {
				if carried, good := signed(t, h, method, address); !carried || good != c.good {
					t.Errorf("%s %s another %s later: carried %t, good %t", method, address, c.after, carried, good)
				}
			}
		}
	})
}

// What a caller sends is not repeated part by part.
func TestAddressesAreBounded(t *testing.T) {
	h := mlflow.NewHandler(openRegistry(t), mlflow.HandlerConfig{SignFor: holder, AllowedHosts: []string{"*"}})
	long := strings.Repeat("k", 60_000)
	create := func(header ...string) said {
		return ask(t, h, "POST", mpu+"create/x", `{"path":"a.bin","num_parts":10000}`, header...)
	}
	host := strings.Repeat("h", 254) + ":65535"
	if got := create("Authorization", "Bearer "+long, "X-Api-Key", long, "X-Forwarded-Proto", long, "Host", host); got.status != 200 || len(got.text) > 5_500_000 {
		t.Errorf("%d, %d bytes", got.status, len(got.text))
	}
	if got := create("Host", long); got.status != http.StatusForbidden || len(got.text) > 1000 {
		t.Errorf("a host of %d bytes: %d, %d bytes", len(long), got.status, len(got.text))
	}
}

// The addresses are as safe as the way by which the client came, which the first of the proxies tells.
func TestForwardedProto(t *testing.T) {
	h := signing(t)
	for proto, want := range map[string]string{"": "http", "https": "https", "HTTPS": "https", "https,http": "https", " Https , http": "https", "http": "http", "http,https": "http", "httpsx": "http", "ftp": "http"} {
		parts, download := addresses(t, h, "X-Forwarded-Proto", proto)
		if !strings.HasPrefix(parts[0], want+"://") || !strings.HasPrefix(download, want+"://") {
			t.Errorf("%q: %s %s", proto, parts[0], download)
		}
	}
}

// drip is a request whose body has only begun: send the rest of it, and end.
type drip struct {
	*io.PipeWriter
	answer chan *http.Response
}

func startDrip(t *testing.T, method, address, begin string) drip {
	t.Helper()
	from, to := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), method, address, from)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	d := drip{to, make(chan *http.Response, 1)}
	go func() {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Errorf("%s %s: %v", method, address, err)
		}
		d.answer <- resp
	}()
	if _, err := io.WriteString(to, begin); err != nil {
		t.Fatal(err)
	}
	return d
}

// status is what the request is answered in the end.
func (d drip) status(t *testing.T) int {
	t.Helper()
	resp := <-d.answer
	if resp == nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// A file may come for longer than a call in JSON, which is refused when it is late.
func TestFilesMayTakeLonger(t *testing.T) {
	s := httptest.NewUnstartedServer(mlflow.NewHandler(openRegistryAt(t, t.TempDir(), registry.Config{}), mlflow.HandlerConfig{}))
	s.Config.ReadTimeout = 5 * time.Second
	s.Start()
	t.Cleanup(s.Close) // once the context has ended what still drips
	file := startDrip(t, "PUT", s.URL+artifacts+"slow.bin", "0")
	var u upload
	resp, err := http.Post(s.URL+mpu+"create/x", "application/json", strings.NewReader(`{"path":"p.bin","num_parts":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(bufio.NewReader(resp.Body)).Decode(&u); err != nil {
		t.Fatal(err)
	}
	part := startDrip(t, "PUT", u.Credentials[0].URL, "0")
	late := startDrip(t, "POST", s.URL+api+"experiments/search", "{")
	if got := late.status(t); got != http.StatusGatewayTimeout {
		t.Errorf("a call that comes too slowly: %d", got)
	}
	for what, d := range map[string]drip{"file": file, "part": part} {
		if _, err := io.WriteString(d, "123"); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if got := d.status(t); got != http.StatusOK {
			t.Errorf("a slow %s: %d", what, got)
		}
	}
}

// Bodies that have only begun, whatever length they name, leave room for large ones.
func TestSlowSendersHoldNoRoom(t *testing.T) {
	h := mlflow.NewHandler(openRegistry(t), mlflow.HandlerConfig{})
	const many = 8
	begun := make(chan struct{}, many+1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close) // once the context has ended what still drips
	call := s.URL + api + "experiments/search"
	var slow []drip
	for range many {
		slow = append(slow, startDrip(t, "POST", call, `{"padding":"`+strings.Repeat("p", 40<<10)))
	}
	for range many {
		<-begun
	}
	large := &http.Client{Timeout: 5 * time.Minute}
	resp, err := large.Post(call, "application/json", strings.NewReader(fmt.Sprintf(`{"max_results":1,"padding":%q}`, strings.Repeat("p", 200<<10))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("a large call: %d %v", resp.StatusCode, err)
	}
	for _, d := range slow {
		if _, err := io.WriteString(d, `"}`); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if got := d.status(t); got != http.StatusBadRequest { // it names no max_results
			t.Errorf("a slow call: %d", got)
		}
	}
}
