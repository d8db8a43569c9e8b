"""LightGBM on rows that `salience bench quality` has exported.

    python quality_lightgbm.py FOLDER lightgbm

Reads the numpy files in FOLDER (ops/src/bench/quality/export.rs describes them), trains on the
training part with early stopping on the validation part, writes predictions of the test part to
FOLDER/predictions_lightgbm.npy. Its last line of output is JSON.

Ids are categorical features; of the past behaviours, which trees cannot read as a sequence, it gets
counts of views and clicks of the same item, campaign and category among the last ones.
"""

import json
import pathlib
import sys
import time

import lightgbm
import numpy as np

folder = pathlib.Path(sys.argv[1])
meta = json.loads((folder / "meta.json").read_text())
load = lambda name: np.load(folder / f"{name}.npy", mmap_mode="r")
part, clicked = load("part"), np.asarray(load("clicked"))
ids, numbers = np.asarray(load("ids")), np.asarray(load("numbers"))
behaviours, ages = load("behaviours"), load("ages")

CLICKS = (2, 3)  # click, cart
columns, names, categorical = [], [], []
for column, name in enumerate(meta["ids"]):
    # Numbers of texts, densely per column.
    dense = np.unique(ids[:, column], return_inverse=True)[1]
    columns.append(dense.astype(np.float32))
    names.append(name)
    categorical.append(name)
for column, field in enumerate(meta["numbers"]):
    columns.append(numbers[:, column])
    names.append(field["name"])
kinds = np.asarray(behaviours[:, :, 3])
for at, (name, column) in enumerate((("item", 1), ("campaign", 2), ("category", 3))):
    same = (np.asarray(behaviours[:, :, at]) == ids[:, column, None]) & (kinds > 0)
    columns.append((same & (kinds == 1)).sum(1).astype(np.float32))
    names.append(f"last_views_same_{name}")
    columns.append((same & np.isin(kinds, CLICKS)).sum(1).astype(np.float32))
    names.append(f"last_clicks_same_{name}")
columns.append(np.isin(kinds, CLICKS).sum(1).astype(np.float32))
names.append("last_clicks")
if meta["embedding"]:
    embeddings = load("embeddings")
    for at in range(meta["embedding"]):
        columns.append(np.asarray(embeddings[:, at])[ids[:, 1]])
        names.append(f"embedding_{at}")
x = np.stack(columns, axis=1)


def dataset(which, reference=None):
    rows = np.flatnonzero(part == which)
    return lightgbm.Dataset(
        x[rows], clicked[rows], feature_name=names, categorical_feature=categorical,
        reference=reference, free_raw_data=False,
    )


began = time.monotonic()
train = dataset(0)
validation = dataset(1, train)
best = None
small = len(train.get_label()) < 50_000
# A small grid, the winner by the validation part.
grid = [dict(num_leaves=31, min_data_in_leaf=100), dict(num_leaves=127, min_data_in_leaf=200)]
if small:
    grid = [dict(num_leaves=7, min_data_in_leaf=50), dict(num_leaves=31, min_data_in_leaf=100)]
for choice in grid:
    parameters = dict(
        objective="binary", metric="binary_logloss", learning_rate=0.03 if small else 0.05,
        feature_fraction=0.5, bagging_fraction=0.8, bagging_freq=1, lambda_l2=1.0,
        cat_smooth=20.0, cat_l2=10.0, max_cat_threshold=64, verbosity=-1, seed=1, deterministic=True,
        force_row_wise=True, **choice,
    )
    model = lightgbm.train(
        parameters, train, num_boost_round=3000, valid_sets=[validation],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    loss = model.best_score["valid_0"]["binary_logloss"]
    print(f"  lightgbm {choice}: validation loss {loss:.5f} at {model.best_iteration}, "
          f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    if best is None or loss < best[0]:
        best = (loss, model)
model = best[1]
seconds = time.monotonic() - began
tests = np.flatnonzero(part == 2)
predictions = model.predict(x[tests], num_iteration=model.best_iteration)
np.save(folder / "predictions_lightgbm.npy", predictions.astype(np.float32))
print(json.dumps({"seconds": seconds, "version": lightgbm.__version__, "best": int(model.best_iteration)}))
