"""Asks the prediction role with MLflow's client of its scoring server.

    .venv/mlflow3/bin/python mlflow_client.py HOST PORT

TestScoringClient runs it and reads its last line, "ok".
"""

import io
import sys

import numpy as np
import pandas as pd
import requests
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

SETTINGS = [-0.0007, 0.0003, 100]
SENSORS = [518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02,
           8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419]
NAMES = ["unit_id", "cycle"] + [f"setting_{i}" for i in range(1, 4)] + [f"sensor_{i}" for i in range(1, 22)]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def main(host, port):
    c = ScoringServerClient(host, port)
    c.wait_server_ready(timeout=120)
    c.ping()
    check(c.get_version() == "not available", c.get_version())
    rows = pd.DataFrame([["1", i, *SETTINGS, *SENSORS] for i in range(1, 6)], columns=NAMES, index=[10, 11, 12, 13, 14])
    rows.loc[12, "sensor_4"] = np.nan
    answer = c.invoke(rows).get_predictions()
    check(list(answer["cycle"]) == [1, 2, 3, 4, 5] and (answer["rul_lower"] <= answer["rul_prediction"]).all(), answer)
    check(set(answer["model_version"]) == {"7"} and "drivers" not in answer, answer.columns)
    check("drivers" in c.invoke(rows, params={"explain": True}).get_predictions(), "explain")
    url = f"http://{host}:{port}/invocations"
    want = [{k: r[k] for k in ("unit_id", "cycle", "rul_prediction", "rul_lower", "rul_upper")} for r in c.invoke(rows)["predictions"]]

    def same(response, what):
        check(response.status_code == 200, f"{what}: {response.status_code} {response.text}")
        got = [{k: r[k] for k in want[0]} for r in response.json()["predictions"]]
        check(got == want, f"{what}: {got}")

    clean = rows.astype(object).where(rows.notna(), None)
    records = clean.to_dict(orient="records")
    for name, body in [
        ("records", {"dataframe_records": records}),
        ("instances", {"instances": records}),
        ("instances as arrays", {"instances": clean.values.tolist()}),
        ("inputs by column", {"inputs": clean.to_dict(orient="list")}),
        ("inputs as records", {"inputs": records}),
        ("split", {"dataframe_split": clean.to_dict(orient="split")}),
    ]:
        same(requests.post(url, json=body), name)
    same(requests.post(url, data=rows.to_csv(index=False), headers={"Content-Type": "text/csv"}), "csv")
    file = io.BytesIO()
    rows.to_parquet(file)
    same(requests.post(url, data=file.getvalue(), headers={"Content-Type": "application/vnd.apache.parquet"}), "parquet")
    r = requests.post(f"http://{host}:{port}/predict_batch?stateless=true", data=file.getvalue(), headers={"Content-Type": "application/vnd.apache.parquet"})
    same(r, "predict_batch")
    try:
        c.invoke(rows.drop(columns="sensor_7"))
    except Exception as e:  # that is what MLflow raises
        check("error code 400" in str(e) and "columns: sensor_7 is missing" in str(e), e)
    else:
        raise AssertionError("a missing column was not refused")
    print("\nok")


main(sys.argv[1], sys.argv[2])
