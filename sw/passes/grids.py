"""Which values of a graph already are codes, and what a code stands for: real = scale·(code - zero), exactly."""

from fractions import Fraction

from lutloom.passes.rewire import rationals


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
    match node.op:
        case "maxpool" | "flatten":
            return code_grid(graph, node.inputs[0], given)
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
