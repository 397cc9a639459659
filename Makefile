# Few targets on purpose: test is what CI runs, bench prints ratios against named peers.
GO ?= go
GOTESTSUM = $(GO) run gotest.tools/gotestsum@v1.13.0
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

IMAGE ?= turbofan:local

.PHONY: build image test lint bench

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/turbofan ./cmd/turbofan

# For the processor of this machine, or GOARCH. Built wherever Go runs, the binary in it is one for Linux.
image:
	CGO_ENABLED=0 GOOS=linux $(GO) build -trimpath -ldflags "-s -w" -o bin/linux/turbofan ./cmd/turbofan
	docker build --platform linux/$$($(GO) env GOARCH) -f deploy/docker/Dockerfile -t $(IMAGE) .

lint:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt these:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -tags bench ./...
	$(STATICCHECK) -tags bench ./...

test: lint
	GOTESTSUM="$(GOTESTSUM)" scripts/test.sh

bench:
	scripts/bench.sh
	scripts/bench_http.sh
	scripts/bench_drift.sh
	$(GO) test ./mlflow -run '^$$' -bench 'BesidePython|ManyRuns' -benchtime 1x -timeout 60m
