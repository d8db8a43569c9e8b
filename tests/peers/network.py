"""The benchmark's network as PyTorch and ONNX Runtime compute it: the same function as Salience's.

Field tokens (embeddings, and one per number: bias + value * vector), self-attention layers
x + attention(norm(x)) with norm(x) = gain * x / sqrt(mean(x^2) + 0.01), pooling weights
softmax(x . query + bias) * tokens on the tokens, which stay apart, then an MLP with ReLU.
Weights come from the artefact's weights.safetensors, inputs from flat little-endian files.
"""

import json
import os
import struct

import numpy as np

NORM_FLOOR = 0.01


def read_safetensors(path):
    """Tensors by name; float32 only."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        assert about["dtype"] == "F32", about
        first, end = about["data_offsets"]
        values = np.frombuffer(data, dtype="<f4", count=(end - first) // 4, offset=8 + length + first)
        tensors[name] = values.reshape(about["shape"])
    return tensors


class Case:
    """Shape, inputs and weights of a benchmark, from the folder that it was given."""

    def __init__(self, folder):
        with open(os.path.join(folder, "case.json"), encoding="utf-8") as file:
            about = json.load(file)
        self.about = about
        self.fields, self.numbers = about["fields"], about["numbers"]
        self.tokens, self.width = self.fields + self.numbers, about["width"]
        self.heads, self.layers = about["heads"], about["layers"]
        self.mlp, self.outputs = about["mlp"], about["outputs"]
        self.batch, self.dropout = about["batch"], about["dropout"]
        self.table_rows, self.threads = about["table_rows"], about["threads"]
        load = lambda name, dtype, columns: np.fromfile(os.path.join(folder, name), dtype).reshape(-1, columns)
        self.ids = load("ids.bin", "<u4", self.fields).astype(np.int64)
        self.values = load("numbers.bin", "<f4", self.numbers)
        self.targets = load("targets.bin", "<f4", 1)
        path = os.path.join(folder, "weights.safetensors")
        self.weights = read_safetensors(path) if os.path.exists(path) else None

    def table(self):
        """The embedding tables, one after the other as the ids count them."""
        return np.concatenate([self.weights[name] for name in self.about["tables"]])


def torch_network(case):
    """The network as a module: forward(embedded [n, fields, width], numbers [n, numbers])."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            width = case.width
            matrix = lambda *shape: nn.Parameter(torch.empty(*shape).uniform_(-0.2, 0.2))
            self.number_value = matrix(case.numbers, width)
            self.number_bias = nn.Parameter(torch.zeros(case.numbers, width))
            self.gain = nn.ParameterList([torch.ones(width) for _ in range(case.layers)])
            # Query, key and value in one matrix: one product instead of three.
            self.projections = nn.ParameterList([matrix(width, 3 * width) for _ in range(case.layers)])
            self.output = nn.ParameterList([matrix(width, width) for _ in range(case.layers)])
            self.pool_query = nn.Parameter(torch.zeros(width))
            self.pool_bias = nn.Parameter(torch.zeros(case.tokens))
            sizes = [case.tokens * width, *case.mlp, case.outputs]
            self.mlp = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])])
            self.sdpa = True

        def forward(self, embedded, numbers):
            numeric = torch.addcmul(self.number_bias, numbers.unsqueeze(2), self.number_value)
            x = torch.cat([embedded, numeric], dim=1)
            n, tokens, width = x.shape
            for gain, projections, output in zip(self.gain, self.projections, self.output):
                normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_FLOOR) * gain
                split = (normed @ projections).view(n, tokens, 3, case.heads, width // case.heads)
                query, key, value = split.permute(2, 0, 3, 1, 4)
                if self.sdpa:
                    mixed = F.scaled_dot_product_attention(query, key, value)
                else:
                    scores = query @ key.transpose(2, 3) / (width // case.heads) ** 0.5
                    mixed = torch.softmax(scores, -1) @ value
                x = x + mixed.transpose(1, 2).reshape(n, tokens, width) @ output
            weights = torch.softmax(x @ self.pool_query + self.pool_bias, -1) * tokens
            x = (x * weights.unsqueeze(2)).reshape(n, tokens * width)
            for layer in self.mlp[:-1]:
                x = F.dropout(F.relu(layer(x)), case.dropout, self.training)
            return self.mlp[-1](x)

        def load(self, weights):
            with torch.no_grad():
                put = lambda to, values: to.copy_(torch.from_numpy(np.array(values)))
                put(self.number_value, weights["number.value"])
                put(self.number_bias, weights["number.bias"])
                for layer in range(case.layers):
                    part = lambda name: weights[f"attention.{layer}.{name}"]
                    put(self.gain[layer], part("norm")[0])
                    put(self.projections[layer], np.hstack([part("query"), part("key"), part("value")]))
                    put(self.output[layer], part("output"))
                put(self.pool_query, weights["pool.query"][0])
                put(self.pool_bias, weights["pool.bias"].reshape(-1)[: case.tokens])
                for number, layer in enumerate(self.mlp):
                    name = f"mlp.{number}" if number + 1 < len(self.mlp) else "heads"
                    put(layer.weight, weights[f"{name}.weight"].T)
                    put(layer.bias, weights[f"{name}.bias"])

    return Network()


def onnx_network(case, fused):
    """The network as an ONNX model, with the attention of ONNX Runtime's own operator if `fused`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], {}

    def constant(name, values, dtype=np.float32):
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name)
        return name

    def node(kind, inputs, output, domain="", **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    weights, width, tokens = case.weights, case.width, case.tokens
    node("Gather", [constant("table", case.table()), "ids"], "embedded", axis=0)
    node("Unsqueeze", ["numbers", constant("two", [2], np.int64)], "number_column")
    node("Mul", ["number_column", constant("number_value", weights["number.value"])], "scaled")
    node("Add", ["scaled", constant("number_bias", weights["number.bias"])], "numeric")
    x = node("Concat", ["embedded", "numeric"], "x0", axis=1)
    constant("floor", [NORM_FLOOR])
    constant("by_head", [0, tokens, case.heads, width // case.heads], np.int64)
    constant("whole", [0, tokens, width], np.int64)
    for layer in range(case.layers):
        part = lambda name: weights[f"attention.{layer}.{name}"]
        at = lambda name: f"{name}{layer}"
        node("Mul", [x, x], at("square"))
        node("ReduceMean", [at("square"), constant(at("last"), [2], np.int64)], at("mean"), keepdims=1)
        node("Add", [at("mean"), "floor"], at("above"))
        node("Sqrt", [at("above")], at("root"))
        node("Div", [x, at("root")], at("unit"))
        node("Mul", [at("unit"), constant(at("gain"), part("norm")[0])], at("normed"))
        split = []
        for name in ("query", "key", "value"):
            scale = (width // case.heads) ** -0.5 if name == "query" and not fused else 1.0
            node("MatMul", [at("normed"), constant(at("w_" + name), part(name) * scale)], at(name))
            split.append(at(name))
        if fused:
            mixed = node("MultiHeadAttention", split, at("mixed"), "com.microsoft", num_heads=case.heads)
        else:
            for name, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
                node("Reshape", [at(name), "by_head"], at("heads_" + name))
                node("Transpose", [at("heads_" + name)], at("turned_" + name), perm=order)
            node("MatMul", [at("turned_query"), at("turned_key")], at("scores"))
            node("Softmax", [at("scores")], at("attention"), axis=-1)
            node("MatMul", [at("attention"), at("turned_value")], at("mixed_heads"))
            node("Transpose", [at("mixed_heads")], at("mixed_turned"), perm=[0, 2, 1, 3])
            mixed = node("Reshape", [at("mixed_turned"), "whole"], at("mixed"))
        node("MatMul", [mixed, constant(at("w_output"), part("output"))], at("output"))
        x = node("Add", [x, at("output")], f"x{layer + 1}")
    node("MatMul", [x, constant("pool_query", weights["pool.query"].reshape(width, 1))], "pool_column")
    node("Squeeze", ["pool_column", "two"], "pool_products")
    bias = weights["pool.bias"].reshape(-1)[:tokens]
    node("Add", ["pool_products", constant("pool_bias", bias)], "pool_scores")
    node("Softmax", ["pool_scores"], "pool_shares", axis=-1)
    node("Mul", ["pool_shares", constant("token_count", [float(tokens)])], "pool_weights")
    node("Unsqueeze", ["pool_weights", "two"], "pool_factors")
    node("Mul", [x, "pool_factors"], "weighted")
    x = node("Reshape", ["weighted", constant("flat", [0, tokens * width], np.int64)], "mlp_input")
    for number in range(len(case.mlp) + 1):
        last = number == len(case.mlp)
        name = "heads" if last else f"mlp.{number}"
        inputs = [x, constant(f"{name}.weight", weights[f"{name}.weight"])]
        inputs.append(constant(f"{name}.bias", weights[f"{name}.bias"]))
        x = node("Gemm", inputs, "logits" if last else f"linear{number}")
        if not last:
            x = node("Relu", [x], f"hidden{number}")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "salience",
        [
            value("ids", TensorProto.INT64, ["n", case.fields]),
            value("numbers", TensorProto.FLOAT, ["n", case.numbers]),
        ],
        [value("logits", TensorProto.FLOAT, ["n", case.outputs])],
        list(constants.values()),
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    onnx.checker.check_model(model) if not fused else None
    return model.SerializeToString()
