package validate_test

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	autoscalingvalidation "k8s.io/kubernetes/pkg/apis/autoscaling/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	"k8s.io/pod-security-admission/api"
	admission "k8s.io/pod-security-admission/policy"
)

// admit demands that the API server takes an object.
func admit(t *testing.T, text []byte) {
	t.Helper()
	if err := refusal(text); err != nil {
		t.Errorf("the API server refuses it: %v\n%s", err, text)
	}
}

// refusal does to an object what the API server does to one that is created: decode, default, validate.
func refusal(text []byte) error {
	obj, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), text)
	if err != nil {
		return err
	}
	var errs field.ErrorList
	switch o := obj.(type) {
	case *core.Namespace:
		errs = corevalidation.ValidateNamespace(o)
	case *core.ConfigMap:
		errs = corevalidation.ValidateConfigMap(o)
	case *core.PersistentVolumeClaim:
		errs = corevalidation.ValidatePersistentVolumeClaim(o, corevalidation.ValidationOptionsForPersistentVolumeClaim(o, nil))
	case *core.Service:
		o.Spec.ClusterIP, o.Spec.ClusterIPs, o.Spec.IPFamilies = "10.0.0.7", []string{"10.0.0.7"}, []core.IPFamily{core.IPv4Protocol} // allocated before
		single := core.IPFamilyPolicySingleStack
		o.Spec.IPFamilyPolicy = &single
		errs = corevalidation.ValidateServiceCreate(o)
	case *apps.Deployment:
		errs = appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{})
	case *policy.PodDisruptionBudget:
		errs = policyvalidation.ValidatePodDisruptionBudget(o, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *autoscaling.HorizontalPodAutoscaler:
		errs = autoscalingvalidation.ValidateHorizontalPodAutoscaler(o, autoscalingvalidation.HorizontalPodAutoscalerSpecValidationOptions{MinReplicasLowerBound: 1})
	case *networking.Ingress:
		errs = networkingvalidation.ValidateIngressCreate(o)
	case *networking.NetworkPolicy:
		errs = networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	default:
		return fmt.Errorf("nobody validates %T", obj)
	}
	return errs.ToAggregate()
}

// restrict holds pods to the level that our namespaces enforce.
func restrict(t *testing.T, c *cluster) {
	t.Helper()
	checks, err := admission.NewEvaluator(admission.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, d := range c.deployments {
		for _, r := range checks.EvaluatePod(level, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
			if !r.Allowed {
				t.Errorf("%s: pod security forbids %s: %s", d.Name, r.ForbiddenReason, r.ForbiddenDetail)
			}
		}
	}
}

// TestRefusals holds the validation itself to objects that an API server refuses.
func TestRefusals(t *testing.T) {
	const pod = "{metadata: {labels: {a: b}}, spec: {containers: [{name: x, image: x, ports: [{containerPort: %s}]}]}}"
	deployment := func(label, port string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: plant}\nspec: {selector: {matchLabels: {a: " + label + "}}, template: " + fmt.Sprintf(pod, port) + "}\n"
	}
	for want, text := range map[string]string{
		"":                                 deployment("b", "3000"),
		"does not match template `labels`": deployment("c", "3000"),
		"must be between 1 and 65535":      deployment("b", "70000"),
		"cannot be both set":               "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: x, namespace: plant}\nspec: {minAvailable: 1, maxUnavailable: 1}\n",
		"nobody validates":                 "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: plant}\n",
	} {
		err := refusal([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("it says %v, want %q", err, want)
		}
	}
}
