"""Steps of PyTorch's optimizers, in double precision, for the tests of train/optimizer.rs and train/rate.rs.

Run with PyTorch 2 installed: python optimizers.py > optimizers.json
Decay is decoupled in all of ours; where PyTorch couples it (all but AdamW), values are shrunk by
1 - rate * decay before its step without decay. RMSprop keeps 0.9 of the mean square, as Keras does.
"""

import json

import torch

torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(1)


def draw(*shape):
    return torch.randn(*shape, generator=generator).float().double()


STEPS, LENGTH, ROWS, WIDTH = 12, 6, 5, 3
start = draw(LENGTH)
gradients = [draw(LENGTH) * 10 ** (-(step % 3)) for step in range(STEPS)]
table = draw(ROWS, WIDTH)
rows = [torch.randperm(ROWS, generator=generator)[: 1 + step % 3].tolist() for step in range(STEPS)]
row_gradients = [draw(len(some), WIDTH) for some in rows]

MAKE = {
    "adamw": lambda p, rate, momentum: torch.optim.AdamW(p, lr=rate, weight_decay=0.0),
    "rmsprop": lambda p, rate, momentum: torch.optim.RMSprop(p, lr=rate, alpha=0.9),
    "adagrad": lambda p, rate, momentum: torch.optim.Adagrad(p, lr=rate),
    "sgd": lambda p, rate, momentum: torch.optim.SGD(p, lr=rate, momentum=momentum),
}
# Rules over sparse gradients. SGD's momentum is dense in PyTorch: rows decay their momentum
# without being named, ours don't, so it is compared without.
SPARSE = {
    "adamw": lambda p, rate, momentum: torch.optim.SparseAdam(p, lr=rate),
    "adagrad": MAKE["adagrad"],
    "sgd": MAKE["sgd"],
}


def dense(name, rate, momentum, decay):
    values = torch.nn.Parameter(start.clone())
    if name == "adamw":
        optimizer = torch.optim.AdamW([values], lr=rate, weight_decay=decay)
        decay = 0.0
    else:
        optimizer = MAKE[name]([values], rate, momentum)
    after = []
    for gradient in gradients:
        with torch.no_grad():
            values.mul_(1 - rate * decay)
        values.grad = gradient.clone()
        optimizer.step()
        after.append(values.tolist())
    return after


def sparse(name, rate, momentum):
    if name not in SPARSE or momentum > 0:
        return None
    values = torch.nn.Parameter(table.clone())
    optimizer = SPARSE[name]([values], rate, momentum)
    for some, gradient in zip(rows, row_gradients):
        values.grad = torch.sparse_coo_tensor(torch.tensor([some]), gradient, (ROWS, WIDTH)).coalesce()
        optimizer.step()
    return values.tolist()


cases = [
    {
        "optimizer": name,
        "momentum": momentum,
        "learning_rate": rate,
        "weight_decay": decay,
        "dense": dense(name, rate, momentum, decay),
        "sparse": sparse(name, rate, momentum),
    }
    for name in MAKE
    for rate in (0.1, 0.01)
    for decay in (0.0, 0.05)
    for momentum in ((0.0, 0.9) if name == "sgd" else (0.0,))
]


def schedule(warmup, total, final):
    """Factors of the step size: linear warm-up, then cosine."""
    values = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([values], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=final)
    if warmup > 1:
        linear = torch.optim.lr_scheduler.LinearLR(
            optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1
        )
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [linear, cosine], [warmup])
    else:
        scheduler = cosine
    factors = []
    for _ in range(total):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"warmup": warmup, "total": total, "final": final, "factors": factors}


print(
    json.dumps(
        {
            "made_with": "torch " + torch.__version__,
            "start": start.tolist(),
            "gradients": [gradient.tolist() for gradient in gradients],
            "table": table.tolist(),
            "rows": rows,
            "row_gradients": [gradient.tolist() for gradient in row_gradients],
            "cases": cases,
            "schedules": [schedule(0, 20, 0.0), schedule(5, 40, 0.1), schedule(2, 9, 0.0)],
        },
        indent=1,
    )
)
