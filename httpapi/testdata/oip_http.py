"""Asks the prediction role with NVIDIA's client of the Open Inference Protocol, over HTTP.

    .venv/oip/bin/python oip_http.py HOST:PORT

TestInferenceClient runs it and reads its last line, "ok".
"""

import sys

import numpy as np
import tritonclient.http as http

from oip_readings import check, refusal, tensors


def main(url):
    c = http.InferenceServerClient(url)
    check(c.is_server_live() and c.is_server_ready() and c.is_model_ready("rul") and c.is_model_ready("rul", "7"), "ready")
    check(not c.is_model_ready("rul", "8") and not c.is_model_ready("other"), "a model that does not serve is ready")
    check("binary_tensor_data" in c.get_server_metadata()["extensions"], "extensions")
    meta = c.get_model_metadata("rul")
    check(meta["versions"] == ["7"] and [t["name"] for t in meta["inputs"]] == ["unit_id", "cycle", "settings", "sensors"], meta)

    binary = c.infer("rul", tensors(http, 5), request_id="a-1")
    check(binary.get_response()["id"] == "a-1" and binary.get_response()["model_version"] == "7", binary.get_response())
    text = c.infer("rul", tensors(http, 5, binary_data=False), outputs=[http.InferRequestedOutput(t["name"], binary_data=False) for t in meta["outputs"]])
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

    mixed = c.infer("rul", tensors(http, 3), model_version="7", request_compression_algorithm="gzip", outputs=[
        http.InferRequestedOutput("failure_probability", binary_data=True), http.InferRequestedOutput("rul_prediction", binary_data=False)])
    check(mixed.as_numpy("failure_probability").shape == (3,) and mixed.as_numpy("rul_prediction").shape == (3,) and mixed.as_numpy("health") is None, "outputs")

    for call, text in [
        (lambda: c.infer("other", tensors(http, 1)), 'there is no model "other" here; rul serves'),
        (lambda: c.infer("rul", tensors(http, 1), model_version="9"), 'version "9" of rul does not serve; version 7 does'),
        (lambda: c.infer("rul", tensors(http, 1)[:3]), "inputs: sensor_1 is missing: give sensors, or each channel by its name"),
        (lambda: c.infer("rul", tensors(http, 1), outputs=[http.InferRequestedOutput("rul")]), 'outputs[0].name: must be one of prediction_id, '),
    ]:
        check(text in refusal(call).message(), text)
    c.infer("rul", tensors(http, 2), parameters={"stateless": False})
    older = refusal(lambda: c.infer("rul", tensors(http, 1), parameters={"stateless": False}))
    check(older.status() == "409", older)
    print("\nok")


main(sys.argv[1])
