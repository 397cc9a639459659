package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"turbofan"
)

// drift is the handler's side of turbofan.DriftService.
type drift struct{ svc turbofan.DriftService }

// DriftHandler offers svc over HTTP: POST /check and GET /reports.
func DriftHandler(cfg Config, svc turbofan.DriftService, o Options) (http.Handler, error) {
	a, err := newAPI(cfg, "drift", "Watches whether the readings of today still look like those the serving model learned from.", o)
	if err != nil {
		return nil, err
	}
	for _, op := range (&drift{svc: svc}).operations() {
		a.add(op)
	}
	return a.finish()
}

func (d *drift) check(c *call) error {
	if err := c.noFields(); err != nil {
		return err
	}
	report, err := d.svc.Check(c.ctx)
	return c.reply(report, err)
}

// noFields reads a body that has nothing to say: none at all, or an empty object as BentoML's clients send it.
func (c *call) noFields() error {
	s := &c.scanner
	s.reset(c.body)
	if s.peek() == 0 && s.pos >= len(s.data) {
		return nil
	}
	if err := c.requireJSON(); err != nil {
		return err
	}
	s.reset(c.body)
	if err := openRequest(s, "{}"); err != nil {
		return err
	}
	if err := object(s, "", "this request, which has none", nil, nil); err != nil {
		return err
	}
	return s.end()
}

func (d *drift) reports(c *call) error {
	q := c.queryValues("limit")
	limit := q.whole("limit", 20, 1, maxLimit)
	if q.err != nil {
		return q.err
	}
	reports, err := d.svc.Reports(c.ctx, limit)
	if err != nil {
		return err
	}
	c.list("reports", reports)
	return nil
}

// DriftClient is a turbofan.DriftService that stands behind a [DriftHandler].
type DriftClient struct{ *client }

var _ turbofan.DriftService = (*DriftClient)(nil)

// NewDriftClient returns a client of the handler at baseURL, such as "http://127.0.0.1:3004". A nil c takes a client
// with a connection pool of its own.
func NewDriftClient(baseURL string, c *http.Client) *DriftClient {
	return &DriftClient{newClient("drift", baseURL, c)}
}

// Check implements turbofan.DriftService. It is not repeated when its answer is lost: a check may start a retraining.
func (d *DriftClient) Check(ctx context.Context) (turbofan.DriftReport, error) {
	var report turbofan.DriftReport
	err := d.do(ctx, request{method: http.MethodPost, path: "/check"}, &report)
	return report, err
}

// Reports implements turbofan.DriftService.
func (d *DriftClient) Reports(ctx context.Context, limit int) ([]turbofan.DriftReport, error) {
	var answer struct {
		Reports []turbofan.DriftReport `json:"reports"`
	}
	err := d.get(ctx, "/reports", url.Values{"limit": {strconv.Itoa(limit)}}, &answer)
	return answer.Reports, err
}
