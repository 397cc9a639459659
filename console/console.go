// Package console shows the platform to people: which engine to open first, one engine's course, the models and what
// the gate said of them, drift, and retrainings. It is a client of the public services and only reads, so that whoever
// may look at it can change nothing through it. Pages are plain HTML with inline pictures: no script runs, nothing is
// loaded from elsewhere, and a browser keeps nothing.
package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"turbofan"
	"turbofan/report"
)

// Services are what the console asks. Each is a neighbour in this process or a client of another.
type Services struct {
	Predict  turbofan.PredictionService
	Feedback turbofan.FeedbackService
	Retrain  turbofan.RetrainingService
	Drift    turbofan.DriftService
	Registry turbofan.Registry
}

// Config says what is shown.
type Config struct {
	ModelName string
	// Timeout bounds what one page may wait for the services.
	Timeout time.Duration
	// Refresh is how often a browser loads a page again.
	Refresh time.Duration
}

// DefaultConfig returns what `turbofan serve` shows.
func DefaultConfig() Config {
	return Config{ModelName: "rul", Timeout: 5 * time.Second, Refresh: 10 * time.Second}
}

type console struct {
	cfg Config
	s   Services
	log *slog.Logger
	now func() time.Time
}

// New returns the console's pages: /, /units/{id}, /models, /drift and /jobs. How often each is asked for is counted in
// reg. A service that is missing, or a Config that breaks a rule, is an error.
func New(cfg Config, s Services, reg prometheus.Registerer, log *slog.Logger) (http.Handler, error) {
	switch {
	case s.Predict == nil || s.Feedback == nil || s.Retrain == nil || s.Drift == nil || s.Registry == nil:
		return nil, errors.New("make console: a service is missing")
	case cfg.Timeout <= 0:
		return nil, turbofan.Invalid("console.timeout", "must be above 0")
	case cfg.Refresh < 0:
		return nil, turbofan.Invalid("console.refresh", "must be at least 0")
	}
	c := &console{cfg: cfg, s: s, log: log, now: time.Now}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_console_pages_total", Help: "Pages of the console that were answered, by page and HTTP status."}, []string{"page", "code"})
	if err := reg.Register(requests); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for path, p := range map[string]struct {
		name string
		make func(context.Context, *http.Request) (report.Page, error)
	}{
		"GET /{$}":        {"fleet", c.fleet},
		"GET /units/{id}": {"unit", c.unit},
		"GET /models":     {"models", c.models},
		"GET /drift":      {"drift", c.drift},
		"GET /jobs":       {"jobs", c.jobs},
	} {
		mux.Handle(path, promhttp.InstrumentHandlerCounter(requests.MustCurryWith(prometheus.Labels{"page": p.name}), c.answer(c.site(p.name), p.make)))
	}
	return mux, nil
}

// answer answers with the page that build makes, or with one that says why there is none.
func (c *console) answer(site []report.Link, build func(context.Context, *http.Request) (report.Page, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), c.cfg.Timeout)
		defer cancel()
		code := http.StatusOK
		p, err := build(ctx, r)
		if err != nil {
			p, code = c.failure(err)
		}
		p.Site, p.Refresh = site, int(c.cfg.Refresh.Seconds())
		p.Footer = "As of " + c.now().UTC().Format("2006-01-02 15:04:05 UTC") + ". This page loads itself again; it changes nothing."
		var body bytes.Buffer
		if err := p.Write(&body); err != nil {
			c.log.Error("draw page", "page", r.URL.Path, "error", err)
			http.Error(w, "the page could not be drawn; the log says why", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		if _, err := w.Write(body.Bytes()); err != nil {
			c.log.Debug("answer page", "page", r.URL.Path, "error", err)
		}
	})
}

func (c *console) site(current string) []report.Link {
	links := []report.Link{{Text: "Fleet", Href: "/"}, {Text: "Models", Href: "/models"}, {Text: "Drift", Href: "/drift"}, {Text: "Retrainings", Href: "/jobs"}}
	at := map[string]int{"fleet": 0, "unit": 0, "models": 1, "drift": 2, "jobs": 3}
	links[at[current]].Current = true
	return links
}

func (c *console) failure(err error) (report.Page, int) {
	p := report.Page{Title: "Not to be shown now", Sections: []report.Section{{Title: "Why", Text: []string{said(err)}}}}
	switch turbofan.ErrorCode(err) {
	case turbofan.ENotFound:
		p.Title = "There is no such page"
		return p, http.StatusNotFound
	case turbofan.EInvalid:
		return p, http.StatusBadRequest
	case turbofan.EUnavailable:
		return p, http.StatusServiceUnavailable
	}
	c.log.Error("make page", "error", err)
	return p, http.StatusInternalServerError
}

// said is an error as a person may read it.
func said(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the service did not answer in time"
	}
	return turbofan.ErrorMessage(err)
}

// missing is what a page says where one of the services could not be asked: the rest of the page stands.
func missing(what string, err error) string {
	return fmt.Sprintf("%s: %s", what, said(err))
}

func unitHref(id string) string { return "/units/" + url.PathEscape(id) }

// ago is how long before now t was, as a person says it.
func (c *console) ago(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := max(c.now().Sub(t), 0)
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / unit.length); n >= 1 {
			return fmt.Sprintf("%d %s%s ago", n, unit.name, strings.Repeat("s", min(n-1, 1)))
		}
	}
	return "now"
}
