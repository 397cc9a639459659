package httpapi_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// memoryReleases is a ReleaseService of a few versions in memory, with the rules of the real one.
type memoryReleases struct {
	mu   sync.Mutex
	list turbofan.ModelList
}

var _ turbofan.ReleaseService = (*memoryReleases)(nil)

func newMemoryReleases() *memoryReleases {
	m := &memoryReleases{list: turbofan.ModelList{ModelName: "rul", Champion: "2", Serving: "2"}}
	for v := range 4 {
		m.list.Versions = append(m.list.Versions, turbofan.ModelSummary{Version: fmt.Sprint(v + 1), CreatedAt: time.Unix(int64(v), 0).UTC()})
	}
	return m
}

func (m *memoryReleases) Models(context.Context) (turbofan.ModelList, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list, nil
}

func (m *memoryReleases) find(ref string) (turbofan.ModelSummary, error) {
	if ref == "@champion" {
		ref = m.list.Champion
	}
	for _, v := range m.list.Versions {
		if v.Version == ref {
			return v, nil
		}
	}
	return turbofan.ModelSummary{}, turbofan.Errorf(turbofan.ENotFound, "there is no version %q", ref)
}

func (m *memoryReleases) Model(_ context.Context, ref string) (turbofan.ModelDetail, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := m.find(ref)
	return turbofan.ModelDetail{ModelSummary: v, Kind: "boosting", RMSE: 8.5}, err
}

func (m *memoryReleases) Promote(_ context.Context, req turbofan.PromoteRequest) (turbofan.ModelChange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var none turbofan.ModelChange
	if req.Version == "" {
		return none, turbofan.Invalid("version", "is missing")
	}
	if len(req.Reason) > turbofan.MaxReason {
		return none, turbofan.Invalid("reason", "is too long")
	}
	v, err := m.find(req.Version)
	if err != nil {
		return none, err
	}
	if v.Version == m.list.Champion {
		return none, turbofan.Errorf(turbofan.EConflict, "version %s is champion already", v.Version)
	}
	c := turbofan.ModelChange{ModelName: "rul", From: m.list.Champion, To: v.Version, Because: req.Reason, At: time.Unix(9, 0).UTC(), Serving: v.Version}
	m.list.Champion, m.list.Serving = v.Version, v.Version
	return c, nil
}

func (m *memoryReleases) Rollback(_ context.Context, reason string) (turbofan.ModelChange, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(reason) > turbofan.MaxReason {
		return turbofan.ModelChange{}, turbofan.Invalid("reason", "is too long")
	}
	if m.list.Champion == "1" {
		return turbofan.ModelChange{}, turbofan.Errorf(turbofan.EConflict, "no champion is known before version 1")
	}
	c := turbofan.ModelChange{ModelName: "rul", From: m.list.Champion, To: "1", Rollback: true, Because: reason, At: time.Unix(9, 0).UTC(), Serving: "1"}
	m.list.Champion, m.list.Serving = "1", "1"
	return c, nil
}

func (m *memoryReleases) Try(_ context.Context, t turbofan.Trial) (turbofan.ModelList, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.Version != "" {
		if v, err := m.find(t.Version); err != nil {
			return turbofan.ModelList{}, err
		} else if v.Version == m.list.Champion {
			return turbofan.ModelList{}, turbofan.Errorf(turbofan.EConflict, "version %s is champion", v.Version)
		}
	}
	if t.Alias == turbofan.ChallengerAlias {
		m.list.Challenger = t.Version
		return m.list, nil
	}
	if t.Version != "" && (math.IsNaN(t.Share) || t.Share <= 0 || t.Share > 1) {
		return turbofan.ModelList{}, turbofan.Invalid("share", "must be above 0 and at most 1")
	}
	m.list.Canary = t.Version
	return m.list, nil
}

