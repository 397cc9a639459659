// Package validate_test reads what is deployed with the libraries of those who will read it: Kubernetes' API server,
// kustomize and Compose's loader. It is a module of its own so that the platform depends on none of them:
//
//	cd deploy/validate && go test -count=1 ./...
package validate_test

import (
	"maps"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// serviceMonitor is as much of the Prometheus operator's type as is used here.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              serviceMonitorSpec `json:"spec"`
}

type serviceMonitorSpec struct {
	Selector  metav1.LabelSelector `json:"selector"`
	JobLabel  string               `json:"jobLabel"`
	Endpoints []struct {
		Port     string `json:"port"`
		Path     string `json:"path"`
		Interval string `json:"interval"`
	} `json:"endpoints"`
}

// cluster is what one overlay applies, by type.
type cluster struct {
	namespaces  []*corev1.Namespace
	configs     []*corev1.ConfigMap
	claims      []*corev1.PersistentVolumeClaim
	services    []*corev1.Service
	deployments []*appsv1.Deployment
	budgets     []*policyv1.PodDisruptionBudget
	scalers     []*autoscalingv2.HorizontalPodAutoscaler
	ingresses   []*networkingv1.Ingress
	policies    []*networkingv1.NetworkPolicy
	monitors    []*serviceMonitor
	rules       int // objects of them; TestPrometheusRule reads what they hold
}

// rolePorts are the ports of the roles, by the name of their service.
func rolePorts() map[string]int32 {
	return map[string]int32{"prediction-api": 3000, "feedback-api": 3001, "retraining-service": 3003, "drift-detector": 3004, "registry": 5001, "console": 8080}
}

// build runs kustomize over dir and decodes all of it strictly: a key that the type does not have is an error.
func build(t *testing.T, dir string) *cluster {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{}
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		id := r.GetApiVersion() + " " + r.GetKind()
		if r.GetGvk().Group != "monitoring.coreos.com" { // the operator's, which the API server knows by schema alone
			admit(t, text)
		}
		switch id {
		case "v1 Namespace":
			c.namespaces = append(c.namespaces, decode[corev1.Namespace](t, text))
		case "v1 ConfigMap":
			c.configs = append(c.configs, decode[corev1.ConfigMap](t, text))
		case "v1 PersistentVolumeClaim":
			c.claims = append(c.claims, decode[corev1.PersistentVolumeClaim](t, text))
		case "v1 Service":
			c.services = append(c.services, decode[corev1.Service](t, text))
		case "apps/v1 Deployment":
			c.deployments = append(c.deployments, decode[appsv1.Deployment](t, text))
		case "policy/v1 PodDisruptionBudget":
			c.budgets = append(c.budgets, decode[policyv1.PodDisruptionBudget](t, text))
		case "autoscaling/v2 HorizontalPodAutoscaler":
			c.scalers = append(c.scalers, decode[autoscalingv2.HorizontalPodAutoscaler](t, text))
		case "networking.k8s.io/v1 Ingress":
			c.ingresses = append(c.ingresses, decode[networkingv1.Ingress](t, text))
		case "networking.k8s.io/v1 NetworkPolicy":
			c.policies = append(c.policies, decode[networkingv1.NetworkPolicy](t, text))
		case "monitoring.coreos.com/v1 ServiceMonitor":
			c.monitors = append(c.monitors, decode[serviceMonitor](t, text))
		case "monitoring.coreos.com/v1 PrometheusRule":
			c.rules++
		default:
			t.Errorf("%s: nobody decodes %s %s", dir, id, r.GetName())
		}
		if id != "v1 Namespace" && r.GetNamespace() != "turbofan" {
			t.Errorf("%s: %s %s is in namespace %q", dir, id, r.GetName(), r.GetNamespace())
		}
	}
	return c
}

func decode[T any](t *testing.T, text []byte) *T {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(text, v); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return v
}

func TestOverlays(t *testing.T) {
	for _, dir := range []string{"../kubernetes/overlays/local", "../kubernetes/overlays/production", "testdata/operator"} {
		t.Run(dir, func(t *testing.T) {
			c := build(t, dir)
			if len(c.deployments) != len(rolePorts()) || len(c.services) != len(rolePorts()) {
				t.Errorf("%d deployments and %d services for %d roles", len(c.deployments), len(c.services), len(rolePorts()))
			}
			for _, d := range c.deployments {
				checkDeployment(t, c, d)
			}
			for _, s := range c.services {
				checkService(t, c, s)
			}
			checkReferences(t, c)
			restrict(t, c)
		})
	}
	c := build(t, "../kubernetes/overlays/production")
	if len(c.scalers) != 1 {
		t.Error("production does not scale predictions")
	}
	checkPostgres(t, c)
	if c := build(t, "testdata/operator"); len(c.monitors) != 1 || c.rules != 1 {
		t.Error("the component servicemonitor adds no monitor, or no rules")
	}
}

