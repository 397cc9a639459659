package grpcapi_test

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"turbofan"
	"turbofan/grpcapi"
	"turbofan/grpcapi/inference"
	"turbofan/httpapi"
)

// predictor is a prediction service that keeps the last cycle of each unit and the requests it got.
type predictor struct {
	turbofan.PredictionService
	mu     sync.Mutex
	cycles map[string]int
	asked  []turbofan.PredictRequest
	err    error
	hold   chan struct{} // closed to let Predict go on; nil does not hold
	inside chan struct{} // receives when Predict is held
}

func (p *predictor) Serving(context.Context) (turbofan.Serving, error) {
	return turbofan.Serving{ModelName: "rul", ModelVersion: "7"}, nil
}

func (p *predictor) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	if p.hold != nil {
		p.inside <- struct{}{}
		select {
		case <-p.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, req)
	if p.err != nil {
		return nil, p.err
	}
	out := make([]turbofan.Prediction, len(req.Readings))
	for i, r := range req.Readings {
		if !req.Stateless {
			if r.Cycle < p.cycles[r.UnitID] {
				return nil, turbofan.Errorf(turbofan.EConflict, "cycle %d of unit %s comes late", r.Cycle, r.UnitID)
			}
			p.cycles[r.UnitID] = r.Cycle
		}
		out[i] = turbofan.Prediction{
			ID: fmt.Sprint("p-", i), UnitID: r.UnitID, Cycle: r.Cycle, RUL: 100 - float64(r.Cycle), Lower: 1, Upper: math.NaN(), FailureProbability: 0.25,
			FailureHorizon: 30, Health: turbofan.Watch, ModelName: "rul", ModelVersion: "7", Condition: -1, Warnings: []string{"a", "b"},
		}
	}
	return out, nil
}

func newPredictor() *predictor { return &predictor{cycles: make(map[string]int)} }

// serve answers with p until the test ends and returns the address.
func serve(t *testing.T, p *predictor, o grpcapi.Options, more httpapi.Options) (addr string, stop func() error) {
	t.Helper()
	h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), p, more)
	if err != nil {
		t.Fatal(err)
	}
	return serveHandler(t, h, o)
}

func serveHandler(t *testing.T, h http.Handler, o grpcapi.Options) (addr string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- grpcapi.Serve(ctx, l, h, o) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := stop(); err != nil && !t.Failed() {
			t.Log(err)
		}
	})
	return l.Addr().String(), stop
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// request is a call for readings of one unit, as contents.
func request(cycles ...int64) *inference.ModelInferRequest {
	n := int64(len(cycles))
	var units [][]byte
	var settings, sensors []float64
	for range cycles {
		units = append(units, []byte("1"))
		settings = append(settings, 0, 0, 100)
		for i := range 21 {
			sensors = append(sensors, float64(i))
		}
	}
	in := func(name, datatype string, width int64, c *inference.InferTensorContents) *inference.ModelInferRequest_InferInputTensor {
		shape := []int64{n}
		if width > 1 {
			shape = append(shape, width)
		}
		return &inference.ModelInferRequest_InferInputTensor{Name: name, Datatype: datatype, Shape: shape, Contents: c}
	}
	return &inference.ModelInferRequest{ModelName: "rul", Id: "x", Inputs: []*inference.ModelInferRequest_InferInputTensor{
		in("unit_id", "BYTES", 1, &inference.InferTensorContents{BytesContents: units}), in("cycle", "INT64", 1, &inference.InferTensorContents{Int64Contents: cycles}),
		in("settings", "FP64", 3, &inference.InferTensorContents{Fp64Contents: settings}), in("sensors", "FP64", 21, &inference.InferTensorContents{Fp64Contents: sensors}),
	}}
}

