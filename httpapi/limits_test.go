package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// scripted answers predictions with a function; all else is as in memory.
type scripted struct {
	turbofan.PredictionService
	predict func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error)
}

func (s *scripted) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	return s.predict(ctx, req)
}

func predictionHandler(t testing.TB, change func(*httpapi.Config), o httpapi.Options, predict func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error)) http.Handler {
	t.Helper()
	cfg := httpapi.DefaultConfig()
	cfg.Version = "1.2.3"
	if change != nil {
		change(&cfg)
	}
	memory := newMemoryPredictions()
	if predict == nil {
		predict = memory.Predict
	}
	h, err := httpapi.PredictionHandler(cfg, &scripted{memory, predict}, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask calls h without a network.
func ask(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

func wantAnswer(t *testing.T, w *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if got := strings.TrimSpace(w.Body.String()); w.Code != status || !strings.Contains(got, body) {
		t.Errorf("got %d %s, want %d with %s", w.Code, got, status, body)
	}
	if again := w.Header().Get("Retry-After"); (again == "1") != (status == 429 || status == 503) {
		t.Errorf("status %d with Retry-After %q", status, again)
	}
}

func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := predictionHandler(t, func(c *httpapi.Config) { c.MaxConcurrency, c.MaxQueue = 2, 3 }, httpapi.Options{},
			func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
				<-release
				return make([]turbofan.Prediction, 1), nil
			})
		answers := make([]*httptest.ResponseRecorder, 5)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() { answers[i] = ask(h, "POST", "/predict", wrapped()) })
		}
		synctest.Wait() // two are worked on, three wait
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 429, `{"error":"too many requests: 2 are worked on and 3 wait; try again in a second","code":"exhausted"}`)
		wantAnswer(t, ask(h, "GET", "/units", ""), 429, "exhausted")
		for _, free := range []string{"/livez", "/readyz", "/metrics", "/docs.json", "/schema.json", "/"} {
			wantAnswer(t, ask(h, "GET", free, ""), 200, "")
		}
		close(release)
		group.Wait()
		for _, w := range answers {
			wantAnswer(t, w, 200, `"prediction_id"`)
		}
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 200, `"prediction_id"`)
	})
}

// TestBufferedBytes fills the budget of large bodies: the next large one is refused, small ones pass, and the room comes
// back.
func TestBufferedBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := predictionHandler(t, func(c *httpapi.Config) { c.MaxBodyBytes, c.MaxBufferedBytes = 256<<10, 512<<10 }, httpapi.Options{},
			func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
				if len(req.Readings) > 1 {
					<-release
				}
				return make([]turbofan.Prediction, len(req.Readings)), nil
			})
		large := `[` + strings.Repeat(bare()+",", 700) + bare() + `]`
		held := make(chan *httptest.ResponseRecorder, 2)
		for range 2 {
			go func() { held <- ask(h, "POST", "/predict_batch", large) }()
		}
		synctest.Wait()
		wantAnswer(t, ask(h, "POST", "/predict_batch", large), 429, `{"error":"too many large requests at once; try again in a second","code":"exhausted"}`)
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 200, `"prediction_id"`)
		close(release)
		for range 2 {
			wantAnswer(t, <-held, 200, `"predictions"`)
		}
		for range 20 {
			wantAnswer(t, ask(h, "POST", "/predict_batch", large), 200, `"predictions"`)
		}
	})
}

