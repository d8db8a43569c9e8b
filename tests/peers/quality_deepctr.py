"""DeepCTR-Torch's AutoInt or DIN on rows that `salience bench quality` has exported.

    python quality_deepctr.py FOLDER autoint|din

Reads the numpy files in FOLDER (ops/src/bench/quality/export.rs describes them), trains on the
training part, keeps the epoch that is best on the validation part, writes predictions of the test
part to FOLDER/predictions_NAME.npy. Its last line of output is JSON.

Both get all ids as sparse features, all numbers (logarithms of counts and ages, standardised, with
flags for missing ones) and the last behaviours: AutoInt their mean, DIN by attention to the
impression's item, campaign and category; and both the mean of their kinds.
"""

import contextlib
import json
import pathlib
import sys
import threading
import time

import numpy as np
import torch

# The package asks for its newest version on the network, in a thread, when it is imported.
start, threading.Thread.start = threading.Thread.start, lambda self: None
import deepctr_torch

threading.Thread.start = start
import deepctr_torch.models.basemodel
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DIN, AutoInt

WIDTH, BATCH, EPOCHS, PATIENCE = 16, 1024, 15, 2

# Moments of rows that are seldom named fade to denormal numbers, on which a step takes several times as long.
torch.set_flush_denormal(True)


class Batches:
    """What the package takes of PyTorch's loader, which gathers row by row: a fifth of the training's time."""

    def __init__(self, dataset, batch_size, shuffle=False):
        self.tensors, self.size, self.shuffle = dataset.tensors, batch_size, shuffle

    def __len__(self):
        return -(-len(self.tensors[0]) // self.size)

    def __iter__(self):
        rows = len(self.tensors[0])
        order = torch.randperm(rows) if self.shuffle else torch.arange(rows)
        for batch in order.split(self.size):
            yield [tensor[batch] for tensor in self.tensors]


deepctr_torch.models.basemodel.DataLoader = Batches

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
meta = json.loads((folder / "meta.json").read_text())
load = lambda which: np.load(folder / f"{which}.npy", mmap_mode="r")
part, clicked = np.asarray(load("part")), np.asarray(load("clicked"))
ids, numbers, behaviours = np.asarray(load("ids")), np.asarray(load("numbers")), np.asarray(load("behaviours"))
train = part == 0

inputs, sparse, dense, varlen = {}, [], [], []
lookup = {}
for column, field in enumerate(meta["ids"]):
    values = ids[:, column]
    if field in ("item", "campaign", "category"):
        at = ("item", "campaign", "category").index(field)
        values = np.concatenate([values, behaviours[:, :, at].ravel()])
    # Numbers of texts, densely per field, from 1: 0 is the mask of absent behaviours.
    table = np.zeros(meta["texts"], np.int64)
    known = np.unique(values)
    table[known] = np.arange(1, len(known) + 1)
    lookup[field] = table
    inputs[field] = table[ids[:, column]].astype(np.float32)
    sparse.append(SparseFeat(field, len(known) + 1, embedding_dim=WIDTH))
present = behaviours[:, :, 3] > 0
length = present.sum(1)
inputs["seq_length"] = length.astype(np.float32)
for at, field in enumerate(("item", "campaign", "category")):
    inputs[f"hist_{field}"] = np.where(present, lookup[field][behaviours[:, :, at]], 0).astype(np.float32)
    vocabulary = next(feature.vocabulary_size for feature in sparse if feature.name == field)
    # DIN shares the embeddings; AutoInt counts its fields by their embeddings and cannot.
    shared = field if name == "din" else f"hist_{field}"
    varlen.append(VarLenSparseFeat(
        SparseFeat(f"hist_{field}", vocabulary, embedding_dim=WIDTH, embedding_name=shared),
        maxlen=meta["behaviours"], length_name="seq_length", combiner="mean",
    ))
inputs["kinds"] = behaviours[:, :, 3].astype(np.float32)
varlen.append(VarLenSparseFeat(
    SparseFeat("kinds", 8, embedding_dim=WIDTH), maxlen=meta["behaviours"], length_name="seq_length",
    combiner="mean",
))


def number(label, values):
    missing = ~np.isfinite(values)
    if missing.all():
        return
    mean, deviation = values[train & ~missing].mean(), values[train & ~missing].std()
    if deviation > 1e-6:
        scaled = np.clip((values - mean) / deviation, -8, 8)
        inputs[label] = np.where(missing, 0, scaled).astype(np.float32)
        dense.append(DenseFeat(label, 1))
    if missing.any():
        inputs[f"{label}_missing"] = missing.astype(np.float32)
        dense.append(DenseFeat(f"{label}_missing", 1))


for column, field in enumerate(meta["numbers"]):
    values = numbers[:, column].astype(np.float64)
    if field["scale"] == "log":
        values = np.sign(values) * np.log1p(np.abs(values))
    number(field["name"], values)
if meta["embedding"]:
    embeddings = np.asarray(load("embeddings"))
    for at in range(meta["embedding"]):
        number(f"embedding_{at}", embeddings[ids[:, 1], at].astype(np.float64))

torch.manual_seed(1)
features = sparse + varlen + dense
common = dict(dnn_hidden_units=(256, 128), dnn_dropout=0.1, seed=1, device="cpu")
if name == "autoint":
    model = AutoInt(features, features, att_layer_num=2, att_head_num=2, **common)
else:
    model = DIN(features, ["item", "campaign", "category"], att_weight_normalization=True, **common)
# The package's "adam", in one pass.
model.compile(torch.optim.Adam(model.parameters(), fused=True), "binary_crossentropy", metrics=[])
select = lambda rows: {key: inputs[key][rows] for key in model.feature_index}
truth = clicked.astype(np.float32)


def loss(predictions, rows):
    p = np.clip(predictions, 1e-7, 1 - 1e-7)
    return -np.mean(np.where(truth[rows] > 0, np.log(p), np.log1p(-p)))


began = time.monotonic()
fit, validation, tests = select(train), select(part == 1), select(part == 2)
best, without_gain = None, 0
for epoch in range(EPOCHS):
    # Its own messages go beside, so that the last line of output is ours.
    with contextlib.redirect_stdout(sys.stderr):
        model.fit(fit, truth[train], batch_size=BATCH, epochs=1, verbose=0)
        now = loss(model.predict(validation, 8192)[:, 0], part == 1)
    print(f"  {name} epoch {epoch}: validation loss {now:.5f}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    if best is None or now < best[0]:
        best = (now, epoch, {key: value.clone() for key, value in model.state_dict().items()})
        without_gain = 0
    else:
        without_gain += 1
        if without_gain >= PATIENCE:
            break
model.load_state_dict(best[2])
seconds = time.monotonic() - began
predictions = model.predict(tests, 8192)[:, 0]
np.save(folder / f"predictions_{name}.npy", predictions.astype(np.float32))
version = getattr(deepctr_torch, "__version__", "unknown")
print(json.dumps({"seconds": seconds, "version": version, "best": best[1] + 1}))
