"""Calls the four roles with BentoML's own Python clients.

    python3 bentoml_client.py PREDICT_URL FEEDBACK_URL DRIFT_URL RETRAIN_URL

Needs `pip install bentoml` (1.3 or later). TestBentoMLClient runs it and reads its last line, "ok".
"""

import asyncio
import sys

import bentoml
from bentoml.exceptions import BentoMLException, InvalidArgument, NotFound

SETTINGS = [-0.0007, 0.0003, 100]
SENSORS = [518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02,
           8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419]


def reading(unit, cycle, **more):
    return {"unit_id": unit, "cycle": cycle, "settings": SETTINGS, "sensors": SENSORS, **more}


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(kind, text, call, **arguments):
    try:
        call(**arguments)
    except kind as e:
        check(text in str(e), f"{text!r} is not in {e}")
        return
    raise AssertionError(f"{arguments} was not refused")


def predict(url):
    with bentoml.SyncHTTPClient(url) as c:
        check(c.is_ready(), "is_ready")
        check({"predict", "predict_batch"} <= set(c.endpoints), c.endpoints)
        p = c.predict(reading=reading("py", 1))
        check(p["unit_id"] == "py" and p["cycle"] == 1 and p["model_version"] == "7" and p["health"] == "watch", p)
        check(len(p) == 13, sorted(p))
        p = c.predict(reading("py", 2), True)  # positional: the order of the schema's properties is API
        check(p["drivers"][0]["feature"] == "sensor_11_rolling_mean_5" and p["drivers"][1]["value"] is None, p)
        flat = {"unit": 3, "time_cycles": 1, **{f"setting_{i+1}": v for i, v in enumerate(SETTINGS)},
                **{f"s{i+1}": v for i, v in enumerate(SENSORS)}, "s4": None}
        p = c.predict(reading=flat)
        check(p["unit_id"] == "3" and p["warnings"][0] == "1 sensors are missing", p)
        p = c.predict(readings=[reading("a", 1), reading("b", 1)])
        check([x["unit_id"] for x in p["predictions"]] == ["a", "b"], p)
        p = c.predict(history=[reading("whole", n) for n in (1, 2, 3)])
        check(p["cycle"] == 3, p)
        p = c.predict_batch(readings=[reading("batch", n) for n in range(1, 101)])
        check(len(p["predictions"]) == 100 and p["predictions"][99]["cycle"] == 100, len(p["predictions"]))
        refused(InvalidArgument, "reading.cycle: must be a whole number", c.predict, reading=reading("py", -1))
        refused(BentoMLException, "conflict", c.predict, reading=reading("py", 1))
        check(c.request("GET", "/units/py").json()["readings"] == 2, "raw access")


async def predict_async(url):
    async with bentoml.AsyncHTTPClient(url) as c:
        answers = await asyncio.gather(*(c.predict(reading=reading(f"async-{i}", 1)) for i in range(20)))
        check([p["unit_id"] for p in answers] == [f"async-{i}" for i in range(20)], answers)


def feedback(url):
    with bentoml.SyncHTTPClient(url) as c:
        r = c.feedback(outcome={"unit_id": 1, "failed_at_cycle": 192, "key": "once"})
        check(r == {"status": "stored", "feedback_id": "f-1", "unit_id": "1", "duplicate": False, "matched_predictions": 3}, r)
        r = c.feedback(outcomes=[{"unit_id": 1, "failed_at_cycle": 192, "key": "once"}, {"unit_id": 2, "event": "inspection"}])
        check([x["duplicate"] for x in r["receipts"]] == [True, False], r)
        refused(InvalidArgument, "outcome.actual_rul: must be at least 0", c.feedback, outcome={"unit_id": 1, "actual_rul": -3})


def drift(url):
    with bentoml.SyncHTTPClient(url) as c:
        r = c.check()
        check(r["verdict"] == "drift" and r["channels"][0]["psi"] == 0.31 and r["channels"][0]["ks_p_value"] is None, r)


async def retrain(url):
    async with bentoml.AsyncHTTPClient(url) as c:
        task = await c.retrain.submit(reason="from python")
        check((await task.get_status()).value == "pending", "status")
        await task.cancel()
        check((await task.get_status()).value == "canceled", "cancelled")
        again = await task.retry()
        check(again.id != task.id, again)
        try:
            await again.get()
            raise AssertionError("a pending task gave a result")
        except InvalidArgument as e:
            check("is not completed yet" in str(e), e)
        try:
            await c.retrain(reason="two at once")
            raise AssertionError("two jobs at once")
        except BentoMLException as e:
            check("is active" in str(e), e)
    with bentoml.SyncHTTPClient(url) as c:
        refused(NotFound, "task_id not found", lambda: c._get_task_result(c.endpoints["retrain"], "nobody"))


def main():
    urls = sys.argv[1:]
    predict(urls[0])
    asyncio.run(predict_async(urls[0]))
    feedback(urls[1])
    drift(urls[2])
    asyncio.run(retrain(urls[3]))
    print(f"bentoml {bentoml.__version__}")
    print("ok")


if __name__ == "__main__":
    main()