// Senders of large bodies who stop in the middle are told so after BodyPace, and what they held goes to the next one. Small
// requests pass all the while, and a body that is slow but steady enough is taken.
func TestSlowSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := predictionHandler(t, func(c *httpapi.Config) {
			c.MaxBodyBytes, c.MaxBufferedBytes, c.BodyPace = 512<<10, 1<<20, 10*time.Second
		}, httpapi.Options{}, func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			return make([]turbofan.Prediction, len(req.Readings)), nil
		})
		l := newPipeListener()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- httpapi.Serve(ctx, l, h, httpapi.ServeOptions{}) }()
		large := `[` + strings.Repeat(bare()+",", 1400) + bare() + `]`
		if len(large) <= 256<<10 || len(large) > 512<<10 {
			t.Fatalf("a large body has %d bytes", len(large))
		}
		// send sends a large body in pieces of a size, each after a pause.
		var senders sync.WaitGroup
		send := func(size int, pause time.Duration) answer {
			c, err := l.dial(ctx, "", "")
			if err != nil {
				return answer{err: err}
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /predict_batch HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(large))
			senders.Go(func() {
				for rest := large; rest != ""; rest = rest[min(size, len(rest)):] {
					if _, err := c.Write([]byte(rest[:min(size, len(rest))])); err != nil {
						return // the answer tells why
					}
					time.Sleep(pause)
				}
			})
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return answer{err: err}
			}
			b, err := io.ReadAll(resp.Body)
			return answer{resp.StatusCode, string(b[:min(len(b), 200)]), err}
		}
		start := time.Now()
		slow := make(chan answer, 2)
		for range 2 {
			go func() { slow <- send(260<<10, time.Minute) }() // most of it at once, the rest never
		}
		synctest.Wait()
		if a := send(len(large), 0); a.status != 429 {
			t.Errorf("beside senders that hold everything: %+v", a)
		}
		small := get(&http.Client{Transport: &http.Transport{DialContext: l.dial, DisableKeepAlives: true}}, "POST", "/predict")
		if small.status != 200 || time.Since(start) != 0 {
			t.Errorf("a small request beside slow ones: %+v after %s", small, time.Since(start))
		}
		for range 2 {
			const want = `{"error":"the request's body did not arrive in time: of a large one, each doubling must come within 10s","code":"timeout"}`
			if a := <-slow; a.status != 408 || strings.TrimSpace(a.body) != want || time.Since(start) != 10*time.Second {
				t.Errorf("a slow sender after %s: %+v", time.Since(start), a)
			}
		}
		if a := send(len(large), 0); a.status != 200 {
			t.Errorf("after the slow ones are gone: %+v", a)
		}
		if a := send(16<<10, 900*time.Millisecond); a.status != 200 {
			t.Errorf("a steady sender: %+v", a)
		}
		senders.Wait()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan error, 1)
		h := predictionHandler(t, func(c *httpapi.Config) { c.MaxConcurrency, c.Timeout = 1, 3*time.Second }, httpapi.Options{},
			func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
				<-ctx.Done()
				cancelled <- context.Cause(ctx)
				return nil, ctx.Err()
			})
		start := time.Now()
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 504, `{"error":"not answered within 3s; the work was stopped","code":"timeout"}`)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %s", took)
		}
		if err := <-cancelled; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the work was not cancelled by its deadline: %v", err)
		}
	})
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := predictionHandler(t, func(c *httpapi.Config) { c.MaxConcurrency, c.Timeout = 1, time.Second }, httpapi.Options{},
			func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error) {
				<-release // a service that does not heed its context keeps its slot until it is done
				return make([]turbofan.Prediction, 1), nil
			})
		first := make(chan *httptest.ResponseRecorder)
		go func() { first <- ask(h, "POST", "/predict", wrapped()) }()
		synctest.Wait()
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 503, `{"error":"no turn came while the request waited; try again in a second","code":"unavailable"}`)
		close(release)
		wantAnswer(t, <-first, 200, `"prediction_id"`)
	})
}

