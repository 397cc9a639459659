"""Drives the stock MLflow client through a data scientist's day against the server at argv[1].

Any warning, any error and any call that the client had to repeat ends the script with a failure.
"""

import json
import logging
import math
import os
import sys
import tempfile
import time
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

V3 = int(mlflow.__version__.split(".")[0]) >= 3
# What the client repeats, as after a 5xx, takes it minutes; one step, model saving and loading included, takes seconds.
SLOWEST_S = 90.0
complaints = []


class Complaints(logging.Handler):
    def emit(self, record):
        # What these say is about scikit-learn and type hints, not about the server.
        if record.levelno >= logging.WARNING and not record.name.startswith(("mlflow.sklearn", "mlflow.types")):
            complaints.append(f"{record.name}: {record.getMessage()}")


def step(name):
    now = time.time()
    took = now - step.at
    step.at = now
    print(f"{took:7.3f}s  {name}", flush=True)
    assert took < SLOWEST_S, f"{name} took {took:.1f} s"


step.at = time.time()


def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except MlflowException as e:
        assert e.error_code == code, f"{e.error_code}: {e}"
        return str(e)
    raise AssertionError(f"{call} was not refused")


def track(client, stamp):
    name = f"engines-{stamp}"
    experiment = mlflow.set_experiment(name)
    assert experiment.name == name
    assert mlflow.set_experiment(name).experiment_id == experiment.experiment_id
    step("set_experiment")
    with mlflow.start_run(run_name="first", tags={"reason": "drift"}) as run:
        mlflow.log_param("n_estimators", 100)
        mlflow.log_params({"depth": 6, "empty": "", "text": "häß'\"lich\n"})
        mlflow.log_metric("rmse", 20.5, step=1)
        mlflow.log_metric("rmse", 15.25, step=2)
        mlflow.log_metrics({"mae": 3.0, "r2": 0.9}, step=2)
        mlflow.log_metric("nan", float("nan"))
        mlflow.log_metric("inf", float("inf"))
        mlflow.set_tag("team", "reliability")
        mlflow.set_tags({"a": "1", "b": "2"})
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": [1, 2]}, "notes/d.json")
        with tempfile.TemporaryDirectory() as d:
            for n in ("x.csv", "sub/y.bin"):
                os.makedirs(os.path.dirname(os.path.join(d, n)), exist_ok=True)
                with open(os.path.join(d, n), "wb") as f:
                    f.write(os.urandom(100_000))
            mlflow.log_artifact(os.path.join(d, "x.csv"))
            mlflow.log_artifacts(d, "all")
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
        mlflow.log_input(mlflow.data.from_pandas(frame, name="readings"), context="training")
    step("start_run and log everything")
    got = client.get_run(run.info.run_id)
    assert got.info.status == "FINISHED" and got.info.end_time >= got.info.start_time
    assert got.data.params["text"] == "häß'\"lich\n" and got.data.params["empty"] == ""
    assert got.data.metrics["rmse"] == 15.25 and math.isnan(got.data.metrics["nan"]) and got.data.metrics["inf"] > 1e308
    assert got.data.tags["reason"] == "drift" and got.data.tags["mlflow.runName"] == "first"
    assert got.inputs.dataset_inputs[0].dataset.name == "readings"
    history = client.get_metric_history(run.info.run_id, "rmse")
    assert [(m.step, m.value) for m in history] == [(1, 20.5), (2, 15.25)]
    paths = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"notes", "x.csv", "all"} <= paths, paths
    assert {a.path for a in client.list_artifacts(run.info.run_id, "all")} == {"all/x.csv", "all/sub"}
    local = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="all")
    assert os.path.getsize(os.path.join(local, "sub", "y.bin")) == 100_000
    assert mlflow.artifacts.load_text(f"{got.info.artifact_uri}/notes/hello.txt") == "hello"
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/notes/d.json") == {"a": [1, 2]}
    step("read back")
    refused("INVALID_PARAMETER_VALUE", client.log_param, run.info.run_id, "depth", 7)
    refused("INVALID_PARAMETER_VALUE", client.log_metric, run.info.run_id, "a/../b", 1)
    refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)
    refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)
    step("refusals")
    return experiment, run


