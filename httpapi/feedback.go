package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// feedback is the handler's side of turbofan.FeedbackService.
type feedback struct{ svc turbofan.FeedbackService }

// FeedbackHandler offers svc over HTTP: POST and GET /feedback, GET /performance.
func FeedbackHandler(cfg Config, svc turbofan.FeedbackService, o Options) (http.Handler, error) {
	a, err := newAPI(cfg, "feedback", "Takes what really happened to the units and tells the error it reveals.", o)
	if err != nil {
		return nil, err
	}
	for _, op := range (&feedback{svc: svc}).operations() {
		a.add(op)
	}
	return a.finish()
}

// receipt is the answer for one outcome.
type receipt struct {
	Status string `json:"status"` // always "stored": an outcome that is not on disk is answered by an error
	turbofan.OutcomeReceipt
}

const stored = "stored"

func (f *feedback) record(c *call) error {
	outcomes, single, err := decodeOutcomes(c)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(outcomes, func(o turbofan.Outcome) bool { return o.Withdraws() }) {
		if err := c.requireAccess(Operator, "withdrawing an end"); err != nil {
			return err
		}
	}
	receipts, err := f.svc.Record(c.ctx, outcomes)
	if err != nil && single {
		return renameOutcome(err)
	}
	if err != nil {
		return err
	}
	out := make([]receipt, len(receipts))
	for i, r := range receipts {
		out[i] = receipt{stored, r}
	}
	if single && len(out) == 1 {
		return c.reply(out[0], nil)
	}
	c.list("receipts", out)
	return nil
}

// renameOutcome makes an error about the field of the only outcome of a list name that field of outcome.
func renameOutcome(err error) error {
	e, ok := errors.AsType[*turbofan.Error](err)
	if !ok || e.Field == "" {
		return err
	}
	renamed := *e
	renamed.Field = "outcome." + strings.TrimPrefix(e.Field, "outcomes[0].")
	return &renamed
}

// outcomeFields are the fields of an outcome; the first of each line is its name, the rest are other spellings.
var outcomeFields = []string{
	"unit_id", "unit", "unit_number", "engine_id",
	"cycle", "time_cycles", "time_in_cycles",
	"prediction_id", "failed_at_cycle", "actual_rul", "event", "note", "key", "received_at",
}

// decodeOutcomes reads one outcome, bare or named, or a list; single says that it was one.
func decodeOutcomes(c *call) (outcomes []turbofan.Outcome, single bool, err error) {
	if err := c.requireJSON(); err != nil {
		return nil, false, err
	}
	s := &c.scanner
	s.reset(c.body)
	if err := openRequest(s, `{"unit_id": ..., "failed_at_cycle": ...}`); err != nil {
		return nil, false, err
	}
	var bare turbofan.Outcome
	var bareFields, listed, named bool
	names := append([]string{"outcome", "outcomes"}, outcomeFields...)
	given := make(outcomeSeen)
	err = object(s, "", "an outcome", names, func(key string) error {
		switch key {
		case "outcome":
			named = true
			o, err := decodeOutcome(s, "outcome")
			outcomes = append(outcomes, o)
			return err
		case "outcomes":
			listed = true
			list, err := decodeOutcomeList(s, c.api.cfg.MaxReadings)
			outcomes = append(outcomes, list...)
			return err
		}
		bareFields = true
		return outcomeField(s, "outcome.", key, &bare, given)
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, false, explainPredicted(err)
	}
	switch {
	case named && listed, bareFields && (named || listed):
		return nil, false, turbofan.Invalid("body", "has more than one of outcome, outcomes and the fields of an outcome; send one of them")
	case listed:
		return outcomes, false, nil
	case bareFields:
		return []turbofan.Outcome{bare}, true, nil
	case !named:
		return nil, false, turbofan.Invalid("outcome", `is missing; send {"unit_id": ..., "failed_at_cycle": ...} or {"prediction_id": ..., "actual_rul": ...}`)
	}
	return outcomes, true, nil
}

func decodeOutcomeList(s *scanner, most int) ([]turbofan.Outcome, error) {
	if s.peek() != '[' {
		return nil, s.mismatch("outcomes", "must be an array of outcomes")
	}
	s.pos++
	var out []turbofan.Outcome
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if len(out) == most {
			return nil, tooMany("outcomes", "outcomes", most)
		}
		o, err := decodeOutcome(s, path{"outcomes", len(out)}.String())
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, turbofan.Invalid("outcomes", "must hold at least one outcome")
	}
	return out, nil
}

// outcomeSeen holds which canonical fields were given, since a field has several spellings.
type outcomeSeen map[string]bool

func decodeOutcome(s *scanner, at string) (o turbofan.Outcome, err error) {
	if s.peek() != '{' {
		return o, s.mismatch(at, "must be an object")
	}
	s.pos++
	given := make(outcomeSeen)
	err = object(s, at+".", "an outcome", outcomeFields, func(key string) error {
		return outcomeField(s, at+".", key, &o, given)
	})
	return o, err
}

