"""Makes calibration.json: Platt's scaling and isotonic regression by scikit-learn and SciPy.

Run with scikit-learn 1.9.1 and SciPy:  python calibration.py > calibration.json

scikit-learn's `_sigmoid_calibration` stops early (L-BFGS), so Platt's likelihood is minimised again
from its answer until the gradient is below 1e-10; both are written.
"""

import json

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression


def platt(logits, y, w):
    slope, intercept = _sigmoid_calibration(logits, y, sample_weight=w)
    negatives, positives = w[y == 0].sum(), w[y == 1].sum()
    targets = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(ab):
        p = expit(ab[0] * logits + ab[1])
        value = -(w * (xlogy(targets, p) + xlogy(1 - targets, 1 - p))).sum()
        slip = w * (p - targets)
        return value, np.array([(slip * logits).sum(), slip.sum()])

    at = np.array([-slope, -intercept])
    for _ in range(50):
        p = expit(at[0] * logits + at[1])
        curve = w * p * (1 - p)
        hessian = np.array(
            [[(curve * logits**2).sum(), (curve * logits).sum()], [(curve * logits).sum(), curve.sum()]]
        )
        step = np.linalg.solve(hessian, loss(at)[1])
        at = at - step
        if np.abs(step).max() < 1e-14:
            break
    assert np.abs(loss(at)[1]).max() < 1e-9
    return {"sklearn": [float(-slope), float(-intercept)], "exact": at.tolist()}


def isotonic(p, y, w, asked):
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y, sample_weight=w)
    return fitted.predict(asked).tolist()


def main():
    random = np.random.default_rng(7)
    asked = np.arange(0, 1025) / 1024
    cases = []
    for name, rows, scale, shift, weighted, places in [
        ("overconfident", 800, 2.0, 0.5, False, 256),
        ("underconfident, weighted", 800, 0.5, -1.0, True, 256),
        ("few values", 500, 1.5, 0.0, True, 8),
        ("few rows", 12, 1.0, 0.0, False, 256),
    ]:
        logits = np.round(random.normal(-1.5, 1.0, rows) * places) / places
        y = (random.random(rows) < expit(logits)).astype(int)
        logits = np.round((logits * scale + shift) * places) / places
        w = random.integers(1, 9, rows) / 4 if weighted else np.ones(rows)
        p = np.clip(np.round(expit(logits) * 1024), 1, 1023) / 1024
        cases.append(
            {
                "name": name,
                "logits": logits.tolist(),
                "probabilities": p.tolist(),
                "positives": [bool(one) for one in y],
                "weights": w.tolist(),
                "platt": platt(logits, y, w),
                "isotonic": isotonic(p, y, w, asked),
            }
        )
    print(json.dumps({"asked": asked.tolist(), "cases": cases}))


main()
