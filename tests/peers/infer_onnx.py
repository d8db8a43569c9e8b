"""The side of ONNX Runtime and PyTorch in `salience bench infer`: runs batches when told to.

Usage: infer_onnx.py FOLDER. One JSON object a line on standard input and output:
{"check": rows} gives both peers' logits of the first rows; {"peer": "onnxruntime" | "pytorch",
"batch": n, "iterations": m, "warm": s} gives the seconds of each of m batches, after s seconds of
batches that are not timed, by the fastest of the peer's ways (ONNX Runtime: its own attention
operator or a written-out one, one thread or all; PyTorch: SDPA or written-out attention, eager or
compiled), which is found once for a batch size.
"""

import json
import sys
import time

import numpy as np
import onnxruntime
import torch

from network import Case, onnx_network, torch_network


def sessions(case):
    ways = {}
    for fused in (True, False):
        try:
            model = onnx_network(case, fused)
            for threads in sorted({1, case.threads}):
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = threads
                options.inter_op_num_threads = 1
                session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

                def run(first, size, session=session):
                    inputs = {"ids": case.ids[first : first + size], "numbers": case.values[first : first + size]}
                    return session.run(None, inputs)[0]

                run(0, 2)
                name = "MultiHeadAttention" if fused else "MatMul and Softmax"
                ways[f"{name}, {threads} threads"] = run
        except Exception as error:  # an operator may be missing
            print(error, file=sys.stderr)
    return ways


def networks(case):
    ways = {}
    table = torch.from_numpy(case.table())
    ids, numbers = torch.from_numpy(case.ids), torch.from_numpy(case.values)
    network = torch_network(case).eval()
    network.load(case.weights)
    plain = torch_network(case).eval()
    plain.load(case.weights)
    plain.sdpa = False
    calls = {"SDPA": network, "written out": plain}
    calls["SDPA, compiled"] = torch.compile(network, dynamic=True)
    for name, call in calls.items():

        def run(first, size, call=call):
            with torch.inference_mode():
                rows = ids[first : first + size]
                return call(table[rows], numbers[first : first + size]).numpy()

        try:
            run(0, 2)
            ways[name] = run
        except Exception as error:  # a compiler may be missing
            print(error, file=sys.stderr)
    return ways


def seconds(run, case, size, iterations, warm):
    def took(number):
        first = number * size % (len(case.ids) - size + 1)
        start = time.perf_counter()
        run(first, size)
        return time.perf_counter() - start

    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < warm:
        took(number)
        number += 1
    return [took(number) for number in range(iterations)]


def main():
    case = Case(sys.argv[1])
    torch.set_num_threads(case.threads)
    peers = {"onnxruntime": sessions(case), "pytorch": networks(case)}
    versions = {"onnxruntime": onnxruntime.__version__, "pytorch": torch.__version__}
    print(json.dumps(versions), flush=True)
    fastest = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "check" in command:
            rows = command["check"]
            logits = {name: next(iter(ways.values()))(0, rows) for name, ways in peers.items()}
            answer = {name: np.asarray(of, dtype=np.float64).reshape(-1).tolist() for name, of in logits.items()}
        else:
            peer, size, warm = command["peer"], command["batch"], command["warm"]
            if (peer, size) not in fastest:
                tries = max(3, min(50, 400 // size))
                by_time = lambda way: np.median(seconds(peers[peer][way], case, size, tries, warm))
                fastest[peer, size] = min(peers[peer], key=by_time)
            way = fastest[peer, size]
            answer = {"way": way, "seconds": seconds(peers[peer][way], case, size, command["iterations"], warm)}
        print(json.dumps(answer), flush=True)


main()
