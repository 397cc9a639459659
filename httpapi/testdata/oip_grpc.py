"""Asks the prediction role with NVIDIA's client of the Open Inference Protocol, over gRPC.

    .venv/oip/bin/python oip_grpc.py HOST:PORT

grpcapi's TestInferenceClient runs it and reads its last line, "ok".
"""

import sys

import numpy as np
import tritonclient.grpc as grpc

from oip_readings import check, refusal, tensors


def readings(rows):
    return tensors(grpc, rows, sensors=("FP32", np.float32))


def main(url):
    c = grpc.InferenceServerClient(url)
    check(c.is_server_live() and c.is_server_ready() and c.is_model_ready("rul") and c.is_model_ready("rul", "7"), "ready")
    check(not c.is_model_ready("rul", "8") and not c.is_model_ready("other"), "a model that does not serve is ready")
    check(c.get_server_metadata().name == "turbofan", "server metadata")
    meta = c.get_model_metadata("rul")
    check(list(meta.versions) == ["7"] and [t.name for t in meta.inputs] == ["unit_id", "cycle", "settings", "sensors"], meta)
    check(list(meta.inputs[3].shape) == [-1, 21], meta)
    answer = c.infer("rul", readings(5), request_id="a-1", headers={"x-request-id": "mine-7"})
    check(answer.get_response().id == "a-1" and answer.get_response().model_version == "7", answer.get_response())
    for t in meta.outputs:
        check(answer.as_numpy(t.name).shape == (5,), t)
    check((answer.as_numpy("rul_lower") <= answer.as_numpy("rul_prediction")).all(), "interval")
    check(str(answer.as_numpy("health")[0], "utf-8") == "watch", "health")
    two = c.infer("rul", readings(3), model_version="7", outputs=[grpc.InferRequestedOutput("failure_probability")])
    check(two.as_numpy("failure_probability").shape == (3,) and two.as_numpy("health") is None, "outputs")
    for call, code, text in [
        (lambda: c.infer("other", readings(1)), "StatusCode.NOT_FOUND", 'there is no model "other" here; rul serves'),
        (lambda: c.infer("rul", readings(1), model_version="9"), "StatusCode.NOT_FOUND", 'version "9" of rul does not serve; version 7 does'),
        (lambda: c.infer("rul", readings(1)[:3]), "StatusCode.INVALID_ARGUMENT", "inputs: sensor_1 is missing: give sensors, or each channel by its name"),
        (lambda: c.get_model_metadata("a/b"), "StatusCode.NOT_FOUND", 'there is no model "a/b" here; rul serves'),
    ]:
        e = refusal(call)
        check(text == e.message() and e.status() == code, (e.message(), e.status()))
    c.infer("rul", readings(2), parameters={"stateless": False})
    older = refusal(lambda: c.infer("rul", readings(1), parameters={"stateless": False}))
    check(older.status() == "StatusCode.FAILED_PRECONDITION", older)
    print("ok")


main(sys.argv[1])
