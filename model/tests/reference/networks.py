"""Whole networks in plain PyTorch: logits, loss and gradients of a few examples under fixed weights, in
double precision, for the test of train/reference.rs.

Run with PyTorch 2 installed: python networks.py > networks.json
Written from the papers and PyTorch's own modules (GRU, conv1d, scaled_dot_product_attention), one example
at a time, without padding. Matrices have one row per input, as in our artefacts.
"""

import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(4)

# Fields and the rows of their tables, which lie one after the other in one matrix.
TABLES = dict(item=6, campaign=4, category=4, brand=3, placement=2, device=2, channel=2)
NUMBERS = ["views_1h", "views_7d", "hour_sin", "hour_cos", "price"]
GROUPS = [[0, 1], [2, 3], [4]]
CONTENT = 3
KINDS = 6
AUXILIARY = 4 + KINDS
HEADS = 3
# Purchases given a click, and given none, beside clicks.
CONVERSION, VIEW_THROUGH = 0.7, 0.4
# Numbers further than this from their mean, in deviations, are cut.
LIMIT = 8.0


def draw(*shape, scale=1.0):
    """Random numbers of few digits, as single precision holds them."""
    values = torch.randn(*shape, generator=generator) * scale
    return torch.round(values * 1000).div(1000).float().double()


def single(value):
    """A number as single precision holds it."""
    return torch.tensor(value).float().double()


def digits(tensor, count=7):
    """A tensor's numbers, rounded to so many digits: 7 are enough to read what `draw` gave."""
    return [float(f"{value:.{count}g}") for value in tensor.flatten().tolist()]


def pick(bound):
    return int(torch.randint(bound, (1,), generator=generator))


def example(behaviours, embedding, outcome):
    first, ids = 0, []
    for rows in TABLES.values():
        ids.append(first + pick(rows))
        first += rows
    numbers = digits(draw(len(NUMBERS), scale=2.0))
    starts = [0, TABLES["item"], TABLES["item"] + TABLES["campaign"]]
    past = []
    for position in range(behaviours):
        rows = [start + pick(rows) for start, rows in zip(starts, TABLES.values())]
        same = sum(1 << field for field in range(3) if rows[field] == ids[field])
        past.append(dict(rows=rows, age=round(0.3 + 0.05 * position, 3), kind=pick(KINDS), same=same))
    clicked, purchased, matured = outcome
    return dict(
        ids=ids,
        numbers=numbers,
        behaviours=past,
        embedding=digits(draw(CONTENT)) if embedding else [],
        clicked=clicked,
        purchased=purchased,
        matured=matured,
    )


# Every outcome, with no, one, few and many behaviours.
EXAMPLES = [
    example(0, True, (True, True, True)),
    example(1, True, (True, False, True)),
    example(3, False, (False, True, True)),
    example(7, True, (False, False, True)),
    example(4, True, (True, False, False)),
    example(2, False, (False, False, False)),
]
EXAMPLES[1]["numbers"][0] = None
EXAMPLES[3]["numbers"][4] = None
EXAMPLES[2]["numbers"][2] = 90.0
MEAN = [0.5, -0.25, 0.0, 0.125, 1.0]
INVERSE_DEVIATION = [0.5, 1.0, 0.25, 2.0, 0.75]


def norm(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + 0.01).sqrt() * gain


