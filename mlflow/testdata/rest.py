"""Checks corners of the REST API with the stock client and plain requests against the server at argv[1]."""

import io
import json
import os
import pathlib
import sys
import tempfile
import time

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

import mlflow
import numpy as np
import requests
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Metric
from mlflow.entities.logged_model_input import LoggedModelInput
from mlflow.entities.logged_model_output import LoggedModelOutput
from mlflow.exceptions import MlflowException

uri = sys.argv[1]
mlflow.set_tracking_uri(uri)
client = MlflowClient(uri)
stamp = f"{os.getpid()}-{time.time_ns()}"


def raises(part, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except MlflowException as e:
        assert part in str(e), e
        return
    raise AssertionError(f"{call} did not raise")


def logged_models():
    exp = client.create_experiment(f"logged-{stamp}")
    model = client.create_logged_model(experiment_id=exp)
    assert model.status == LoggedModelStatus.PENDING and model.name and model.model_id.startswith("m-")
    named = client.create_logged_model(experiment_id=exp, name="named", tags={"a": "1"}, params={"p": "1"}, model_type="t")
    assert named.tags == {"a": "1"} and named.params == {"p": "1"} and named.model_type == "t"
    client.log_model_params(model.model_id, {f"k{i}": str(i) for i in range(250)})
    assert len(client.get_logged_model(model.model_id).params) == 250
    assert client.finalize_logged_model(model.model_id, LoggedModelStatus.READY).status == LoggedModelStatus.READY
    client.set_logged_model_tags(model.model_id, {"x": "y", "z": "w"})
    client.delete_logged_model_tag(model.model_id, "x")
    assert client.get_logged_model(model.model_id).tags == {"z": "w"}
    raises("No tag with key", client.delete_logged_model_tag, model.model_id, "x")
    run = client.create_run(exp)
    client.log_inputs(run.info.run_id, models=[LoggedModelInput(model_id=model.model_id)])
    client.log_outputs(run.info.run_id, models=[LoggedModelOutput(model_id=named.model_id, step=3)])
    got = client.get_run(run.info.run_id)
    assert [m.model_id for m in got.inputs.model_inputs] == [model.model_id]
    assert [(m.model_id, m.step) for m in got.outputs.model_outputs] == [(named.model_id, 3)]
    client.log_metric(run.info.run_id, "acc", 0.5, model_id=model.model_id, dataset_name="d", dataset_digest="1")
    client.log_batch(run.info.run_id, metrics=[Metric("acc", 0.9, 5, 1, model_id=named.model_id)])
    m = client.get_logged_model(model.model_id).metrics
    assert len(m) == 1 and m[0].value == 0.5 and m[0].dataset_name == "d" and m[0].run_id == run.info.run_id
    time.sleep(0.002)
    last = client.create_logged_model(experiment_id=exp, name="last")

    def names(**kw):
        return [x.name for x in client.search_logged_models(experiment_ids=[exp], **kw)]

    assert names()[0] == "last" and len(names()) == 3
    assert names(filter_string="name = 'named'") == ["named"]
    assert names(filter_string="metrics.acc > 0.6") == ["named"]
    assert names(filter_string="metrics.acc > 0.1", datasets=[{"dataset_name": "d"}]) == [model.name]
    assert names(filter_string="params.p = '1'") == ["named"]
    assert names(order_by=[{"field_name": "metrics.acc", "ascending": False}])[:2] == ["named", model.name]
    page = client.search_logged_models(experiment_ids=[exp], max_results=2)
    rest = client.search_logged_models(experiment_ids=[exp], max_results=2, page_token=page.token)
    assert len(page) == 2 and len(rest) == 1 and not rest.token
    raises("", client.search_logged_models, experiment_ids=[exp], filter_string="name ~ 'x'")
    client.delete_logged_model(last.model_id)
    raises("not found", client.get_logged_model, last.model_id)
    assert len(names()) == 2
    reg = f"reg-{stamp}"
    client.create_registered_model(reg)
    for version in (1, 2):
        client.create_model_version(name=reg, source=model.artifact_location, model_id=model.model_id)
    assert client.get_logged_model(model.model_id).tags["mlflow.modelVersions"] == json.dumps(
        [{"name": reg, "version": 1}, {"name": reg, "version": 2}]
    )


def model_artifacts():
    class Model(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):
            return model_input

    info = mlflow.pyfunc.log_model(name="m", python_model=Model(), pip_requirements=["mlflow"])
    answer = requests.get(f"{uri}/api/2.0/mlflow/logged-models/{info.model_id}/artifacts/directories")
    assert answer.status_code == 200 and "MLmodel" in [f["path"] for f in answer.json()["files"]], answer.text
    got = requests.get(f"{uri}/ajax-api/2.0/mlflow/logged-models/{info.model_id}/artifacts/files", params={"artifact_file_path": "MLmodel"})
    assert got.status_code == 200 and "loader_module" in got.text
    missing = requests.get(f"{uri}/ajax-api/2.0/mlflow/logged-models/{info.model_id}/artifacts/files")
    assert missing.status_code == 400 and "artifact_file_path" in missing.text


def registry():
    name = f"CopyMVTest-{stamp}"
    client.create_registered_model(name)
    src = client.create_model_version(name, "runs:/run_id/model", "run_id_1", description="dummy", tags={"hello": "world"})
    client.set_registered_model_alias(name, "test_alias", "1")
    assert client.get_model_version_by_alias(name, "test_alias") == client.get_model_version(name, "1")
    copied = client.copy_model_version(f"models:/{name}@test_alias", name)
    copied = client.get_model_version(name, 2)
    assert copied.source == f"models:/{name}/1" and copied.run_id == "run_id_1" and copied.tags == {"hello": "world"}
    assert client.get_model_version_download_uri(name, 2) == src.source == "runs:/run_id/model"
    time.sleep(0.002)
    client.create_model_version(name, "runs:/run_id/model", "run_id_2")
    assert [v.version for v in client.search_model_versions(f"name = '{name}'")][0] == "3"
    raises("Parameter 'version' must be an integer, got 'x y'.", client.get_model_version, name, "x y")
    for stage, version in (("Staging", "1"), ("Staging", "2"), ("Production", "3")):
        answer = requests.post(
            f"{uri}/api/2.0/mlflow/model-versions/transition-stage",
            json={"name": name, "version": version, "stage": stage.lower(), "archive_existing_versions": True},
        )
        assert answer.json()["model_version"]["current_stage"] == stage, answer.text
    latest = requests.post(f"{uri}/api/2.0/mlflow/registered-models/get-latest-versions", json={"name": name}).json()["model_versions"]
    assert {(v["current_stage"], v["version"]) for v in latest} == {("Archived", "1"), ("Staging", "2"), ("Production", "3")}


def charts():
    exp = client.create_experiment(f"charts-{stamp}")
    runs = [client.create_run(exp).info.run_id for _ in range(2)]
    for run, n in zip(runs, (10, 20)):
        client.log_batch(run, metrics=[Metric("metricA", 10.0, 1, i) for i in range(n)])
    url = f"{uri}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    one = requests.get(url, params={"run_ids": [runs[0]], "metric_key": "metricA", "max_results": 5}).json()["metrics"]
    assert [m["step"] for m in one] == [0, 2, 4, 6, 8, 9], one
    both = requests.get(url, params={"run_ids": runs, "metric_key": "metricA", "max_results": 5}).json()["metrics"]
    assert [m["step"] for m in both] == [0, 4, 8, 9, 0, 4, 8, 9, 12, 16, 19], both
    part = requests.get(url, params={"run_ids": [runs[0]], "metric_key": "metricA", "start_step": 0, "end_step": 4, "max_results": 5}).json()
    assert [m["step"] for m in part["metrics"]] == [0, 1, 2, 3, 4]
    bulk = requests.get(
        f"{uri}/ajax-api/2.0/mlflow/metrics/get-history-bulk", params={"run_id": runs, "metric_key": "metricA", "max_results": 12}
    ).json()["metrics"]
    assert len(bulk) == 12 and bulk == sorted(bulk, key=lambda m: m["run_id"])
    assert set(bulk[0]) == {"key", "value", "timestamp", "step", "run_id"}


def files():
    proxy = f"{uri}/api/2.0/mlflow-artifacts/artifacts"
    for name, kind in (
        ("a.txt", "text/plain"),
        ("b.pkl", "application/octet-stream"),
        ("c.png", "image/png"),
        ("d.pdf", "application/pdf"),
        ("MLmodel", "text/plain"),
        ("mlproject", "text/plain"),
    ):
        requests.put(f"{proxy}/dir-{stamp}/{name}", data=b"").raise_for_status()
        got = requests.get(f"{proxy}/dir-{stamp}/{name}", headers={"Accept": "text/html"})
        assert got.headers["Content-Type"] == kind, (name, got.headers)
        assert f"filename={name}" in got.headers["Content-Disposition"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"
    with mlflow.start_run() as run:
        mlflow.log_image(np.zeros((10, 10, 3), dtype=np.uint8), key="dog", step=20, timestamp=100, synchronous=True)
    listed = requests.get(f"{uri}/ajax-api/2.0/mlflow/artifacts/list", params={"path": "images", "run_id": run.info.run_id}).json()["files"]
    assert listed
    for f in listed:
        got = requests.get(f"{uri}/get-artifact", params={"run_id": run.info.run_id, "path": f["path"]})
        got.raise_for_status()
        assert "attachment; filename=dog" in got.headers["Content-Disposition"], got.headers
    body = io.BytesIO(os.urandom(3_000_000))
    requests.put(f"{proxy}/dir-{stamp}/big", data=iter(lambda: body.read(65536), b"")).raise_for_status()
    got = requests.get(f"{proxy}/dir-{stamp}/big")
    assert got.content == body.getvalue() and got.headers["Content-Length"] == "3000000"
    requests.delete(f"{proxy}/dir-{stamp}").raise_for_status()
    assert requests.get(f"{proxy}/dir-{stamp}/big").status_code == 404


def parts():
    """A large file goes in parts where the client is told to."""
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
    os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = str(5 << 20)
    sent = MlflowArtifactsRepository._try_multipart_upload
    used = []

    def noted(self, *args, **kwargs):
        used.append(args)
        return sent(self, *args, **kwargs)

    MlflowArtifactsRepository._try_multipart_upload = noted
    with tempfile.TemporaryDirectory() as folder:
        body = os.urandom((12 << 20) + 5)
        for name in ("large one.bin", "other.bin"):
            pathlib.Path(folder, name).write_bytes(body)
        with mlflow.start_run() as run:
            mlflow.log_artifact(f"{folder}/large one.bin")
            mlflow.log_artifact(f"{folder}/other.bin", "deep/er")
    assert len(used) == 2, used
    for path in ("large one.bin", "deep/er/other.bin"):
        got = requests.get(f"{uri}/get-artifact", params={"run_id": run.info.run_id, "path": path})
        assert got.content == body, (path, len(got.content))
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"large one.bin", "deep"}
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "true"
    os.environ["MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE"] = str(5 << 20)
    ranges = []
    fetched = MlflowArtifactsRepository._multipart_download

    def ranged(self, *args, **kwargs):
        ranges.append(kwargs["file_size"])
        return fetched(self, *args, **kwargs)

    MlflowArtifactsRepository._multipart_download = ranged
    with tempfile.TemporaryDirectory() as folder:
        got = pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="large one.bin", dst_path=folder))
        assert got.read_bytes() == body
    assert ranges == [len(body)], ranges
    del os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"]


for check in (parts, logged_models, model_artifacts, registry, charts, files):
    check()
    print(check.__name__, "ok", flush=True)
