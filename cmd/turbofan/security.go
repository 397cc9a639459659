package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/httpapi"
)

type authConfig struct {
	// KeysFile holds a line for each API key; Keys are such lines, for an environment variable.
	KeysFile string   `yaml:"keys_file"`
	Keys     []string `yaml:"keys"`
	// OpenMetrics lets /metrics be read without a key.
	OpenMetrics bool `yaml:"open_metrics"`
}

type tlsConfig struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

func (c tlsConfig) scheme() string {
	if c.Cert != "" {
		return "https"
	}
	return "http"
}

func (c authConfig) on() bool { return c.KeysFile != "" || len(c.Keys) > 0 }

// validateAccess holds ports that others can reach to keys, and keys to what needs them.
func (c *config) validateAccess() error {
	ip := net.ParseIP(c.Host)
	beyond := c.Host != "localhost" && (ip == nil || !ip.IsLoopback())
	switch {
	case beyond && !c.Insecure && !c.Auth.on():
		return turbofan.Invalid("host", "%q is not a loopback address and there are no API keys: anyone who reaches it could write to it; make keys by turbofan keys new and give --keys-file, or add --insecure-listen if the network is yours alone", c.Host)
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return turbofan.Invalid("tls", "needs both cert and key")
	case c.Limits.Rate < 0:
		return turbofan.Invalid("limits.rate", "must be at least 0, not %d", c.Limits.Rate)
	case c.Limits.Burst < 0:
		return turbofan.Invalid("limits.burst", "must be at least 0, not %d", c.Limits.Burst)
	case c.Limits.Rate > 0 && !c.Auth.on():
		return turbofan.Invalid("limits.rate", "bounds each API key, and there are none; give auth.keys_file")
	}
	return nil
}

// maxKeysFile bounds the file of keys.
const maxKeysFile = 1 << 20

// keys reads what is valid now.
func (c authConfig) keys() ([]httpapi.Key, error) {
	text, field := strings.Join(c.Keys, "\n"), "auth.keys"
	if c.KeysFile != "" {
		if len(c.Keys) > 0 {
			return nil, turbofan.Invalid("auth.keys", "is given beside auth.keys_file; give one")
		}
		b, err := os.ReadFile(c.KeysFile)
		if err != nil {
			return nil, turbofan.Invalid("auth.keys_file", "cannot read %s: %s", c.KeysFile, pathReason(err))
		}
		if len(b) > maxKeysFile {
			return nil, turbofan.Invalid("auth.keys_file", "%s has more than %d bytes", c.KeysFile, maxKeysFile)
		}
		text, field = string(b), c.KeysFile
	}
	return httpapi.ParseKeys(text, field)
}

// openAccess reads keys and certificate.
func (p *platform) openAccess() error {
	if p.cfg.Auth.on() {
		keys, err := p.cfg.Auth.keys()
		if err != nil {
			return err
		}
		p.keys = httpapi.NewKeyRing(keys)
		p.follow("API keys", []string{p.cfg.Auth.KeysFile}, func() error {
			keys, err := p.cfg.Auth.keys()
			if err == nil {
				p.keys.Replace(keys)
			}
			return err
		})
	}
	return p.certify()
}

// guard puts every handler of this process behind keys, rates and spans, as far as they are wanted.
func (p *platform) guard(reg prometheus.Registerer) error {
	metrics, err := httpapi.NewGuardMetrics(reg)
	if err != nil {
		return err
	}
	for role, h := range p.handlers {
		c := httpapi.GuardConfig{Role: role, Keys: p.keys, AnyHost: p.cfg.Insecure || role == roleRegistry, // which has a list of its own
			OpenMetrics: p.cfg.Auth.OpenMetrics, Rate: float64(p.cfg.Limits.Rate), Burst: p.cfg.Limits.Burst,
			Metrics: metrics, Logger: p.log.With("role", role)}
		if role == roleRegistry {
			c.Signed = p.signed
		}
		h, err := httpapi.Guard(h, c)
		if err != nil {
			return err
		}
		p.handlers[role] = httpapi.Trace(h, role, p.tracing)
	}
	return nil
}

// certify reads the certificate of the ports, where there is one.
func (p *platform) certify() error {
	c := p.cfg.TLS
	if c.Cert == "" {
		return nil
	}
	var now atomic.Pointer[tls.Certificate]
	load := func() error {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return turbofan.Invalid("tls", "cannot use %s with %s: %s", c.Cert, c.Key, tlsReason(err))
		}
		now.Store(&pair)
		return nil
	}
	p.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return now.Load(), nil }}
	return p.follow("certificate", []string{c.Cert, c.Key}, load)
}

func tlsReason(err error) string {
	if reason := pathReason(err); reason != "" && errors.As(err, new(*os.PathError)) {
		return reason
	}
	return err.Error()
}

// followEvery is how often files that may be renewed are looked at.
const followEvery = 2 * time.Second

// follow loads, and loads again when one of the files changes, also while they are read. What cannot be loaded then
// leaves what was there, and is told once a change; the error returned is that of the first time.
func (p *platform) follow(what string, files []string, load func() error) error {
	seen := stamps(files)
	if err := load(); err != nil || files[0] == "" {
		return err
	}
	p.run = append(p.run, func(ctx context.Context) error {
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			now := stamps(files)
			if now == seen {
				continue
			}
			seen = now
			if err := load(); err != nil {
				p.log.Error("load what was changed; what was there stays", "what", what, "error", err)
				continue
			}
			p.log.Info("loaded what was changed", "what", what)
		}
	})
	return nil
}

// stamps tells files apart from what they were before, through links, as Kubernetes replaces a secret.
func stamps(files []string) string {
	var b strings.Builder
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			fmt.Fprintf(&b, "%v;", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return b.String()
}

// apiClient is what this program asks turbofan's own services with: it sends the key in TURBOFAN_API_KEY. Nil, which is
// every client's own default, without one.
func apiClient() *http.Client { return httpapi.NewKeyClient(os.Getenv("TURBOFAN_API_KEY")) }

// registryClient is what the registry is asked with. An MLflow server that was named gets the token that MLflow's own
// clients would send it: our key is none of its business.
func registryClient(named bool) *http.Client {
	if named {
		return httpapi.NewKeyClient(os.Getenv("MLFLOW_TRACKING_TOKEN"))
	}
	return apiClient()
}
