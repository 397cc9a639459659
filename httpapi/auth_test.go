package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// newKey makes a key and returns its text with the ring's own entry.
func newKey(t *testing.T, name string, a httpapi.Access, more string) (string, httpapi.Key) {
	t.Helper()
	secret, line, err := httpapi.NewKey(name, a)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := httpapi.ParseKeys(line+more, "keys")
	if err != nil {
		t.Fatal(err)
	}
	return secret, keys[0]
}

// guarded stands before a handler that tells the name of the key.
func guarded(t *testing.T, c httpapi.GuardConfig) http.Handler {
	t.Helper()
	h, err := httpapi.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "let in ", httpapi.KeyName(r.Context()))
	}), c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func try(h http.Handler, method, path, header, value string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	if header != "" {
		r.Header.Set(header, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Who may do what, role by role. The table is the policy: a route that is not here needs an operator.
func TestGuardPolicy(t *testing.T) {
	secrets := map[httpapi.Access]string{}
	var keys []httpapi.Key
	for _, a := range []httpapi.Access{httpapi.Viewer, httpapi.Device, httpapi.Operator} {
		secret, key := newKey(t, a.String(), a, "")
		secrets[a], keys = secret, append(keys, key)
	}
	ring := httpapi.NewKeyRing(keys)
	for _, c := range []struct {
		role, method, path string
		least              httpapi.Access
	}{
		{"predict", "GET", "/livez", httpapi.Open},
		{"predict", "GET", "/readyz", httpapi.Open},
		{"feedback", "GET", "/healthz", httpapi.Open},
		{"predict", "GET", "/v2/health/ready", httpapi.Open},
		{"predict", "GET", "/ping", httpapi.Open},
		{"predict", "GET", "/v2", httpapi.Viewer},
		{"predict", "GET", "/v2/models/rul", httpapi.Viewer},
		{"predict", "GET", "/v2/models/rul/ready", httpapi.Viewer},
		{"predict", "GET", "/v2/models/rul/versions/3", httpapi.Viewer},
		{"predict", "GET", "/metrics", httpapi.Viewer},
		{"predict", "GET", "/", httpapi.Viewer},
		{"predict", "GET", "/units/1", httpapi.Viewer},
		{"predict", "GET", "/models", httpapi.Viewer},
		{"predict", "POST", "/predict", httpapi.Device},
		{"predict", "POST", "/predict_batch", httpapi.Device},
		{"predict", "POST", "/invocations", httpapi.Device},
		{"predict", "POST", "/v2/models/rul/infer", httpapi.Device},
		{"predict", "POST", "/v2/models/rul/versions/3/infer", httpapi.Device},
		{"predict", "POST", "/v2/repository/models/rul/load", httpapi.Operator},
		{"predict", "POST", "/models/promote", httpapi.Operator},
		{"predict", "POST", "/models/rollback", httpapi.Operator},
		{"predict", "PUT", "/models/canary", httpapi.Operator},
		{"predict", "DELETE", "/models/canary", httpapi.Operator},
		{"predict", "POST", "/predict/", httpapi.Operator},
		{"predict", "POST", "/anything/new", httpapi.Operator},
		{"feedback", "POST", "/feedback", httpapi.Device},
		{"feedback", "GET", "/performance", httpapi.Viewer},
		{"retrain", "POST", "/retrain", httpapi.Operator},
		{"retrain", "PUT", "/retrain/cancel", httpapi.Operator},
		{"retrain", "GET", "/jobs", httpapi.Viewer},
		{"drift", "POST", "/check", httpapi.Operator},
		{"drift", "GET", "/reports", httpapi.Viewer},
		{"registry", "POST", "/api/2.0/mlflow/runs/search", httpapi.Viewer},
		{"registry", "POST", "/graphql", httpapi.Viewer},
		{"registry", "POST", "/ajax-api/2.0/mlflow/registered-models/get-latest-versions", httpapi.Viewer},
		{"registry", "POST", "/api/2.0/mlflow-artifacts/mpu/create/models/search", httpapi.Operator},
		{"registry", "POST", "/api/2.0/mlflow-artifacts/mpu/create/mlflow/search", httpapi.Operator},
		{"registry", "POST", "/api/2.0/mlflow/runs/create", httpapi.Operator},
		{"registry", "PUT", "/api/2.0/mlflow-artifacts/artifacts/1/x", httpapi.Operator},
		{"registry", "PATCH", "/api/2.0/mlflow/model-versions/update", httpapi.Operator},
		{"console", "GET", "/", httpapi.Viewer},
	} {
		h := guarded(t, httpapi.GuardConfig{Role: c.role, Keys: ring})
		for a := httpapi.Open; a <= httpapi.Operator; a++ {
			want := http.StatusOK
			switch {
			case a >= c.least:
			case a == httpapi.Open:
				want = http.StatusUnauthorized
			default:
				want = http.StatusForbidden
			}
			header, value := "", ""
			if a != httpapi.Open {
				header, value = "Authorization", "Bearer "+secrets[a]
			}
			if w := try(h, c.method, c.path, header, value); w.Code != want {
				t.Errorf("%s %s %s with %s: %d %s, want %d", c.role, c.method, c.path, a, w.Code, w.Body, want)
			}
		}
	}
	open := guarded(t, httpapi.GuardConfig{Role: "predict", Keys: ring, OpenMetrics: true})
	if w := try(open, "GET", "/metrics", "", ""); w.Code != http.StatusOK {
		t.Errorf("open metrics answer %d", w.Code)
	}
	if w := try(guarded(t, httpapi.GuardConfig{AnyHost: true, Role: "predict"}), "POST", "/models/promote", "", ""); w.Code != http.StatusOK {
		t.Errorf("without keys: %d", w.Code)
	}
}

func TestGuardReadsKeys(t *testing.T) {
	secret, key := newKey(t, "gw", httpapi.Device, "")
	log := new(bytes.Buffer)
	h := guarded(t, httpapi.GuardConfig{Role: "predict", Keys: httpapi.NewKeyRing([]httpapi.Key{key}), Logger: slog.New(slog.NewTextHandler(log, nil))})
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("anyone:"+secret))
	for _, c := range []struct{ header, value, want string }{
		{"Authorization", "Bearer " + secret, "let in gw"},
		{"Authorization", "bearer  " + secret, "let in gw"},
		{"Authorization", basic, "let in gw"},
		{"X-Api-Key", secret, "let in gw"},
		{"", "", "this needs an API key"},
		{"Authorization", secret, "this needs an API key"},
		{"Authorization", "Bearer ", "this needs an API key"},
		{"Authorization", "Basic !!!", "this needs an API key"},
		{"Authorization", "Bearer " + secret + "x", "the API key is not known here"},
		{"Authorization", "Bearer " + strings.ToUpper(secret), "the API key is not known here"},
		{"X-Api-Key", "gw", "the API key is not known here"},
	} {
		w := try(h, "POST", "/predict", c.header, c.value)
		if !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %s: %s, want %s", c.header, c.value, w.Body, c.want)
		}
		if in := strings.HasPrefix(c.want, "let in"); in != (w.Code == http.StatusOK) || !in && (w.Code != http.StatusUnauthorized || len(w.Header()["Www-Authenticate"]) != 2) {
			t.Errorf("%s: %s: %d %v", c.header, c.value, w.Code, w.Header())
		}
	}
	if w := try(h, "POST", "/models/promote", "X-Api-Key", secret); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), `"code":"unauthorized"`) || !strings.Contains(w.Body.String(), "the key gw is of a device; this needs one of an operator") {
		t.Errorf("too little access: %d %s", w.Code, w.Body)
	}
	if strings.Contains(log.String(), secret) || !strings.Contains(log.String(), "status=403") {
		t.Errorf("the log says\n%s", log)
	}
}