// What the client of a handler answers is what the service behind the handler answers, errors included.
func TestReleaseClient(t *testing.T) {
	near, far := newMemoryReleases(), newMemoryReleases()
	h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newMemoryPredictions(), httpapi.Options{Releases: far})
	if err != nil {
		t.Fatal(err)
	}
	client := httpapi.NewReleaseClient(serve(t, h, nil), nil)
	defer client.Close()
	ctx := t.Context()
	for name, step := range map[string]func(turbofan.ReleaseService) (any, error){
		"list":      func(s turbofan.ReleaseService) (any, error) { return s.Models(ctx) },
		"show":      func(s turbofan.ReleaseService) (any, error) { return s.Model(ctx, "@champion") },
		"show none": func(s turbofan.ReleaseService) (any, error) { return s.Model(ctx, "9") },
		"promote": func(s turbofan.ReleaseService) (any, error) {
			return s.Promote(ctx, turbofan.PromoteRequest{Version: "3", Reason: `a "reason"`})
		},
		"promote again": func(s turbofan.ReleaseService) (any, error) {
			return s.Promote(ctx, turbofan.PromoteRequest{Version: "2"})
		},
		"promote none": func(s turbofan.ReleaseService) (any, error) { return s.Promote(ctx, turbofan.PromoteRequest{}) },
		"canary": func(s turbofan.ReleaseService) (any, error) {
			return s.Try(ctx, turbofan.Trial{Alias: turbofan.CanaryAlias, Version: "4", Share: 0.125})
		},
		"bad share": func(s turbofan.ReleaseService) (any, error) {
			return s.Try(ctx, turbofan.Trial{Alias: turbofan.CanaryAlias, Version: "4", Share: 2})
		},
		"challenger": func(s turbofan.ReleaseService) (any, error) {
			return s.Try(ctx, turbofan.Trial{Alias: turbofan.ChallengerAlias, Version: "4"})
		},
		"end": func(s turbofan.ReleaseService) (any, error) {
			return s.Try(ctx, turbofan.Trial{Alias: turbofan.CanaryAlias})
		},
		"roll back": func(s turbofan.ReleaseService) (any, error) { return s.Rollback(ctx, "noise") },
		"roll back twice": func(s turbofan.ReleaseService) (any, error) {
			if _, err := s.Rollback(ctx, ""); err != nil {
				return nil, err
			}
			return s.Rollback(ctx, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			near.list, far.list = newMemoryReleases().list, newMemoryReleases().list
			want, wantErr := step(near)
			got, err := step(client)
			if turbofan.ErrorCode(err) != turbofan.ErrorCode(wantErr) || turbofan.ErrorMessage(err) != turbofan.ErrorMessage(wantErr) {
				t.Fatalf("the client fails with %v, the service with %v", err, wantErr)
			}
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("the client says\n%+v, the service\n%+v", got, want)
			}
		})
	}
}

func TestReleaseBadRequests(t *testing.T) {
	h := roles(t)["predict"]
	for _, c := range []struct{ method, path, body, want string }{
		{"POST", "/models/promote", "", "body: is empty"},
		{"POST", "/models/promote", "[]", "body: must be an object"},
		{"POST", "/models/promote", `{"version":true}`, "version: must be a string"},
		{"POST", "/models/promote", `{"version":1.5}`, "version: must be a whole number"},
		{"POST", "/models/promote", `{"version":"1","version":"2"}`, "version: is given more than once"},
		{"POST", "/models/promote", `{"version":"1","raeson":"x"}`, "raeson"},
		{"PUT", "/models/canary", `{"version":"1"}`, "share: must be above 0"},
		{"PUT", "/models/canary", `{"share":0.5}`, "version: is missing; DELETE ends a trial"},
		{"PUT", "/models/canary", `{"version":"1","share":"much"}`, "share: must be a finite number"},
		{"PUT", "/models/challenger", `{"version":"1","share":0.5}`, "share"},
	} {
		w := ask(h, c.method, c.path, c.body)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s %s: %d %s, want %s", c.method, c.path, c.body, w.Code, w.Body, c.want)
		}
	}
	without, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newMemoryPredictions(), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w := ask(without, "POST", "/models/rollback", ""); w.Code != http.StatusNotFound {
		t.Errorf("without a service: %d %s", w.Code, w.Body)
	}
}
