#!/bin/sh
# Puts one load on `turbofan serve` and, where python3 is, on BentoML and FastAPI with a scikit-learn forest, in turns, from
# this machine, and prints requests a second and latencies side by side. All servers have the machine at once but only one
# is asked at a time; each runs as its documentation starts it, with its access log to a file.
#   BENCH_EACH=5s scripts/bench_http.sh    how long each of three runs a server and number of connections takes
#   BENCH_RATE=12000 scripts/bench_http.sh requests a second of the run whose latencies count from the moment of sending
#   BENCH_PEERS=no scripts/bench_http.sh   turbofan alone
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
data=${TURBOFAN_DATA:-../shared/cmapss}
[ -f "$data/test_FD001.txt" ] || { echo "C-MAPSS is not in $data: set TURBOFAN_DATA, or turbofan data fetch" >&2; exit 1; }
data=$(cd "$data" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/turbofan-serving.XXXXXX")
pids=""
stop() {
	for pid in $pids; do kill "$pid" 2>/dev/null || true; done
	for pid in $pids; do wait "$pid" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

# await URL: until it answers 200, at most ten minutes.
await() {
	n=0
	until curl -fsS -o /dev/null --max-time 2 "$1" 2>/dev/null; do
		n=$((n + 1))
		[ $n -lt 600 ] || { echo "$1 does not answer; see $dir" >&2; tail -n 20 "$dir"/*.log >&2; exit 1; }
		sleep 1
	done
}

CGO_ENABLED=0 $GO build -o "$dir/turbofan" ./cmd/turbofan
TURBOFAN_DRIFT_RETRAIN=false "$dir/turbofan" serve --data-dir "$dir/data" --data "$data" --port predict=18300 --port feedback=18301 \
	--port retrain=18303 --port drift=18304 --port registry=18501 --port console=18380 >"$dir/turbofan.log" 2>&1 &
pids="$pids $!"
turbofan=$!
await http://127.0.0.1:18300/readyz
targets="turbofan=127.0.0.1:18300/predict turbofan-with-drivers=127.0.0.1:18300/predict?explain=true"

if [ "${BENCH_PEERS:-yes}" = yes ] && command -v python3 >/dev/null 2>&1; then
	scripts/venv.sh serving 'bentoml==1.4.39' 'fastapi==0.165.0' 'uvicorn[standard]==0.54.0' 'scikit-learn==1.9.1' 'numpy==2.4.6'
	bin=$(pwd)/.venv/serving/bin
	TURBOFAN_PEER=none "$bin/python" httpapi/bench/peers.py fit "$data/train_FD001.txt" "$dir/forest.pkl"
	export TURBOFAN_FOREST="$dir/forest.pkl"
	(cd httpapi/bench && TURBOFAN_PEER=fastapi PYTHONDONTWRITEBYTECODE=1 exec "$bin/python" -m uvicorn peers:app --port 18400 --log-level info) >"$dir/fastapi.log" 2>&1 &
	pids="$pids $!"
	(cd httpapi/bench && BENTOML_HOME="$dir/bentoml" BENTOML_DO_NOT_TRACK=True PYTHONDONTWRITEBYTECODE=1 exec "$bin/python" -m bentoml serve peers:RUL --host 127.0.0.1 --port 18500) >"$dir/bentoml.log" 2>&1 &
	pids="$pids $!"
	await http://127.0.0.1:18400/docs
	await http://127.0.0.1:18500/readyz
	targets="$targets fastapi=127.0.0.1:18400/predict bentoml=127.0.0.1:18500/predict"
fi

echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $(getconf _NPROCESSORS_ONLN) processors; $($GO version); load:$(uptime | sed 's/.*load average//')"
export TURBOFAN_LOAD_EACH="${BENCH_EACH:-5s}" TURBOFAN_LOAD_DATA="$data/test_FD001.txt"
# load TEST: what the test of httpapi/bench says.
load() { $GO test -tags bench -count=1 -timeout 60m -run "$1\$" -v ./httpapi/bench | sed -n 's/^ *[a-z]*_test.go:[0-9]*: //p; /^--- FAIL/p; /^FAIL/p'; }
export TURBOFAN_LOAD_TARGETS="$targets"
load TestLoad
export TURBOFAN_LOAD_TARGETS="turbofan=127.0.0.1:18300/predict" TURBOFAN_LOAD_RATE="${BENCH_RATE:-12000}"
load TestPaced
"$dir/turbofan" train --data "$data" --data-dir "$dir/data" --seed 7 --folds 2 >"$dir/train.log" 2>&1 || { tail -n 5 "$dir/train.log" >&2; exit 1; }
export TURBOFAN_LOAD_VERSIONS="1 2" TURBOFAN_LOAD_REGISTRY=http://127.0.0.1:18501
load TestSwaps
model=$(find "$dir/data/artifacts" -name MLmodel | head -n 1)
echo "one reading in the process, without a network: the service, the service with reasons, the handler over the service"
TURBOFAN_LOAD_MODEL=$(dirname "$model") $GO test -tags bench -count=1 -run '^$' -bench 'Service|Request' -benchtime 1s ./httpapi/bench | grep -E '^Benchmark|FAIL'
echo "turbofan: $(awk '/VmRSS/ {print $2, $3}' "/proc/$turbofan/status" 2>/dev/null) of memory; predictions answered and logged: $(curl -sS http://127.0.0.1:18300/metrics | sed -n 's/^prediction_requests_total{code="200"} //p')"
