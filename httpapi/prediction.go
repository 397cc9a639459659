package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// predictions is the handler's side of turbofan.PredictionService.
type predictions struct {
	svc     turbofan.PredictionService
	decoder *readingDecoder
	// maxReadings is the configured bound, for the documents.
	maxReadings int
	explain     bool // one reading, where the request does not say
	requests    *prometheus.CounterVec
	ok          prometheus.Counter // requests with code 200, looked up once
	latency     prometheus.Histogram
	exemplified atomic.Int64 // when the latency last took an exemplar, in nanoseconds since 1970
	values      prometheus.Histogram
}

// PredictionHandler offers svc over HTTP: POST /predict and /predict_batch, GET /units, /units/{unit_id},
// /predictions/{prediction_id} and /model; the Open Inference Protocol V2 below /v2; and POST /invocations, GET /ping,
// /health and /version as MLflow's scoring server has them.
func PredictionHandler(cfg Config, svc turbofan.PredictionService, o Options) (http.Handler, error) {
	a, err := newAPI(cfg, "predict", "Answers how many cycles of useful life remain in each unit, from its readings.", o)
	if err != nil {
		return nil, err
	}
	p := &predictions{svc: svc, decoder: newReadingDecoder(&a.cfg.Schema), maxReadings: a.cfg.MaxReadings, explain: a.cfg.Explain}
	if err := p.register(a.o.Registry); err != nil {
		return nil, err
	}
	for _, ops := range [][]*operation{p.operations(a.cfg.Schema), p.inferenceOperations(a.cfg.Schema), p.invocationOperations(a.cfg.Schema)} {
		for _, op := range ops {
			a.add(op)
		}
	}
	if a.o.Releases != nil {
		for _, op := range (&releases{svc: a.o.Releases}).operations() {
			a.add(op)
		}
	}
	return a.finish()
}

func (p *predictions) register(reg prometheus.Registerer) error {
	p.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prediction_requests_total", Help: "Requests for predictions, single and batch, by HTTP status code.",
	}, []string{"code"})
	p.latency = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "prediction_latency_seconds", Help: "Time to answer POST /predict, from the request's header to the end of its answer.",
		Buckets: []float64{5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5},
	})
	p.values = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "rul_prediction_value", Help: "Predicted remaining useful life, in cycles.",
		Buckets: []float64{5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 150, 200, 300, 500},
	})
	for _, c := range []prometheus.Collector{p.requests, p.latency, p.values} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics of predictions: %w", err)
		}
	}
	p.ok = p.requests.WithLabelValues("200")
	return nil
}

// count is called after each request for predictions.
func (p *predictions) count(c *call, took time.Duration) {
	if c.status == http.StatusOK {
		p.ok.Inc()
	} else {
		p.requests.WithLabelValues(strconv.Itoa(c.status)).Inc()
	}
	if c.op.path == "/predict" {
		p.observe(c.id, took)
	}
}

// An exemplar leads from a bucket of the latency to the request's line in the log. A slow request always is one; of the
// others a few a second are enough, since a scrape takes only the newest of each bucket and each costs memory.
const (
	slowRequest     = 25 * time.Millisecond
	exemplarsSpaced = 100 * time.Millisecond
)

func (p *predictions) observe(id string, took time.Duration) {
	now, last := time.Now().UnixNano(), p.exemplified.Load()
	if o, ok := p.latency.(prometheus.ExemplarObserver); ok && (took >= slowRequest || now-last >= int64(exemplarsSpaced) && p.exemplified.CompareAndSwap(last, now)) {
		o.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"request_id": id})
		return
	}
	p.latency.Observe(took.Seconds())
}

// predictForm is how a request asked, which decides how it is answered.
type predictForm int

const (
	bareForm     predictForm = iota // the fields of one reading in the request itself
	readingForm                     // {"reading": {...}}
	readingsForm                    // {"readings": [...]}
	historyForm                     // {"history": [...]}: stateless, the last reading alone is answered
)

func (f predictForm) field() string {
	switch f {
	case readingsForm:
		return "readings"
	case historyForm:
		return "history"
	}
	return "reading"
}

// at returns where reading i of a request of the form stands.
func (f predictForm) at(i int) path {
	if f == bareForm || f == readingForm {
		i = -1
	}
	return path{f.field(), i}
}

