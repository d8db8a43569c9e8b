"""Makes metrics.json: what scikit-learn says of predictions with ties, weights and one class.

Run with scikit-learn 1.9.1 and NumPy:  python metrics.py > metrics.json

Probabilities are multiples of 1/1024, so that float32 holds them exactly.
"""

import json

import numpy as np
from sklearn import metrics

BUCKETS = 20


def ece_equal_width(p, y, w):
    bucket = np.minimum((p * BUCKETS).astype(int), BUCKETS - 1)
    off = np.bincount(bucket, w * (p - y), BUCKETS)
    return float(np.abs(off).sum() / w.sum())


def ece_equal_mass(p, y, w):
    """Buckets by the weight ranked above, equal predictions together, most likely first."""
    off = np.zeros(BUCKETS)
    above = 0.0
    for value in np.unique(p)[::-1]:
        tied = p == value
        bucket = min(int(above / w.sum() * BUCKETS), BUCKETS - 1)
        off[bucket] += (w[tied] * (p[tied] - y[tied])).sum()
        above += w[tied].sum()
    return float(np.abs(off).sum() / w.sum())


def figures(p, y, w, threshold):
    both = 0 < y.sum() < len(y)
    said = p >= threshold
    rate = float(np.average(y, weights=w))
    loss = float(metrics.log_loss(y, p, sample_weight=w, labels=[0, 1]))
    base = float(metrics.log_loss(y, np.full(len(y), rate), sample_weight=w, labels=[0, 1])) if both else 0.0
    score = lambda of: float(of(y, said, sample_weight=w, zero_division=np.nan))
    or_none = lambda value: None if np.isnan(value) else value
    return {
        "base_rate": rate,
        "mean_prediction": float(np.average(p, weights=w)),
        "log_loss": loss,
        "base_log_loss": base,
        "normalised_entropy": loss / base if both else None,
        "auc": float(metrics.roc_auc_score(y, p, sample_weight=w)) if both else None,
        "pr_auc": float(metrics.average_precision_score(y, p, sample_weight=w)) if y.any() else None,
        "calibration_error": ece_equal_width(p, y, w),
        "calibration_error_equal_mass": ece_equal_mass(p, y, w),
        "accuracy": float(metrics.accuracy_score(y, said, sample_weight=w)),
        "precision": or_none(score(metrics.precision_score)),
        "recall": or_none(score(metrics.recall_score)),
        "f1": or_none(score(metrics.f1_score)),
    }


def case(name, p, y, w, threshold):
    one = {
        "name": name,
        "probabilities": p.tolist(),
        "positives": [bool(one) for one in y],
        "weights": w.tolist(),
        "threshold": threshold,
        "figures": figures(p, y, w, threshold),
    }
    if 0 < y.sum() < len(y):
        false_rate, true_rate, _ = metrics.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
        precision, recall, _ = metrics.precision_recall_curve(y, p, sample_weight=w)
        one["roc"] = [[float(x), float(y)] for x, y in zip(false_rate, true_rate)]
        one["pr"] = [[float(x), float(y)] for x, y in zip(recall[:-1][::-1], precision[:-1][::-1])]
    return one


def main():
    random = np.random.default_rng(5)
    grid = lambda values: np.clip(np.round(values * 1024), 1, 1023) / 1024
    p = grid(random.beta(1, 12, 400))
    y = (random.random(400) < p).astype(int)
    ones = np.ones(400)
    weights = random.integers(1, 16, 400) / 4
    coarse = np.clip(np.round(random.beta(2, 3, 300) * 10), 1, 9) * 96 / 1024
    y_coarse = (random.random(300) < coarse).astype(int)
    cases = [
        case("rare", p, y, ones, 0.0625),
        case("rare, weighted", p, y, weights, 0.0625),
        case("rare, at one half", p, y, ones, 0.5),
        case("ties", coarse, y_coarse, ones[:300], 0.375),
        case("ties, weighted", coarse, y_coarse, weights[:300], 0.5),
        case("nothing happened", p[:50], np.zeros(50, int), weights[:50], 0.0625),
        case("all happened", p[:50], np.ones(50, int), weights[:50], 0.0625),
        case("nothing said", p[:80], y[:80], ones[:80], 0.9990234375),
        case("all said the same", np.full(60, 0.25), y_coarse[:60], weights[:60], 0.25),
    ]
    groups = random.integers(0, 5, 300)
    per_group = []
    for group in range(5):
        of = groups == group
        # One campaign without a positive.
        if group == 4:
            y_coarse[of] = 0
        both = 0 < y_coarse[of].sum() < of.sum()
        per_group.append(
            float(metrics.roc_auc_score(y_coarse[of], coarse[of], sample_weight=weights[:300][of])) if both else None
        )
    known = [(weights[:300][groups == g].sum(), a) for g, a in enumerate(per_group) if a is not None]
    campaigns = {
        "probabilities": coarse.tolist(),
        "positives": [bool(one) for one in y_coarse],
        "weights": weights[:300].tolist(),
        "of": [f"c{group}" for group in groups],
        "auc": per_group,
        "gauc": float(sum(w * a for w, a in known) / sum(w for w, _ in known)),
    }
    print(json.dumps({"cases": cases, "campaigns": campaigns}))


main()
