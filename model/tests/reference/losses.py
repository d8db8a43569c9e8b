"""Losses and their slopes by PyTorch's automatic differentiation, in double precision, for the tests of
train/losses/.

Run with PyTorch 2 installed: python losses.py > losses.json
"""

import itertools
import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(2)


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def binary(logit, target, smoothing):
    x = leaf(logit)
    y = torch.tensor(target * (1 - smoothing) + smoothing / 2)
    loss = F.binary_cross_entropy_with_logits(x, y)
    loss.backward()
    return dict(logit=logit, target=target, smoothing=smoothing, loss=loss.item(), slope=x.grad.item())


def softmax(count, scale, smoothing):
    logits = (torch.randn(count, generator=generator) * scale).float().double().requires_grad_()
    target = int(torch.randint(count, (1,), generator=generator))
    loss = F.cross_entropy(logits[None], torch.tensor([target]), label_smoothing=smoothing)
    loss.backward()
    return {
        "logits": logits.tolist(),
        "class": target,
        "smoothing": smoothing,
        "loss": loss.item(),
        "slopes": logits.grad.tolist(),
    }


def censored(logit, rate, time, purchased):
    """Chapelle 2014, equations 3 and 4, with an exponential delay of rate exp(rate)."""
    x, a = leaf(logit), leaf(rate)
    if purchased:
        loss = -(F.logsigmoid(x) + a - a.exp() * time)
    else:
        loss = -torch.logsumexp(torch.stack([F.logsigmoid(-x), F.logsigmoid(x) - a.exp() * time]), 0)
    loss.backward()
    return dict(
        logit=logit, rate=rate, time=time, purchased=purchased, loss=loss.item(),
        slopes=[x.grad.item(), a.grad.item()],
    )


def fake_negative(logit, positive):
    """Ktena et al. 2019, equation 8: p in the weights is held constant."""
    x = leaf(logit)
    p = torch.sigmoid(x).detach()
    loss = -(1 + p) * F.logsigmoid(x) if positive else -(1 - p) * (1 + p) * F.logsigmoid(-x)
    loss.backward()
    return dict(logit=logit, positive=positive, loss=loss.item(), slope=x.grad.item())


print(
    json.dumps(
        {
            "made_with": "torch " + torch.__version__,
            "binary": [
                binary(*case) for case in itertools.product((-700.0, -3.0, 0.0, 0.7, 40.0), (0.0, 1.0), (0.0, 0.1))
            ],
            "softmax": [softmax(*case) for case in itertools.product((2, 5), (1.0, 30.0), (0.0, 0.2))],
            "censored": [
                censored(*case)
                for case in itertools.product((-4.0, 0.3, 6.0), (-2.0, 0.0, 1.5), (0.01, 1.0, 9.0), (True, False))
            ],
            "fake_negative": [
                fake_negative(*case) for case in itertools.product((-5.0, -0.4, 0.0, 2.0), (True, False))
            ],
        },
        indent=1,
    )
)
