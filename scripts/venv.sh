#!/bin/sh
# Makes the Python environment .venv/NAME with the packages, once; a later call with the same packages does nothing.
# The tests of mlflow and model need two:
#   scripts/venv.sh mlflow2 'mlflow>=2.22,<3' 'sqlalchemy<2.1' 'setuptools<81' scikit-learn onnx onnxruntime
#   scripts/venv.sh mlflow3 'mlflow>=3,<4' scikit-learn pillow onnx onnxruntime
set -eu
[ $# -ge 2 ] || { echo "usage: $0 NAME PACKAGE..." >&2; exit 2; }
name=$1
shift
dir=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)/.venv/$name
want="$*"
if [ -x "$dir/bin/python" ] && [ "$(cat "$dir/packages" 2>/dev/null)" = "$want" ]; then
	exit 0
fi
"${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check "$@"
printf '%s\n' "$want" > "$dir/packages"