func TestPanicAndInternalError(t *testing.T) {
	var log bytes.Buffer
	var fail func() error
	h := predictionHandler(t, nil, httpapi.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))},
		func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			if err := fail(); err != nil {
				return nil, err
			}
			return make([]turbofan.Prediction, 1), nil
		})
	for _, c := range []struct {
		name string
		fail func() error
		log  string
	}{
		{"panic", func() error { panic("index out of range [7]") }, "index out of range [7]"},
		{"foreign error", func() error { return errors.New("disk /var/lib is full") }, "disk /var/lib is full"},
		{"internal error", func() error { return turbofan.Errorf(turbofan.EInternal, "disk /var/lib is full") }, "disk /var/lib is full"},
	} {
		log.Reset()
		fail = c.fail
		w := ask(h, "POST", "/predict", wrapped())
		if got := w.Body.String(); w.Code != 500 || got != `{"error":"internal error","code":"internal"}` {
			t.Errorf("%s: got %d %s", c.name, w.Code, got)
		}
		if !strings.Contains(log.String(), c.log) || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), `"level":"ERROR"`) {
			t.Errorf("%s: log is %s", c.name, &log)
		}
		fail = func() error { return nil }
		wantAnswer(t, ask(h, "POST", "/predict", wrapped()), 200, `"prediction_id"`)
	}
	fail = func() error { return nil }
	short := predictionHandler(t, nil, httpapi.Options{}, func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error) { return nil, nil })
	if w := ask(short, "POST", "/predict", wrapped()); w.Code != 500 {
		t.Errorf("a service without an answer: got %d", w.Code)
	}
}

func TestReady(t *testing.T) {
	var reason error
	h := predictionHandler(t, nil, httpapi.Options{Ready: func(context.Context) error { return reason }}, nil)
	wantAnswer(t, ask(h, "GET", "/readyz", ""), 200, "")
	reason = turbofan.Errorf(turbofan.EUnavailable, "no model serves yet")
	wantAnswer(t, ask(h, "GET", "/readyz", ""), 503, `{"error":"no model serves yet","code":"unavailable"}`)
	reason = errors.New("store is closed")
	wantAnswer(t, ask(h, "GET", "/readyz", ""), 503, `{"error":"not ready: store is closed","code":"unavailable"}`)
	for _, p := range []string{"/livez", "/healthz"} {
		w := ask(h, "GET", p, "")
		if w.Code != 200 || w.Body.String() != "\n" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Bentoml-Request-Id") != "" {
			t.Errorf("%s: %d %q %v", p, w.Code, w.Body, w.Header())
		}
	}
}

func TestAccessLogAndRequestID(t *testing.T) {
	var log bytes.Buffer
	var seen string
	h := predictionHandler(t, nil, httpapi.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))},
		func(ctx context.Context, _ turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			seen = httpapi.RequestID(ctx)
			return make([]turbofan.Prediction, 1), nil
		})
	for _, quiet := range []string{"/livez", "/readyz", "/metrics", "/docs.json"} {
		ask(h, "GET", quiet, "")
	}
	if log.Len() != 0 {
		t.Errorf("log of health and metrics: %s", &log)
	}
	for given, kept := range map[string]bool{"abc-123_X.9": true, "": false, "a b": false, "a\nb": false, strings.Repeat("x", 65): false} {
		log.Reset()
		r := httptest.NewRequest("POST", "/predict", strings.NewReader(wrapped()))
		if given != "" {
			r.Header["X-Request-Id"] = []string{given}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		id := w.Header().Get("X-Bentoml-Request-Id")
		if id != seen || kept != (id == given) || !kept && len(id) != 16 {
			t.Errorf("id %q: answered %q, the service saw %q", given, id, seen)
		}
		if line := log.String(); strings.Count(line, "\n") != 1 || !strings.Contains(line, "request_id="+id) || !strings.Contains(line, "status=200") || !strings.Contains(line, "route=/predict") {
			t.Errorf("log is %q", line)
		}
	}
}

// TestRequestIDTravels follows one id from a request through a client to the next service.
func TestRequestIDTravels(t *testing.T) {
	behind := ""
	h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), &scripted{newMemoryPredictions(), func(ctx context.Context, _ turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		behind = httpapi.RequestID(ctx)
		return make([]turbofan.Prediction, 1), nil
	}}, httpapi.Options{})
	client := httpapi.NewPredictionClient(serve(t, h, err), nil)
	defer client.Close()
	front := predictionHandler(t, nil, httpapi.Options{}, client.Predict)
	w := ask(front, "POST", "/predict", wrapped())
	if id := w.Header().Get("X-Bentoml-Request-Id"); w.Code != 200 || id == "" || id != behind {
		t.Errorf("status %d, id %q in front, %q behind", w.Code, id, behind)
	}
}

