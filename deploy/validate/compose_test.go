package validate_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "../compose/docker-compose.yml"

// loadCompose reads the file as docker compose does, with its schema.
func loadCompose(t *testing.T, env map[string]string, profiles ...string) *types.Project {
	t.Helper()
	path, err := filepath.Abs(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: filepath.Dir(path), ConfigFiles: []types.ConfigFile{{Filename: path}}, Environment: env,
	}, func(o *loader.Options) { o.Profiles = profiles })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCompose(t *testing.T) {
	p := loadCompose(t, nil)
	want := []string{"alertmanager", "console", "drift-detector", "feedback-api", "grafana", "prediction-api", "prometheus", "registry", "retraining-service", "simulator"}
	names := p.ServiceNames()
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("services are %v, want %v", names, want)
	}
	published := rolePorts()
	published["prometheus"], published["grafana"], published["alertmanager"] = 9090, 3002, 9093
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" || port.Published != strconv.Itoa(int(published[name])) {
				t.Errorf("%s publishes %s:%s; want loopback and %d", name, port.HostIP, port.Published, published[name])
			}
		}
		if want := published[name] != 0; want != (len(s.Ports) == 1) {
			t.Errorf("%s publishes %v", name, s.Ports)
		}
		if _, isRole := rolePorts()[name]; isRole || name == "simulator" {
			checkContainer(t, name, &s)
		}
		for on, d := range s.DependsOn {
			if d.Condition != types.ServiceConditionHealthy || p.Services[on].HealthCheck == nil {
				t.Errorf("%s starts after %s on condition %q", name, on, d.Condition)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind || filepath.Base(v.Source) == "raw" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
	}
	if m := loadCompose(t, map[string]string{"TRACKING_URI": "http://mlflow:5000"}, "mlflow"); m.Services["mlflow"].Image == "" ||
		*m.Services["prediction-api"].Environment["TURBOFAN_TRACKING_URI"] != "http://mlflow:5000" {
		t.Error("the profile mlflow does not put MLflow in place of the registry")
	}
}

func checkContainer(t *testing.T, name string, s *types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || len(s.SecurityOpt) != 1 || s.Build == nil {
		t.Errorf("%s: needs a read-only root, no capabilities, no new privileges and a build", name)
	}
	if port := rolePorts()[name]; port != 0 {
		if h := s.HealthCheck; h == nil || len(h.Test) < 3 || h.Test[1] != "/turbofan" || h.Test[2] != "health" || s.Environment["TURBOFAN_ROLES"] == nil {
			t.Errorf("%s: the binary itself must check the health of the role that its environment names", name)
		}
		if name != "console" && !slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Source == "state" && v.Target == "/data" }) {
			t.Errorf("%s: does not share the state", name)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}
