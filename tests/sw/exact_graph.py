"""Graphs made by hand and computed in rationals: the reference of quantised graphs, sharing nothing with the passes."""

from fractions import Fraction
from math import ceil, floor

import numpy as np

from lutloom.functions import FUNCTIONS
from lutloom.graph import Graph, Node, WeightQuant


def chain(name, shape, *steps, layout="NHWC", output_shape=None):
    """A Graph of one node after another: steps are (op, name, params); shapes are worked out here."""
    shapes, nodes, value = {"input": tuple(shape)}, [], "input"
    for op, label, params in steps:
        output = f"{label}_out"
        nodes.append(Node(op, label, (value,), output, params))
        shapes[output] = result_shape(op, params, shapes[value])
        value = output
    shapes = {key: tuple(int(n) for n in item) for key, item in shapes.items()}
    return Graph(name, "input", value, tuple(nodes), shapes, tuple(shape), layout, output_shape or shapes[value])


def result_shape(op, params, shape):
    if op in ("conv", "maxpool", "avgpool"):
        kernel = params["weight"].shape[1:3] if op == "conv" else params["kernel"]
        top, left, bottom, right = params["pads"]
        space = [
            (n + before + after - (k - 1) * d - 1) // s + 1
            for n, before, after, k, s, d in zip(
                shape[:2],
                (top, left),
                (bottom, right),
                kernel,
                params["stride"],
                params.get("dilation", (1, 1)),
                strict=True,
            )
        ]
        return (*space, len(params["weight"]) if op == "conv" else shape[2])
    if op == "dense":
        return (len(params["weight"]),)
    if op == "globalpool":
        return (shape[2],)
    if op == "flatten":
        return (int(np.prod(shape)),)
    return (params["k"],) if op == "topk" else (1,) if op == "argmax" else shape


def rationals(array):
    """An object array of Fractions: exactly the numbers given."""
    return np.vectorize(lambda number: Fraction(float(np.clip(number, -1e300, 1e300))), otypes=[object])(array)


def exact_parameter(params, key):
    exact = params.get("exact", {})
    return np.array(exact[key], object) if key in exact else rationals(params[key])


def exact_weight(params):
    """Weights as rationals: from the stored codes where a pass made them, from the source's codes else."""
    if "quantised" in params:
        weights = params["quantised"]
        integers, scale = weights.integers, np.array(weights.scale, object)
    elif params.get("weight_quant") is not None:
        quant = params["weight_quant"]
        integers, scale = quant.codes - quant.zero_point, rationals(np.ravel(quant.scale))
    else:
        return rationals(params["weight"])
    return rationals(integers.astype(float)) * scale.reshape((-1,) + (1,) * (integers.ndim - 1))


HALF = Fraction(1, 2)
ROUND = {
    "ROUND": round,
    "CEIL": ceil,
    "FLOOR": floor,
    "UP": lambda x: ceil(x) if x > 0 else floor(x),
    "DOWN": lambda x: floor(x) if x > 0 else ceil(x),
    "HALF_UP": lambda x: floor(x + HALF) if x > 0 else ceil(x - HALF),
    "HALF_DOWN": lambda x: ceil(x - HALF) if x > 0 else floor(x + HALF),
}


def each(function, x):
    return np.vectorize(lambda number: Fraction(function(number)), otypes=[object])(x)


def quantised(params, x):
    low = -(1 << params["bits"] - 1) + bool(params["narrow"]) if params["signed"] else 0
    high = (1 << params["bits"] - params["signed"]) - 1 - bool(params["narrow"] and not params["signed"])
    scale, zero = exact_parameter(params, "scale"), exact_parameter(params, "zero_point")
    codes = each(ROUND[params["rounding"]], x / scale + zero)
    return (np.clip(codes, low, high) - zero) * scale


def truncated(params, x):
    scale, zero = exact_parameter(params, "scale"), exact_parameter(params, "zero_point")
    codes = each(round, x / scale + zero) / (1 << params["in_bits"] - params["out_bits"])
    return (each(ROUND[params["rounding"]], codes) - zero) * scale


def padded(x, pads, fill):
    top, left, bottom, right = pads
    y = np.full((x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]), fill, object)
    y[top : top + x.shape[0], left : left + x.shape[1]] = x
    return y


def windows(params, x, kernel, fill, shape):
    x, dilation = padded(x, params["pads"], fill), params.get("dilation", (1, 1))
    for oy, ox in np.ndindex(*shape[:2]):
        y0, x0 = oy * params["stride"][0], ox * params["stride"][1]
        yield (
            oy,
            ox,
            x[
                y0 : y0 + (kernel[0] - 1) * dilation[0] + 1 : dilation[0],
                x0 : x0 + (kernel[1] - 1) * dilation[1] + 1 : dilation[1],
            ],
        )


def convolved(params, x, shape):
    weight, groups = exact_weight(params), params["groups"]
    bias = exact_parameter(params, "bias") if params["bias"] is not None else np.array([Fraction(0)] * len(weight))
    y = np.empty(shape, object)
    for oy, ox, window in windows(params, x, weight.shape[1:3], Fraction(0), shape):
        for n, row in enumerate(weight):
            first = n // (len(weight) // groups) * weight.shape[3]
            y[oy, ox, n] = (row * window[:, :, first : first + weight.shape[3]]).sum() + bias[n]
    return y


