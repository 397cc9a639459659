"""Answers rows.f32 from model.onnx with ONNX Runtime and compares with want.f64: python answer.py MODEL_DIR ROWS WANT.

Prints the largest difference, in cycles, when rows come at once and when they come one by one.
"""

import json
import os
import sys

import numpy as np
import onnx
import onnxruntime

model, rows, want = sys.argv[1:]
path = os.path.join(model, "model.onnx")
onnx.checker.check_model(path, full_check=True)
proto = onnx.load(path, load_external_data=False)
metadata = {p.key: p.value for p in proto.metadata_props}
columns = json.loads(metadata["columns"])
with open(os.path.join(model, "input_example.json")) as f:
    assert json.load(f)["columns"] == columns

x = np.fromfile(rows, dtype="<f4").reshape(-1, len(columns))
y = np.fromfile(want, dtype="<f8")
assert len(x) == len(y) > 0 and np.isnan(x).any()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
assert [i.name for i in session.get_inputs()] == ["features"] and [o.name for o in session.get_outputs()] == ["rul_prediction"]
(answer,) = session.run(None, {"features": x})
assert answer.shape == (len(x), 1) and answer.dtype == np.float32
together = np.abs(answer[:, 0] - y).max()
some = range(0, len(x), max(1, len(x) // 200))
alone = max(abs(session.run(None, {"features": x[i : i + 1]})[0][0, 0] - y[i]) for i in some)
missing = int(np.isnan(x).any(axis=1).sum())
print(f"{len(x)} rows, {missing} with a missing value: largest difference {together:.2g}, one by one {alone:.2g}; onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
assert together < 1e-4 and alone < 1e-4