// markOf is what a handler behind a guard is told of who asked.
func markOf(t *testing.T, key httpapi.Key, secret string) (mark string) {
	t.Helper()
	h, err := httpapi.Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { mark = httpapi.KeyMark(r.Context()) }),
		httpapi.GuardConfig{Role: "registry", Keys: httpapi.NewKeyRing([]httpapi.Key{key})})
	if err != nil {
		t.Fatal(err)
	}
	if try(h, "GET", "/", "X-Api-Key", secret); len(mark) != 12 || strings.Contains(secret, mark) {
		t.Fatalf("the mark is %q", mark)
	}
	return mark
}

// What a handler signed needs no key while that of its holder is valid, and what it did not is refused unless a key allows
// it.
func TestGuardTakesSignedAddresses(t *testing.T) {
	secret, viewer := newKey(t, "gw", httpapi.Viewer, "")
	writer, operator := newKey(t, "ci", httpapi.Operator, "")
	gone, revoked := newKey(t, "ci", httpapi.Operator, "")
	holders := map[string]string{"viewer": markOf(t, viewer, secret), "operator": markOf(t, operator, writer), "revoked": markOf(t, revoked, gone), "nobody": ""}
	ring := httpapi.NewKeyRing([]httpapi.Key{viewer, operator, revoked})
	h := guarded(t, httpapi.GuardConfig{Role: "registry", Keys: ring, Signed: func(r *http.Request) (holder string, carried, good bool) {
		token := r.URL.Query().Get("token")
		holder, good = holders[token]
		return holder, token != "", good
	}})
	if w := try(h, "PUT", "/part/1?token=revoked", "", ""); w.Code != http.StatusOK {
		t.Errorf("before the key is taken back: %d %s", w.Code, w.Body)
	}
	ring.Replace([]httpapi.Key{viewer, operator})
	const again = "ask for a new address"
	for _, c := range []struct {
		method, path, secret string
		status               int
		want                 string
	}{
		{"PUT", "/part/1?token=operator", "", http.StatusOK, "let in"},
		{"PUT", "/part/1?token=operator", "unknown", http.StatusOK, "let in"},
		{"GET", "/part/1?token=viewer", "", http.StatusOK, "let in"},
		{"PUT", "/part/1?token=viewer", "", http.StatusForbidden, again},
		{"PUT", "/part/1?token=revoked", "", http.StatusForbidden, again},
		{"GET", "/part/1?token=revoked", "", http.StatusForbidden, again},
		{"GET", "/part/1?token=nobody", "", http.StatusForbidden, again},
		{"PUT", "/part/1?token=bad", "", http.StatusForbidden, again},
		{"GET", "/part/1?token=bad", "unknown", http.StatusUnauthorized, "not known here"},
		{"GET", "/part/1?token=bad", secret, http.StatusOK, "let in gw"},
		{"PUT", "/part/1?token=bad", secret, http.StatusForbidden, "this needs one of an operator"},
		{"PUT", "/part/1", "", http.StatusUnauthorized, "this needs an API key"},
	} {
		if w := try(h, c.method, c.path, "X-Api-Key", c.secret); w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s with %q: %d %s, want %d %s", c.method, c.path, c.secret, w.Code, w.Body, c.status, c.want)
		}
	}
}

