package httpapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// Config bounds what one role takes from the network. The zero value of a limit is refused, so that a forgotten field
// never means "unlimited"; start from [DefaultConfig].
type Config struct {
	// Role names the service in metrics and documents, such as "predict". Empty takes the handler's own name.
	Role string `yaml:"role"`
	// Version is the version of the program, for metrics and documents. Empty reads as "not available".
	Version string `yaml:"version"`
	// Schema says what a reading holds; the prediction role decodes by it.
	Schema turbofan.Schema `yaml:"schema"`
	// Explain adds the strongest reasons to the answer to a single reading where the request does not say.
	Explain bool `yaml:"explain"`
	// MaxBodyBytes bounds a request's body, before and after decompression.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// MaxBufferedBytes bounds the bodies of all requests together that are in memory at once. Small bodies, up to 64 KiB,
	// are not counted: they pass while large ones are refused with 429.
	MaxBufferedBytes int64 `yaml:"max_buffered_bytes"`
	// BodyPace bounds the time in which a large body must double, each time: 128 KiB within it after the first 64, 16 MiB
	// within it after the first 8. A sender that is slower is answered 408, so that it does not hold what all share.
	BodyPace time.Duration `yaml:"body_pace"`
	// MaxReadings bounds the readings, or outcomes, in one request.
	MaxReadings int `yaml:"max_readings"`
	// MaxConcurrency is how many requests are worked on at once; MaxQueue is how many more may wait for their turn.
	// A request beyond both is answered 429 at once. Health, metrics and documents are never counted.
	MaxConcurrency int `yaml:"max_concurrency"`
	MaxQueue       int `yaml:"max_queue"`
	// Timeout cancels the work on a request, including its wait in the queue.
	Timeout time.Duration `yaml:"timeout"`
	// TrustedOrigins are web origins, such as "https://console.example.org", whose pages may send requests that change
	// something. Pages of every other origin are refused, so that no web site can reach a service on this machine
	// through its visitor's browser.
	TrustedOrigins []string `yaml:"trusted_origins"`
}

// DefaultConfig returns the limits for C-MAPSS on a small machine.
func DefaultConfig() Config {
	return Config{
		Schema:           turbofan.CMAPSS(),
		MaxBodyBytes:     16 << 20,
		MaxBufferedBytes: 256 << 20,
		BodyPace:         10 * time.Second,
		MaxReadings:      20_000,
		MaxConcurrency:   256,
		MaxQueue:         1024,
		Timeout:          30 * time.Second,
	}
}

// Validate reports the first rule that the configuration breaks.
func (c Config) Validate() error {
	if err := c.Schema.Validate(); err != nil {
		return err
	}
	switch {
	case c.MaxBodyBytes < 1:
		return turbofan.Invalid("max_body_bytes", "must be at least 1, not %d", c.MaxBodyBytes)
	case c.MaxBufferedBytes < c.MaxBodyBytes:
		return turbofan.Invalid("max_buffered_bytes", "must be at least max_body_bytes, %d, not %d", c.MaxBodyBytes, c.MaxBufferedBytes)
	case c.BodyPace <= 0:
		return turbofan.Invalid("body_pace", "must be more than 0, not %s", c.BodyPace)
	case c.MaxReadings < 1:
		return turbofan.Invalid("max_readings", "must be at least 1, not %d", c.MaxReadings)
	case c.MaxConcurrency < 1:
		return turbofan.Invalid("max_concurrency", "must be at least 1, not %d", c.MaxConcurrency)
	case c.MaxQueue < 0:
		return turbofan.Invalid("max_queue", "must be at least 0, not %d", c.MaxQueue)
	case c.Timeout <= 0:
		return turbofan.Invalid("timeout", "must be more than 0, not %s", c.Timeout)
	}
	return nil
}

// Options are what a handler stands on. Every field may be left out.
type Options struct {
	// Registry receives the role's metrics and is what its /metrics shows. Give each role its own: two handlers cannot
	// register the same names in one. Nil makes a new one.
	Registry *prometheus.Registry
	// Logger receives one line a request, and the whole cause of each internal error. Nil discards them.
	Logger *slog.Logger
	// Ready says why the role cannot answer yet, or nil. It is asked at each GET /readyz, which clients may send in a
	// busy loop: keep it cheap. Nil means always ready.
	Ready func(ctx context.Context) error
	// Releases lets the prediction role offer /models: which versions answer, promotion, rollback and trials. Nil offers
	// none of it.
	Releases turbofan.ReleaseService
	// Keys says that a [Guard] with keys stands before the handler: the documents then tell how a key is sent.
	Keys bool
}

func (o Options) withDefaults() Options {
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func(context.Context) error { return nil }
	}
	return o
}

// retryAfterSeconds is what an answer 429 or 503 asks for: the least that the header can say, since a queue of
// milliseconds is what makes most of them.
const retryAfterSeconds = "1"
