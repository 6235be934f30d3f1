"""The graph computed in float64: the accuracy of the model as it is, and the ranges that calibration needs."""

import numpy as np

from lutloom.errors import DataError
from lutloom.floating_integer import compute
from lutloom.functions import FUNCTIONS
from lutloom.golden.conv import conv
from lutloom.golden.moving import slice_codes
from lutloom.rounding import MODES, code_range

CHUNK_VALUES = 1 << 20  # numbers in the largest intermediate array of a chunk; more are slower (cache)


def run(graph, x):
    """Output of a graph for a batch, computed in float64.

    Parameters
    ----------
    graph : Graph
    x : array (B, ...)
        Real values in the model's own input layout or in NHWC (the model's own is tried first).

    Returns
    -------
    float64 array (B, *graph.shapes[graph.output]), NHWC; indices for argmax and topk. A graph with state takes the
    batch as one stream, in order, from a cleared state.
    """
    x = inputs(graph, x)
    step, states = chunk_size(graph), {}
    parts = [_evaluate(graph, {graph.input: x[i:i + step]}, False, states)[graph.output]
             for i in range(0, max(len(x), 1), step)]
    return np.concatenate(parts)


def trace(graph, x):
    """Every value of a graph for a batch: a mapping of value name to float64 array (B, *shape), NHWC.

    All of it is held in memory: give a batch that fits, or several.
    """
    x = inputs(graph, x)
    step, states = chunk_size(graph), {}
    parts = [_evaluate(graph, {graph.input: x[i:i + step]}, True, states) for i in range(0, max(len(x), 1), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def inputs(graph, x):
    """A batch in the model's own layout or NHWC as float64 NHWC; DataError where it is neither."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise DataError(f"inputs must be numbers, not of type {x.dtype}; give floats or integers")
    shape = graph.shapes[graph.input]
    if x.ndim and x.shape[1:] == graph.input_shape:
        if graph.input_layout == "NCHW":
            x = x.reshape(-1, shape[2], *shape[:2]).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(x.reshape(len(x), *shape), np.float64)
    if x.ndim and x.shape[1:] == shape:
        return np.ascontiguousarray(x, np.float64)
    either = "" if shape == graph.input_shape else f" or {shape} (NHWC)"
    raise DataError(f"inputs must have shape {graph.input_shape}{either} behind the batch, not {x.shape[1:]}; reshape "
                    "them")


def model_layout(graph, y):
    """Outputs of ``run`` in the model's own layout."""
    if graph.output_layout == "NCHW":
        y = y.transpose(0, 3, 1, 2)
    return y.reshape(len(y), *graph.output_shape)


def chunk_size(graph):
    """Frames a chunk, so that the largest intermediate array stays small; 1 where there is state."""
    if any(node.op == "read" for node in graph.nodes):
        return 1
    largest = max(int(np.prod(shape)) for shape in graph.shapes.values())
    for node in graph.nodes:
        if node.op == "conv":
            weight = node.params["weight"]
            height, width, _ = graph.shapes[node.output]
            taps = int(np.prod(weight.shape[1:])) * node.params["groups"]
            largest = max(largest, height * width * taps)
    return max(1, CHUNK_VALUES // largest)


def run_part(graph, given):
    """The output of a graph of real numbers for some of its values (arrays by name), which its nodes begin with."""
    return _evaluate(graph, given, False, {})[graph.output]


def _evaluate(graph, given, keep, states):
    values = dict(given)
    left = {}
    for node in graph.nodes:
        for name in node.inputs:
            left[name] = left.get(name, 0) + 1
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        if graph.arithmetic == "real":
            y = OPERATORS[node.op](node.params, *given)
            values[node.output] = y.reshape(len(y), *graph.shapes[node.output]) if node.op == "reshape" else y
        else:
            values[node.output] = compute(graph, node, given, states, OPERATORS)
        for name in node.inputs:
            left[name] -= 1
            if not keep and not left[name] and name != graph.output:
                values.pop(name, None)
    return values


def _padded(x, pads, fill):
    top, left, bottom, right = pads
    if not any(pads):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def _taps(x, kernel, stride, dilation=(1, 1)):
    """For each tap of a window, row by row, its (B, OH, OW, C) view of a padded input."""
    height = (x.shape[1] - (kernel[0] - 1) * dilation[0] - 1) // stride[0] + 1
    width = (x.shape[2] - (kernel[1] - 1) * dilation[1] - 1) // stride[1] + 1
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            yield x[:, y0:y0 + (height - 1) * stride[0] + 1:stride[0], x0:x0 + (width - 1) * stride[1] + 1:stride[1]]


def _conv(params, x):
    y = conv(x, params["weight"], stride=params["stride"], dilation=params["dilation"], pads=params["pads"],
             groups=params["groups"], dtype=np.dtype(np.float64))
    return y if params["bias"] is None else y + params["bias"]


def _dense(params, x):
    y = x @ params["weight"].T
    return y if params["bias"] is None else y + params["bias"]


def _maxpool(params, x):
    taps = _taps(_padded(x, params["pads"], -np.inf), params["kernel"], params["stride"])
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


def _avgpool(params, x):
    taps = _taps(_padded(x, params["pads"], 0.0), params["kernel"], params["stride"])
    y = next(taps).copy()
    for tap in taps:
        y += tap
    return y / params["divisor"][:, :, None]


def _quant(params, x):
    low, high = code_range(params["bits"], params["signed"], params["narrow"])
    codes = MODES[params["rounding"]](np.clip(x / params["scale"] + params["zero_point"], low, high))
    return (codes - params["zero_point"]) * params["scale"]


def _trunc(params, x):
    y = np.rint(x / params["scale"] + params["zero_point"]) / 2.0 ** (params["in_bits"] - params["out_bits"])
    return (MODES[params["rounding"]](y) - params["zero_point"]) * params["scale"]


def _multithreshold(params, x):
    count = np.zeros(x.shape)
    for step in params["thresholds"].T:
        count += x >= step
    return params["out_scale"] * count + params["out_bias"]


def _softmax(params, x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    return y / y.sum(axis=-1, keepdims=True)


OPERATORS = {
    "conv": _conv,
    "dense": _dense,
    "affine": lambda params, x: x * params["scale"] + params["offset"],
    "relu": lambda params, x: np.maximum(x, 0.0),
    "clip": lambda params, x: np.clip(x, params["low"], params["high"]),
    "sign": lambda params, x: np.sign(x),
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "add": lambda params, a, b: a + b,
    "sub": lambda params, a, b: a - b,
    "mul": lambda params, a, b: a * b,
    "concat": lambda params, *x: np.concatenate(x, axis=params["axis"] + 1),
    "pad": lambda params, x: np.pad(x, ((0, 0), *zip(params["before"], params["after"], strict=True))),
    "table": lambda params, x: FUNCTIONS[params["function"]](x, params),
    "slice": lambda params, x: slice_codes(x, params["begin"], params["sizes"], params["steps"]),
    "transpose": lambda params, x: x.transpose(0, *(axis + 1 for axis in params["order"])),
    "upsample": lambda params, x: x.repeat(params["factor"][0], axis=1).repeat(params["factor"][1], axis=2),
    "reshape": lambda params, x: x,
    "globalpool": lambda params, x: x.mean(axis=(1, 2)),
    "flatten": lambda params, x: x.reshape(len(x), -1),
    "quant": _quant,
    "bipolarquant": lambda params, x: np.where(x >= 0, params["scale"], -params["scale"]),
    "trunc": _trunc,
    "multithreshold": _multithreshold,
    "softmax": _softmax,
    "argmax": lambda params, x: x.argmax(axis=-1)[:, None],
    "topk": lambda params, x: np.argsort(-x, axis=-1, kind="stable")[:, :params["k"]],
}