func TestParseKeys(t *testing.T) {
	secret, line, err := httpapi.NewKey("a", httpapi.Viewer)
	if err != nil || !strings.HasPrefix(secret, "tfk_") || len(secret) < 40 || strings.Contains(line, secret) {
		t.Fatalf("%q %q %v", secret, line, err)
	}
	if keys, err := httpapi.ParseKeys("# people\n\n"+line+" rate=2.5\r\n", "keys"); err != nil || len(keys) != 1 || keys[0].Rate != 2.5 {
		t.Errorf("%+v %v", keys, err)
	}
	digest := line[strings.Index(line, "sha256"):]
	for text, want := range map[string]string{
		"":                                    "keys: holds no key",
		"# none":                              "keys: holds no key",
		line + "\n" + line:                    "keys:2: the name a is given twice",
		"a b":                                 "keys:1: a key is a name, an access and a digest",
		"a viewer x y z":                      "keys:1: a key is a name",
		"a root " + digest:                    "keys:1: the access of a must be viewer, device or operator, not \"root\"",
		"a viewer " + secret:                  "keys:1: the digest of a must be sha256: and 64 hexadecimal digits; keep the key itself out of the file",
		"a viewer " + digest[:70]:             "keys:1: the digest of a must be",
		"a/b viewer " + digest:                "keys:1: name: must have 1 to 64 letters",
		line + " rate=0":                      "keys:1: the rate of a must be",
		line + " rate=NaN":                    "keys:1: the rate of a must be",
		line + " rate=Inf":                    "keys:1: the rate of a must be",
		line + " speed=1":                     "keys:1: the rate of a must be",
		strings.Replace(line, "a", "ä", 1):    "keys:1: name: must have",
		line + "\nb operator sha256:zz ":      "keys:2: the digest of b must be",
		strings.Repeat("x", 65) + " viewer x": "keys:1: name: must have",
	} {
		_, err := httpapi.ParseKeys(text, "keys")
		if turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.HasPrefix(turbofan.ErrorMessage(err), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats a key: %v", err)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	_, line, err := httpapi.NewKey("a", httpapi.Operator)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add("# x\n" + line + " rate=1\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := httpapi.ParseKeys(text, "keys")
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if k.Name == "" || k.Access < httpapi.Viewer || k.Access > httpapi.Operator || k.Rate < 0 {
				t.Fatalf("%+v", k)
			}
		}
	})
}

