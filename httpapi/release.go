package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"turbofan"
)

// releases is the handler's side of turbofan.ReleaseService.
type releases struct{ svc turbofan.ReleaseService }

func (h *releases) list(c *call) error {
	list, err := h.svc.Models(c.ctx)
	return c.reply(list, err)
}

func (h *releases) show(c *call) error {
	detail, err := h.svc.Model(c.ctx, c.params[0])
	return c.reply(detail, err)
}

func (h *releases) promote(c *call) error {
	var req turbofan.PromoteRequest
	err := c.fields("a promotion", `{"version": "3", "reason": "..."}`, []string{"version", "reason"}, func(s *scanner, key string) error {
		if key == "version" {
			return version(s, &req.Version)
		}
		return text(s, key, &req.Reason)
	})
	if err != nil {
		return err
	}
	change, err := h.svc.Promote(c.ctx, req)
	return c.reply(change, err)
}

func (h *releases) rollback(c *call) error {
	reason := ""
	if len(c.body) > 0 {
		err := c.fields("a rollback", `{"reason": "..."}`, []string{"reason"}, func(s *scanner, key string) error { return text(s, key, &reason) })
		if err != nil {
			return err
		}
	}
	change, err := h.svc.Rollback(c.ctx, reason)
	return c.reply(change, err)
}

// try begins or changes the trial under an alias.
func (h *releases) try(alias string) func(*call) error {
	names, form := []string{"version"}, `{"version": "3"}`
	if alias == turbofan.CanaryAlias {
		names, form = append(names, "share"), `{"version": "3", "share": 0.1}`
	}
	return func(c *call) error {
		t := turbofan.Trial{Alias: alias}
		err := c.fields("a trial", form, names, func(s *scanner, key string) error {
			if key == "version" {
				return version(s, &t.Version)
			}
			share, err := finite(s, key)
			if share != nil {
				t.Share = *share
			}
			return err
		})
		if err == nil && t.Version == "" {
			err = turbofan.Invalid("version", "is missing; DELETE ends a trial")
		}
		if err != nil {
			return err
		}
		list, err := h.svc.Try(c.ctx, t)
		return c.reply(list, err)
	}
}

// end ends the trial under an alias.
func (h *releases) end(alias string) func(*call) error {
	return func(c *call) error {
		list, err := h.svc.Try(c.ctx, turbofan.Trial{Alias: alias})
		return c.reply(list, err)
	}
}

// fields reads the body as one object of the named fields.
func (c *call) fields(what, form string, names []string, read func(s *scanner, key string) error) error {
	if err := c.requireJSON(); err != nil {
		return err
	}
	s := &c.scanner
	s.reset(c.body)
	if err := openRequest(s, form); err != nil {
		return err
	}
	if err := object(s, "", what, names, func(key string) error { return read(s, key) }); err != nil {
		return err
	}
	return s.end()
}

// version reads the number of a version, as text or as a number.
func version(s *scanner, v *string) error {
	if c := s.peek(); c < '0' || c > '9' {
		return text(s, "version", v)
	}
	n, err := whole(s, "version")
	if err == nil {
		*v = strconv.Itoa(*n)
	}
	return err
}