// TestInferenceClient runs Triton's own client.
func TestInferenceClient(t *testing.T) {
	python, err := filepath.Abs("../.venv/oip/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("TestInferenceClient needs .venv/oip: run scripts/test.sh")
		}
		t.Skip("TestInferenceClient needs .venv/oip: run scripts/test.sh")
	}
	addr, _ := serve(t, newPredictor(), grpcapi.Options{}, httpapi.Options{})
	out, err := exec.CommandContext(t.Context(), python, "../httpapi/testdata/oip_grpc.py", addr).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestContents sends tensors as contents, of every type that has them, and is answered in contents.
func TestContents(t *testing.T) {
	p := newPredictor()
	addr, _ := serve(t, p, grpcapi.Options{}, httpapi.Options{})
	c := inference.NewGRPCInferenceServiceClient(dial(t, addr))
	for datatype, contents := range map[string]*inference.InferTensorContents{
		"INT8": {IntContents: []int32{7}}, "INT16": {IntContents: []int32{7}}, "INT32": {IntContents: []int32{7}}, "INT64": {Int64Contents: []int64{7}},
		"UINT8": {UintContents: []uint32{7}}, "UINT16": {UintContents: []uint32{7}}, "UINT32": {UintContents: []uint32{7}}, "UINT64": {Uint64Contents: []uint64{7}},
		"FP32": {Fp32Contents: []float32{7}}, "FP64": {Fp64Contents: []float64{7}},
	} {
		req := request(1)
		req.Inputs[1].Datatype, req.Inputs[1].Contents = datatype, contents
		got, err := c.ModelInfer(t.Context(), req)
		if err != nil {
			t.Errorf("%s: %v", datatype, err)
			continue
		}
		if n := len(p.asked); p.asked[n-1].Readings[0].Cycle != 7 || !p.asked[n-1].Stateless {
			t.Errorf("%s: read %+v", datatype, p.asked[n-1])
		}
		byName := map[string]*inference.InferTensorContents{}
		for _, o := range got.GetOutputs() {
			byName[o.GetName()] = o.GetContents()
		}
		if got.GetId() != "x" || byName["rul_prediction"].GetFp64Contents()[0] != 93 || !math.IsNaN(byName["rul_upper"].GetFp64Contents()[0]) ||
			string(byName["warnings"].GetBytesContents()[0]) != "a; b" || byName["condition"].GetInt64Contents()[0] != -1 || len(got.GetRawOutputContents()) != 0 {
			t.Errorf("%s: answered %v", datatype, got)
		}
	}
}

