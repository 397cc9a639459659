"""Loads the champion of a registry as a data scientist would: python load_model.py TRACKING_URI ROWS_CSV.

ROWS_CSV has the feature columns and, last, what the platform answered.
"""

import logging
import sys
import time
import warnings

import mlflow
import mlflow.onnx
import mlflow.pyfunc
import numpy as np
import onnx
import pandas as pd

uri, rows = sys.argv[1:]
said = []
handler = logging.Handler(level=logging.WARNING)
handler.emit = said.append
logging.getLogger("mlflow").addHandler(handler)
warnings.simplefilter("error", UserWarning)

mlflow.set_tracking_uri(uri)
df = pd.read_csv(rows).astype(float)
want = df.pop("want").to_numpy()

begin = time.monotonic()
model = mlflow.pyfunc.load_model("models:/rul@champion")
loaded = time.monotonic() - begin
answer = model.predict(df)
assert list(answer.columns) == ["rul_prediction"], answer
worst = np.abs(answer["rul_prediction"].to_numpy() - want).max()
assert worst < 1e-4, worst
assert df.isna().to_numpy().any()

schema = model.metadata.get_input_schema()
assert schema.input_names() == list(df.columns)
assert {str(t) for t in schema.input_types()} == {"DataType.double"}, schema
assert model.metadata.get_output_schema().input_names() == ["rul_prediction"]
assert len(model.metadata.metadata["digest"]) == 64
assert list(model.input_example.columns) == list(df.columns)
assert model.predict(model.input_example)["rul_prediction"].notna().all()

# The order of columns is the signature's business, not the caller's; narrower numbers are welcome, missing columns are not.
assert (model.predict(df[df.columns[::-1]].astype("float32")) == answer).all().all()
try:
    model.predict(df.drop(columns=df.columns[0]))
    raise SystemExit("a missing column was accepted")
except mlflow.exceptions.MlflowException as e:
    assert df.columns[0] in str(e), e

proto = mlflow.onnx.load_model("models:/rul@champion")
assert isinstance(proto, onnx.ModelProto)
onnx.checker.check_model(proto, full_check=True)

info = mlflow.models.get_model_info("models:/rul@champion")
assert {"python_function", "onnx", "turbofan"} <= set(info.flavors), info.flavors
pip = mlflow.pyfunc.get_model_dependencies("models:/rul@champion")
assert open(pip).read().splitlines()[0].startswith("mlflow"), pip
assert not said, [r.getMessage() for r in said]
print(f"mlflow {mlflow.__version__}: loaded in {loaded:.2f} s, {len(df)} rows, largest difference {worst:.2g}")
