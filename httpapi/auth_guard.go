package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// GuardConfig says who may ask a role what, and how often.
type GuardConfig struct {
	// Role is the name of the role behind the guard, such as "predict"; it decides what each request needs.
	Role string
	// Keys are the keys that are valid; nil lets everybody in.
	Keys *KeyRing
	// AnyHost answers requests under any name. Without it, and without keys, only names that no page from elsewhere could
	// send are answered: see turbofan.PrivateHost.
	AnyHost bool
	// OpenMetrics lets /metrics be read without a key.
	OpenMetrics bool
	// Signed reports whether the address of a request carries a token that its handler signed, and whether that allows
	// this request: then it needs no key, and counts to no key's rate, as long as the key whose KeyMark holder is would be
	// let in. Nil where addresses are not signed.
	Signed func(*http.Request) (holder string, carried, good bool)
	// Rate bounds the requests a second of each key that has no rate of its own, Burst how many may come at once; a Rate
	// of 0 bounds nothing.
	Rate  float64
	Burst int
	// Metrics count refusals, Logger receives a line for each. Both may be nil.
	Metrics *GuardMetrics
	Logger  *slog.Logger
}

// GuardMetrics are the metrics of all guards of a process.
type GuardMetrics struct{ refused, limited *prometheus.CounterVec }

// NewGuardMetrics registers the metrics of guards; a nil reg keeps them out of sight. It fails where reg has them already.
func NewGuardMetrics(reg prometheus.Registerer) (*GuardMetrics, error) {
	m := &GuardMetrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_auth_refusals_total", Help: "Requests refused for their key, by role asked and reason."}, []string{"role", "reason"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_rate_limited_total", Help: "Requests refused because their key had sent too many, by role asked."}, []string{"role"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.refused, m.limited} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of guards: %w", err)
		}
	}
	return m, nil
}

// guard stands before a role's handler.
type guard struct {
	next   http.Handler
	cfg    GuardConfig
	limits *rates
}

// Guard returns next behind a check of keys and rates. Health is open to everybody, so that a probe needs no key; what
// else a request needs follows from the role, its method and its path. Without keys nothing is checked.
func Guard(next http.Handler, cfg GuardConfig) (http.Handler, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		m, err := NewGuardMetrics(nil)
		if err != nil {
			return nil, err
		}
		cfg.Metrics = m
	}
	for _, reason := range []string{"missing", "unknown", "access"} {
		cfg.Metrics.refused.WithLabelValues(cfg.Role, reason)
	}
	if cfg.Signed != nil {
		cfg.Metrics.refused.WithLabelValues(cfg.Role, "token")
	}
	cfg.Metrics.limited.WithLabelValues(cfg.Role)
	switch {
	case cfg.Keys == nil && cfg.AnyHost:
		return next, nil
	case cfg.Keys == nil:
		return privateHosts(next), nil
	}
	return &guard{next: next, cfg: cfg, limits: newRates(cfg.Rate, cfg.Burst)}, nil
}

// privateHosts refuses requests under a public name: without keys nothing else stops a web page that was pointed at this
// machine, see turbofan.PrivateHost.
func privateHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !turbofan.PrivateHost(r.Host) {
			http.Error(w, "this name is not answered without API keys; call the address, or see docs/operations.md", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	need := needs(g.cfg.Role, r, g.cfg.OpenMetrics)
	if need == Open {
		g.next.ServeHTTP(w, r)
		return
	}
	token := false
	if g.cfg.Signed != nil {
		holder, carried, good := g.cfg.Signed(r)
		if key, known := g.cfg.Keys.marked(holder); good && known && key.Access >= need {
			g.next.ServeHTTP(w, r)
			return
		}
		token = carried
	}
	secret := secretOf(r.Header)
	key, known := Key{}, false
	if secret != "" {
		key, known = g.cfg.Keys.Find(secret)
	}
	switch {
	case secret == "" && token:
		g.refuse(w, r, "token", "", turbofan.Errorf(turbofan.EUnauthorized, "the token of this address is not good for it, or no longer; ask for a new address"))
	case secret == "":
		g.refuse(w, r, "missing", "", turbofan.Errorf(turbofan.EUnauthorized, "this needs an API key: send Authorization: Bearer KEY, or X-Api-Key"))
	case !known:
		g.refuse(w, r, "unknown", "", turbofan.Errorf(turbofan.EUnauthorized, "the API key is not known here"))
	case key.Access < need:
		g.refuse(w, r, "access", key.Name, turbofan.Errorf(turbofan.EUnauthorized, "the key %s is of a %s; this needs one of %s", key.Name, key.Access, article(need)))
	default:
		if wait := g.limits.take(key); wait > 0 {
			g.cfg.Metrics.limited.WithLabelValues(g.cfg.Role).Inc()
			g.answer(w, r, http.StatusTooManyRequests, wait, key.Name, turbofan.Errorf(turbofan.EExhausted, "the key %s has sent more than its rate allows; try again in %d s", key.Name, wait))
			return
		}
		g.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sentKey{}, key)))
	}
}

func article(a Access) string {
	if a == Operator {
		return "an operator"
	}
	return "a " + a.String()
}

// refuse answers 401 where a key is missing or wrong, and 403 where a good one is not enough, or a token not good.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request, reason, key string, err error) {
	g.cfg.Metrics.refused.WithLabelValues(g.cfg.Role, reason).Inc()
	status := http.StatusUnauthorized
	if reason == "access" || reason == "token" {
		status = http.StatusForbidden
	} else {
		// Basic lets a browser ask a person for the key: the console, the pages of the registry, Swagger.
		w.Header()["Www-Authenticate"] = []string{`Bearer realm="turbofan"`, `Basic realm="turbofan", charset="UTF-8"`}
	}
	g.answer(w, r, status, 0, key, err)
}

// answer sends a refusal. The body was not read, so the connection ends with it: a sender in the middle of a large body
// must not be waited for.
func (g *guard) answer(w http.ResponseWriter, r *http.Request, status, retryAfter int, key string, err error) {
	h := w.Header()
	h.Set("Content-Type", mimeJSON)
	if retryAfter > 0 {
		h.Set("Retry-After", fmt.Sprint(retryAfter))
	}
	w.WriteHeader(status)
	_, _ = w.Write(appendError(nil, turbofan.ErrorCode(err), "", turbofan.ErrorMessage(err))) // an error means that the caller is gone
	g.cfg.Logger.LogAttrs(r.Context(), slog.LevelInfo, "refused", slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", status), slog.String("remote", r.RemoteAddr), slog.String("key", key))
}

// sentKey is where the context of a request has the key that it was sent with.
type sentKey struct{}

// KeyName returns the name of the key that the request of ctx was sent with, or "".
func KeyName(ctx context.Context) string {
	key, _ := ctx.Value(sentKey{}).(Key)
	return key.Name
}

// KeyMark tells the key that the request of ctx was sent with from every other, without its text; "" where there was none.
func KeyMark(ctx context.Context) string {
	key, ok := ctx.Value(sentKey{}).(Key)
	if !ok {
		return ""
	}
	return key.mark()
}

// requireAccess refuses what the key of the call's request does not allow, for calls that need more than their path tells.
// Without keys everything is allowed.
func (c *call) requireAccess(need Access, what string) error {
	key, ok := c.ctx.Value(sentKey{}).(Key)
	if !ok || key.Access >= need {
		return nil
	}
	c.status = http.StatusForbidden
	return turbofan.Errorf(turbofan.EUnauthorized, "the key %s is of %s; %s needs one of %s", key.Name, article(key.Access), what, article(need))
}
