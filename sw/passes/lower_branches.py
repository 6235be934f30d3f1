"""Lowering of what is no chain of sums: joins of branches, unions, functions of one code, pads and views.

All of it is exact. A sum's inputs lie on grids whose scales are whole multiples of one unit, and its tables hold these
multiples; a product's accumulators count in the product of both scales; a function becomes the table of its results,
each rounded as the quantiser behind it says.
"""

from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.functions import FUNCTIONS
from lutloom.network import Broadcast, Concat, Pad, Reshape, Slice, Sum, Table, Times, Transpose
from lutloom.passes.grids import common_unit
from lutloom.passes.rewire import rationals
from lutloom.passes.values import plain
from lutloom.rounding import MODES, code_range

SUM_BITS = 40
"""Most bits of a sum's tables."""

TABLE_BITS = 16
"""Most bits of codes that a function is tabulated for."""


def join(lowering, node):
    """A sum, difference or product of two values, exact."""
    values = [lowering.codes(lowering.values[name], node.name) for name in node.inputs]
    grids = [_grid(lowering, value, node) for value in values]
    shape = tuple(map(int, lowering.graph.shapes[node.output]))
    sources = tuple(_spread(lowering, value.tensor, shape) for value in values)
    (a, za), (b, zb) = grids
    name = lowering.name(node.name)
    if node.op == "mul":
        return plain(lowering.add(Times(name, sources, name, (-za, -zb)), scale=a * b), a * b, 0)
    unit = common_unit(a, b)
    b = -b if node.op == "sub" else b
    tables = [_multiples(lowering, value.tensor, int(scale / unit), zero, node)
              for value, scale, zero in zip(values, (a, b), (za, zb), strict=True)]
    return plain(lowering.add(Sum(name, sources, name, *tables), scale=unit), unit, 0)


def _grid(lowering, value, node):
    """(scale, zero point) of codes that a join takes."""
    tensor, (scale, offset) = lowering.tensors[value.tensor], value.common_linear()
    zero = -offset / scale
    if tensor.format.kind == "bipolar" or zero.denominator != 1 or tensor.format.bits > TABLE_BITS:
        raise ModelError(f"layer {node.name!r} joins codes of {tensor.format} with zero point {float(zero):g}, which "
                         f"must be numbers of at most {TABLE_BITS} bits with an integer zero point; put a quantiser in "
                         "front of it")
    return scale, int(zero)


def _multiples(lowering, source, factor, zero, node):
    """What every code of a tensor stands for, in a sum's unit."""
    format = lowering.tensors[source].format
    if abs(factor) << format.bits >= 1 << SUM_BITS:
        raise ModelError(f"layer {node.name!r} adds values whose scales have no common unit of few bits; quantise its "
                         "inputs with scales such as powers of two")
    return (np.arange(format.code_low, format.code_high + 1, dtype=np.int64) - zero) * factor


def _spread(lowering, source, shape):
    """A tensor as often as a shape takes."""
    tensor = lowering.tensors[source]
    if tensor.shape == shape:
        return source
    name = lowering.name(f"{source}.broadcast")
    return lowering.add(Broadcast(name, source, name, shape), tensor.format, tensor.scale, tensor.zero_point)


def concat(lowering, node):
    """Codes of one grid behind each other."""
    values = [lowering.codes(lowering.values[name], node.name) for name in node.inputs]
    tensors = [lowering.tensors[value.tensor] for value in values]
    if len({value.common_linear() for value in values}) != 1 or len({tensor.format for tensor in tensors}) != 1:
        raise ModelError(f"layer {node.name!r} joins codes of several scales or formats; put one quantiser behind it")
    name, first = lowering.name(node.name), tensors[0]
    layer = Concat(name, tuple(value.tensor for value in values), name, int(node.params["axis"]))
    lowering.add(layer, first.format, first.scale, first.zero_point)
    return replace(values[0], tensor=name)


def pad(lowering, node):
    """Zeros around codes."""
    value = lowering.codes(lowering.values[node.inputs[0]], node.name)
    tensor, (scale, offset) = lowering.tensors[value.tensor], value.common_linear()
    zero = -offset / scale
    if zero.denominator != 1 or not tensor.format.code_low <= zero <= tensor.format.code_high:
        raise ModelError(f"layer {node.name!r} pads with zero, but its input has no code for zero (zero point "
                         f"{float(zero):g}, {tensor.format}); change --input-zero or the padding")
    name = lowering.name(node.name)
    before, after = (tuple(map(int, node.params[key])) for key in ("before", "after"))
    lowering.add(Pad(name, value.tensor, name, before, after, int(zero)), tensor.format, tensor.scale,
                 tensor.zero_point)
    return replace(value, tensor=name)


