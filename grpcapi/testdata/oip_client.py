"""Asks the prediction role with NVIDIA's client of the Open Inference Protocol, over gRPC.

    .venv/oip/bin/python oip_client.py HOST:PORT

TestInferenceClient runs it and reads its last line, "ok".
"""

import sys

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

SETTINGS = [-0.0007, 0.0003, 100]
SENSORS = [518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02,
           8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def tensors(rows):
    arrays = {
        "unit_id": (np.array(["engine-é"] * rows, dtype=object), "BYTES"),
        "cycle": (np.arange(1, rows + 1, dtype=np.int32), "INT32"),
        "settings": (np.tile(np.array(SETTINGS), (rows, 1)), "FP64"),
        "sensors": (np.tile(np.array(SENSORS, dtype=np.float32), (rows, 1)), "FP32"),
    }
    arrays["sensors"][0][0, 3] = np.nan  # a sensor that is missing
    out = []
    for name, (array, datatype) in arrays.items():
        t = grpc.InferInput(name, list(array.shape), datatype)
        t.set_data_from_numpy(array)
        out.append(t)
    return out


def main(url):
    c = grpc.InferenceServerClient(url)
    check(c.is_server_live() and c.is_server_ready() and c.is_model_ready("rul") and c.is_model_ready("rul", "7"), "ready")
    check(not c.is_model_ready("rul", "8") and not c.is_model_ready("other"), "a model that does not serve is ready")
    check(c.get_server_metadata().name == "turbofan", "server metadata")
    meta = c.get_model_metadata("rul")
    check(list(meta.versions) == ["7"] and [t.name for t in meta.inputs] == ["unit_id", "cycle", "settings", "sensors"], meta)
    check(list(meta.inputs[3].shape) == [-1, 21], meta)
    answer = c.infer("rul", tensors(5), request_id="a-1", headers={"x-request-id": "mine-7"})
    check(answer.get_response().id == "a-1" and answer.get_response().model_version == "7", answer.get_response())
    for t in meta.outputs:
        check(answer.as_numpy(t.name).shape == (5,), t)
    check((answer.as_numpy("rul_lower") <= answer.as_numpy("rul_prediction")).all(), "interval")
    check(str(answer.as_numpy("health")[0], "utf-8") == "watch", "health")
    two = c.infer("rul", tensors(3), model_version="7", outputs=[grpc.InferRequestedOutput("failure_probability")])
    check(two.as_numpy("failure_probability").shape == (3,) and two.as_numpy("health") is None, "outputs")
    for call, code, text in [
        (lambda: c.infer("other", tensors(1)), "StatusCode.NOT_FOUND", 'there is no model "other" here; rul serves'),
        (lambda: c.infer("rul", tensors(1), model_version="9"), "StatusCode.NOT_FOUND", 'version "9" of rul does not serve; version 7 does'),
        (lambda: c.infer("rul", tensors(1)[:3]), "StatusCode.INVALID_ARGUMENT", "inputs: sensor_1 is missing: give sensors, or each channel by its name"),
        (lambda: c.get_model_metadata("a/b"), "StatusCode.NOT_FOUND", 'there is no model "a/b" here; rul serves'),
    ]:
        try:
            call()
        except InferenceServerException as e:
            check(text == e.message() and e.status() == code, (e.message(), e.status()))
        else:
            raise AssertionError(f"not refused: {text}")
    c.infer("rul", tensors(2), parameters={"stateless": False})
    try:
        c.infer("rul", tensors(1), parameters={"stateless": False})
    except InferenceServerException as e:
        check(e.status() == "StatusCode.FAILED_PRECONDITION", e)
    else:
        raise AssertionError("an older cycle was taken after stateless was false")
    print("ok")


main(sys.argv[1])