func TestKeyRingIsReplaced(t *testing.T) {
	before, old := newKey(t, "ops", httpapi.Operator, "")
	after, next := newKey(t, "ops", httpapi.Operator, "")
	ring := httpapi.NewKeyRing([]httpapi.Key{old})
	h := guarded(t, httpapi.GuardConfig{Role: "predict", Keys: ring})
	ring.Replace([]httpapi.Key{next})
	if w := try(h, "GET", "/units", "X-Api-Key", before); w.Code != http.StatusUnauthorized {
		t.Errorf("the old key: %d", w.Code)
	}
	if w := try(h, "GET", "/units", "X-Api-Key", after); w.Code != http.StatusOK {
		t.Errorf("the new key: %d", w.Code)
	}
}

// Each key has a bucket of its own; an empty one tells when to come back, and health is never refused.
func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, slowKey := newKey(t, "slow", httpapi.Device, " rate=0.25")
		fast, fastKey := newKey(t, "fast", httpapi.Device, "")
		h := guarded(t, httpapi.GuardConfig{Role: "predict", Keys: httpapi.NewKeyRing([]httpapi.Key{slowKey, fastKey}), Rate: 10})
		codes := func(secret string, n int) (ok int, last *httptest.ResponseRecorder) {
			for range n {
				if last = try(h, "POST", "/predict", "X-Api-Key", secret); last.Code == http.StatusOK {
					ok++
				} else if last.Code != http.StatusTooManyRequests {
					t.Fatalf("%d %s", last.Code, last.Body)
				}
			}
			return ok, last
		}
		if ok, last := codes(fast, 25); ok != 10 || last.Header().Get("Retry-After") != "1" || !strings.Contains(last.Body.String(), `"code":"exhausted"`) {
			t.Errorf("the fast key had %d let in, then %v %s", ok, last.Header(), last.Body)
		}
		ok, last := codes(slow, 3)
		if wait, _ := strconv.Atoi(last.Header().Get("Retry-After")); ok != 1 || wait != 4 {
			t.Errorf("the slow key had %d let in and shall wait %d s", ok, wait)
		}
		if w := try(h, "GET", "/readyz", "X-Api-Key", slow); w.Code != http.StatusOK {
			t.Errorf("health: %d", w.Code)
		}
		time.Sleep(4 * time.Second) // the bubble's clock
		if ok, _ := codes(slow, 2); ok != 1 {
			t.Errorf("after the wait %d were let in", ok)
		}
		if ok, _ := codes(fast, 25); ok != 10 {
			t.Errorf("after the wait the fast key had %d let in", ok)
		}
	})
}

