package main

import (
	"io"
	"log/slog"

	"turbofan"
	"turbofan/httpapi"
)

func logLevel(name string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return l, turbofan.Invalid("log.level", "must be debug, info, warn or error, not %q", name)
	}
	return l, nil
}

// keyless passes on what is written, without the keys in it.
type keyless struct{ w io.Writer }

func (k keyless) Write(line []byte) (int, error) {
	if _, err := k.w.Write(httpapi.HideKeys(line)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// newLogger returns a logger that no API key gets past, whoever wrote it into a URL.
func newLogger(c logConfig, w io.Writer) (*slog.Logger, error) {
	level, err := logLevel(c.Level)
	if err != nil {
		return nil, err
	}
	w = keyless{w}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inSeconds})), nil
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), nil
}

// inSeconds names the unit of a duration, which slog writes as a bare number of nanoseconds in JSON: took_seconds.
func inSeconds(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
	}
	return a
}
