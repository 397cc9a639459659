"""Writes goldens.json: the answers of scipy, scikit-learn, numpy and evidently.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python goldens.py > goldens.json
"""
import json, sys, warnings
import numpy as np, pandas as pd
from scipy import stats
from sklearn import metrics
from sklearn.isotonic import IsotonicRegression
from sklearn.calibration import calibration_curve
from evidently.legacy.calculations.stattests.psi import _psi
from evidently.legacy.core import ColumnType

warnings.simplefilter("ignore")
rng = np.random.default_rng(7)
out = {}
L = lambda a: np.asarray(a, float).tolist()

pred, truth = rng.normal(60, 30, 60).round(3), rng.normal(60, 30, 60).round(3)
out["regression"] = dict(pred=L(pred), truth=L(truth), rmse=metrics.root_mean_squared_error(truth, pred),
    mae=metrics.mean_absolute_error(truth, pred), r2=metrics.r2_score(truth, pred))

out["ks"] = []
def ks(name, a, b):
    r = stats.ks_2samp(a, b, method="exact" if len(a) * len(b) <= 10000 else "asymp")
    out["ks"].append(dict(name=name, a=L(a), b=L(b), d=float(r.statistic), p=float(r.pvalue),
                          wasserstein=float(stats.wasserstein_distance(a, b))))
N = lambda n, m=0, s=1: rng.normal(m, s, n).round(4)
ks("small equal", N(9), N(7)); ks("same values", *(2 * [N(12)])); ks("disjoint", N(20), N(25, 50))
ks("ties", rng.integers(0, 6, 80), rng.integers(0, 7, 50)); ks("one each", [1.0], [2.0])
ks("constant", np.full(30, 3.0), np.full(40, 3.0)); ks("shift .3", N(150), N(120, .3)); ks("shift 1", N(150), N(120, 1))
ks("uneven", N(11), N(300, .2)); ks("wide", N(300), N(300, 0, 1.4)); ks("big null", N(500), N(400)); ks("big shift", N(500), N(450, .15))
ks("big strong", N(400), N(400, .7)); ks("discrete big", rng.poisson(4, 400), rng.poisson(4.3, 500))

out["kstwo"] = [dict(n=int(n), d=float(d), sf=float(stats.kstwo.sf(d, n)))
    for n in (1, 2, 3, 10, 50, 140, 141, 500, 3000, 100000, 2000000)
    for d in np.unique(np.r_[0.3/n, 0.7/n, 1.5/n, np.array([.2, .35, .5, .8, 1, 1.2, 1.4, 1.6, 1.9, 2.3, 4, 8])/np.sqrt(n), .45, .6, 1-.5/n])
    if d < 1 and np.isfinite(stats.kstwo.sf(d, n))]  # scipy has no answer at some (n, d)

out["auc"] = []
for name, s in (("continuous", N(80)), ("ties", rng.integers(0, 5, 80))):
    y = rng.random(80) < .4
    out["auc"].append(dict(name=name, score=L(s), positive=y.tolist(), auc=float(metrics.roc_auc_score(y, s))))

p = rng.random(120).round(4); p[:2] = 0, 1
y = rng.random(120) < p ** 2
t, q = calibration_curve(y, p, n_bins=7)
out["probability"] = dict(p=L(p), positive=y.tolist(), brier=float(metrics.brier_score_loss(y, p)), bins=7, observed=L(t), predicted=L(q))

out["isotonic"] = []
for name, inc, w in (("plain", True, None), ("weights", True, rng.random(70) + .1), ("decreasing", False, None)):
    x = rng.integers(0, 40, 70) / 4; yy = (1 if inc else -1) * x + rng.normal(0, 3, 70)
    f = IsotonicRegression(increasing=inc, out_of_bounds="clip").fit(x, yy, w)
    at = np.linspace(-1, 11, 49)
    out["isotonic"].append(dict(name=name, increasing=inc, x=L(x), y=L(yy), w=None if w is None else L(w), at=L(at), predicted=L(f.predict(at))))

v = N(41); qs = [0, .01, .1, .25, .5, .77, .95, 1]
w = rng.integers(1, 5, 41)
out["quantile"] = dict(v=L(v), w=L(w), q=qs, linear=L(np.quantile(v, qs)), weighted=L(np.quantile(v, qs, method="inverted_cdf", weights=w)))

out["psi"] = []
for name, a, b in (("shift", N(600), N(500, .3)), ("null", N(600), N(600)), ("heavy", N(600), N(400, 0, 1.2))):
    # evidently bins both samples together by Sturges' rule; trim so that no bin is empty, where its filler would count
    a, b = a[abs(a) < 1.8], b[abs(b) < 1.8]
    bins = np.histogram_bin_edges(np.r_[a, b], bins="sturges")
    value, _ = _psi(pd.Series(a), pd.Series(b), ColumnType.Numerical, .1)
    assert np.histogram(a, bins)[0].min() > 0 and np.histogram(b, bins)[0].min() > 0
    out["psi"].append(dict(name=name, a=L(a), b=L(b), edges=L(bins[1:-1]), psi=float(value)))
a, b = rng.integers(0, 6, 300), rng.integers(0, 6, 200) * rng.integers(0, 2, 200)
out["psi"].append(dict(name="discrete", a=L(a), b=L(b), edges=[.5, 1.5, 2.5, 3.5, 4.5], psi=float(_psi(pd.Series(a), pd.Series(b), ColumnType.Numerical, .1)[0])))

json.dump(out, sys.stdout, separators=(",", ":")); print()
