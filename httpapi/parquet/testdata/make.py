"""Writes the Parquet files of the tests with pyarrow in the ways that its users do, and what they hold as JSON.

    .venv/mlflow2/bin/python httpapi/parquet/testdata/make.py
"""
import json
import math
import pathlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

here = pathlib.Path(__file__).parent
n = 300
unit = [f"engine-{i // 50}" for i in range(n)]
cycle = [i % 50 + 1 for i in range(n)]
table = pa.table({
    "unit_id": pa.array(unit),
    "cycle": pa.array(cycle, pa.int32()),
    "age": pa.array([2**63 + i for i in range(n)], pa.uint64()),
    "count": pa.array([2**32 - 1 - i for i in range(n)], pa.uint32()),
    "small": pa.array([-i % 100 for i in range(n)], pa.int16()),
    "far": pa.array([-(2**60) - i for i in range(n)], pa.int64()),
    "warm": pa.array([i % 3 == 0 for i in range(n)]),
    "temperature": pa.array([None if i % 7 == 3 else 641.82 + i / 8 for i in range(n)], pa.float64()),
    "pressure": pa.array([14.62 + i for i in range(n)], pa.float32()),
    "note": pa.array([None if i % 2 else f"é{i}" for i in range(n)]),
    "empty": pa.array([None] * n, pa.float64()),
})
required = pa.schema([pa.field(f.name, f.type, nullable=f.name in ("temperature", "note", "empty")) for f in table.schema])

written = {
    "default": dict(),
    "plain": dict(use_dictionary=False, compression="none"),
    "gzip": dict(compression="gzip", row_group_size=64),
    "zstd": dict(compression="zstd", data_page_version="2.0"),
    "pages": dict(data_page_size=64, write_batch_size=16, compression="snappy"),
    "v2plain": dict(data_page_version="2.0", use_dictionary=False, compression="none", version="1.0"),
}
for name, options in written.items():
    pq.write_table(table, here / f"{name}.parquet", **options)
pq.write_table(table.cast(required), here / "required.parquet")
pq.write_table(pa.table({"unit_id": ["a"], "sensors": [[1.0, 2.0]], "at": [{"x": 1, "y": [2]}], "cycle": [1]}), here / "nested.parquet")
pq.write_table(table, here / "brotli.parquet", compression="brotli")
pq.write_table(table.select(["cycle"]), here / "delta.parquet", use_dictionary=False, column_encoding={"cycle": "DELTA_BINARY_PACKED"})
pq.write_table(table.slice(0, 0), here / "none.parquet")
pd.DataFrame({"unit_id": ["a", "b"], "cycle": [1, 2]}, index=[7, 9]).to_parquet(here / "pandas.parquet")

# 1,500 readings of C-MAPSS's schema that are small until they are opened.
readings = {"unit_id": ["engine-7"] * 1500, "cycle": list(range(1, 1501))}
for i in range(3):
    readings[f"setting_{i + 1}"] = [0.0, 0.0, 100.0][i:i + 1] * 1500
for i in range(21):
    readings[f"sensor_{i + 1}"] = [500.0 + i] * 1500
pd.DataFrame(readings).to_parquet(here / "wide.parquet", compression="gzip", use_dictionary=False, index=False)

columns = {}
for field in table.schema:
    values = table[field.name].to_pylist()
    columns[field.name] = ["missing" if v is None else str(int(v)) if isinstance(v, (bool, int)) else v for v in values]
(here / "table.json").write_text(json.dumps(columns, ensure_ascii=False) + "\n")
assert not any(isinstance(v, float) and math.isnan(v) for c in columns.values() for v in c)