def reshape(lowering, node):
    """The same codes in another shape."""
    shape = tuple(map(int, lowering.graph.shapes[node.output]))
    return moved(lowering, node, lambda source, name: Reshape(name, source, name, shape))


def transpose(lowering, node):
    """The same codes, axes in another order."""
    order = tuple(map(int, node.params["order"]))
    return moved(lowering, node, lambda source, name: Transpose(name, source, name, order))


def slice_(lowering, node):
    """A part of the codes."""
    parts = [tuple(map(int, node.params[key])) for key in ("begin", "sizes", "steps")]
    return moved(lowering, node, lambda source, name: Slice(name, source, name, *parts))


def moved(lowering, node, *layers):
    """Codes behind layers that move them, functions of (tensor, new name); a view of the same shape is left out."""
    value = lowering.codes(lowering.values[node.inputs[0]], node.name)
    tensor, source = lowering.tensors[value.tensor], value.tensor
    for make in layers:
        name = lowering.name(node.name)
        layer = make(source, name)
        if not isinstance(layer, Reshape) or layer.shape != lowering.tensors[source].shape:
            source = lowering.add(layer, tensor.format, tensor.scale, tensor.zero_point)
    return replace(value, tensor=source)


def upsample(lowering, node):
    """Every pixel of each row so often, then every row."""
    down, right = map(int, node.params["factor"])
    height, width, channels = map(int, lowering.graph.shapes[node.inputs[0]])
    wide = width * right * channels
    shapes = [(Reshape, (height * width, 1, channels)), (Broadcast, (height * width, right, channels))] * (right > 1)
    shapes += [(Reshape, (height, 1, wide)), (Broadcast, (height, down, wide))] * (down > 1)
    shapes += [(Reshape, (height * down, width * right, channels))]
    return moved(lowering, node, *(lambda source, name, kind=kind, shape=shape: kind(name, source, name, shape)
                                   for kind, shape in shapes))


def codes_of_function(lowering, node):
    """The codes that a function takes; ``table`` makes the layer, once it knows the quantiser behind it."""
    value = lowering.codes(lowering.values[node.inputs[0]], node.name)
    if lowering.tensors[value.tensor].format.bits > TABLE_BITS:
        raise ModelError(f"layer {node.name!r} takes accumulators; a quantiser must stand in front of it")
    return value


def table(lowering, node, quant):
    """The Table of a function and the quantiser behind it."""
    value = lowering.values[node.output]
    source, (scale, offset) = lowering.tensors[value.tensor], value.common_linear()
    scales, zeros = set(rationals(quant, "scale")), set(rationals(quant, "zero_point"))
    if len(scales) != 1 or len(zeros) != 1 or source.format.kind == "bipolar":
        raise ModelError(f"layer {node.name!r} is a function of codes of {source.format}, whose results must have one "
                         "scale; quantise them per tensor")
    made, zero, params = scales.pop(), zeros.pop(), quant.params
    codes = np.arange(source.format.code_low, source.format.code_high + 1)
    real = np.array([float(scale * int(code) + offset) for code in codes])
    low, high = code_range(params["bits"], params["signed"], params["narrow"])
    with np.errstate(over="ignore"):
        steps = FUNCTIONS[node.params["function"]](real, node.params) / float(made) + float(zero)
    results = MODES[params["rounding"]](np.clip(steps, low, high)).astype(np.int64)
    name, format = lowering.name(node.name), Format("int" if low < 0 else "uint", params["bits"])
    lowering.add(Table(name, value.tensor, name, results, node.params["function"]), format, made, zero)
    return plain(name, made, -made * zero)


BRANCHES = {"add": join, "sub": join, "mul": join, "concat": concat, "pad": pad, "reshape": reshape,
            "slice": slice_, "transpose": transpose, "upsample": upsample, "table": codes_of_function}
"""What lowers the operators of branches: functions of (Lowering, node) that give a Value."""