// TestRefusals holds what is refused to its code and words.
func TestRefusals(t *testing.T) {
	p := newPredictor()
	addr, _ := serve(t, p, grpcapi.Options{}, httpapi.Options{})
	c := inference.NewGRPCInferenceServiceClient(dial(t, addr))
	with := func(change func(*inference.ModelInferRequest)) *inference.ModelInferRequest {
		r := request(1)
		change(r)
		return r
	}
	for _, x := range []struct {
		req  *inference.ModelInferRequest
		err  error
		code codes.Code
		want string
	}{
		{with(func(r *inference.ModelInferRequest) { r.ModelName = "other" }), nil, codes.NotFound, `there is no model "other" here; rul serves`},
		{with(func(r *inference.ModelInferRequest) { r.ModelVersion = "8" }), nil, codes.NotFound, `version "8" of rul does not serve; version 7 does`},
		{with(func(r *inference.ModelInferRequest) { r.Inputs = nil }), nil, codes.InvalidArgument, `inputs: must hold at least one tensor`},
		{with(func(r *inference.ModelInferRequest) { r.RawInputContents = [][]byte{{1}} }), nil, codes.InvalidArgument, `raw_input_contents: must have one entry for each of 4 inputs; it has 1`},
		{with(func(r *inference.ModelInferRequest) { r.RawInputContents = make([][]byte, 4) }), nil, codes.InvalidArgument, `inputs[0].contents: is given beside raw_input_contents; send one of them`},
		{with(func(r *inference.ModelInferRequest) { r.Inputs[1].Datatype = "FP16" }), nil, codes.InvalidArgument, `inputs[1].datatype: "FP16" has no contents; send it in raw_input_contents`},
		{with(func(r *inference.ModelInferRequest) {
			r.Inputs[1].Datatype, r.Inputs[1].Contents = "INT8", &inference.InferTensorContents{IntContents: []int32{128}}
		}), nil, codes.InvalidArgument, `inputs[1].contents.int_contents: 128 is no INT8`},
		{with(func(r *inference.ModelInferRequest) {
			r.Inputs[1].Datatype, r.Inputs[1].Contents = "UINT16", &inference.InferTensorContents{UintContents: []uint32{65536}}
		}), nil, codes.InvalidArgument, `inputs[1].contents.uint_contents: 65536 is no UINT16`},
		{with(func(r *inference.ModelInferRequest) { r.Inputs[1].Contents = nil }), nil, codes.InvalidArgument, `inputs[1].parameters.binary_data_size: must be 8 for 1 values of INT64, not 0`},
		{with(func(r *inference.ModelInferRequest) { r.Inputs[2].Shape = []int64{1, -3} }), nil, codes.InvalidArgument, `inputs[2].shape: must have 1 to 8 dimensions of at least 1`},
		{with(func(r *inference.ModelInferRequest) {
			r.Parameters = map[string]*inference.InferParameter{"x": {ParameterChoice: &inference.InferParameter_DoubleParam{DoubleParam: math.NaN()}}}
		}), nil, codes.InvalidArgument, `parameters: json: unsupported value: NaN`},
		{request(1), turbofan.Errorf(turbofan.EUnavailable, "no model serves yet"), codes.Unavailable, `no model serves yet`},
		{request(1), turbofan.Errorf(turbofan.EExhausted, "too many"), codes.ResourceExhausted, `too many`},
		{request(1), turbofan.Errorf(turbofan.EUnauthorized, "who are you?"), codes.Unauthenticated, `who are you?`},
		{request(1), fmt.Errorf("the disk is full"), codes.Internal, `internal error`},
	} {
		p.err = x.err
		_, err := c.ModelInfer(t.Context(), x.req)
		if s := status.Convert(err); s.Code() != x.code || s.Message() != x.want {
			t.Errorf("got %v, want %s %s", err, x.code, x.want)
		}
	}
}

// TestOneHandler sees that a call passes the handler's limits, ids and metrics, and that metadata go both ways.
func TestOneHandler(t *testing.T) {
	var mu sync.Mutex
	var seen []*http.Request
	inner, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newPredictor(), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r)
		mu.Unlock()
		inner.ServeHTTP(w, r)
	}), grpcapi.Options{})
	c := inference.NewGRPCInferenceServiceClient(dial(t, addr))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer k", "x-request-id", "mine-1", "cookie", "no")
	var header metadata.MD
	if _, err := c.ModelInfer(ctx, request(1, 2), grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	r := seen[0]
	if r.Header.Get("Authorization") != "Bearer k" || r.Header.Get("Cookie") != "" || !strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
		t.Errorf("the handler saw %v from %s", r.Header, r.RemoteAddr)
	}
	if got := header.Get("x-bentoml-request-id"); len(got) != 1 || got[0] != "mine-1" {
		t.Errorf("the id came back as %v", got)
	}
}

// TestGuardedCalls puts keys before the handler: a call carries its own in the metadata, and probes need none.
func TestGuardedCalls(t *testing.T) {
	inner, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newPredictor(), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := serveHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/health/ready" || r.Header.Get("Authorization") == "Bearer good":
			inner.ServeHTTP(w, r)
		case r.Header.Get("Authorization") == "Bearer busy":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"error":"the key busy has sent more than its rate allows","code":"exhausted"}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}), grpcapi.Options{})
	conn := dial(t, addr)
	c := inference.NewGRPCInferenceServiceClient(conn)
	for key, want := range map[string]codes.Code{"good": codes.OK, "busy": codes.ResourceExhausted, "bad": codes.Unauthenticated} {
		var trailer metadata.MD
		_, err := c.ModelInfer(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key), request(1), grpc.Trailer(&trailer))
		if status.Code(err) != want {
			t.Errorf("key %s: %v", key, err)
		}
		if got := trailer.Get("grpc-retry-pushback-ms"); want == codes.ResourceExhausted && (len(got) != 1 || got[0] != "7000") {
			t.Errorf("key %s: pushback %v", key, got)
		}
	}
	if got, err := c.ServerReady(t.Context(), &inference.ServerReadyRequest{}); err != nil || !got.GetReady() {
		t.Errorf("ready without a key: %v %v", got, err)
	}
}

