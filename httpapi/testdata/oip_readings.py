"""What oip_http.py and oip_grpc.py send, and how they check what comes back."""

import numpy as np
from tritonclient.utils import InferenceServerException

SETTINGS = [-0.0007, 0.0003, 100]
SENSORS = [518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02,
           8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def tensors(client, rows, sensors=("FP64", np.float64), **how):
    """A unit's first rows, for tritonclient.http or .grpc; how is what set_data_from_numpy takes."""
    arrays = {
        "unit_id": (np.array(["engine-é"] * rows, dtype=object), "BYTES"),
        "cycle": (np.arange(1, rows + 1, dtype=np.int32), "INT32"),
        "settings": (np.tile(np.array(SETTINGS), (rows, 1)), "FP64"),
        "sensors": (np.tile(np.array(SENSORS, dtype=sensors[1]), (rows, 1)), sensors[0]),
    }
    arrays["sensors"][0][0, 3] = np.nan  # a sensor that is missing
    out = []
    for name, (array, datatype) in arrays.items():
        t = client.InferInput(name, list(array.shape), datatype)
        t.set_data_from_numpy(array, **how)
        out.append(t)
    return out


def refusal(call):
    """The error with which the server answers a call that it must not obey."""
    try:
        call()
    except InferenceServerException as e:
        return e
    raise AssertionError("not refused")