def pooled(op, params, x, shape):
    y = np.empty(shape, object)
    fill = Fraction(-(10**30)) if op == "maxpool" else Fraction(0)
    for oy, ox, window in windows(params, x, params["kernel"], fill, shape):
        flat = window.reshape(-1, x.shape[2])
        y[oy, ox] = flat.max(axis=0) if op == "maxpool" else flat.sum(axis=0) / int(params["divisor"][oy, ox])
    return y


def apply(graph, node, x, *others):
    params, shape = node.params, graph.shapes[node.output]
    match node.op:
        case "conv":
            return convolved(params, x, shape)
        case "dense":
            bias = exact_parameter(params, "bias") if params["bias"] is not None else 0
            return exact_weight(params) @ x + bias
        case "maxpool" | "avgpool":
            return pooled(node.op, params, x, shape)
        case "add" | "sub" | "mul":
            return {"add": np.add, "sub": np.subtract, "mul": np.multiply}[node.op](x, *others)
        case "concat":
            return np.concatenate((x, *others), axis=params["axis"])
        case "pad":
            return np.pad(x, list(zip(params["before"], params["after"], strict=True)), constant_values=Fraction(0))
        case "reshape":
            return x.reshape(shape)
        case "slice":
            keys = ("begin", "sizes", "steps")
            parts = [begin + step * np.arange(size) for begin, size, step in zip(*(params[key] for key in keys),
                                                                                 strict=True)]
            return x[np.ix_(*parts)]
        case "transpose":
            return x.transpose(params["order"])
        case "upsample":
            factors = (*params["factor"], 1)
            return x[np.ix_(*(np.arange(size) // factor for size, factor in zip(shape, factors, strict=True)))]
        case "table":  # what a float64 gives of it: the quantiser behind rounds that
            return rationals(FUNCTIONS[params["function"]](x.astype(float), params))
        case "globalpool":
            return x.reshape(-1, x.shape[2]).sum(axis=0) / (x.shape[0] * x.shape[1])
        case "flatten":
            return x.reshape(-1)
        case "affine":
            return x * exact_parameter(params, "scale") + exact_parameter(params, "offset")
        case "relu":
            return np.maximum(x, Fraction(0))
        case "clip":
            return np.minimum(np.maximum(x, rationals(params["low"])), rationals(params["high"]))
        case "sign":
            return each(lambda number: (number > 0) - (number < 0), x)
        case "bipolarquant":
            return np.where(x >= 0, exact_parameter(params, "scale"), -exact_parameter(params, "scale"))
        case "quant":
            return quantised(params, x)
        case "trunc":
            return truncated(params, x)
        case "multithreshold":
            reached = (x[..., None] >= rationals(params["thresholds"])).sum(axis=-1)
            return each(int, reached) * Fraction(params["out_scale"]) + Fraction(params["out_bias"])
        case "softmax":
            return x
    raise AssertionError(node.op)


def run(graph, codes, given):
    """Exact outputs (object array of Fractions) of one frame of input codes, softmax left out."""
    values = {graph.input: (rationals(codes.astype(float)) - given.zero_point) * given.scale}
    for node in graph.nodes:
        values[node.output] = apply(graph, node, *(values[name] for name in node.inputs))
    return values[graph.output]


# --- layers for tests -------------------------------------------------------------------------------------------------


def conv(rng, name, outputs, channels, kernel=3, pads=(0, 0, 0, 0), stride=(1, 1), groups=1, quant=None, bias=True):
    shape = (outputs, kernel, kernel, channels // groups)
    return (
        "conv",
        name,
        {**_weights(rng, shape, quant, bias), "stride": stride, "dilation": (1, 1), "pads": pads, "groups": groups},
    )


def dense(rng, name, outputs, inputs, quant=None, bias=True):
    return ("dense", name, _weights(rng, (outputs, inputs), quant, bias))


def _weights(rng, shape, quant, bias):
    """Real weights, or a source's own: quant is "bipolar" or a number of bits."""
    real, weight_quant = rng.normal(size=shape) / 2, None
    if quant is not None:
        scale = np.array(2.0 ** -int(rng.integers(0, 4)) * float(rng.choice([1.0, 1.375])))
        bits = 1 if quant == "bipolar" else quant
        codes = (
            np.where(real >= 0, 1, -1) if quant == "bipolar" else rng.integers(-(1 << bits - 1), 1 << bits - 1, shape)
        )
        zero = np.array(0)
        weight_quant = WeightQuant("bipolar" if quant == "bipolar" else "int", codes, scale, zero, bits)
        real = codes * scale
    return {"weight": real, "bias": rng.normal(size=shape[0]) if bias else None, "weight_quant": weight_quant}


def quant(name, scale, bits, signed=True, zero=0.0, narrow=False, rounding="ROUND"):
    return (
        "quant",
        name,
        {
            "scale": np.asarray(scale, float),
            "zero_point": np.asarray(zero, float),
            "bits": bits,
            "signed": signed,
            "narrow": narrow,
            "rounding": rounding,
        },
    )


def bipolar(name, scale=1.0):
    return ("bipolarquant", name, {"scale": np.array(scale)})


def affine(name, scale, offset):
    return ("affine", name, {"scale": np.asarray(scale, float), "offset": np.asarray(offset, float)})


def relu(name):
    return ("relu", name, {})


def maxpool(name, kernel=2, stride=2, pads=(0, 0, 0, 0)):
    return ("maxpool", name, {"kernel": (kernel, kernel), "stride": (stride, stride), "pads": pads})


def avgpool(name, kernel, stride, pads, divisor):
    return (
        "avgpool",
        name,
        {"kernel": (kernel, kernel), "stride": (stride, stride), "pads": pads, "divisor": np.asarray(divisor)},
    )