func TestMetrics(t *testing.T) {
	h := predictionHandler(t, nil, httpapi.Options{}, nil)
	scrape := func() string { return ask(h, "GET", "/metrics", "").Body.String() }
	labels := func(endpoint, code string) string {
		return `{endpoint="` + endpoint + `",http_response_code="` + code + `",runner_name="predict",service_name="predict",service_version="1.2.3"}`
	}
	first := scrape()
	for _, line := range []string{"bentoml_service_request_total" + labels("/predict", "200") + " 0", "bentoml_service_request_total" + labels("/predict", "500") + " 0"} {
		if !strings.Contains(first, line+"\n") {
			t.Errorf("before any request there is no %s", line)
		}
	}
	ask(h, "POST", "/predict", wrapped())
	ask(h, "POST", "/predict", "{")
	ask(h, "GET", "/units/1", "")
	ask(h, "GET", "/units/2", "")
	for _, p := range []string{"/nope", "/nope/2", "/wp-login.php"} {
		ask(h, "GET", p, "")
	}
	ask(h, "GET", "/livez", "")
	text := scrape()
	for _, line := range []string{
		"bentoml_service_request_total" + labels("/predict", "200") + " 1",
		"bentoml_service_request_total" + labels("/predict", "400") + " 1",
		"bentoml_service_request_total" + labels("/units/{unit_id}", "200") + " 1",
		"bentoml_service_request_total" + labels("/units/{unit_id}", "404") + " 1",
		"bentoml_service_request_total" + labels("other", "404") + " 3",
		"bentoml_service_request_total" + labels("/livez", "200") + " 1",
		"bentoml_service_request_duration_seconds_count" + labels("/predict", "200") + " 1",
		`bentoml_service_request_in_progress{endpoint="/predict",runner_name="predict",service_name="predict",service_version="1.2.3"} 0`,
		`prediction_requests_total{code="200"} 1`,
		`prediction_requests_total{code="400"} 1`,
		`prediction_latency_seconds_count 2`,
		`prediction_latency_seconds_bucket{le="5e-05"}`,
		`rul_prediction_value_count 1`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	for _, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "120", "180", "+Inf"} {
		want := `bentoml_service_request_duration_seconds_bucket{endpoint="/predict",http_response_code="200",runner_name="predict",service_name="predict",service_version="1.2.3",le="` + le + `"}`
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack the bucket %s", le)
		}
	}
	for _, raw := range []string{"nope", "wp-login", "/units/1", `endpoint="/metrics"`} {
		if strings.Contains(text, raw) {
			t.Errorf("metrics have the raw path %s", raw)
		}
	}
}

// pipeListener is a listener without a network, so that a server can run on a test's own clock.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// answer is what came back for one request.
type answer struct {
	status int
	body   string
	err    error
}

