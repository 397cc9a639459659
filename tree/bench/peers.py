"""Time scikit-learn and XGBoost on the matrices saved by TestSave.

usage: python peers.py DIR [NAME ...]
       python peers.py --memory FILE LEARNER

reads DIR/NAME.bin (default: all), writes DIR/peers.json. TREE_BENCH_JOBS is the
number of threads (default 2); with 1, processor time is measured, not wall time.
--memory prints by how many MB one fit raises the process's peak above what it
held with the data loaded; each is measured in a process of its own.
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

THREADS = int(os.environ.get("TREE_BENCH_JOBS", 2))
CLOCK = time.perf_counter if THREADS > 1 else time.process_time
# scikit-learn's histogram boosting has no n_jobs: OpenMP reads this on import.
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import numpy as np
import xgboost as xgb
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor


def read(path):
    raw = path.read_bytes()
    rows, cols = np.frombuffer(raw, "<i8", 2)
    x = np.frombuffer(raw, "<f4", rows * cols, 16).reshape(rows, cols)
    at = 16 + 4 * rows * cols
    y = np.frombuffer(raw, "<f8", rows, at)
    unit = np.frombuffer(raw, "<i8", rows, at + 8 * rows)
    return x, y, unit


def best(fn, times=3):
    least = float("inf")
    for _ in range(times):
        start = CLOCK()
        fn()
        least = min(least, CLOCK() - start)
    return least


def forest():
    return RandomForestRegressor(100, max_features=0.33, min_samples_leaf=5, n_jobs=THREADS, random_state=0)


def depth():
    return xgb.XGBRegressor(n_estimators=500, max_depth=6, learning_rate=0.05, tree_method="hist", n_jobs=THREADS)


def leaves():
    return HistGradientBoostingRegressor(max_iter=250, learning_rate=0.05, max_leaf_nodes=31, early_stopping=False)


LEARNERS = {"forest": forest, "depth": depth, "leaves": leaves}


def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def memory(path, learner):
    x, y, _ = read(Path(path))
    x, y = x.copy(), y.copy()
    LEARNERS[learner]().fit(x[:2000], y[:2000])  # what is loaded on first use is no part of a fit
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = resident("VmRSS")
    LEARNERS[learner]().fit(x, y)
    print(resident("VmHWM") - before)


def measure(path):
    x, y, unit = read(path)
    out = {}
    for name, make in LEARNERS.items():
        m = make()
        out[f"{name} fit MB"] = float(subprocess.check_output([sys.executable, __file__, "--memory", path, name]))
        out[f"{name} fit s"] = best(lambda: m.fit(x, y), 2 if name == "forest" else 3)
        row = x[len(x) // 2 : len(x) // 2 + 1]
        if name == "depth":
            booster = m.get_booster()
            # inplace_predict on one thread is XGBoost's fastest call for a row.
            booster.set_param({"nthread": 1})
            calls = 2000
            out["depth row us"] = 1e6 / calls * best(lambda: [booster.inplace_predict(row) for _ in range(calls)])
            out["depth batch rows/s"] = len(x) / best(lambda: booster.inplace_predict(x))
            some = xgb.DMatrix(x[:: len(x) // 20][:20])
            out["depth shap ms"] = 1e3 / 20 * best(lambda: booster.predict(some, pred_contribs=True))
        else:
            m.n_jobs = 1
            calls = 20
            out[f"{name} row us"] = 1e6 / calls * best(lambda: [m.predict(row) for _ in range(calls)])
            out[f"{name} batch rows/s"] = len(x) / best(lambda: m.predict(x))
        pred = np.empty(len(y))
        for fold in range(5):
            held = unit % 5 == fold
            pred[held] = make().fit(x[~held], y[~held]).predict(x[held])
        out[f"{name} rmse"] = float(np.sqrt(np.mean((pred - y) ** 2)))
    return out


def main():
    if sys.argv[1] == "--memory":
        return memory(*sys.argv[2:])
    folder = Path(sys.argv[1])
    names = sys.argv[2:] or sorted(p.stem for p in folder.glob("*.bin"))
    result = {name: measure(folder / f"{name}.bin") for name in names}
    (folder / "peers.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


main()