func (p *predictions) predict(c *call) error {
	req, told, err := c.options()
	if err != nil {
		return err
	}
	form, err := p.decode(c, &req, told)
	if err != nil {
		return err
	}
	answers, err := p.call(c, req)
	if err != nil {
		return renameReading(err, form.at)
	}
	if form == readingsForm {
		c.out = appendPredictions(c.out, answers)
	} else {
		c.out = appendPrediction(c.out, &answers[len(answers)-1])
	}
	return nil
}

// options reads the options that a URL may carry; told says that explain is among them.
func (c *call) options() (req turbofan.PredictRequest, told bool, err error) {
	if c.r.URL.RawQuery == "" {
		return req, false, nil
	}
	q := c.queryValues("explain", "stateless")
	req.Explain, req.Stateless = q.boolean("explain"), q.boolean("stateless")
	return req, q.values.Has("explain"), q.err
}

// call asks the service and holds it to one answer a reading, or to the one of a history.
func (p *predictions) call(c *call, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	answers, err := p.svc.Predict(c.ctx, req)
	if err != nil {
		return nil, err
	}
	want := len(req.Readings)
	if req.LastOnly {
		want = 1
	}
	if len(answers) != want {
		return nil, fmt.Errorf("predict %d readings: the service gave %d answers, not %d", len(req.Readings), len(answers), want)
	}
	for i := range answers {
		if rul := answers[i].RUL; !math.IsNaN(rul) {
			p.values.Observe(rul)
		}
	}
	return answers, nil
}

// decode reads the body of POST /predict in any of its forms. An answer to one reading is explained where neither the
// URL, which told says, nor the body says anything.
func (p *predictions) decode(c *call, req *turbofan.PredictRequest, told bool) (form predictForm, err error) {
	if err := c.requireJSON(); err != nil {
		return 0, err
	}
	s := &c.scanner
	s.reset(c.body)
	if err := openRequest(s, `{"reading": {...}}`); err != nil {
		return 0, err
	}
	bare, seen := false, [2]bool{}
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
		next := form
		switch string(key) {
		case "reading":
			next, err = readingForm, p.one(c, req, form)
		case "readings":
			next, err = readingsForm, p.many(c, req, readingsForm, form)
		case "history":
			next, err = historyForm, p.many(c, req, historyForm, form)
		case "explain":
			err = flag(s, "explain", &req.Explain, &seen[0])
		case "stateless":
			err = flag(s, "stateless", &req.Stateless, &seen[1])
		default:
			if !bare {
				p.decoder.begin(&c.top)
			}
			bare, err = true, p.bareField(c, key)
		}
		if err != nil {
			return 0, err
		}
		form = next
	}
	if err := s.end(); err != nil {
		return 0, err
	}
	if !told && !seen[0] && (form == bareForm || form == readingForm) {
		req.Explain = p.explain
	}
	return form, p.complete(c, req, form, bare)
}

// openRequest consumes the brace that begins a request.
func openRequest(s *scanner, example string) error {
	if s.peek() == 0 && s.pos >= len(s.data) {
		return turbofan.Invalid("body", "is empty; send %s", example)
	}
	if s.peek() != '{' {
		return s.mismatch("body", "must be an object such as "+example)
	}
	s.pos++
	return nil
}

func flag(s *scanner, name string, v, seen *bool) (err error) {
	if *seen {
		return turbofan.Invalid(name, "is given more than once")
	}
	*seen = true
	if c := s.peek(); c != 't' && c != 'f' {
		return s.mismatch(name, "must be true or false")
	}
	*v, err = s.boolean()
	return err
}

// bareField reads one field of a reading that stands in the request itself.
func (p *predictions) bareField(c *call, key []byte) error {
	ref, known := p.decoder.fields[string(key)]
	if !known {
		names := append([]string{"reading", "readings", "history", "explain", "stateless"}, p.decoder.names()...)
		return unknownField("", string(key), "a request for predictions", names)
	}
	return p.decoder.field(&c.scanner, &c.top, ref, path{"reading", -1})
}