// TestBoundedCalls fills the server: what is beyond is refused at once, and one that ends makes room.
func TestBoundedCalls(t *testing.T) {
	p := newPredictor()
	p.hold, p.inside = make(chan struct{}), make(chan struct{})
	addr, _ := serve(t, p, grpcapi.Options{MaxCalls: 2}, httpapi.Options{})
	held := make(chan error, 2)
	for range 2 { // a connection each: the bound is over all of them
		c := inference.NewGRPCInferenceServiceClient(dial(t, addr))
		go func() {
			_, err := c.ModelInfer(context.Background(), request(1))
			held <- err
		}()
		<-p.inside
	}
	c := inference.NewGRPCInferenceServiceClient(dial(t, addr))
	if _, err := c.ModelInfer(t.Context(), request(1)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third call: %v", err)
	}
	close(p.hold)
	for range 2 {
		if err := <-held; err != nil {
			t.Error(err)
		}
	}
	big := request(1)
	big.Id = strings.Repeat("x", 5<<20)
	if _, err := inference.NewGRPCInferenceServiceClient(dial(t, addr)).ModelInfer(t.Context(), big); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 5 MiB: %v", err)
	}
}

// TestDrain stops the server while a call is under way: it is answered, and health says no meanwhile.
func TestDrain(t *testing.T) {
	p := newPredictor()
	p.hold, p.inside = make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, p, grpcapi.Options{}, httpapi.Options{})
	conn := dial(t, addr)
	probe := health.NewHealthClient(conn)
	if got, err := probe.Check(t.Context(), &health.HealthCheckRequest{}); err != nil || got.GetStatus() != health.HealthCheckResponse_SERVING {
		t.Errorf("health: %v %v", got, err)
	}
	if _, err := probe.Check(t.Context(), &health.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of another service: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := inference.NewGRPCInferenceServiceClient(conn).ModelInfer(context.Background(), request(1))
		answered <- err
	}()
	<-p.inside
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(p.hold)
	if err := <-answered; err != nil {
		t.Errorf("a call under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestNotReady asks a server whose model is away, and one that is cut off.
func TestNotReady(t *testing.T) {
	away := httpapi.Options{Ready: func(context.Context) error { return turbofan.Errorf(turbofan.EUnavailable, "no model serves yet") }}
	p := newPredictor()
	p.hold, p.inside = make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, p, grpcapi.Options{DrainTimeout: time.Millisecond}, away)
	conn := dial(t, addr)
	c := inference.NewGRPCInferenceServiceClient(conn)
	if got, err := c.ServerReady(t.Context(), &inference.ServerReadyRequest{}); err != nil || got.GetReady() {
		t.Errorf("ready: %v %v", got, err)
	}
	if got, err := c.ServerLive(t.Context(), &inference.ServerLiveRequest{}); err != nil || !got.GetLive() {
		t.Errorf("live: %v %v", got, err)
	}
	if got, err := health.NewHealthClient(conn).Check(t.Context(), &health.HealthCheckRequest{}); err != nil || got.GetStatus() != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v %v", got, err)
	}
	cut := make(chan error, 1)
	go func() {
		_, err := c.ModelInfer(context.Background(), request(1))
		cut <- err
	}()
	<-p.inside
	if err := stop(); err == nil || !strings.Contains(err.Error(), "calls were still under way after 1ms") {
		t.Errorf("stopped with %v", err)
	}
	if err := <-cut; err == nil {
		t.Error("a call that was cut off has no error")
	}
}
