"""Asks the prediction role with NVIDIA's client of the Open Inference Protocol, over HTTP.

    .venv/oip/bin/python oip_client.py HOST:PORT

TestInferenceClient runs it and reads its last line, "ok".
"""

import sys

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

SETTINGS = [-0.0007, 0.0003, 100]
SENSORS = [518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02,
           8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def tensors(rows, **binary):
    arrays = {
        "unit_id": (np.array(["engine-é"] * rows, dtype=object), "BYTES"),
        "cycle": (np.arange(1, rows + 1, dtype=np.int32), "INT32"),
        "settings": (np.tile(np.array(SETTINGS), (rows, 1)), "FP64"),
        "sensors": (np.tile(np.array(SENSORS), (rows, 1)), "FP64"),
    }
    arrays["sensors"][0][0, 3] = np.nan  # a sensor that is missing
    out = []
    for name, (array, datatype) in arrays.items():
        t = http.InferInput(name, list(array.shape), datatype)
        t.set_data_from_numpy(array, **binary)
        out.append(t)
    return out


def main(url):
    c = http.InferenceServerClient(url)
    check(c.is_server_live() and c.is_server_ready() and c.is_model_ready("rul") and c.is_model_ready("rul", "7"), "ready")
    check(not c.is_model_ready("rul", "8") and not c.is_model_ready("other"), "a model that does not serve is ready")
    check("binary_tensor_data" in c.get_server_metadata()["extensions"], "extensions")
    meta = c.get_model_metadata("rul")
    check(meta["versions"] == ["7"] and [t["name"] for t in meta["inputs"]] == ["unit_id", "cycle", "settings", "sensors"], meta)

    binary = c.infer("rul", tensors(5), request_id="a-1")
    check(binary.get_response()["id"] == "a-1" and binary.get_response()["model_version"] == "7", binary.get_response())
    text = c.infer("rul", tensors(5, binary_data=False), outputs=[http.InferRequestedOutput(t["name"], binary_data=False) for t in meta["outputs"]])
    for t in meta["outputs"]:
        a, b = binary.as_numpy(t["name"]), text.as_numpy(t["name"])
        check(a.shape == (5,) == b.shape, (t, a))
        if t["datatype"] == "BYTES":
            a, b = [str(v, "utf-8") for v in a], [str(v, "utf-8") if isinstance(v, bytes) else v for v in b]
            if t["name"] == "prediction_id":
                continue
            check(a == b, (t, a, b))
        else:
            np.testing.assert_array_equal(a, b)
    check(binary.as_numpy("rul_lower")[0] <= binary.as_numpy("rul_prediction")[0] <= binary.as_numpy("rul_upper")[0], "interval")
    check(str(binary.as_numpy("health")[0], "utf-8") == "watch", "health")

    mixed = c.infer("rul", tensors(3), model_version="7", request_compression_algorithm="gzip", outputs=[
        http.InferRequestedOutput("failure_probability", binary_data=True), http.InferRequestedOutput("rul_prediction", binary_data=False)])
    check(mixed.as_numpy("failure_probability").shape == (3,) and mixed.as_numpy("rul_prediction").shape == (3,) and mixed.as_numpy("health") is None, "outputs")

    for call, text in [
        (lambda: c.infer("other", tensors(1)), 'there is no model "other" here; rul serves'),
        (lambda: c.infer("rul", tensors(1), model_version="9"), 'version "9" of rul does not serve; version 7 does'),
        (lambda: c.infer("rul", tensors(1)[:3]), "inputs: sensor_1 is missing: give sensors, or each channel by its name"),
        (lambda: c.infer("rul", tensors(1), outputs=[http.InferRequestedOutput("rul")]), 'outputs[0].name: must be one of prediction_id, '),
    ]:
        try:
            call()
        except InferenceServerException as e:
            check(text in e.message(), e.message())
        else:
            raise AssertionError(f"not refused: {text}")
    c.infer("rul", tensors(2), parameters={"stateless": False})
    try:
        c.infer("rul", tensors(1), parameters={"stateless": False})
    except InferenceServerException as e:
        check(e.status() == "409", e)
    else:
        raise AssertionError("an older cycle was taken after stateless was false")
    print("\nok")


main(sys.argv[1])
