"""Exact interval arithmetic: the least and the greatest integer that each tensor can hold.

Inputs of a layer are taken as independent and anywhere between their tensor's ``low`` and ``high``: for a layer by
itself the intervals are attained. With ``by_format`` weights and activations are anywhere in their formats, so that
other weights of the same formats cannot leave the interval (``--patchable``).
"""

import itertools

import numpy as np

from lutloom.golden.exact import magnitude
from lutloom.golden.join import add, product, scaled_codes
from lutloom.golden.multiply import multiply
from lutloom.golden.thresholds import thresholds
from lutloom.network import (
    Add,
    Constant,
    Conv,
    Dense,
    Multiply,
    Offset,
    Pad,
    Product,
    Softmax,
    State,
    Sum,
    SumPool,
    Table,
    Thresholds,
    Times,
    TopK,
)
from lutloom.shapes import output_shape


def value_range(tensor, by_format=False):
    """(low, high) of the values (2·code - 1 of a bipolar tensor) that a tensor's codes stand for."""
    if by_format:
        return tensor.format.value_low, tensor.format.value_high
    return tuple(int(tensor.format.values(code)) for code in (tensor.low, tensor.high))


def pad_value(tensor):
    """Value of a Conv's padded taps: the code that stands for zero; 0, which no code stands for, when bipolar."""
    return 0 if tensor.format.kind == "bipolar" else int(tensor.zero_point)


def accumulator_range(layer, tensor, by_format=False):
    """(low, high) over all positions and outputs of a Conv or Dense layer whose input is ``tensor``."""
    lows, highs = channel_ranges(layer, tensor, by_format)
    return int(lows.min()), int(highs.max())


def channel_ranges(layer, tensor, by_format=False):
    """(lows, highs) of a Conv or Dense layer's accumulators, arrays (N,), int64 (or of Python ints where too wide)."""
    weights = layer.weights.integers
    if isinstance(layer, Dense):
        weights = weights[:, None, None, :]
    values = value_range(tensor, by_format)
    padding = pad_value(tensor) if isinstance(layer, Conv) else 0
    bounds = layer.weights.format.bounds
    widest = max(map(abs, bounds))
    widest *= max(*map(abs, values), abs(padding)) * weights[0].size
    weights = weights.astype(np.int64 if widest < 1 << 62 else object)
    extremes = (weights, weights)
    if by_format:
        extremes = tuple(np.full_like(weights, bound) for bound in bounds)
    inside = _tap_sums(extremes, values)
    rim = _tap_sums(extremes, (padding, padding))
    rows, columns = [range(1)], [range(1)]
    if isinstance(layer, Conv):
        (kh, kw), (height, width) = weights.shape[1:3], tensor.shape[:2]
        out_height, out_width, _ = output_shape(layer, tensor.shape)
        rows = _valid_taps(height, out_height, kh, layer.stride[0], layer.dilation[0], layer.pads[0])
        columns = _valid_taps(width, out_width, kw, layer.stride[1], layer.dilation[1], layer.pads[1])
    lows, highs = [], []
    for ys, xs in itertools.product(rows, columns):
        valid = np.zeros(weights.shape[1:3], dtype=bool)
        valid[np.ix_(list(ys), list(xs))] = True
        lows.append(np.where(valid, inside[0], rim[0]).sum(axis=(1, 2)))
        highs.append(np.where(valid, inside[1], rim[1]).sum(axis=(1, 2)))
    return np.min(lows, axis=0), np.max(highs, axis=0)


