// Package webhook tells other systems what happens: it posts events to their URLs, signed and retried.
//
// Each delivery is a POST of the event as JSON with three headers. X-Turbofan-Delivery is an id that stays the same over
// retries, X-Turbofan-Timestamp the seconds since 1970 of the try, and X-Turbofan-Signature is
// "v1," and the base64 of HMAC-SHA256 with the endpoint's secret over "<delivery>.<timestamp>.<body>". Any status from
// 200 to 299 is taken as received. Events wait in memory: a listener that must not miss one should also ask the
// services, which keep their reports and jobs.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// Endpoint is one listener.
type Endpoint struct {
	URL    string
	Secret string // signs deliveries; empty sends them unsigned
	// Kinds are the events it wants; nil means all.
	Kinds []turbofan.EventKind
}

// Config says whom to tell and how patiently. Zero values take the defaults named beside them.
type Config struct {
	Endpoints []Endpoint
	Timeout   time.Duration // of one try: 10 s
	Tries     int           // of one delivery: 8
	Backoff   time.Duration // before the second try, doubled for each further one: 1 s
	Queue     int           // events that may wait for one endpoint: 256
}

func (c *Config) complete() error {
	for i, e := range c.Endpoints {
		field := fmt.Sprintf("webhooks[%d]", i)
		u, err := url.Parse(e.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return turbofan.Invalid(field+".url", "must be an http or https URL")
		}
		if u.User != nil {
			return turbofan.Invalid(field+".url", "must not hold a password: use a secret")
		}
		for j, k := range e.Kinds {
			if !slices.Contains(turbofan.EventKinds(), k) {
				return turbofan.Invalid(fmt.Sprintf("%s.kinds[%d]", field, j), "%q is not one of %v", k, turbofan.EventKinds())
			}
		}
	}
	if c.Timeout < 0 || c.Tries < 0 || c.Backoff < 0 || c.Queue < 0 {
		return turbofan.Invalid("webhooks", "timeout, tries, backoff and queue must be at least 0")
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Tries == 0 {
		c.Tries = 8
	}
	if c.Backoff == 0 {
		c.Backoff = time.Second
	}
	if c.Queue == 0 {
		c.Queue = 256
	}
	return nil
}

// Sender implements turbofan.EventSink. Each endpoint has its own queue, so that a dead one delays no other.
type Sender struct {
	cfg     Config
	client  *http.Client
	log     *slog.Logger
	queues  []chan delivery
	results *prometheus.CounterVec
}

var _ turbofan.EventSink = (*Sender)(nil)

type delivery struct {
	id   string
	kind turbofan.EventKind
	body []byte
}

// New returns a sender; Run delivers. A nil client follows no redirects, a nil reg keeps no metrics, a nil log is silent. An
// endpoint or a bound that breaks a rule is EInvalid.
func New(cfg Config, client *http.Client, reg prometheus.Registerer, log *slog.Logger) (*Sender, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if client == nil {
		client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Sender{cfg: cfg, client: client, log: log,
		results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_webhook_deliveries_total", Help: "Events for webhooks by what became of them: delivered, failed after the last try, or dropped because the queue was full."}, []string{"result"})}
	for _, r := range []string{"delivered", "failed", "dropped"} {
		s.results.WithLabelValues(r) // shown from the start, at 0
	}
	for range cfg.Endpoints {
		s.queues = append(s.queues, make(chan delivery, cfg.Queue))
	}
	if reg != nil {
		if err := reg.Register(s.results); err != nil {
			return nil, fmt.Errorf("open webhooks: %w", err)
		}
	}
	return s, nil
}

// Publish queues e for every endpoint that wants its kind.
func (s *Sender) Publish(_ context.Context, e turbofan.Event) {
	body, err := json.Marshal(e)
	if err != nil {
		s.log.Error("encode event", "kind", e.Kind, "error", err)
		return
	}
	var id [12]byte
	rand.Read(id[:]) // never fails, see crypto/rand
	d := delivery{id: hex.EncodeToString(id[:]), kind: e.Kind, body: body}
	for i, end := range s.cfg.Endpoints {
		if end.Kinds != nil && !slices.Contains(end.Kinds, e.Kind) {
			continue
		}
		select {
		case s.queues[i] <- d:
		default:
			s.results.WithLabelValues("dropped").Inc()
			s.log.Warn("webhook event dropped: its queue is full", "host", host(end.URL), "kind", e.Kind)
		}
	}
}

// Run delivers until ctx ends; what is still queued then is not sent.
func (s *Sender) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i := range s.queues {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case d := <-s.queues[i]:
					s.deliver(ctx, s.cfg.Endpoints[i], d)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func (s *Sender) deliver(ctx context.Context, end Endpoint, d delivery) {
	wait := s.cfg.Backoff
	for try := 1; ; try++ {
		again, err := s.try(ctx, end, d)
		if err == nil {
			s.results.WithLabelValues("delivered").Inc()
			return
		}
		if ctx.Err() != nil {
			return
		}
		if !again || try == s.cfg.Tries {
			s.results.WithLabelValues("failed").Inc()
			s.log.Error("webhook event not delivered", "host", host(end.URL), "kind", d.kind, "tries", try, "error", err)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		wait *= 2
	}
}

// try posts once and says whether another try may help: after a lost connection, 408, 429 and 5xx.
func (s *Sender) try(ctx context.Context, end Endpoint, d delivery) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, end.URL, bytes.NewReader(d.body))
	if err != nil {
		return false, errors.New("the URL cannot be used")
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "turbofan-webhook")
	req.Header.Set("X-Turbofan-Delivery", d.id)
	req.Header.Set("X-Turbofan-Timestamp", stamp)
	if end.Secret != "" {
		req.Header.Set("X-Turbofan-Signature", Sign(end.Secret, d.id, stamp, d.body))
	}
	resp, err := s.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may hold a token: it stays out of the log
		}
		return true, fmt.Errorf("post: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // lets the connection be used again
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return false, nil
	}
	again = resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return again, fmt.Errorf("answered %s", resp.Status)
}

// Sign returns the signature header of a delivery: what a listener computes to know that it came from here.
func Sign(secret, delivery, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "%s.%s.", delivery, timestamp)
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// host is what a log may say of an endpoint: a chat's webhook URL is itself a secret.
func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "?"
	}
	return u.Host
}
