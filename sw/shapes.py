"""Shapes of a network's tensors."""

from math import prod

import numpy as np

from lutloom.network import (
    Add,
    Broadcast,
    Concat,
    Constant,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Pad,
    Product,
    Reshape,
    Slice,
    State,
    Sum,
    SumPool,
    Times,
    TopK,
    Transpose,
)


def window_shape(shape, kernel, stride, pads, dilation=(1, 1)):
    """(OH, OW): how many windows fit a padded (H, W, ...) tensor; ValueError where none does."""
    padded = shape[0] + pads[0] + pads[2], shape[1] + pads[1] + pads[3]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(r > p for r, p in zip(reach, padded, strict=True)):
        raise ValueError(f"windows of {reach[0]}x{reach[1]} do not fit {padded[0]}x{padded[1]} with its padding")
    return tuple((p - r) // s + 1 for p, r, s in zip(padded, reach, stride, strict=True))


def output_shape(layer, *shapes):
    """Shape of a layer's output, of its inputs'; ValueError where the layer cannot take them."""
    if isinstance(layer, Constant):
        return tuple(layer.codes.shape)
    if isinstance(layer, Concat):
        return _joined(layer, shapes)
    if isinstance(layer, Add | Product | Sum | Times):
        try:
            return tuple(int(size) for size in np.broadcast_shapes(*shapes))
        except ValueError:
            raise ValueError(f"takes inputs of shapes {' and '.join(map(str, shapes))}, which do not fit") from None
    shape, = shapes
    match layer:
        case Conv():
            _, kh, kw, depth = layer.weights.codes.shape
            _spatial(shape)
            if depth * layer.groups != shape[2]:
                raise ValueError(f"takes {depth * layer.groups} channels, but its input has {shape[2]}")
            return *window_shape(shape, (kh, kw), layer.stride, layer.pads, layer.dilation), len(layer.weights.codes)
        case Dense():
            outputs, depth = layer.weights.codes.shape
            if shape != (depth,):
                raise ValueError(f"takes shape {(depth,)}, but its input has shape {shape}")
            return (outputs,)
        case MaxPool() | SumPool():
            _spatial(shape)
            return *window_shape(shape, layer.kernel, layer.stride, layer.pads), shape[2]
        case Flatten():
            _spatial(shape)
            return (shape[0] * shape[1] * shape[2],)
        case TopK():
            if len(shape) != 1 or not 1 <= layer.k <= shape[0]:
                raise ValueError(f"takes at least k = {layer.k} values in a row, but its input has shape {shape}")
            return (layer.k,)
        case Reshape():
            if prod(layer.shape) != prod(shape):
                raise ValueError(f"makes shape {layer.shape} of {shape}, which has {prod(shape)} values")
            return tuple(layer.shape)
        case Transpose():
            _spatial(shape)
            return tuple(shape[axis] for axis in layer.order)
        case Broadcast():
            if not fits(shape, layer.shape):
                raise ValueError(f"makes shape {tuple(layer.shape)} of {shape}, whose sides are neither these nor 1")
            return tuple(layer.shape)
        case Slice():
            _sliced(layer, shape)
            return tuple(layer.sizes)
        case Pad():
            if not len(layer.before) == len(layer.after) == len(shape):
                raise ValueError(f"pads {len(layer.before)} axes, but its input has shape {shape}")
            return tuple(b + size + a for b, size, a in zip(layer.before, shape, layer.after, strict=True))
        case State():
            return tuple(layer.reset.shape)
    return tuple(shape)


def fits(shape, wanted):
    """Whether a tensor of a shape stands for one of the wanted: by sides of 1, and axes that are missing in front."""
    missing = len(wanted) - len(shape)
    return missing >= 0 and all(a in (1, b) for a, b in zip((1,) * missing + tuple(shape), wanted, strict=True))


def _spatial(shape):
    """ValueError unless (H, W, C)."""
    if len(shape) != 3:
        raise ValueError(f"takes an (H, W, C) tensor, but its input has shape {shape}")


def _joined(layer, shapes):
    """Shape of a Concat."""
    first, axis = shapes[0], layer.axis
    if not 0 <= axis < len(first):
        raise ValueError(f"joins along axis {axis}, but its first input has shape {first}")
    for shape in shapes:
        if len(shape) != len(first) or any(a != b for i, (a, b) in enumerate(zip(first, shape, strict=True))
                                           if i != axis):
            raise ValueError(f"joins shapes {', '.join(map(str, shapes))} along axis {axis}, which do not fit")
    return *first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1:]


def _sliced(layer, shape):
    """ValueError unless every code that a Slice takes is there."""
    parts = list(zip(layer.begin, layer.sizes, layer.steps, strict=True))
    if len(parts) != len(shape):
        raise ValueError(f"slices {len(parts)} axes, but its input has shape {shape}")
    for (begin, size, step), side in zip(parts, shape, strict=True):
        last = begin + (size - 1) * step
        if size < 1 or step == 0 or not (0 <= begin < side and 0 <= last < side):
            raise ValueError(f"takes {size} codes from {begin} in steps of {step}, but its input has shape {shape}")