func get(c *http.Client, method, path string) answer {
	r, err := http.NewRequest(method, "http://pipe"+path, strings.NewReader(map[bool]string{true: wrapped()}[method == "POST"]))
	if err != nil {
		return answer{err: err}
	}
	resp, err := c.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, strings.TrimSpace(string(b)), err}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h := predictionHandler(t, nil, httpapi.Options{}, func(ctx context.Context, _ turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			<-release
			return make([]turbofan.Prediction, 1), ctx.Err()
		})
		l := newPipeListener()
		transport := &http.Transport{DialContext: l.dial}
		client := &http.Client{Transport: transport}
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- httpapi.Serve(ctx, l, h, httpapi.ServeOptions{DrainDelay: 5 * time.Second}) }()
		if a := get(client, "GET", "/readyz"); a.status != 200 {
			t.Fatalf("before: %+v", a)
		}
		inFlight := make(chan answer, 1)
		go func() { inFlight <- get(client, "POST", "/predict") }()
		synctest.Wait()
		stop()
		synctest.Wait()
		if a := get(client, "GET", "/readyz"); a.status != 503 || a.body != `{"error":"the server drains","code":"unavailable"}` {
			t.Errorf("while draining: %+v", a)
		}
		if a := get(client, "GET", "/livez"); a.status != 200 {
			t.Errorf("alive while draining: %+v", a)
		}
		late := make(chan answer, 1)
		go func() { late <- get(client, "POST", "/predict") }() // within the delay a new request is still taken
		synctest.Wait()
		<-time.After(6 * time.Second) // by the bubble's clock: past the delay
		synctest.Wait()
		if a := get(client, "GET", "/livez"); a.err == nil {
			t.Errorf("after the delay a new connection was taken: %+v", a)
		}
		select {
		case err := <-served:
			t.Fatalf("serve returned with requests in flight: %v", err)
		default:
		}
		close(release)
		for _, c := range []chan answer{inFlight, late} {
			if a := <-c; a.status != 200 {
				t.Errorf("in flight: %+v", a)
			}
		}
		transport.CloseIdleConnections()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func TestDrainGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := predictionHandler(t, func(c *httpapi.Config) { c.Timeout = time.Hour }, httpapi.Options{}, func(ctx context.Context, _ turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		l := newPipeListener()
		transport := &http.Transport{DialContext: l.dial}
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		o := httpapi.ServeOptions{DrainTimeout: 7 * time.Second, ReadTimeout: time.Hour, WriteTimeout: time.Hour}
		go func() { served <- httpapi.Serve(ctx, l, h, o) }()
		inFlight := make(chan answer, 1)
		go func() { inFlight <- get(&http.Client{Transport: transport}, "POST", "/predict") }()
		synctest.Wait()
		start := time.Now()
		stop()
		if a := <-inFlight; a.status != 503 || a.body != `{"error":"the work was stopped before it was done","code":"unavailable"}` {
			t.Errorf("cut off: %+v", a)
		}
		if took := time.Since(start); took != 7*time.Second {
			t.Errorf("cut off after %s", took)
		}
		transport.CloseIdleConnections()
		if err := <-served; err == nil || !strings.Contains(err.Error(), "requests were still in flight after 7s") {
			t.Errorf("serve: %v", err)
		}
	})
}