// A client with a key works through the guard, one without is told, and a redirect takes the key nowhere.
func TestKeyClient(t *testing.T) {
	secret, key := newKey(t, "gw", httpapi.Device, "")
	inner, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newMemoryPredictions(), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := httpapi.Guard(inner, httpapi.GuardConfig{Role: "predict", Keys: httpapi.NewKeyRing([]httpapi.Key{key})})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	if _, err := httpapi.NewPredictionClient(srv.URL, httpapi.NewKeyClient(secret)).Units(t.Context(), 1, 0); err != nil {
		t.Error(err)
	}
	if _, err := httpapi.NewPredictionClient(srv.URL, httpapi.NewKeyClient("")).Units(t.Context(), 1, 0); turbofan.ErrorCode(err) != turbofan.EUnauthorized || !strings.Contains(err.Error(), "needs an API key") {
		t.Errorf("without a key: %v", err)
	}
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the key went on to another server")
		}
	}))
	defer away.Close()
	redirect := httptest.NewServer(http.RedirectHandler(away.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	resp, err := httpapi.NewKeyClient(secret).Get(redirect.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("%d %v", resp.StatusCode, err)
	}
}

func TestHideKeys(t *testing.T) {
	secret, _, err := httpapi.NewKey("a", httpapi.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                                    "",
		"path=/units/1 took=1ms":              "path=/units/1 took=1ms",
		"path=/predict/" + secret + " took=1": "path=/predict/tfk_… took=1",
		`{"a":"` + secret + `","b":"` + secret + `"}`: `{"a":"tfk_…","b":"tfk_…"}`,
		"GET /x?token=tft_AAAA-b_ 200":                "GET /x?token=tft_… 200",
		"tft_ab tfk_cd tft_ef":                        "tft_… tfk_… tft_…",
		"tfk_":                                        "tfk_…",
		"tfk_ab":                                      "tfk_…",
	} {
		if got := string(httpapi.HideKeys([]byte(text))); got != want {
			t.Errorf("HideKeys(%q) = %q, want %q", text, got, want)
		}
	}
}

// Whoever may state an end may not take one back: that is an operator's, and where there are no keys anybody's.
func TestWithdrawalNeedsOperator(t *testing.T) {
	device, deviceKey := newKey(t, "gw", httpapi.Device, "")
	operator, operatorKey := newKey(t, "ops", httpapi.Operator, "")
	feedback, err := httpapi.FeedbackHandler(httpapi.DefaultConfig(), new(memoryFeedback), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	guard := func(cfg httpapi.GuardConfig) http.Handler {
		cfg.Role = "feedback"
		h, err := httpapi.Guard(feedback, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	closed := guard(httpapi.GuardConfig{Keys: httpapi.NewKeyRing([]httpapi.Key{deviceKey, operatorKey})})
	const end, back = `{"unit_id":"1","failed_at_cycle":192}`, `{"unit_id":"1","failed_at_cycle":192,"event":"withdrawn"}`
	for _, test := range []struct {
		name, secret, body string
		handler            http.Handler
		status             int
	}{
		{"device states", device, end, closed, 200},
		{"device withdraws", device, back, closed, 403},
		{"device withdraws among others", device, `{"outcomes":[` + end + `,` + back + `]}`, closed, 403},
		{"operator withdraws", operator, back, closed, 200},
		{"no keys", "", back, guard(httpapi.GuardConfig{AnyHost: true}), 200},
	} {
		r := httptest.NewRequest("POST", "/feedback", strings.NewReader(test.body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Api-Key", test.secret)
		w := httptest.NewRecorder()
		test.handler.ServeHTTP(w, r)
		const why = `{"error":"the key gw is of a device; withdrawing an end needs one of an operator","code":"unauthorized"}`
		if w.Code != test.status || w.Code == http.StatusForbidden && strings.TrimSpace(w.Body.String()) != why {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
	}
}
