"""Draws a reference and a current table, asks evidently for PSI and KS of each column, and writes all of it into DIR.

    python peers.py DIR ROWS CHANNELS
"""
import json, resource, sys, time, warnings
import numpy as np, pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift

warnings.simplefilter("ignore")
directory, rows, channels = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(7)
reference = rng.normal(0, 1, (channels, rows))
# Every other channel has moved by 0.6 standard deviations: no test of a million rows can be in doubt about any.
current = rng.normal(0, 1, (channels, rows)) + 0.6 * (np.arange(channels)[:, None] % 2)
reference.tofile(directory + "/reference.f64")
current.tofile(directory + "/current.f64")
names = [f"c{i}" for i in range(channels)]
definition = DataDefinition(numerical_columns=names)
a = Dataset.from_pandas(pd.DataFrame(dict(zip(names, reference))), definition)
b = Dataset.from_pandas(pd.DataFrame(dict(zip(names, current))), definition)
before = resource.getrusage(resource.RUSAGE_SELF)
start = time.perf_counter()
report = Report([ValueDrift(column=c, method=m) for m in ("psi", "ks") for c in names]).run(b, a)
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF)
values = [float(m["value"]) for m in report.dict()["metrics"]]
json.dump({"rows": rows, "channels": channels, "seconds": seconds, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
           "psi": values[:channels], "ks_p": values[channels:]}, open(directory + "/evidently.json", "w"))
