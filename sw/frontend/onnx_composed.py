"""ONNX operators that become several steps of the Graph: Max and Min, and PRelu of a slope a channel."""

from functools import reduce

import numpy as np

from lutloom.frontend.onnx_elementwise import bounded, function_node
from lutloom.frontend.onnx_join import join
from lutloom.frontend.onnx_layout import per_channel
from lutloom.frontend.onnx_values import Const, finite


def extreme(op):
    """Max and Min of computed tensors and constants.

    Of a tensor and a number: a clip with one open side. Of two tensors: max(a, b) = a + relu(b - a), and min(a, b) =
    a - relu(a - b); of a tensor and a number a channel the same, where the sums are affine steps.
    """
    is_max = op.type == "Max"
    tensors = [op.computed(place) for place, given in enumerate(op.inputs) if not isinstance(given, Const)]
    if any(tensor.integer for tensor in tensors):
        raise op.error("compares integers, which is not supported; cast its inputs to float first")
    bound = _bound(op, [given for given in op.inputs if isinstance(given, Const)])
    if len(tensors) > 1:
        _only_real(op, "compares several computed tensors")
    tensor, *others = tensors
    for number, other in enumerate(others, 1):
        last = number == len(others) and bound is None
        more = join(op, "sub", *((other, tensor) if is_max else (tensor, other)), part=f"difference{number}")
        more = op.reader.emit(op, "relu", more, part=f"relu{number}")
        tensor = join(op, "add" if is_max else "sub", tensor, more, part="" if last else f"part{number}")
    if bound is None:
        return tensor
    if (bound == bound.flat[0]).all():
        number = float(bound.flat[0])
        return bounded(op, tensor, *((number, np.inf) if is_max else (-np.inf, number)))
    _only_real(op, f"has a bound of {bound.size} numbers")
    tensor, bound = per_channel(op, tensor, finite(op, Const(bound), "bounds"), "bound")
    sign, one = np.array(1.0 if is_max else -1.0), np.array(1.0)
    tensor = op.reader.emit(op, "affine", tensor, {"scale": sign * one, "offset": -sign * bound}, part="difference")
    tensor = op.reader.emit(op, "relu", tensor, part="relu")
    return op.reader.emit(op, "affine", tensor, {"scale": sign * one, "offset": bound})


def _bound(op, constants):
    """The greatest or least of constants, element by element; None without any."""
    arrays = [np.asarray(const.array, np.float64) for const in constants]
    if not arrays:
        return None
    try:
        bound = reduce(np.maximum if op.type == "Max" else np.minimum, arrays)
    except ValueError:
        raise op.error(f"has constants of shapes {', '.join(str(array.shape) for array in arrays)}, which do not fit; "
                       "export the model again") from None
    if np.isnan(bound).any() or not bound.size:
        raise op.error("has a bound that is NaN or of no numbers; export the model again")
    return bound


def prelu(op):
    """PRelu: a function of one slope, or of a slope a channel relu(x) - slope · relu(-x)."""
    tensor, slope = op.computed(), op.numbers(1, "slope")
    if slope.size and (slope == slope.flat[0]).all():
        return function_node(op, "leaky_relu", {"alpha": float(slope.flat[0])})
    _only_real(op, f"has {slope.size} slopes")
    tensor, slope = per_channel(op, tensor, slope, "slope")
    one, zero = np.array(1.0), np.array(0.0)
    above = op.reader.emit(op, "relu", tensor, part="above")
    below = op.reader.emit(op, "affine", tensor, {"scale": -one, "offset": zero}, part="negated")
    below = op.reader.emit(op, "relu", below, part="below")
    below = op.reader.emit(op, "affine", below, {"scale": -slope, "offset": zero}, part="slopes")
    return join(op, "add", above, below)


def _only_real(op, what):
    """ModelError in a model that is quantised already."""
    if op.reader.quantised:
        raise op.error(f"{what}, which is supported only in models of real numbers; take a float model")


OPERATORS = {("", "Max"): extreme, ("", "Min"): extreme, ("", "PRelu"): prelu}
