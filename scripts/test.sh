#!/bin/sh
# Runs every test, after installing what tests need where that can be done. The last lines name what was skipped; with
# CI=true a skip is a failure.
set -u
cd "$(dirname "$0")/.."
missing=""

# PostgreSQL, Prometheus, Alertmanager, strace, a proxy and a Docker engine with compose come as Debian packages where we are root on Debian.
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
	want=""
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || want="$want postgresql"
	command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 || want="$want prometheus"
	command -v prometheus-alertmanager >/dev/null 2>&1 && command -v amtool >/dev/null 2>&1 || want="$want prometheus-alertmanager"
	command -v strace >/dev/null 2>&1 || want="$want strace"
	command -v haproxy >/dev/null 2>&1 || want="$want haproxy"
	command -v docker-compose >/dev/null 2>&1 || want="$want docker-compose"
	docker version >/dev/null 2>&1 || command -v dockerd >/dev/null 2>&1 || want="$want docker.io"
	if [ -n "$want" ]; then
		{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $want; } >/tmp/turbofan-apt.log 2>&1 ||
			missing="$missing\n  could not install$want; see /tmp/turbofan-apt.log"
	fi
fi

# The peers that tests speak to, each in an environment of its own under .venv.
venv() {
	scripts/venv.sh "$@" >/tmp/turbofan-venv-"$1".log 2>&1 || missing="$missing\n  could not make .venv/$1; see /tmp/turbofan-venv-$1.log"
}
if command -v python3 >/dev/null 2>&1; then
	venv mlflow2 'mlflow==2.22.5' 'sqlalchemy<2.1' 'setuptools<81' scikit-learn onnx onnxruntime
	venv mlflow3 'mlflow==3.17.2' scikit-learn pillow onnx onnxruntime
	venv bentoml 'bentoml==1.4.39'
	venv oip 'tritonclient[http,grpc]==2.73.0'
	venv schemathesis 'schemathesis==4.32.5'
	TURBOFAN_PYTHON=$(pwd)/.venv/bentoml/bin/python
	export TURBOFAN_PYTHON
else
	missing="$missing\n  no python3: the MLflow and BentoML clients were not run"
fi

# A few tests that fail are run once more (a subtest counts beside its parent), but none after a data race: what passes then is named below.
log=$(mktemp) again=$(mktemp)
${GOTESTSUM:-go run gotest.tools/gotestsum@v1.13.0} --format pkgname --jsonfile "$log" \
	--rerun-fails=1 --rerun-fails-max-failures=5 --rerun-fails-run-root-test --rerun-fails-abort-on-data-race --rerun-fails-report="$again" \
	--packages=./... -- -race -timeout 80m ${TESTFLAGS:-}
status=$?
# What the race detector only slows or misleads: tests kept from the run above by their build tag.
kept=$(grep -rl --include='*_test.go' --exclude-dir=.venv '^//go:build !race' .)
names=$(sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' $kept | paste -sd '|' -)
go test -count=1 -timeout 40m -run "^($names)\$" $(dirname $kept | sort -u) || status=1
# What is deployed, read with Kubernetes' and Compose's own libraries: a module of its own.
(cd deploy/validate && go test -count=1 ./...) || status=1
skipped=$(grep '"Action":"skip"' "$log" | grep '"Test":' | sed 's/.*"Package":"\([^"]*\)".*"Test":"\([^"]*\)".*/  \1 \2/' | sort -u)
if [ -s "$again" ]; then
	printf 'run more than once (runs, failures):\n%s\n' "$(sed 's/^/  /' "$again")"
fi
rm -f "$log" "$again"
if [ -n "$skipped$missing" ]; then
	printf 'skipped or missing:\n%s%b\n' "$skipped" "$missing"
	if [ "${CI:-}" = true ]; then
		echo "in CI a skip is a failure"
		[ $status -ne 0 ] || status=1
	fi
else
	echo "nothing was skipped"
fi
exit $status