// roundTrip is a network of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClientRetries(t *testing.T) {
	respond := func(status int, body, after string) (*http.Response, error) {
		h := http.Header{}
		if after != "" {
			h.Set("Retry-After", after)
		}
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
	busy := `{"error":"the server drains","code":"unavailable"}`
	reset := errors.New("connection reset by peer")
	predict := func(c *http.Client) error {
		_, err := httpapi.NewPredictionClient("http://host", c).Predict(context.Background(), turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 1)}})
		return err
	}
	serving := func(c *http.Client) error {
		_, err := httpapi.NewPredictionClient("http://host", c).Serving(context.Background())
		return err
	}
	retrain := func(c *http.Client) error {
		_, err := httpapi.NewRetrainingClient("http://host", c).Submit(context.Background(), turbofan.RetrainRequest{})
		return err
	}
	for _, c := range []struct {
		name     string
		call     func(*http.Client) error
		answers  []func() (*http.Response, error)
		attempts int
		least    time.Duration
		code     string
	}{
		{"503 twice", predict, []func() (*http.Response, error){
			func() (*http.Response, error) { return respond(503, busy, "2") },
			func() (*http.Response, error) { return respond(503, busy, "1") },
			func() (*http.Response, error) { return respond(200, `{"predictions":[]}`, "") },
		}, 3, 3 * time.Second, ""},
		{"503 for ever", predict, []func() (*http.Response, error){func() (*http.Response, error) { return respond(503, busy, "1") }}, 4, 3 * time.Second, turbofan.EUnavailable},
		{"429 is told", predict, []func() (*http.Response, error){func() (*http.Response, error) { return respond(429, `{"error":"x","code":"exhausted"}`, "1") }}, 1, 0, turbofan.EExhausted},
		{"500 is told", serving, []func() (*http.Response, error){func() (*http.Response, error) {
			return respond(500, `{"error":"internal error","code":"internal"}`, "")
		}}, 1, 0, turbofan.EInternal},
		{"a broken connection may have begun a job", retrain, []func() (*http.Response, error){func() (*http.Response, error) { return nil, reset }}, 1, 0, turbofan.EUnavailable},
		{"a broken connection is no harm to a prediction", predict, []func() (*http.Response, error){
			func() (*http.Response, error) { return nil, reset },
			func() (*http.Response, error) { return respond(200, `{"prediction_id":"1"}`, "") },
		}, 2, 25 * time.Millisecond, ""},
		{"a broken connection is no harm to a question", serving, []func() (*http.Response, error){
			func() (*http.Response, error) { return nil, reset },
			func() (*http.Response, error) { return respond(200, `{"model_name":"rul"}`, "") },
		}, 2, 25 * time.Millisecond, ""},
		{"a refused connection carried nothing", predict, []func() (*http.Response, error){
			func() (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			},
			func() (*http.Response, error) { return respond(200, `{"predictions":[]}`, "") },
		}, 2, 25 * time.Millisecond, ""},
		{"a proxy's page", serving, []func() (*http.Response, error){func() (*http.Response, error) { return respond(502, "<html>bad gateway</html>", "") }}, 1, 0, turbofan.EUnavailable},
		{"an answer that is no JSON", serving, []func() (*http.Response, error){func() (*http.Response, error) { return respond(200, "<html>", "") }}, 1, 0, turbofan.EInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					f := c.answers[min(n, len(c.answers)-1)]
					n++
					return f()
				})}
				start := time.Now()
				err := c.call(client)
				if turbofan.ErrorCode(err) != c.code {
					t.Errorf("error is %v, want code %q", err, c.code)
				}
				if took := time.Since(start); n != c.attempts || took < c.least || took > c.least+time.Second {
					t.Errorf("%d attempts in %s, want %d in %s", n, took, c.attempts, c.least)
				}
			})
		})
	}
}

func TestServeReportsItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := httpapi.Serve(context.Background(), l, http.NotFoundHandler(), httpapi.ServeOptions{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve on a closed listener: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for field, change := range map[string]func(*httpapi.Config){
		"schema.name":        func(c *httpapi.Config) { c.Schema = turbofan.Schema{} },
		"max_body_bytes":     func(c *httpapi.Config) { c.MaxBodyBytes = 0 },
		"body_pace":          func(c *httpapi.Config) { c.BodyPace = 0 },
		"max_buffered_bytes": func(c *httpapi.Config) { c.MaxBufferedBytes = c.MaxBodyBytes - 1 },
		"max_readings":       func(c *httpapi.Config) { c.MaxReadings = -1 },
		"max_concurrency":    func(c *httpapi.Config) { c.MaxConcurrency = 0 },
		"max_queue":          func(c *httpapi.Config) { c.MaxQueue = -1 },
		"timeout":            func(c *httpapi.Config) { c.Timeout = 0 },
		"trusted_origins":    func(c *httpapi.Config) { c.TrustedOrigins = []string{"example.org/path"} },
	} {
		cfg := httpapi.DefaultConfig()
		change(&cfg)
		_, err := httpapi.DriftHandler(cfg, new(memoryDrift), httpapi.Options{})
		e, ok := errors.AsType[*turbofan.Error](err)
		if !ok || e.Field != field || e.Code != turbofan.EInvalid {
			t.Errorf("%s: error is %v", field, err)
		}
	}
}

// trivialAnswer returns a service function that always gives p.
func trivialAnswer(p turbofan.Prediction) func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	return func(context.Context, turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		return []turbofan.Prediction{p}, nil
	}
}
