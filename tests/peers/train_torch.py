"""PyTorch's side of `salience bench train`: takes steps when told to, and says how long they took.

Usage: train_torch.py FOLDER. One JSON object a line on standard input and output:
{"steps": n} takes n steps with the best variant, {"check": rows} loads the folder's weights and gives the
logits of its first rows. It begins by saying which variants it has tried and how fast each is.
"""

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

from network import Case, torch_network


class Variant:
    """A way to train: dense or row-sparse embeddings, written-out or fused attention, compiled or not."""

    def __init__(self, case, sparse, sdpa, compiled):
        self.case = case
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(case.table_rows, case.width, sparse=sparse)
        torch.nn.init.uniform_(self.embedding.weight, -0.02, 0.02)
        self.network = torch_network(case)
        self.network.sdpa = sdpa
        self.call = torch.compile(self.network) if compiled else self.network
        dense = list(self.network.parameters())
        if sparse:
            table = torch.optim.SparseAdam(self.embedding.parameters(), lr=0.005)
            self.optimizers = [table, torch.optim.AdamW(dense, lr=0.001, fused=True)]
        else:
            everything = [*self.embedding.parameters(), *dense]
            self.optimizers = [torch.optim.AdamW(everything, lr=0.001, fused=True)]
        self.inputs = [torch.from_numpy(case.ids), torch.from_numpy(case.values)]
        self.targets = torch.from_numpy(case.targets).expand(-1, case.outputs).contiguous()
        self.at = 0

    def step(self):
        size = self.case.batch
        if (self.at + 1) * size > len(self.targets):
            self.at = 0
        rows = slice(self.at * size, (self.at + 1) * size)
        self.at += 1
        ids, numbers = (tensor[rows] for tensor in self.inputs)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        logits = self.call(self.embedding(ids), numbers)
        loss = F.binary_cross_entropy_with_logits(logits, self.targets[rows])
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def seconds(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - start


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    folder = sys.argv[1]
    case = Case(folder)
    torch.set_num_threads(case.threads)
    tried, best = {}, None
    for name, options in {
        "default": (False, False, False),
        "sparse + SDPA": (True, True, False),
        "sparse + SDPA, compiled": (True, True, True),
        "sparse, compiled": (True, False, True),
    }.items():
        try:
            variant = Variant(case, *options)
            variant.seconds(2)
            seconds = min(variant.seconds(2) / 2 for _ in range(2))
        except Exception as error:  # a compiler may be missing
            tried[name] = str(error).splitlines()[0][:200]
            continue
        tried[name] = case.batch / seconds
        if best is None or seconds < best[1]:
            best = (variant, seconds, name)
    say(version=torch.__version__, variant=best[2], samples_per_s=tried)
    for line in sys.stdin:
        command = json.loads(line)
        if "steps" in command:
            say(seconds=best[0].seconds(command["steps"]))
        else:
            case = Case(folder)
            network = torch_network(case).eval()
            network.load(case.weights)
            rows = slice(0, command["check"])
            table = torch.from_numpy(case.table())
            with torch.inference_mode():
                logits = network(table[torch.from_numpy(case.ids[rows])], torch.from_numpy(case.values[rows]))
            say(logits=np.asarray(logits, dtype=np.float64).reshape(-1).tolist())


main()
