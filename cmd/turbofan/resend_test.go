package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"turbofan"
	"turbofan/grpcapi/inference"
	"turbofan/internal/porttest"
)

// TestSentAgain loses the answer to a list, in every protocol that takes one, and sends the same bytes again.
func TestSentAgain(t *testing.T) {
	address := porttest.Address(t)
	p := serve(t, nil, "--data-dir", dataDir(t), "--grpc-port", address[strings.LastIndexByte(address, ':')+1:])
	p.ready(rolePredict)
	life := histories(t, "FD001")[0].Readings[:5]
	for _, form := range []struct{ name, path, kind, head, row, between, tail string }{
		{"a list", "/predict", "application/json", `{"readings":[`, `{"unit_id":%q,"cycle":%d,"settings":[%s],"sensors":[%s]}`, ",", `]}`},
		{"a list with reasons", "/predict?explain=true", "application/json", `{"readings":[`, `{"unit_id":%q,"cycle":%d,"settings":[%s],"sensors":[%s]}`, ",", `]}`},
		{"a batch", "/predict_batch", "application/json", `[`, `{"unit_id":%q,"cycle":%d,"settings":[%s],"sensors":[%s]}`, ",", `]`},
		{"NDJSON", "/predict_batch", "application/x-ndjson", ``, `{"unit_id":%q,"cycle":%d,"settings":[%s],"sensors":[%s]}`, "\n", "\n"},
		{"MLflow", "/invocations", "application/json", `{"params":{"stateless":false},"dataframe_records":[`, `{"unit_id":%q,"cycle":%d,"settings":[%s],"sensors":[%s]}`, ",", `]}`},
	} {
		t.Run(form.name, func(t *testing.T) {
			var rows []string
			for _, r := range life {
				rows = append(rows, fmt.Sprintf(form.row, "of "+form.name, r.Cycle, numbers(r.Settings), numbers(r.Sensors)))
			}
			ask := func(n int) string {
				res, err := http.Post(p.urls[rolePredict]+form.path, form.kind, strings.NewReader(form.head+strings.Join(rows[:n], form.between)+form.tail))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				if err != nil || res.StatusCode != http.StatusOK {
					t.Fatalf("%d %s %v", res.StatusCode, b, err)
				}
				return string(b)
			}
			first := ask(4)
			if again := ask(4); again != first {
				t.Errorf("answered\n%s\nbefore\n%s", again, first)
			}
			if longer := ask(5); !strings.HasPrefix(longer, strings.TrimRight(first, "]}\n")) {
				t.Errorf("a longer list is answered\n%s\nthe first part was\n%s", longer, first)
			}
		})
	}
	t.Run("Open Inference", func(t *testing.T) {
		var values [4][]string // unit, cycle, settings, sensors
		for _, r := range life {
			for i, text := range []string{`"v2"`, fmt.Sprint(r.Cycle), numbers(r.Settings), numbers(r.Sensors)} {
				values[i] = append(values[i], text)
			}
		}
		body := `{"parameters":{"stateless":false},"inputs":[`
		for i, input := range []string{`"name":"unit_id","datatype":"BYTES","shape":[5]`, `"name":"cycle","datatype":"INT64","shape":[5]`, `"name":"settings","datatype":"FP64","shape":[5,3]`, `"name":"sensors","datatype":"FP64","shape":[5,21]`} {
			body += "{" + input + `,"data":[` + strings.Join(values[i], ",") + "]},"
		}
		body = strings.TrimSuffix(body, ",") + "]}"
		code, first := p.post(rolePredict, "/v2/models/rul/infer", body)
		if _, again := p.post(rolePredict, "/v2/models/rul/infer", body); code != http.StatusOK || again != first {
			t.Errorf("%d: answered\n%s\nbefore\n%s", code, again, first)
		}
	})
	t.Run("gRPC", func(t *testing.T) { sentAgainByGRPC(t, address, life) })
}

func sentAgainByGRPC(t *testing.T, address string, life []turbofan.Reading) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tensor := func(name, kind string, width int64) *inference.ModelInferRequest_InferInputTensor {
		shape := []int64{int64(len(life))}
		if width > 0 {
			shape = append(shape, width)
		}
		return &inference.ModelInferRequest_InferInputTensor{Name: name, Datatype: kind, Shape: shape, Contents: &inference.InferTensorContents{}}
	}
	unit, cycle, settings, sensors := tensor("unit_id", "BYTES", 0), tensor("cycle", "INT64", 0), tensor("settings", "FP64", 3), tensor("sensors", "FP64", 21)
	for _, r := range life {
		unit.Contents.BytesContents = append(unit.Contents.BytesContents, []byte("of gRPC"))
		cycle.Contents.Int64Contents = append(cycle.Contents.Int64Contents, int64(r.Cycle))
		settings.Contents.Fp64Contents = append(settings.Contents.Fp64Contents, r.Settings...)
		sensors.Contents.Fp64Contents = append(sensors.Contents.Fp64Contents, r.Sensors...)
	}
	request := &inference.ModelInferRequest{ModelName: "rul", Inputs: []*inference.ModelInferRequest_InferInputTensor{unit, cycle, settings, sensors},
		Parameters: map[string]*inference.InferParameter{"stateless": {ParameterChoice: &inference.InferParameter_BoolParam{BoolParam: false}}}}
	ask := func() *inference.ModelInferResponse {
		t.Helper()
		answer, err := inference.NewGRPCInferenceServiceClient(conn).ModelInfer(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Id = ""
		return answer
	}
	if first, again := ask(), ask(); !proto.Equal(first, again) {
		t.Errorf("answered\n%s\nbefore\n%s", again, first)
	}
}

// numbers writes values as a list of JSON holds them.
func numbers(values []float64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(values), " ", ","), "[]")
}
