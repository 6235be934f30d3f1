"""Element-wise operators of a graph as chains of exact monotone steps, one chain a channel."""

from fractions import Fraction

import numpy as np

from lutloom.errors import ModelError
from lutloom.passes.requantise import Count, Linear, Maximum, Minimum, Round
from lutloom.passes.rewire import rationals
from lutloom.rounding import code_range

FAR = Fraction(1 << 200)
"""Stands for infinity among the thresholds of a multithreshold: no accumulator comes near."""


def steps_of(node):
    """The steps of one element-wise node: a list of tuples of primitives, one for all channels or one a channel."""
    params, name = node.params, node.name
    match node.op:
        case "affine":
            return [(Linear(a, b),) for a, b in _aligned(rationals(node, "scale"), rationals(node, "offset"))]
        case "relu":
            return [(Maximum(Fraction(0)),)]
        case "clip":
            low, high = float(params["low"]), float(params["high"])
            steps = () if low == -np.inf else (Maximum(Fraction(low)),)
            return [steps if high == np.inf else (*steps, Minimum(Fraction(high)))]
        case "sign":
            return [(Count(((Fraction(0), True), (Fraction(0), False))), Linear(Fraction(1), Fraction(-1)))]
        case "bipolarquant":
            return [_bipolar(s) for s in _positive(rationals(node, "scale"), name)]
        case "quant":
            return _quant(node)
        case "trunc":
            return _trunc(node)
        case "multithreshold":
            return _multithreshold(node)
    raise ModelError(f"layer {name!r} is a {node.op}, which is not element-wise")


def _quant(node):
    """round(x / scale + zero_point), clamped, and back to reals."""
    params, result = node.params, []
    bits = params["bits"]
    for s, z in _aligned(_positive(rationals(node, "scale"), node.name), rationals(node, "zero_point")):
        if bits == 1 and params["signed"]:  # QONNX takes it as a sign
            result.append((Linear(1 / s, z), Count(((Fraction(0), True),)), Linear(2 * s, -s - z * s)))
            continue
        low, high = code_range(bits, params["signed"], params["narrow"])
        result.append((Linear(1 / s, z), Round(params["rounding"], low, high), Linear(s, -z * s)))
    return result


def _trunc(node):
    """Drops the lowest in_bits - out_bits of x / scale + zero_point."""
    params = node.params
    drop = Fraction(1, 1 << params["in_bits"] - params["out_bits"])
    return [(Linear(1 / s, z), Round("ROUND"), Linear(drop, Fraction(0)), Round(params["rounding"]), Linear(s, -z * s))
            for s, z in _aligned(_positive(rationals(node, "scale"), node.name), rationals(node, "zero_point"))]


def _multithreshold(node):
    """out_scale · (thresholds reached) + out_bias."""
    params = node.params
    closing = Linear(Fraction(float(params["out_scale"])), Fraction(float(params["out_bias"])))
    result = []
    for row in np.asarray(params["thresholds"], np.float64):
        steps = sorted(Fraction(float(t)) if np.isfinite(t) else FAR * int(np.sign(t)) for t in row)
        result.append((Count(tuple((step, True) for step in steps)), closing))
    return result


def _bipolar(scale):
    return (Count(((Fraction(0), True),)), Linear(2 * scale, -scale))


def _aligned(*lists):
    """Rows of several parameters, each one number or one a channel."""
    size = max(map(len, lists))
    return list(zip(*(values * size if len(values) == 1 else values for values in lists), strict=True))


def _positive(scales, name):
    if min(scales) <= 0:
        raise ModelError(f"layer {name!r} quantises with scale {float(min(scales)):g}, but scales must be positive")
    return scales