def output_range(layer, *tensors, by_format=False):
    """(low, high) of the codes a layer gives, of its input tensors."""
    if isinstance(layer, Constant):
        return int(layer.codes.min()), int(layer.codes.max())
    ends = [(tensor.format.code_low, tensor.format.code_high) if by_format else (tensor.low, tensor.high)
            for tensor in tensors]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    tensor = tensors[0]
    match layer:
        case Add() | Product():
            return _joined_range(layer, tensors, ends)
        case Sum():
            parts = [table[end[0] - source.format.code_low:end[1] - source.format.code_low + 1]
                     for table, source, end in zip((layer.first, layer.second), tensors, ends, strict=True)]
            return (sum(int(part.min()) for part in parts), sum(int(part.max()) for part in parts))
        case Times():
            reach = [[int(code) + offset for code in end] for end, offset in zip(ends, layer.offsets, strict=True)]
            corners = [a * b for a in reach[0] for b in reach[1]]
            return min(corners), max(corners)
        case Table():
            codes = layer.codes[low - tensor.format.code_low:high - tensor.format.code_low + 1]
            return int(codes.min()), int(codes.max())
        case Softmax():
            return layer.low, layer.high
        case Pad() if any((*layer.before, *layer.after)):
            return min(low, layer.code), max(high, layer.code)
        case State():
            return min(low, int(layer.reset.min())), max(high, int(layer.reset.max()))
        case Conv() | Dense():
            return accumulator_range(layer, tensor, by_format)
        case SumPool():
            return _sum_range(layer, tensor, value_range(tensor, by_format))
        case Thresholds() if by_format:
            return layer.base, layer.base + layer.values.shape[1]
        case Multiply() if by_format:
            return layer.low, layer.high
        case Thresholds():
            ends = np.array([[low], [high]], dtype=object).repeat(len(layer.values), axis=1)
            codes = thresholds(ends, layer.values, layer.falling, layer.base)
            return int(codes.min()), int(codes.max())
        case Multiply():
            codes = multiply_layer(layer, np.array([[low], [high]], dtype=object))
            return int(codes.min()), int(codes.max())
        case Offset():
            return low + int(layer.values.min()), high + int(layer.values.max())
        case TopK():
            return 0, tensor.shape[0] - 1
    return low, high


def _joined_range(layer, tensors, ends):
    """(low, high) of an Add or Product: both are monotone in each input, so the corners hold the extremes."""
    pairs = np.array(list(itertools.product(*ends)), np.int64).T
    if isinstance(layer, Add):
        parts = [scaled_codes(tensor.format, layer.left, *parameters)[codes - tensor.format.code_low]
                 for tensor, codes, parameters in zip(tensors, pairs, add_inputs(layer), strict=True)]
        codes = add(*parts, layer)
    else:
        codes = product(*pairs, layer)
    return int(codes.min()), int(codes.max())


def add_inputs(layer):
    """(offset, multiplier, shift) of each input of an Add."""
    return list(zip(layer.offsets, layer.multipliers, layer.shifts, strict=True))


def multiply_layer(layer, acc):
    """``multiply`` with a Multiply layer's parameters."""
    parameters = layer.multiplier, layer.shift, layer.offset, layer.fraction
    return multiply(acc, *parameters, layer.zero_point, layer.low, layer.high, layer.rounding)


def sum_pool_bound(layer, tensor):
    """No partial sum of a SumPool, nor the sum times its factor, is greater in magnitude."""
    values = max(*map(abs, value_range(tensor)), abs(layer.pad_code))
    return values * layer.kernel[0] * layer.kernel[1] * max(magnitude(layer.factors), 1)


def _tap_sums(extremes, values):
    """(lows, highs), each (N, kh, kw): the interval of a tap's sum over its channels."""
    corners = [weight * value for weight in extremes for value in values]
    return np.minimum.reduce(corners).sum(axis=3), np.maximum.reduce(corners).sum(axis=3)


def _valid_taps(size, outputs, taps, stride, dilation, before):
    """The different sets of taps that fall inside the tensor, over the positions of one axis."""
    places = [[o * stride + tap * dilation - before for tap in range(taps)] for o in range(outputs)]
    return {tuple(tap for tap, place in enumerate(row) if 0 <= place < size) for row in places}


def _sum_range(layer, tensor, values):
    """(low, high) over the windows of a SumPool."""
    (kh, kw), (height, width) = layer.kernel, tensor.shape[:2]
    lows, highs = [], []
    for y, x in np.ndindex(layer.factors.shape):
        rows = [0 <= y * layer.stride[0] + k - layer.pads[0] < height for k in range(kh)]
        columns = [0 <= x * layer.stride[1] + k - layer.pads[1] < width for k in range(kw)]
        inside = sum(rows) * sum(columns)
        rim, factor = (kh * kw - inside) * layer.pad_code, int(layer.factors[y, x])
        ends = [(inside * value + rim) * factor for value in values]
        lows.append(min(ends))
        highs.append(max(ends))
    return min(lows), max(highs)
