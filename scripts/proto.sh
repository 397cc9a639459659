#!/bin/sh
# Makes grpcapi/inference/*.pb.go from inference.proto. They are checked in: only a change of the .proto needs this.
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
scripts/venv.sh proto 'grpcio-tools==1.76.0'
bin=$(mktemp -d "${TMPDIR:-/tmp}/turbofan-proto.XXXXXX")
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin $GO install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin $GO install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
PATH=$bin:$PATH .venv/proto/bin/python -m grpc_tools.protoc -I grpcapi/inference --go_out=grpcapi/inference --go_opt=paths=source_relative \
	--go-grpc_out=grpcapi/inference --go-grpc_opt=paths=source_relative inference.proto
