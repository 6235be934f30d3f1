"""Which map a tensor shows: layouts of inputs, of maps, and of constants that meet a tensor element by element."""

import math

import numpy as np

from lutloom.errors import ModelError
from lutloom.frontend.onnx_values import map_index

MOST_VALUES = 1 << 24


class Relayout(Exception):
    """The input should be another map: ``layout`` is (name of the layout, shape in NHWC)."""

    def __init__(self, layout):
        super().__init__(layout)
        self.layout = layout


def too_large(shape):
    """Whether a tensor of this shape has more values than the front end takes."""
    return math.prod(int(size) for size in shape) > MOST_VALUES


def new_index(op, shape):
    """Places of a new value in their order, in its shape; ModelError where they are too many to hold."""
    if too_large(shape):
        raise op.error(f"makes a tensor of shape {tuple(shape)}, of more than {MOST_VALUES} values; use a smaller "
                       "model")
    return np.arange(math.prod(shape)).reshape(shape)


def map_shape(op, tensor):
    """(H, W, C) of a tensor that an operator reads as an NCHW (or, with H = 1, NCL) map."""
    if len(tensor.shape) not in (2, 3):
        raise op.error(f"reads a tensor of {len(tensor.shape) + 1} dimensions, but only 1-D and 2-D maps are "
                       "supported; reshape it to NCHW")
    channels, *space = tensor.shape
    shape = (*((1,) * (2 - len(space))), *space, channels)
    if op.reader.shapes[tensor.value] == shape and (tensor.index.ravel() == map_index(shape).ravel()).all():
        return shape
    _wish(op.reader, tensor, shape, map_index(shape))
    raise op.error(f"reads a tensor of shape {tensor.shape} that was reshaped or transposed from a value of shape "
                   f"{op.reader.shapes[tensor.value]} (NHWC), which is not supported; keep maps as they were computed")


def per_channel(op, tensor, array, what):
    """A constant that meets a tensor element by element, as () or (C,) of its value; gives (tensor, array).

    What differs between the elements of a flattened map makes the tensor a view of a flattened value.
    """
    if array.size == 1:
        return tensor, array.reshape(())
    try:
        full = np.broadcast_to(array, (1, *tensor.shape))[0]
    except ValueError:
        raise op.error(f"has a {what} of shape {array.shape}, which does not fit its input of shape "
                       f"{tensor.shape} without the batch; export the model again") from None
    ordered = np.empty(tensor.index.size)
    ordered[tensor.index.ravel()] = full.ravel()
    rows = ordered.reshape(-1, op.reader.shapes[tensor.value][-1])
    if (rows == rows[0]).all():
        return tensor, rows[0].copy()
    if len(tensor.shape) == 1:
        return op.reader.flat(tensor), ordered
    size = tensor.shape if len(tensor.shape) == 3 else (1, *tensor.shape)
    if (full.reshape(full.shape[0], -1) == full.reshape(full.shape[0], -1)[:, :1]).all():
        shape = (*((1,) * (3 - len(tensor.shape))), *tensor.shape[1:], tensor.shape[0])
        _wish(op.reader, tensor, shape, map_index(shape))
    elif (full == full.reshape(-1, full.shape[-1])[0]).all():
        _wish(op.reader, tensor, size, np.arange(tensor.index.size))
    raise op.error(f"has a {what} that differs within a channel (shape {array.shape}), which is not supported; "
                   "use one number a channel")


def _wish(reader, tensor, shape, index):
    """Start again with another map as input, where the tensor is still the input, only rearranged.

    The tensor shall show a value of this NHWC shape by this index.
    """
    if tensor.value not in reader.rooted:
        return
    place = np.empty(tensor.index.size, np.int64)
    place[reader.values[reader.input].index.ravel()] = np.arange(tensor.index.size)  # value order -> own order
    own = place[tensor.index.ravel()]
    nhwc = np.empty_like(own)
    nhwc[index.ravel()] = own
    for layout, order in (("NHWC", np.arange(own.size)), ("NCHW", _nchw_order(shape))):
        if (nhwc == order).all():
            raise Relayout((layout, shape))


def guess_layout(name, own):
    """Layout and NHWC shape of an input of this shape, before any layer has said how it reads it."""
    if len(own) == 1:
        return "NC", own
    if len(own) == 2:
        return "NHWC", (*own, 1)
    if len(own) != 3:
        raise ModelError(f"input {name!r} must have 2 to 4 dimensions with the batch, not {len(own) + 1}; reshape it")
    if own[2] in (1, 3, 4) and own[0] not in (1, 3, 4):
        return "NHWC", own
    return "NCHW", (own[1], own[2], own[0])


def _nchw_order(shape):
    order = np.empty(int(np.prod(shape)), np.int64)
    order[map_index(shape).ravel()] = np.arange(order.size)
    return order