// checkPostgres demands that no pod but the registry's needs a disk that another node could not reach.
func checkPostgres(t *testing.T, c *cluster) {
	t.Helper()
	for _, d := range c.deployments {
		pod := d.Spec.Template.Spec
		if pod.Affinity != nil {
			t.Errorf("production: %s is bound to a node", d.Name)
		}
		fromSecret := slices.ContainsFunc(pod.Containers[0].Env, func(e corev1.EnvVar) bool {
			return e.Name == "TURBOFAN_STORE_DSN" && e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == "turbofan-store"
		})
		onDisk := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == "data" && v.PersistentVolumeClaim != nil })
		// The console asks the others for everything.
		if own := d.Name == "registry"; fromSecret == (own || d.Name == "console") || onDisk != own {
			t.Errorf("production: %s: address of PostgreSQL %t, disk %t", d.Name, fromSecret, onDisk)
		}
	}
}

func checkDeployment(t *testing.T, c *cluster, d *appsv1.Deployment) {
	t.Helper()
	pod := d.Spec.Template
	if selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err != nil || !selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("%s: its selector does not match its pods: %v", d.Name, err)
	}
	if s := pod.Spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil {
		t.Errorf("%s: must not run as root, with the default seccomp profile", d.Name)
	}
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		t.Errorf("%s: variables made of service names could be taken for settings", d.Name)
	}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && !slices.ContainsFunc(c.claims, func(p *corev1.PersistentVolumeClaim) bool { return p.Name == v.PersistentVolumeClaim.ClaimName }) {
			t.Errorf("%s: there is no claim %s", d.Name, v.PersistentVolumeClaim.ClaimName)
		}
	}
	k := pod.Spec.Containers[0]
	if k.StartupProbe == nil || k.LivenessProbe == nil || k.ReadinessProbe == nil || k.Resources.Requests.Cpu().IsZero() || k.Resources.Limits.Memory().IsZero() {
		t.Errorf("%s: needs three probes, a request of CPU and a limit of memory", d.Name)
	}
	if s := k.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || len(s.Capabilities.Drop) != 1 {
		t.Errorf("%s: needs a read-only root, no privileges and no capabilities", d.Name)
	}
	if len(k.Ports) != 1 || k.Ports[0].ContainerPort != rolePorts()[d.Name] {
		t.Errorf("%s: ports %v, want %d", d.Name, k.Ports, rolePorts()[d.Name])
	}
	for _, m := range k.VolumeMounts {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("%s: mounts %s, which is no volume of it", d.Name, m.Name)
		}
	}
	for _, e := range k.EnvFrom {
		if e.SecretRef != nil && e.SecretRef.Optional != nil && *e.SecretRef.Optional {
			continue
		}
		if e.ConfigMapRef == nil || !slices.ContainsFunc(c.configs, func(m *corev1.ConfigMap) bool { return m.Name == e.ConfigMapRef.Name }) {
			t.Errorf("%s: there is no config map for %+v", d.Name, e)
		}
	}
}

func checkService(t *testing.T, c *cluster, s *corev1.Service) {
	t.Helper()
	behind := 0
	for _, d := range c.deployments {
		if labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
			behind++
			if s.Spec.Ports[0].TargetPort != intstr.FromString(d.Spec.Template.Spec.Containers[0].Ports[0].Name) {
				t.Errorf("%s: targets %v", s.Name, s.Spec.Ports[0].TargetPort)
			}
		}
	}
	if behind != 1 || s.Spec.Ports[0].Port != rolePorts()[s.Name] {
		t.Errorf("service %s: %d deployments behind it, port %d", s.Name, behind, s.Spec.Ports[0].Port)
	}
}

// checkReferences demands that what names a deployment, a service or a pod names one that there is.
func checkReferences(t *testing.T, c *cluster) {
	t.Helper()
	covered := map[string]bool{}
	for _, b := range c.budgets {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.deployments {
			if selector.Matches(labels.Set(d.Spec.Template.Labels)) {
				covered[d.Name] = true
			}
		}
	}
	if len(covered) != len(rolePorts()) {
		t.Errorf("disruption budgets cover only %v", slices.Sorted(maps.Keys(covered)))
	}
	for _, i := range c.ingresses {
		for _, p := range i.Spec.Rules[0].HTTP.Paths {
			if rolePorts()[p.Backend.Service.Name] == 0 {
				t.Errorf("ingress %s: there is no service %s", p.Path, p.Backend.Service.Name)
			}
		}
	}
	for _, h := range c.scalers {
		at := slices.IndexFunc(c.deployments, func(d *appsv1.Deployment) bool { return d.Name == h.Spec.ScaleTargetRef.Name })
		if at < 0 || c.deployments[at].Spec.Replicas != nil {
			t.Errorf("autoscaler of %s: there must be that deployment, without a number of its own", h.Spec.ScaleTargetRef.Name)
		}
	}
	for _, p := range c.policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil || !selector.Matches(labels.Set(c.deployments[0].Spec.Template.Labels)) {
			t.Errorf("policy %s selects no pod: %v", p.Name, err)
		}
	}
	for _, m := range c.monitors {
		selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
		for _, s := range c.services {
			if err != nil || !selector.Matches(labels.Set(s.Labels)) || s.Spec.Ports[0].Name != m.Spec.Endpoints[0].Port || s.Labels[m.Spec.JobLabel] != s.Name {
				t.Errorf("the monitor does not see service %s as job %s: %v", s.Name, s.Name, err)
			}
		}
	}
	for key := range c.configs[0].Data {
		if len(key) < 10 || key[:9] != "TURBOFAN_" {
			t.Errorf("%s is no setting", key)
		}
	}
}