func (p *predictions) one(c *call, req *turbofan.PredictRequest, form predictForm) error {
	if err := onlyForm(form, readingForm); err != nil {
		return err
	}
	at := path{"reading", -1}
	if err := p.decoder.decode(&c.scanner, &c.partial, at); err != nil {
		return err
	}
	if !c.partial.unit {
		return turbofan.Invalid("reading.unit_id", "is missing")
	}
	req.Readings = []turbofan.Reading{c.partial.reading}
	return nil
}

func (p *predictions) many(c *call, req *turbofan.PredictRequest, want, form predictForm) error {
	if err := onlyForm(form, want); err != nil {
		return err
	}
	if c.scanner.peek() != '[' {
		return c.scanner.mismatch(want.field(), "must be an array of readings")
	}
	c.scanner.pos++
	var err error
	req.Readings, err = p.list(c, want.field())
	if err == nil && len(req.Readings) == 0 {
		return turbofan.Invalid(want.field(), "must hold at least one reading")
	}
	return err
}

// list reads the elements of an array of readings that was opened.
func (p *predictions) list(c *call, field string) ([]turbofan.Reading, error) {
	var out []turbofan.Reading
	for first := true; ; first = false {
		more, err := c.scanner.nextElement(first)
		if err != nil || !more {
			return out, err
		}
		if len(out) == c.api.cfg.MaxReadings {
			return nil, tooMany(field, "readings", c.api.cfg.MaxReadings)
		}
		if err := p.decoder.decode(&c.scanner, &c.partial, path{field, len(out)}); err != nil {
			return nil, err
		}
		out = append(out, c.partial.reading)
	}
}

func tooMany(field, what string, most int) error {
	return &turbofan.Error{Code: turbofan.ETooLarge, Field: field, Message: fmt.Sprintf("has more than the %d %s allowed in one request", most, what)}
}

func onlyForm(have, want predictForm) error {
	if have == bareForm {
		return nil
	}
	if have == want {
		return turbofan.Invalid(want.field(), "is given more than once")
	}
	return turbofan.Invalid(want.field(), "is given beside %s; send one of them", have.field())
}

// complete checks the request as a whole, once its fields are read.
func (p *predictions) complete(c *call, req *turbofan.PredictRequest, form predictForm, bare bool) error {
	top := &c.top
	unitOnly := bare && !top.cycle && top.settings == notGiven && top.sensors == notGiven
	switch {
	case form == bareForm && !bare:
		return turbofan.Invalid("reading", `is missing; send {"reading": {"unit_id": ..., "cycle": ..., "settings": [...], "sensors": [...]}}`)
	case form == bareForm:
		at := path{"reading", -1}
		if err := p.decoder.finish(top, at); err != nil {
			return err
		}
		if !top.unit {
			return turbofan.Invalid("reading.unit_id", "is missing")
		}
		req.Readings = []turbofan.Reading{top.reading}
		return nil
	case bare && (form == readingForm || !unitOnly):
		return turbofan.Invalid("body", "has fields of a reading beside %s; put them inside", form.field())
	case form == readingForm:
		return nil
	}
	if form == historyForm {
		req.Stateless, req.LastOnly = true, true
	}
	return p.units(c, req.Readings, form, unitOnly)
}

// units gives readings without a unit the one that the request names, and holds a history to one unit.
func (p *predictions) units(c *call, readings []turbofan.Reading, form predictForm, named bool) error {
	for i := range readings {
		r := &readings[i]
		if r.UnitID == "" {
			if !named {
				return turbofan.Invalid(path{form.field(), i}.String()+".unit_id", "is missing")
			}
			r.UnitID = c.top.reading.UnitID
			if err := r.Validate(p.decoder.schema, path{form.field(), i}.String()); err != nil {
				return err
			}
		}
		if form == historyForm && r.UnitID != readings[0].UnitID {
			return turbofan.Invalid(path{form.field(), i}.String()+".unit_id", "must be %q as in history[0]: a history is of one unit", readings[0].UnitID)
		}
	}
	return nil
}

