"""Integer graphs in real numbers: what codes stand for, within their range, with nothing rounded."""

import numpy as np

from lutloom.functions import FUNCTIONS


def compute(graph, node, given, states, shared):
    """What a node gives for a batch of real inputs.

    Parameters
    ----------
    states : dict of str to array
        What every state was given in the frame before; written here.
    shared : mapping of str to function of (params, *inputs)
        Operators that graphs of real numbers have too.
    """
    params, quant = node.params, graph.quants.get(node.output)
    if quant is None:  # what an ONNX model ends with in real numbers
        return shared[node.op](params, *given)
    batch = len(given[0]) if given else None
    match node.op:
        case "read":
            return states.get(params["state"], quant.real(params["reset"])[None])
        case "write":
            states[params["state"]] = given[0]
            return given[0]
        case "constant":
            return quant.real(params["codes"])[None]
        case "requantize":
            y = given[0]
        case "add":
            y = given[0] + given[1]
        case "sub":
            y = given[0] - given[1]
        case "mul":
            y = given[0] * given[1]
        case "mean":
            y = _mean(given[0], params["kernel"])
        case "table":
            y = given[0]
            for function, parameters in params.get("steps", ((params["function"], params),)):
                y = FUNCTIONS[function](y, parameters)
        case "softmax":
            y = shared["softmax"](params, given[0] * params["beta"])
        case "reshape":
            return given[0].reshape(batch, *graph.shapes[node.output])
        case "concat":
            most = max(map(len, given))
            given = [np.broadcast_to(part, (most, *part.shape[1:])) for part in given]
            return np.concatenate(given, axis=params["axis"] + 1)
        case "slice" | "transpose":
            return shared[node.op](params, *given)
        case "pad":
            widths = ((0, 0), *zip(params["before"], params["after"], strict=True))
            return np.pad(given[0], widths, constant_values=float(quant.real(params["code"])))
        case _:
            y = shared[node.op](params, *given)
    low, high = params.get("low", quant.format.code_low), params.get("high", quant.format.code_high)
    return np.clip(y, quant.real(low), quant.real(high))


def _mean(x, kernel):
    axes = tuple(axis + 1 for axis, size in enumerate(kernel) if size > 1)
    return x.mean(axis=axes, keepdims=True) if axes else x

