#!/bin/sh
# One drift check over a million rows of 24 channels, evidently beside it on the same tables.
#   BENCH_DRIFT_ROWS=100000 scripts/bench_drift.sh  fewer rows
set -eu
cd "$(dirname "$0")/.."
scripts/venv.sh drift $(grep -v '^#' stat/testdata/requirements.txt)
dir=$(mktemp -d "${TMPDIR:-/tmp}/turbofan-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
.venv/drift/bin/python stat/bench/peers.py "$dir" "${BENCH_DRIFT_ROWS:-1000000}" 24
TURBOFAN_BENCH_DIR="$dir" GOMAXPROCS=2 ${GO:-go} test -tags bench -count=1 -run 'TestCheck$' -v ./stat/bench | sed -n 's/^ *bench_test.go:[0-9]*: //p'
GOMAXPROCS=2 ${GO:-go} test -tags bench -count=1 -run 'TestBench(Judge|StoredCheck)$' -v ./drift | sed -n 's/^ *check_bench_test.go:[0-9]*: //p'
GOMAXPROCS=2 ${GO:-go} test -tags bench -run '^$' -bench 'Check$' -benchtime 5x ./stat/bench | grep '^Benchmark'