def search(client, experiment, stamp):
    for i in range(12):
        run = client.create_run(experiment.experiment_id, run_name=f"trial-{i}", start_time=1000 + i)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric("loss", 10.0 - i, 1000 + i, s) for s in range(3)],
            params=[Param("lr", f"0.{i}")],
            tags=[RunTag("fold", str(i % 3))],
        )
        client.set_terminated(run.info.run_id, "FINISHED" if i % 2 else "FAILED")
    ids = [experiment.experiment_id]

    def names(filter_string, order_by=("metrics.loss ASC",), **kw):
        return [r.info.run_name for r in client.search_runs(ids, filter_string, order_by=list(order_by), **kw)]

    assert names("metrics.loss < 1.5") == ["trial-11", "trial-10", "trial-9"]
    assert names("metrics.loss <= 1 and tags.fold = '2'") == ["trial-11"]
    assert names("metrics.loss < -1e3") == []
    assert names("params.lr = '0.3'") == ["trial-3"]
    assert names("tags.fold = '1' and attributes.status = 'FINISHED'", ["start_time ASC"]) == ["trial-1", "trial-7"]
    assert names("run_name LIKE 'trial-1%'", ["start_time ASC"]) == ["trial-1", "trial-10", "trial-11"]
    assert names("attributes.run_name ILIKE 'TRIAL-1%' and metrics.`loss` >= 9") == ["trial-1"]
    assert names("datasets.name = 'readings'") == ["first"]
    pages, token = [], None
    while True:
        page = client.search_runs(ids, "tags.fold != ''", order_by=["params.lr DESC"], max_results=5, page_token=token)
        pages += [r.info.run_name for r in page]
        token = page.token
        if not token:
            break
    assert len(pages) == 12 and len(set(pages)) == 12, pages
    frame = mlflow.search_runs(ids, filter_string="metrics.loss > 0")
    assert "metrics.loss" in frame.columns
    message = refused("INVALID_PARAMETER_VALUE", client.search_runs, ids, "metrics.loss = 'a'")
    assert "Expected numeric value" in message, message
    refused("INVALID_PARAMETER_VALUE", client.search_runs, ids, "metrics.loss > 1 OR params.a = 'b'")
    assert any(e.name == experiment.name for e in client.search_experiments(filter_string=f"name = '{experiment.name}'"))
    step("search")