// renameReading makes an error of the service about one reading, which it calls reading or readings[i], name the place
// where the caller put that reading.
func renameReading(err error, at func(i int) path) error {
	e, ok := errors.AsType[*turbofan.Error](err)
	if !ok {
		return err
	}
	rest, ok := strings.CutPrefix(e.Field, "reading")
	if !ok {
		return err
	}
	i := 0
	if list, ok := strings.CutPrefix(rest, "s["); ok {
		index, after, _ := strings.Cut(list, "]")
		n, bad := strconv.Atoi(index)
		if bad != nil || n < 0 {
			return err
		}
		i, rest = n, after
	} else if rest != "" && rest[0] != '.' {
		return err
	}
	renamed := *e
	renamed.Field = at(i).String() + rest
	return &renamed
}

func (p *predictions) listUnits(c *call) error {
	q := c.queryValues("limit", "offset")
	limit, offset := q.whole("limit", 100, 1, maxLimit), q.whole("offset", 0, 0, maxOffset)
	if q.err != nil {
		return q.err
	}
	units, err := p.svc.Units(c.ctx, limit, offset)
	if err != nil {
		return err
	}
	c.list("units", units)
	return nil
}

func (p *predictions) unit(c *call) error {
	status, err := p.svc.Unit(c.ctx, c.params[0])
	return c.reply(status, err)
}

func (p *predictions) prediction(c *call) error {
	answer, err := p.svc.Prediction(c.ctx, c.params[0])
	return c.reply(answer, err)
}

func (p *predictions) model(c *call) error {
	serving, err := p.svc.Serving(c.ctx)
	return c.reply(serving, err)
}

// PredictionClient is a turbofan.PredictionService that stands behind a [PredictionHandler].
type PredictionClient struct{ *client }

var _ turbofan.PredictionService = (*PredictionClient)(nil)

// NewPredictionClient returns a client of the handler at baseURL, such as "http://127.0.0.1:3000". A nil c takes a
// client with a connection pool of its own.
func NewPredictionClient(baseURL string, c *http.Client) *PredictionClient {
	return &PredictionClient{newClient("prediction", baseURL, c)}
}

// Predict implements turbofan.PredictionService.
func (p *PredictionClient) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	body := make([]byte, 0, 512*len(req.Readings)+64)
	single := len(req.Readings) == 1 || req.LastOnly
	if req.LastOnly {
		body = appendReadings(append(body, `{"history":`...), req.Readings)
	} else if single {
		body = appendReading(append(body, `{"reading":`...), &req.Readings[0])
	} else {
		body = appendReadings(append(body, `{"readings":`...), req.Readings)
	}
	body = strconv.AppendBool(append(body, `,"explain":`...), req.Explain)
	if req.Stateless {
		body = append(body, `,"stateless":true`...)
	}
	call := request{method: http.MethodPost, path: "/predict", body: append(body, '}'), idempotent: true}
	if single {
		one := make([]turbofan.Prediction, 1)
		if err := p.do(ctx, call, &one[0]); err != nil {
			return nil, err
		}
		return one, nil
	}
	var answer struct {
		Predictions []turbofan.Prediction `json:"predictions"`
	}
	err := p.do(ctx, call, &answer)
	return answer.Predictions, err
}

// Units implements turbofan.PredictionService.
func (p *PredictionClient) Units(ctx context.Context, limit, offset int) ([]turbofan.UnitSummary, error) {
	var answer struct {
		Units []turbofan.UnitSummary `json:"units"`
	}
	query := url.Values{"limit": {strconv.Itoa(limit)}, "offset": {strconv.Itoa(offset)}}
	err := p.get(ctx, "/units", query, &answer)
	return answer.Units, err
}

// Unit implements turbofan.PredictionService.
func (p *PredictionClient) Unit(ctx context.Context, unitID string) (turbofan.UnitStatus, error) {
	var status turbofan.UnitStatus
	err := p.getByID(ctx, "/units/", unitID, "", &status)
	return status, err
}

// Prediction implements turbofan.PredictionService.
func (p *PredictionClient) Prediction(ctx context.Context, id string) (turbofan.Prediction, error) {
	var answer turbofan.Prediction
	err := p.getByID(ctx, "/predictions/", id, "", &answer)
	return answer, err
}

// Serving implements turbofan.PredictionService.
func (p *PredictionClient) Serving(ctx context.Context) (turbofan.Serving, error) {
	var serving turbofan.Serving
	err := p.get(ctx, "/model", nil, &serving)
	return serving, err
}
