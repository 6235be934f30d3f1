"""Which map a tensor shows: layouts of inputs, orders of channels, constants that meet a tensor element by element."""

import math

import numpy as np

from lutloom.errors import ModelError
from lutloom.frontend.onnx_values import Tensor, map_index
from lutloom.graph import Node

MOST_VALUES = 1 << 24
ORDERS = {2: ((0, 2, 1), (0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)),
          3: ((2, 0, 1), (0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 0, 2), (1, 2, 0))}
"""By a tensor's rank, which side of a value each side can be, channels first and channels last first of all."""


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
    """(H, W, C) of a tensor that an operator reads as an NCHW (or, with H = 1, NCL) map, and its channels' order.

    Channel c of the map is channel ``order[c]`` of the tensor's value.
    """
    if len(tensor.shape) not in (2, 3):
        raise op.error(f"reads a tensor of {len(tensor.shape) + 1} dimensions, but only 1-D and 2-D maps are "
                       "supported; reshape it to NCHW")
    channels, *space = tensor.shape
    shape = (*((1,) * (2 - len(space))), *space, channels)
    plain, order = in_value_order(op.reader, tensor)
    if op.reader.shapes[tensor.value] == shape and (plain.index.ravel() == map_index(shape).ravel()).all():
        return shape, order
    _wish(op.reader, tensor, shape, map_index(shape))
    raise op.error(f"reads a tensor of shape {tensor.shape} that was reshaped or transposed from a value of shape "
                   f"{op.reader.shapes[tensor.value]} (NHWC), which is not supported; keep maps as they were computed")


def in_value_order(reader, tensor):
    """A map as it were with its value's channels in their own order, and which of these each of its channels is.

    What is no map with channels first or last stays as it is.
    """
    shape = reader.shapes[tensor.value]
    channels, places = shape[-1], tensor.index.ravel()
    for wanted in (map_index((1, 1, *shape)[-3:]).ravel(), np.arange(places.size)):
        order = np.empty(channels, np.int64)
        order[wanted % channels] = places % channels
        if (places // channels * channels + order[wanted % channels] == places).all() and (
                places // channels == wanted // channels).all():
            return Tensor(tensor.value, wanted.reshape(tensor.shape), tensor.integer), order
    return tensor, np.arange(channels)


def placed(reader, tensors):
    """How values of three sides lie in tensors of two or three: (order, tensors), the tensors views of such values.

    Side i of a tensor is side ``order[i]`` of its value; one of two sides counts as one of three, the first of them 1.
    A value of other sides is reshaped. None where the tensors have no such order in common.
    """
    wide = [tensor.index.reshape((1,) * (3 - tensor.index.ndim) + tensor.shape) for tensor in tensors]
    found = None
    for order in ORDERS[len(tensors[0].shape)]:
        moved = [index.transpose(np.argsort(order)) for index in wide]
        if any((index.ravel() != np.arange(index.size)).any() for index in moved):
            continue
        shapes = [index.shape for index in moved]
        if all(reader.shapes[tensor.value] == shape for tensor, shape in zip(tensors, shapes, strict=True)):
            return order, tensors
        found = found or (order, shapes)
    if found is None:
        return None
    order, shapes = found
    return order, [tensor if reader.shapes[tensor.value] == shape else
                   Tensor(_moved(reader, tensor.value, "reshape", shape, {}), tensor.index, tensor.integer)
                   for tensor, shape in zip(tensors, shapes, strict=True)]


def settled(op, tensor):
    """A tensor whose map's channels have the order of its value's: where they were shuffled, the shuffle is written."""
    return settle(op.reader, tensor, lambda text: op.error(f"reads {text}"))


def settle(reader, tensor, refused):
    """The same, ``refused`` being what makes the error of a text."""
    plain, order = in_value_order(reader, tensor)
    channels = len(order)
    if (order == np.arange(channels)).all():
        return tensor
    each = max(int(order[1]), 1)
    if channels % each or (order != np.arange(channels).reshape(-1, each).T.ravel()).any():
        raise refused(f"a map whose {channels} channels were put into an order that is no shuffle of equal groups, "
                      "which is supported only in front of dense layers and of convolutions of one group; transpose "
                      "(groups, channels of a group) alone")
    groups, shape = channels // each, reader.shapes[tensor.value]
    sides = math.prod(shape[:-1]), groups, each
    value = tensor.value
    for kind, made, params in (("reshape", sides, {}), ("transpose", (sides[0], each, groups), {"order": (0, 2, 1)}),
                               ("reshape", shape, {})):
        value = _moved(reader, value, kind, made, params)
    return Tensor(value, plain.index, tensor.integer)


def _moved(reader, value, kind, shape, params):
    """The value that a node gives which moves another's numbers; one node serves all that read it so."""
    for node in reader.nodes:
        if (node.op, node.inputs, dict(node.params)) == (kind, (value,), params) and (
                reader.shapes[node.output] == shape):
            return node.output
    output = f"{value}:{'x'.join(map(str, shape))}"
    reader.nodes.append(Node(kind, reader.reserve(f"{kind}_{reader.count(kind)}"), (value,), output, params))
    reader.shapes[output] = shape
    return output


def per_channel(op, tensor, array, what):
    """A constant that meets a tensor element by element, as () or (C,) of its value; gives (tensor, array).

    What differs between the elements of a flattened map makes the tensor a view of a flattened value.
    """
    if array.size == 1:
        return tensor, array.reshape(())
    what = f"an {what}" if what[0] in "aeiou" else f"a {what}"
    try:
        full = np.broadcast_to(array, (1, *tensor.shape))[0]
    except ValueError:
        raise op.error(f"has {what} of shape {array.shape}, which does not fit its input of shape "
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
    raise op.error(f"has {what} that differs within a channel (shape {array.shape}), which is not supported; "
                   "use one number a channel")


def _wish(reader, tensor, shape, index):
    """Start again with another map as input, where the tensor is still the input, only rearranged.

    The tensor shall show a value of this NHWC shape by this index, its channels in any order.
    """
    if tensor.value not in reader.rooted:
        return
    place = np.empty(tensor.index.size, np.int64)
    place[reader.values[reader.input].index.ravel()] = np.arange(tensor.index.size)  # value order -> own order
    own = place[tensor.index.ravel()]
    nhwc = np.empty_like(own)
    nhwc[index.ravel()] = own
    nhwc = nhwc.reshape(-1, shape[-1])
    nhwc = nhwc[:, np.argsort(nhwc[0])].ravel()
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