func outcomeField(s *scanner, prefix, key string, o *turbofan.Outcome, given outcomeSeen) (err error) {
	name := key
	switch key {
	case "unit", "unit_number", "engine_id":
		name = "unit_id"
	case "time_cycles", "time_in_cycles":
		name = "cycle"
	}
	if given[name] {
		return turbofan.Invalid(prefix+name, "is given more than once")
	}
	given[name] = true
	switch name {
	case "unit_id":
		var null bool
		if null, err = s.null(); err == nil && !null {
			o.UnitID, err = readUnitID(s, path{strings.TrimSuffix(prefix, "."), -1})
		}
	case "cycle":
		var n *int
		if n, err = whole(s, prefix+name); n != nil {
			o.Cycle = *n
		}
		if err == nil && n != nil && (*n < 1 || *n > turbofan.MaxCycle) {
			err = turbofan.Invalid(prefix+name, "must be a whole number from 1 to %d, not %d", turbofan.MaxCycle, *n)
		}
	case "prediction_id":
		err = text(s, prefix+name, &o.PredictionID)
	case "failed_at_cycle":
		o.FailedAtCycle, err = whole(s, prefix+name)
	case "actual_rul":
		o.ActualRUL, err = finite(s, prefix+name)
	case "event":
		err = text(s, prefix+name, &o.Event)
	case "note":
		err = text(s, prefix+name, &o.Note)
	case "key":
		err = text(s, prefix+name, &o.Key)
	case "received_at":
		err = moment(s, prefix+name, &o.At)
	}
	return err
}

// explainPredicted adds to the refusal of a field such as predicted_rul why nobody needs it: callers of other platforms
// send what was predicted along with what happened.
func explainPredicted(err error) error {
	e, ok := err.(*turbofan.Error)
	if !ok {
		return err
	}
	name := e.Field[strings.LastIndexByte(e.Field, '.')+1:]
	if !strings.HasPrefix(name, "predict") && !strings.HasPrefix(name, "rul_predict") || !strings.HasPrefix(e.Message, "is not a field") {
		return err
	}
	return turbofan.Invalid(e.Field, "is not a field of an outcome: what was predicted is looked up by prediction_id, or by unit_id and cycle")
}

func (f *feedback) outcomes(c *call) error {
	q := c.queryValues("unit_id", "limit", "since", "until")
	query := turbofan.OutcomeQuery{UnitID: q.text("unit_id"), Since: q.moment("since"), Until: q.moment("until"), Limit: q.whole("limit", 100, 0, maxLast)}
	if q.err != nil {
		return q.err
	}
	outcomes, err := f.svc.Outcomes(c.ctx, query)
	if err != nil {
		return err
	}
	c.list("outcomes", outcomes)
	return nil
}

func (f *feedback) performance(c *call) error {
	q := c.queryValues("last")
	last := q.whole("last", 0, 0, maxLast)
	if q.err != nil {
		return q.err
	}
	performance, err := f.svc.Performance(c.ctx, last)
	if err != nil {
		return err
	}
	c.list("performance", performance)
	return nil
}

// FeedbackClient is a turbofan.FeedbackService that stands behind a [FeedbackHandler].
type FeedbackClient struct{ *client }

var _ turbofan.FeedbackService = (*FeedbackClient)(nil)

// NewFeedbackClient returns a client of the handler at baseURL, such as "http://127.0.0.1:3001". A nil c takes a client
// with a connection pool of its own.
func NewFeedbackClient(baseURL string, c *http.Client) *FeedbackClient {
	return &FeedbackClient{newClient("feedback", baseURL, c)}
}

// wireOutcome is an outcome as a client sends it: without the fields that say nothing.
type wireOutcome struct {
	turbofan.Outcome
	At time.Time `json:"received_at,omitzero"`
}

// Record implements turbofan.FeedbackService. An outcome is stored once however often it is sent, so a lost answer is
// asked for again.
func (f *FeedbackClient) Record(ctx context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	sent := make([]wireOutcome, len(outcomes))
	for i, o := range outcomes {
		sent[i] = wireOutcome{o, o.At}
	}
	body := f.codec.append(nil, struct {
		Outcomes []wireOutcome `json:"outcomes"`
	}{sent})
	var answer struct {
		Receipts []turbofan.OutcomeReceipt `json:"receipts"`
	}
	err := f.do(ctx, request{method: http.MethodPost, path: "/feedback", body: body, idempotent: true}, &answer)
	return answer.Receipts, err
}

// Outcomes implements turbofan.FeedbackService.
func (f *FeedbackClient) Outcomes(ctx context.Context, q turbofan.OutcomeQuery) ([]turbofan.Outcome, error) {
	query := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	if q.UnitID != "" {
		query.Set("unit_id", q.UnitID)
	}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		query.Set("until", q.Until.Format(time.RFC3339Nano))
	}
	var answer struct {
		Outcomes []turbofan.Outcome `json:"outcomes"`
	}
	err := f.get(ctx, "/feedback", query, &answer)
	return answer.Outcomes, err
}

// Performance implements turbofan.FeedbackService.
func (f *FeedbackClient) Performance(ctx context.Context, last int) ([]turbofan.Performance, error) {
	var answer struct {
		Performance []turbofan.Performance `json:"performance"`
	}
	err := f.get(ctx, "/performance", url.Values{"last": {strconv.Itoa(last)}}, &answer)
	return answer.Performance, err
}