def models(client, experiment, stamp):
    name = f"rul-{stamp}"
    x = pd.DataFrame({"a": np.arange(10.0), "b": np.arange(10.0) ** 2})
    y = 3 * x["a"] + x["b"]
    model = LinearRegression().fit(x, y)
    kind = "name" if V3 else "artifact_path"
    for _ in range(2):
        with mlflow.start_run(experiment_id=experiment.experiment_id) as run:
            mlflow.log_metric("rmse", 1.0, step=0)
            extra = {"serialization_format": "cloudpickle"} if "serialization_format" in mlflow.sklearn.log_model.__code__.co_varnames else {}
            info = mlflow.sklearn.log_model(
                model,
                **{kind: "model"},
                signature=infer_signature(x, model.predict(x)),
                input_example=x.head(2),
                registered_model_name=name,
                pip_requirements=["mlflow", "scikit-learn"],
                **extra,
            )
        step("log_model and register")
    versions = client.search_model_versions(f"name = '{name}'")
    assert sorted(int(v.version) for v in versions) == [1, 2]
    assert all(v.status == "READY" for v in versions)
    client.set_registered_model_alias(name, "champion", "2")
    assert client.get_model_version_by_alias(name, "champion").version in ("2", 2)
    assert client.get_registered_model(name).aliases["champion"] in ("2", 2)
    client.set_model_version_tag(name, "1", "gate", "lost")
    client.update_model_version(name, "1", description="the first")
    client.update_registered_model(name, description="remaining useful life")
    client.set_registered_model_tag(name, "owner", "plant")
    assert client.get_model_version(name, "1").tags["gate"] == "lost"
    assert [m.name for m in client.search_registered_models(f"name = '{name}'")] == [name]
    assert name in [m.name for m in client.search_registered_models()]
    step("alias, tag, search models")
    for uri in (f"models:/{name}@champion", f"models:/{name}/1", f"models:/{name}/latest", info.model_uri, f"runs:/{run.info.run_id}/model"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert np.allclose(loaded.predict(x), y), uri
        step(f"load {uri.split('/')[0]}/…{uri[-12:]}")
    copied = client.copy_model_version(f"models:/{name}/1", name + "-copy")
    assert str(copied.version) == "1"
    assert np.allclose(mlflow.pyfunc.load_model(f"models:/{name}-copy/1").predict(x), y)
    step("copy a version")
    if V3:
        found = mlflow.search_logged_models(experiment_ids=[experiment.experiment_id], filter_string="name = 'model'", output_format="list")
        assert len(found) == 2, found
        assert found[0].status == "READY" or str(found[0].status).endswith("READY")
        client.set_logged_model_tags(found[0].model_id, {"k": "v"})
        assert client.get_logged_model(found[0].model_id).tags["k"] == "v"
        client.delete_logged_model_tag(found[0].model_id, "k")
        step("logged models")
    client.delete_registered_model_alias(name, "champion")
    client.delete_model_version(name, "2")
    with mlflow.start_run(experiment_id=experiment.experiment_id):
        pass
    refused("RESOURCE_DOES_NOT_EXIST", client.get_model_version, name, "2")
    v3 = mlflow.register_model(info.model_uri, name)
    assert str(v3.version) == "3", "the number of a deleted version came back"
    client.rename_registered_model(name, name + "-renamed")
    assert client.get_model_version(name + "-renamed", "3")
    client.delete_registered_model(name + "-renamed")
    refused("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, name + "-renamed")
    step("delete, number again, rename")
    at = time.time()
    try:
        mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/no-such-model")
    except Exception as e:
        print("         missing model:", type(e).__name__)
    else:
        raise AssertionError("a missing model was loaded")
    took = time.time() - at
    assert took < SLOWEST_S, f"a missing artifact took {took:.1f} s to fail"
    step("a missing artifact fails fast")


def delete_and_restore(client, experiment, run):
    client.delete_run(run.info.run_id)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert run.info.run_id in [r.info.run_id for r in client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)]
    refused("INVALID_PARAMETER_VALUE", client.log_metric, run.info.run_id, "m", 1)
    client.restore_run(run.info.run_id)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"
    client.delete_experiment(experiment.experiment_id)
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "deleted"
    client.restore_experiment(experiment.experiment_id)
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"
    step("delete and restore")


def main():
    uri = sys.argv[1]
    stamp = f"{os.getpid()}-{time.time_ns()}"
    logging.getLogger("mlflow").addHandler(Complaints())
    logging.getLogger("urllib3").addHandler(Complaints())
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    print("mlflow", mlflow.__version__)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=ResourceWarning)
        step("start")
        experiment, run = track(client, stamp)
        search(client, experiment, stamp)
        models(client, experiment, stamp)
        delete_and_restore(client, experiment, run)
    said = [f"{w.category.__name__}: {w.message}" for w in caught if "mlflow" in (w.filename or "") or "mlflow" in str(w.message)]
    print(json.dumps({"warnings": sorted(set(said)), "logged": complaints}, indent=1))
    assert not complaints, complaints


if __name__ == "__main__":
    main()
