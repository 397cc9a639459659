"""A data scientist's day with the stock client, against a registry that asks for keys: keys.py URI FOLDER."""

import os
import sys

import mlflow
import requests
from mlflow.exceptions import MlflowException

uri, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()


parts, addresses, send = [], {}, requests.Session.send


def counted(session, request, **kwargs):
    if request.method == "PUT" and "/mpu/part/" in request.url or "Range" in request.headers:
        parts.append(request.method)
        addresses[request.method] = request.url
        assert "token=tft_" in request.url and "Authorization" not in request.headers, "a key went to an address"
    return send(session, request, **kwargs)


requests.Session.send = counted


class Doubler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return model_input * 2


small, large = os.path.join(folder, "small.txt"), os.path.join(folder, "large.bin")
with open(small, "w") as f:
    f.write("small")
with open(large, "wb") as f:
    f.write(os.urandom(12 << 20))

name = "keys-" + mlflow.__version__
mlflow.set_experiment(name)
with mlflow.start_run() as run:
    mlflow.log_metric("rmse", 9.2)
    mlflow.log_artifact(small)
    mlflow.log_artifact(large, "big")
    place = {"artifact_path": "model"} if mlflow.__version__.startswith("2.") else {"name": "model"}
    mlflow.pyfunc.log_model(python_model=Doubler(), pip_requirements=["mlflow"], registered_model_name=name, **place)
client.set_registered_model_alias(name, "champion", "1")

assert client.get_run(run.info.run_id).data.metrics["rmse"] == 9.2
for remote, local in (("small.txt", small), ("big/large.bin", large)):
    got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=remote, dst_path=os.path.join(folder, "got"))
    with open(got, "rb") as a, open(local, "rb") as b:
        assert a.read() == b.read(), remote
assert mlflow.pyfunc.load_model(f"models:/{name}@champion").predict(21) == 42

assert parts.count("PUT") == 3, parts
if not mlflow.__version__.startswith("2."):  # which downloads through the server as a whole
    assert parts.count("GET") >= 3, parts

# Addresses are good as they were handed out, and not otherwise.
requests.Session.send = send
for method, address in addresses.items():
    bare, token = address.split("?")
    for url, want in ((address, 200 if method == "GET" else 404), (bare + "0?" + token, 403), (address[:-4], 403), (bare, 401)):
        got = requests.request(method, url)
        assert got.status_code == want, (method, url, got.status_code, got.text)

# Without a key nothing of this can be had.
os.environ.pop("MLFLOW_TRACKING_TOKEN", None)
os.environ.pop("MLFLOW_TRACKING_PASSWORD", None)
os.environ.pop("MLFLOW_TRACKING_USERNAME", None)
try:
    client.get_run(run.info.run_id)
    raise SystemExit("a run was told without a key")
except MlflowException as e:
    assert "API key" in str(e), e
