"""Writes pumps.parquet beside this file, as pandas 2.3 with pyarrow does: sixty units of forty cycles, one value missing."""
import pathlib
import numpy as np, pandas as pd

rng = np.random.default_rng(3)
rows = []
for unit in range(1, 61):
    for cycle in range(1, 41):
        rows.append((f"p{unit}", cycle, 1.0, *(rng.normal(0, 1, 3) + cycle / 20).round(3)))
table = pd.DataFrame(rows, columns=["unit_id", "cycle", "load", "a", "b", "c"])
table.loc[5, "b"] = np.nan
table.to_parquet(pathlib.Path(__file__).with_name("pumps.parquet"), index=False)