def attend(x, w, name, heads):
    """Self-attention with the norm before it and a residual around it."""
    length, width = x.shape
    normed = norm(x, w[name + ".norm"][0])
    parts = [
        (normed @ w[f"{name}.{part}"]).view(length, heads, width // heads).transpose(0, 1)
        for part in ("query", "key", "value")
    ]
    mixed = F.scaled_dot_product_attention(*(part[None] for part in parts))[0]
    return x + mixed.transpose(0, 1).reshape(length, width) @ w[name + ".output"]


def gru(x, w):
    """PyTorch's own GRU, from the oldest behaviour (the last) to the newest."""
    width = x.shape[1]
    gates = ("reset", "update", "candidate")
    reset, update, candidate, inner = w["gru.bias"]
    parameters = dict(
        weight_ih_l0=torch.cat([w["gru.input." + gate].T for gate in gates]),
        weight_hh_l0=torch.cat([w["gru.hidden." + gate].T for gate in gates]),
        bias_ih_l0=torch.cat([reset, update, candidate]),
        bias_hh_l0=torch.cat([torch.zeros(2 * width), inner]),
    )
    states, _ = torch.func.functional_call(torch.nn.GRU(width, width), parameters, (x.flip(0),))
    return states.flip(0)


def cnn(x, w, kernel):
    width = x.shape[1]
    weight = w["cnn.weight"].view(kernel, width, width).permute(2, 1, 0)
    return x + F.conv1d(x.T[None], weight, w["cnn.bias"][0], padding=kernel // 2)[0].T.relu()


def recall(example, w, table, network, fields):
    """Past behaviours as one token."""
    past = example["behaviours"]
    if not past:
        return w["behaviour.empty"][0]
    features = torch.zeros(len(past), AUXILIARY)
    for row, behaviour in zip(features, past):
        row[0] = single(behaviour["age"])
        for bit in range(3):
            row[1 + bit] = behaviour["same"] >> bit & 1
        row[4 + behaviour["kind"]] = 1
    x = sum(F.embedding(torch.tensor([b["rows"][i] for b in past]), table) for i in range(3))
    x = x + features @ w["behaviour.auxiliary"]
    encoder = network["behaviours"]
    if encoder == "mean":
        return x.mean(0)
    if encoder == "self_attention":
        x = attend(x, w, "behaviour.attention", network["heads"])
    elif encoder == "gru":
        x = gru(x, w)
    elif encoder == "cnn":
        x = cnn(x, w, network["cnn_kernel"])
    probe = fields[:3].sum(0) @ w["behaviour.target"]
    scores = x @ probe + features @ w["behaviour.score"].flatten()[:AUXILIARY]
    return scores.softmax(0) @ x


def forward(example, w, network):
    """An example's logits."""
    table = torch.cat([w["table." + field] for field in TABLES])
    fields = F.embedding(torch.tensor(example["ids"]), table)
    tokens = list(fields)
    for group, columns in enumerate(GROUPS):
        token = w["number.bias"][group]
        for column in columns:
            value = example["numbers"][column]
            if value is None:
                token = token + w["number.missing"][column]
            else:
                value = (single(value) - MEAN[column]) * INVERSE_DEVIATION[column]
                token = token + value.clamp(-LIMIT, LIMIT) * w["number.value"][column]
        tokens.append(token)
    if network["behaviours"] != "none":
        tokens.append(recall(example, w, table, network, fields))
    if example["embedding"]:
        tokens.append(w["content.bias"][0] + single(example["embedding"]) @ w["content.weight"])
    else:
        tokens.append(w["content.missing"][0])
    x = torch.stack(tokens)
    if network["kind"] == "attention_mlp":
        for layer in range(network["layers"]):
            x = attend(x, w, f"attention.{layer}", network["heads"])
        scores = x @ w["pool.query"][0] + w["pool.bias"].flatten()[: len(x)]
        x = x * (scores.softmax(0) * len(x))[:, None]
    x = x.flatten()
    start = x
    for layer in range(network["cross_layers"]):
        inner = x @ w[f"cross.{layer}.down.weight"]
        x = start * F.linear(inner, w[f"cross.{layer}.up.weight"].T, w[f"cross.{layer}.up.bias"]) + x
    for layer in range(len(network["mlp"])):
        x = F.linear(x, w[f"mlp.{layer}.weight"].T, w[f"mlp.{layer}.bias"]).relu()
    return F.linear(x, w["heads.weight"].T, w["heads.bias"])


def loss_of(logits, head):
    """Mean over the examples of the losses of what is known of them."""
    total = 0
    for row, example in zip(logits, EXAMPLES):
        clicked, purchased, matured = (example[key] for key in ("clicked", "purchased", "matured"))
        if head == "softmax":
            # Nothing, a click alone, a click and a purchase, a purchase without a click.
            said = F.log_softmax(torch.cat([torch.zeros(1), row]), 0)
            if not matured:
                possible = [1, 2] if clicked else [0, 3]
            else:
                possible = [(2 if purchased else 1) if clicked else (3 if purchased else 0)]
            total = total - torch.logsumexp(said[possible], 0)
            continue
        total = total + F.binary_cross_entropy_with_logits(row[0], torch.tensor(float(clicked)))
        if head == "multi_task" and matured:
            at, weight = (1, CONVERSION) if clicked else (2, VIEW_THROUGH)
            bought = torch.tensor(float(purchased))
            total = total + weight * F.binary_cross_entropy_with_logits(row[at], bought)
    return total / len(EXAMPLES)


def weights(network):
    width = network["width"]
    w = {"table." + field: draw(rows, width, scale=0.5) for field, rows in TABLES.items()}
    w["number.value"] = draw(len(NUMBERS), width, scale=0.5)
    w["number.missing"] = draw(len(NUMBERS), width, scale=0.3)
    w["number.bias"] = draw(len(GROUPS), width, scale=0.3)
    tokens = len(TABLES) + len(GROUPS) + 1
    square = lambda: draw(width, width, scale=width**-0.5)
    padded = lambda length: -(-length // width)
    if network["behaviours"] != "none":
        tokens += 1
        w["behaviour.auxiliary"] = draw(AUXILIARY, width, scale=0.3)
        w["behaviour.empty"] = draw(1, width, scale=0.5)
        if network["behaviours"] != "mean":
            w["behaviour.target"] = square()
            w["behaviour.score"] = draw(padded(AUXILIARY), width)
    if network["behaviours"] == "gru":
        for side in ("input", "hidden"):
            for gate in ("reset", "update", "candidate"):
                w[f"gru.{side}.{gate}"] = square()
        w["gru.bias"] = draw(4, width, scale=0.3)
    if network["behaviours"] == "cnn":
        w["cnn.weight"] = draw(network["cnn_kernel"] * width, width, scale=width**-0.5)
        w["cnn.bias"] = draw(1, width, scale=0.3)
    w["content.weight"] = draw(CONTENT, width, scale=0.5)
    w["content.bias"], w["content.missing"] = draw(1, width, scale=0.3), draw(1, width, scale=0.3)
    blocks = ["behaviour.attention"] if network["behaviours"] == "self_attention" else []
    if network["kind"] == "attention_mlp":
        blocks += [f"attention.{layer}" for layer in range(network["layers"])]
        w["pool.query"], w["pool.bias"] = draw(1, width, scale=0.5), draw(padded(tokens), width, scale=0.5)
    for block in blocks:
        w[block + ".norm"] = 1 + draw(1, width, scale=0.2)
        for part in ("query", "key", "value", "output"):
            w[f"{block}.{part}"] = square()
    inputs, rank = tokens * width, network["cross_rank"]
    for layer in range(network["cross_layers"]):
        w[f"cross.{layer}.down.weight"] = draw(inputs, rank, scale=inputs**-0.5)
        w[f"cross.{layer}.up.weight"] = draw(rank, inputs, scale=rank**-0.5)
        w[f"cross.{layer}.up.bias"] = draw(inputs, scale=0.3)
    for layer, outputs in enumerate([*network["mlp"], HEADS]):
        name = f"mlp.{layer}" if layer < len(network["mlp"]) else "heads"
        w[name + ".weight"] = draw(inputs, outputs, scale=inputs**-0.5)
        w[name + ".bias"] = draw(outputs, scale=0.3)
        inputs = outputs
    return w


def case(**changes):
    network = dict(
        kind="attention_mlp", width=8, layers=1, heads=1, behaviours="target_attention", cnn_kernel=3,
        cross_layers=0, cross_rank=4, mlp=[6], head="multi_task",
    ) | changes
    w = {name: values.requires_grad_() for name, values in weights(network).items()}
    logits = torch.stack([forward(example, w, network) for example in EXAMPLES])
    loss = loss_of(logits, network["head"])
    loss.backward()
    return dict(
        network=network,
        weights={name: dict(shape=list(values.shape), values=digits(values)) for name, values in w.items()},
        logits=digits(logits, 9),
        loss=loss.item(),
        gradients={name: digits(values.grad, 6) for name, values in w.items()},
    )


print(
    json.dumps(
        dict(
            made_with="torch " + torch.__version__,
            tables=TABLES,
            numbers=NUMBERS,
            groups=GROUPS,
            content=CONTENT,
            conversion_weight=CONVERSION,
            view_through_weight=VIEW_THROUGH,
            mean=MEAN,
            inverse_deviation=INVERSE_DEVIATION,
            examples=EXAMPLES,
            cases=[
                case(kind="mlp"),
                case(kind="mlp", mlp=[9, 5]),
                case(layers=2),
                case(width=16, heads=2),
                case(layers=0),
                case(behaviours="none"),
                case(behaviours="mean"),
                case(behaviours="self_attention"),
                case(behaviours="gru"),
                case(behaviours="cnn", cnn_kernel=5),
                case(cross_layers=2),
                case(kind="mlp", cross_layers=3, cross_rank=2),
                case(head="binary"),
                case(head="softmax"),
            ],
        ),
        separators=(",", ":"),
    )
)
