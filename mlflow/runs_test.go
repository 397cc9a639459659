package mlflow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"turbofan"
	"turbofan/mlflow"
	"turbofan/registry"
)

// gated is a registry whose searches say that they have begun, and wait to be let go on.
type gated struct {
	*registry.Registry
	begun, goOn chan struct{}
}

func (g gated) SearchRuns(ctx context.Context, q turbofan.SearchQuery) ([]turbofan.Run, string, error) {
	g.begun <- struct{}{}
	<-g.goOn
	return g.Registry.SearchRuns(ctx, q)
}

// Of large pages two are made at a time, whichever way they are asked for; small ones pass them, and who goes while he
// waits is let go. All of them say the same.
func TestLargePagesWait(t *testing.T) {
	r := openRegistry(t)
	const runs = 300
	var filled sync.WaitGroup
	for i := range runs {
		filled.Go(func() {
			run, err := r.CreateRun(t.Context(), turbofan.Run{RunInfo: turbofan.RunInfo{ExperimentID: "0", Name: fmt.Sprint("run ", i)}})
			if err == nil {
				err = r.RecordRun(t.Context(), run.ID, turbofan.RunRecord{Params: []turbofan.KeyValue{{Key: "i", Value: strings.Repeat("x", i)}}})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	filled.Wait()
	g := gated{r, make(chan struct{}), make(chan struct{})}
	h := mlflow.NewHandler(g, mlflow.HandlerConfig{})
	const rest, graph = api + "runs/search", "/graphql"
	large := map[string]string{rest: `{"experiment_ids":["0"],"max_results":1000}`,
		graph: `{"query":"query SearchRuns { mlflowSearchRuns }","variables":{"data":{"experimentIds":["0"],"maxResults":1000}}}`}
	answers := make(chan said, 16)
	var wg sync.WaitGroup
	begin := func(path, body string) { wg.Go(func() { answers <- ask(t, h, http.MethodPost, path, body) }) }
	for range 3 {
		begin(rest, large[rest])
		begin(graph, large[graph])
	}
	<-g.begun
	<-g.begun

	gone, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	q := httptest.NewRequestWithContext(gone, http.MethodPost, "http://localhost"+rest, strings.NewReader(large[rest]))
	q.Header.Set("Content-Type", "application/json")
	h.ServeHTTP(w, q) // returns, though both places are taken
	if w.Body.Len() > 0 {
		t.Errorf("who has gone was answered %s", w.Body)
	}

	begin(rest, `{"experiment_ids":["0"],"max_results":10}`)
	<-g.begun // the small page: no large one gets here while two are
	go func() {
		for range 4 {
			<-g.begun
		}
	}()
	for range 7 {
		g.goOn <- struct{}{}
	}
	wg.Wait()
	close(answers)
	found := map[int]int{} // answers by their length in runs
	for a := range answers {
		if a.status != http.StatusOK || !json.Valid([]byte(a.text)) {
			t.Fatalf("%d %.200s", a.status, a.text)
		}
		n := strings.Count(a.text, `"run_uuid"`) + strings.Count(a.text, `"runUuid"`)
		found[n]++
	}
	if len(found) != 2 || found[10] != 1 || found[runs] != 6 {
		t.Errorf("answers by their runs: %v", found)
	}
}
