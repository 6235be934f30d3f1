"""Which values of a graph already are codes, and what a code stands for: real = scale·(code - zero), exactly."""

from fractions import Fraction
from math import frexp, gcd

from lutloom.passes.rewire import JOINS, rationals

VIEWS = ("maxpool", "flatten", "reshape", "pad", "slice", "transpose", "upsample")
"""Operators that give codes of what they take, some of them or all."""

SCALE_BITS = 8
"""Of the whole number in a short scale: scales move by 1 / 2**SCALE_BITS at most."""

MOST_SHORT = 1 << 12
"""A scale is short where its numerator and its denominator without powers of two are smaller."""


def code_grid(graph, value, given):
    """(scale, zero) of a value that lies on one grid for all channels; None where it holds real numbers.

    Parameters
    ----------
    graph : Graph
    value : str
    given : InputFormat
        Scale and zero point of the graph's input.
    """
    if value == graph.input:
        return given.scale, given.zero_point
    node = graph.producer(value)
    if node.op in VIEWS:
        return code_grid(graph, node.inputs[0], given)
    match node.op:
        case "concat":
            grids = {code_grid(graph, name, given) for name in node.inputs}
            return grids.pop() if len(grids) == 1 else None
        case "add" | "sub" | "mul" | "table":
            return None
        case "quant":
            scales, zeros = set(rationals(node, "scale")), set(rationals(node, "zero_point"))
            return (scales.pop(), zeros.pop()) if len(scales) == len(zeros) == 1 else None
        case "bipolarquant":
            scales = set(rationals(node, "scale"))
            return (2 * scales.pop(), Fraction(1, 2)) if len(scales) == 1 else None
        case "sign":
            return Fraction(1), Fraction(0)
        case "trunc":
            scales, zeros = set(rationals(node, "scale")), set(rationals(node, "zero_point"))
            return (scales.pop(), zeros.pop()) if len(scales) == len(zeros) == 1 else None
        case "multithreshold":
            scale, bias = Fraction(float(node.params["out_scale"])), Fraction(float(node.params["out_bias"]))
            return (abs(scale), -bias / abs(scale)) if scale else None
    before = code_grid(graph, node.inputs[0], given) if node.op in ("relu", "clip", "affine") else None
    if before is None:
        return None
    scale, zero = before
    if node.op == "relu":
        return before if zero.denominator == 1 else None
    if node.op == "clip":
        bounds = [Fraction(b) for b in map(float, (node.params["low"], node.params["high"])) if abs(b) != float("inf")]
        return before if all((bound / scale + zero).denominator == 1 for bound in bounds) else None
    scales, offsets = set(rationals(node, "scale")), set(rationals(node, "offset"))
    if len(scales) != 1 or len(offsets) != 1 or min(scales) <= 0:
        return None
    factor, offset = scales.pop(), offsets.pop()
    return scale * factor, zero - offset / (scale * factor)


def can_pad(grid):
    """Whether real zero is a code of a grid, or the middle of a bipolar one."""
    return grid[1].denominator == 1 or grid[1] == Fraction(1, 2)


def short_scale(scale):
    """The nearest number that is a whole one of SCALE_BITS bits times a power of two."""
    fraction, exponent = frexp(scale)
    return round(fraction * (1 << SCALE_BITS)) * 2.0 ** (exponent - SCALE_BITS)


def is_short(scale):
    """Whether sums of codes in steps of this and other short scales are whole numbers of a few bits."""
    return all(part // (part & -part) < MOST_SHORT for part in (scale.numerator, scale.denominator))


def common_unit(a, b):
    """The greatest number that two scales are whole multiples of."""
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


def join_unit(graph, node, given):
    """What one step of a join's accumulators stands for; None where its inputs are no codes."""
    grids = [code_grid(graph, name, given) for name in node.inputs]
    if None in grids or node.op not in JOINS:
        return None
    (a, _), (b, _) = grids
    return a * b if node.op == "mul" else common_unit(a, b)


def feeds_sum(graph, value):
    """Whether a sum or difference takes a quantised value's codes, as they are or moved."""
    open_, seen = [value], set()
    while open_:
        name = open_.pop()
        for node in graph.consumers(name):
            if node.op in ("add", "sub"):
                return True
            if node.op in (*VIEWS, "relu", "clip", "concat") and node.output not in seen:
                seen.add(node.output)
                open_.append(node.output)
    return False


def shares_quantiser(graph, node):
    """Whether all inputs of a concat are codes of one format, scale and zero point."""
    found = set()
    for name in node.inputs:
        quant = graph.producer(name)
        while quant is not None and quant.op in VIEWS:
            quant = graph.producer(quant.inputs[0])
        if quant is None or quant.op not in ("quant", "bipolarquant"):
            return False
        found.add((quant.op, tuple(rationals(quant, "scale")),
                   *(str(quant.params.get(key)) for key in ("zero_point", "bits", "signed", "narrow"))))
    return len(found) == 1
