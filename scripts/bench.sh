#!/bin/sh
# Times training, answering and explaining beside scikit-learn and XGBoost on the same matrices in one run and prints the
# ratios; then our own parts, and how training grows with the rows.
#   BENCH_JOBS=1 scripts/bench.sh        one worker on both sides, measured by processor time: for a busy machine
#   BENCH_ROWS=1000000 scripts/bench.sh  the most rows of the last part (default 100000); BENCH_FROM the least (10000)
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
jobs=${BENCH_JOBS:-2}
rows=${BENCH_ROWS:-100000}

scripts/venv.sh bench 'numpy==2.4.6' 'scikit-learn==1.9.1' 'xgboost==3.2.0'
dir=$(mktemp -d "${TMPDIR:-/tmp}/turbofan-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT

echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1), $(getconf _NPROCESSORS_ONLN) processors; $($GO version); load:$(uptime | sed 's/.*load average//')"
export TREE_BENCH_DIR="$dir" TREE_BENCH_JOBS="$jobs"
$GO test -tags bench -count=1 -run 'TestSave$' ./tree/bench
if [ -z "$(ls "$dir")" ]; then
	echo "C-MAPSS is not here: set TURBOFAN_DATA; the peers are left out" >&2
else
	echo "== beside scikit-learn and XGBoost, $jobs workers (a ratio above 1: we are faster)"
	.venv/bench/bin/python tree/bench/peers.py "$dir" >/dev/null
	$GO test -tags bench -count=1 -timeout 60m -run 'TestCompare$' -v ./tree/bench | sed -n 's/^ *bench_test.go:[0-9]*: //p'
fi
echo "== a model's answer and its reasons"
$GO test -count=1 -run '^$' -bench 'Answer|Reasons|Step' -benchtime 300ms ./model ./feature | grep -E '^Benchmark'
echo "== training a fleet of growing size, up to $rows rows"
TURBOFAN_BENCH_FROM="${BENCH_FROM:-10000}" TURBOFAN_BENCH_ROWS="$rows" $GO test -tags bench -count=1 -timeout 120m -run 'TestTrainingGrows$' -v ./model | sed -n 's/^ *grow_test.go:[0-9]*: //p'
