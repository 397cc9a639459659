#!/bin/sh
# Asks a real API server about every overlay: builds Kubernetes' own from its Go module, with etcd and the CRDs of the
# Prometheus operator, runs them on loopback, and has kubectl apply each overlay, for nothing and for good. Needs go and
# kubectl, no cluster and no image. The first build takes some eight minutes of processor time; CI has the server's
# validation alone (deploy/validate).
#   deploy/kubernetes/validate.sh [DIRECTORY FOR WHAT IS BUILT]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
built=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/turbofan/apiserver}
version=$(awk '$1 == "k8s.io/kubernetes" {print $2; exit}' "$here/../validate/go.mod")
staging=v0.${version#v1.}
etcd=v3.6.4
operator=v0.85.0
controllertools=v0.19.0

make_module() { # its name
	mkdir -p "$built/$1"
	cd "$built/$1"
}

if [ ! -x "$built/apiserver-$version" ]; then
	make_module server
	kubernetes=$(go mod download -json "k8s.io/kubernetes@$version" | awk -F'"' '$2 == "GoMod" {print $4}')
	{
		printf 'module server\ngo 1.26.0\nrequire k8s.io/kubernetes %s\nrequire go.etcd.io/etcd/server/v3 %s\n' "$version" "$etcd"
		# Kubernetes builds its libraries from its own tree; their releases are modules of their own.
		awk -v v="$staging" '$2 == "=>" && $3 ~ /^\.\/staging/ {print "replace " $1 " => " $1 " " v}' "$kubernetes"
	} >go.mod
	mkdir -p apiserver etcd
	cat >apiserver/main.go <<'EOF'
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
EOF
	cat >etcd/main.go <<'EOF'
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
EOF
	go get ./...
	go build -o "$built/etcd-$etcd" ./etcd
	go build -o "$built/apiserver-$version" ./apiserver
fi
if [ ! -d "$built/crd-$operator" ]; then
	make_module crd
	printf 'module crd\ngo 1.26.0\n' >go.mod
	types=github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring
	generator=sigs.k8s.io/controller-tools/cmd/controller-gen
	printf '//go:build tools\n\npackage crd\n\nimport (\n\t_ "%s/v1"\n\t_ "%s"\n)\n' $types $generator >tools.go
	go get $types@$operator $generator@$controllertools
	go mod tidy
	go run $generator crd:crdVersions=v1 paths=$types/v1 output:crd:dir="$built/crd-$operator"
fi

run=$(mktemp -d)
trap 'kill $api $store 2>/dev/null || true; wait; rm -rf "$run"' EXIT
api= store=
openssl genrsa -out "$run/key" 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,1,system:masters" >"$run/tokens"
"$built/etcd-$etcd" --data-dir "$run/etcd" --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
	--listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster default=http://127.0.0.1:23800 >"$run/etcd.log" 2>&1 &
store=$!
"$built/apiserver-$version" --etcd-servers http://127.0.0.1:23790 --cert-dir "$run/certs" --bind-address 127.0.0.1 --secure-port 26443 \
	--service-cluster-ip-range 10.0.0.0/24 --service-account-issuer https://turbofan --service-account-key-file "$run/key" \
	--service-account-signing-key-file "$run/key" --token-auth-file "$run/tokens" --authorization-mode RBAC --endpoint-reconciler-type none >"$run/api.log" 2>&1 &
api=$!
k() { kubectl --kubeconfig /dev/null --server https://127.0.0.1:26443 --insecure-skip-tls-verify --token "$token" "$@"; }
tries=0
until k get --raw /readyz >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 120 ] || ! kill -0 $api; then
		tail -n 20 "$run/etcd.log" "$run/api.log"
		exit 1
	fi
	sleep 1
done
k apply --server-side -f "$built/crd-$operator/monitoring.coreos.com_servicemonitors.yaml" -f "$built/crd-$operator/monitoring.coreos.com_prometheusrules.yaml"
k wait --for=condition=Established --all crd >/dev/null

# The components that no overlay takes by itself, on top of one that is there.
cp -R "$here" "$run/kubernetes"
mkdir "$run/kubernetes/overlays/operator"
printf 'resources: [../production]\ncomponents: [../../components/servicemonitor]\nnamespace: turbofan\n' >"$run/kubernetes/overlays/operator/kustomization.yaml"
for overlay in local production operator; do
	echo "== $overlay"
	files="$run/kubernetes/overlays/$overlay"
	k create -f "$here/overlays/local/namespace.yaml" >/dev/null 2>&1 || true # a dry run makes none for what is in it
	k -n turbofan create serviceaccount default >/dev/null 2>&1 || true       # a controller's work, and there is none
	k apply --server-side --dry-run=server --validate=strict -k "$files"
	k apply --server-side --force-conflicts --validate=strict -k "$files" >/dev/null
	# What the controllers would make of the Deployments is held to the namespace's pod security.
	k -n turbofan get deployments -o go-template='{{range .items}}{{.metadata.name}} {{end}}' | tr ' ' '\n' | while read -r name; do
		[ -z "$name" ] && continue
		k -n turbofan get deployment "$name" -o json | python3 -c '
import json, sys
t = json.load(sys.stdin)["spec"]["template"]
print(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": sys.argv[1], "labels": t["metadata"]["labels"]}, "spec": t["spec"]}))' "$name" |
			k -n turbofan create --dry-run=server -f -
	done
	k -n turbofan delete deployments,services,configmaps,poddisruptionbudgets,horizontalpodautoscalers,ingresses,networkpolicies,persistentvolumeclaims --all --wait=false >/dev/null
	# Nobody binds these claims: their finalizers wait for a controller.
	k -n turbofan get persistentvolumeclaims -o name | while read -r claim; do k -n turbofan patch "$claim" --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null; done
done
echo "the API server $version takes every overlay, twice, and every pod"