func (h *releases) operations() []*operation {
	one := turbofan.ModelSummary{Version: "3", Aliases: []string{"champion"}, CreatedAt: sampleTime(), Digest: "1f0c", ChampionSince: sampleTime(), Replaced: "2", Because: "promoted by an operator"}
	list := docOf(turbofan.ModelList{ModelName: "rul", Champion: "3", Serving: "3", Versions: []turbofan.ModelSummary{one}})
	change := docOf(turbofan.ModelChange{ModelName: "rul", From: "2", To: "3", Because: "promoted by an operator", At: sampleTime(), Serving: "3"})
	input := func(title, value string, optional bool, properties node, required ...string) *bodyDoc {
		return &bodyDoc{optional: optional, describe: func(*schemas) node {
			n := node{{"type", "object"}, {"title", title}, {"properties", properties}}
			if len(required) > 0 {
				n = append(n, member{"required", required})
			}
			return append(n, member{"additionalProperties", false})
		}, examples: []example{{name: "by hand", value: raw(value)}}}
	}
	number := node{{"oneOf", []node{{{"type", "string"}, {"minLength", 1}}, {{"type", "integer"}, {"minimum", 1}, {"maximum", 1<<53 - 1}}}}}
	why := node{{"type", "string"}, {"maxLength", turbofan.MaxReason}, {"nullable", true}}
	share := node{{"type", "number"}, {"exclusiveMinimum", true}, {"minimum", 0}, {"maximum", 1}}
	const takes = "Other processes take the change when they next ask the registry."
	return []*operation{{
		method: http.MethodGet, path: "/models", summary: "List the model's versions and which of them have a part in production.", output: list, handle: h.list,
	}, {
		method: http.MethodGet, path: "/models/{version}", summary: "Open one version, by number or by alias such as @champion, and tell whether it could serve.", errors: []int{404},
		output: docOf(turbofan.ModelDetail{ModelSummary: one, Kind: "boosting", Schema: "cmapss", Columns: 96, Units: 100, RMSE: 8.6}), handle: h.show,
	}, {
		method: http.MethodPost, path: "/models/promote", summary: "Make a version champion.",
		doc:   "The version is fetched and must answer its golden histories and read the champion's channels before the alias moves. " + takes,
		input: input("Promotion", `{"version":"3","reason":"better on the new fleet"}`, false, node{{"version", number}, {"reason", why}}, "version"), output: change, errors: []int{404, 409, 422}, handle: h.promote,
	}, {
		method: http.MethodPost, path: "/models/rollback", summary: "Make the champion before the present one champion again.", doc: takes,
		input: input("Rollback", `{"reason":"alarms without cause"}`, true, node{{"reason", why}}), output: change, errors: []int{404, 409, 422}, handle: h.rollback,
	}, {
		method: http.MethodPut, path: "/models/canary", summary: "Let a version answer a share of the units.",
		doc:   "A unit belongs to the canary by the hash of its id, so it always gets the same version; a larger share keeps the units of a smaller one. " + takes,
		input: input("Canary", `{"version":"3","share":0.1}`, false, node{{"version", number}, {"share", share}}, "version", "share"), output: list, errors: []int{404, 409, 422}, handle: h.try(turbofan.CanaryAlias),
	}, {
		method: http.MethodDelete, path: "/models/canary", summary: "End the canary: the champion answers all units.", output: list, errors: []int{404}, handle: h.end(turbofan.CanaryAlias),
	}, {
		method: http.MethodPut, path: "/models/challenger", summary: "Let a version answer every unit silently, beside the champion.",
		doc:   "Its answers are logged with its version and never sent; feedback tells its live error beside the champion's. " + takes,
		input: input("Challenger", `{"version":"3"}`, false, node{{"version", number}}, "version"), output: list, errors: []int{404, 409, 422}, handle: h.try(turbofan.ChallengerAlias),
	}, {
		method: http.MethodDelete, path: "/models/challenger", summary: "End the silent answers.", output: list, errors: []int{404}, handle: h.end(turbofan.ChallengerAlias),
	}}
}

// ReleaseClient is a turbofan.ReleaseService that stands behind a [PredictionHandler].
type ReleaseClient struct{ *client }

var _ turbofan.ReleaseService = (*ReleaseClient)(nil)

// NewReleaseClient returns a client of the prediction role at baseURL. A nil c takes a client with a connection pool of
// its own.
func NewReleaseClient(baseURL string, c *http.Client) *ReleaseClient {
	return &ReleaseClient{newClient("prediction", baseURL, c)}
}

// Models implements turbofan.ReleaseService.
func (r *ReleaseClient) Models(ctx context.Context) (turbofan.ModelList, error) {
	var out turbofan.ModelList
	err := r.get(ctx, "/models", nil, &out)
	return out, err
}

// Model implements turbofan.ReleaseService.
func (r *ReleaseClient) Model(ctx context.Context, ref string) (turbofan.ModelDetail, error) {
	var out turbofan.ModelDetail
	err := r.getByID(ctx, "/models/", ref, "", &out)
	return out, err
}

// Promote implements turbofan.ReleaseService.
func (r *ReleaseClient) Promote(ctx context.Context, req turbofan.PromoteRequest) (turbofan.ModelChange, error) {
	var out turbofan.ModelChange
	body := node{{"version", req.Version}, {"reason", req.Reason}}.append(nil)
	err := r.do(ctx, request{method: http.MethodPost, path: "/models/promote", body: body}, &out)
	return out, err
}

// Rollback implements turbofan.ReleaseService.
func (r *ReleaseClient) Rollback(ctx context.Context, reason string) (turbofan.ModelChange, error) {
	var out turbofan.ModelChange
	err := r.do(ctx, request{method: http.MethodPost, path: "/models/rollback", body: node{{"reason", reason}}.append(nil)}, &out)
	return out, err
}

// Try implements turbofan.ReleaseService.
func (r *ReleaseClient) Try(ctx context.Context, t turbofan.Trial) (turbofan.ModelList, error) {
	var out turbofan.ModelList
	req := request{method: http.MethodDelete, path: "/models/" + url.PathEscape(t.Alias), idempotent: true}
	if t.Version != "" {
		body := node{{"version", t.Version}}
		if t.Alias == turbofan.CanaryAlias {
			body = append(body, member{"share", t.Share})
		}
		req.method, req.body = http.MethodPut, body.append(nil)
	}
	err := r.do(ctx, req, &out)
	return out, err
}
