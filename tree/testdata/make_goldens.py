"""Write goldens.json and xgboost.tree with scikit-learn and XGBoost.

usage: python make_goldens.py      (in tree/testdata)

goldens.json holds a small training and test matrix with missing values, the
held-out scores of the reference learners on them, and XGBoost's contributions
for the test rows; xgboost.tree is that XGBoost model in the serialized form of
tree.Ensemble, so that contributions can be compared on the same trees.
"""
import json
import struct

import numpy as np
import sklearn
import xgboost as xgb
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor, RandomForestRegressor


def data(rows, seed):
    r = np.random.default_rng(seed)
    x = r.random((rows, 6)).round(4).astype(np.float32)
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + r.normal(size=rows)
    x[r.random(x.shape) < 0.08] = np.nan
    return x, y.round(4)


def crc32c(b):
    crc = 0xFFFFFFFF
    for v in b:
        crc ^= v
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def uvarint(v):
    out = b""
    while v >= 0x80:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


def encode_tree(root):
    """Encode one tree of get_dump breadth first, siblings adjacent."""
    queue, out = [root], b""
    at = 0
    while at < len(queue):
        n = queue[at]
        if "leaf" in n:
            out += b"\0" + struct.pack("<ff", n["leaf"], n["cover"])
        else:
            kids = {k["nodeid"]: k for k in n["children"]}
            missing_right = int(n["missing"] == n["no"])
            out += uvarint((len(queue) - at) << 1 | missing_right)
            # XGBoost sends x < threshold left, we x <= threshold.
            edge = np.nextafter(np.float32(n["split_condition"]), np.float32(-np.inf))
            out += struct.pack("<Hf", int(n["split"][1:]), edge)
            queue += [kids[n["yes"]], kids[n["no"]]]
        at += 1
    return uvarint(len(queue)) + out, len(queue)


def encode(booster, features, base):
    trees = [encode_tree(json.loads(t)) for t in booster.get_dump(dump_format="json", with_stats=True)]
    nodes = sum(n for _, n in trees)
    b = b"TREE" + struct.pack("<HHIIIdd", 1, 0, features, len(trees), nodes, base, 1.0)
    b += struct.pack(f"<{features}d", *[0.0] * features) + b"".join(t for t, _ in trees)
    return b + struct.pack("<I", crc32c(b))


def main():
    x, y = data(800, 1)
    xt, yt = data(300, 2)
    rmse = lambda m: float(np.sqrt(np.mean((m.fit(x, y).predict(xt) - yt) ** 2)))
    forest = dict(n_estimators=100, max_features=0.5, min_samples_leaf=2, random_state=0)
    scores = {
        "forest": rmse(RandomForestRegressor(**forest)),
        "extra": rmse(ExtraTreesRegressor(**forest)),
        "leaves": rmse(HistGradientBoostingRegressor()),
    }
    deep = xgb.XGBRegressor(n_estimators=100, max_depth=4, learning_rate=0.1, tree_method="hist")
    scores["depth"] = rmse(deep)
    coverage = {}
    for q in (0.1, 0.5, 0.9):
        m = HistGradientBoostingRegressor(loss="quantile", quantile=q).fit(x, y)
        coverage[str(q)] = float(np.mean(yt <= m.predict(xt)))
    few = xgb.train({"max_depth": 6, "eta": 0.3, "base_score": 10.0}, xgb.DMatrix(x, y), 30)
    contributions = few.predict(xgb.DMatrix(xt[:40]), pred_contribs=True)
    with open("xgboost.tree", "wb") as f:
        f.write(encode(few, x.shape[1], 10.0))
    tolist = lambda a: [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in a]
    with open("goldens.json", "w") as f:
        json.dump({
            "made_by": f"scikit-learn {sklearn.__version__}, xgboost {xgb.__version__}",
            "x": tolist(x), "y": y.tolist(), "x_test": tolist(xt), "y_test": yt.tolist(),
            "rmse": scores, "quantile_coverage": coverage,
            "contributions": [[float(v) for v in row] for row in contributions],
        }, f, separators=(",", ":"))
    print(scores, coverage)


main()
