"""ONNX operators that reduce: averages over the whole map, and what stands at the end of a classifier."""

import numpy as np

from lutloom.frontend.onnx_layout import settled
from lutloom.frontend.onnx_values import Tensor


def global_average_pool(op):
    """GlobalAveragePool: the mean over every dimension behind the channels."""
    tensor = op.computed()
    return _mean(op, tensor, tuple(range(1, len(tensor.shape))), True)


def reduce_mean(op):
    """ReduceMean over exactly the height and width of a map."""
    tensor = op.computed()
    axes = op.attribute("axes")
    if axes is None and op.given(1) is not None:
        axes = op.constant(1, "axes").array.ravel().tolist()
    if not axes:
        if op.attribute("noop_with_empty_axes", 0):
            return tensor
        raise op.error("averages over every dimension, the batch too, which is not supported; name the axes of height "
                       "and width")
    rank = len(tensor.shape) + 1
    axes = tuple(sorted(axis % rank for axis in axes))
    if 0 in axes or any(not -rank <= axis < rank for axis in axes):
        raise op.error(f"averages over axes {list(axes)} of {rank} dimensions, which must not hold the batch; name the "
                       "axes of height and width")
    return _mean(op, tensor, tuple(axis - 1 for axis in axes), bool(op.attribute("keepdims", 1)))


def _mean(op, tensor, axes, keep):
    kept = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    size = tuple(tensor.shape[axis] for axis in kept)
    final = tuple(1 if axis in axes else length for axis, length in enumerate(tensor.shape)) if keep else size
    index = tensor.index.transpose([*axes, *kept]).reshape(-1, int(np.prod(size)))
    if len(index) == 1:
        return Tensor(tensor.value, index.reshape(final))
    shape = op.reader.shapes[tensor.value]
    channel = index % shape[-1]
    if len(shape) != 3 or len(index) != shape[0] * shape[1] or (channel != channel[0]).any():
        raise op.error(f"averages a tensor of shape {tensor.shape} over something other than a map's whole height and "
                       "width, which is not supported; average over these two")
    return op.reader.emit(op, "globalpool", tensor, shape=shape[2:], index=channel[0].reshape(final))


def softmax(op):
    """Softmax over the channels of a vector."""
    tensor = _vector(op, op.attribute("axis", -1 if op.opset >= 13 else 1), flattens=op.opset < 13)
    return op.reader.emit(op, "softmax", op.reader.flat(tensor))


def argmax(op):
    """ArgMax over the channels of a vector; the first of equals."""
    if op.attribute("select_last_index", 0):
        raise op.error("selects the last of equals, which is not supported; set select_last_index to 0")
    axis = op.attribute("axis", 0)
    tensor = _ordered(op, _vector(op, axis))
    return op.reader.emit(op, "argmax", op.reader.flat(tensor), shape=(1,), integer=True,
                          index=np.zeros(_ended(tensor.shape, axis, 1 if op.attribute("keepdims", 1) else 0), np.int64))


def topk(op):
    """TopK of a vector, of which only the indices are used."""
    values, indices = (*op.node.output, "")[:2]
    if values in op.reader.wanted or indices not in op.reader.wanted:
        raise op.error("has its values used, which is not supported; use only its indices")
    if not op.attribute("largest", 1) or not op.attribute("sorted", 1):
        raise op.error("is not of the largest in sorted order, which is not supported; set largest and sorted to 1")
    counts = op.attribute("k") if op.given(1) is None else op.constant(1, "k").array.ravel().tolist()
    count = counts[0] if isinstance(counts, list) else counts
    axis = op.attribute("axis", -1)
    tensor = _ordered(op, _vector(op, axis))
    if not isinstance(count, int) or not 1 <= count <= tensor.index.size:
        raise op.error(f"takes the best {count} of {tensor.index.size}; k must be 1 to that")
    result = op.reader.emit(op, "topk", op.reader.flat(tensor), {"k": count}, shape=(count,), integer=True,
                            index=np.arange(count).reshape(_ended(tensor.shape, axis, count)))
    return [None, result]


def _vector(op, axis, flattens=False):
    """The input, whose elements must all lie along one axis (counted with the batch)."""
    tensor = op.computed()
    rank = len(tensor.shape) + 1
    position = axis % rank
    if not -rank <= axis < rank or not position or not (
            tensor.index.size == tensor.shape[position - 1] or (flattens and position == 1)):
        raise op.error(f"works along axis {axis} of a tensor of shape {tensor.shape} without the batch, which is "
                       "supported only for vectors; pool or flatten it first")
    return settled(op, tensor)


def _ordered(op, tensor):
    if not tensor.in_order:
        raise op.error("numbers the elements of a flattened map, which is not supported; use it behind a dense layer "
                       "or a global pool")
    return tensor


def _ended(shape, axis, length):
    """Shape behind a reduction of a vector along an axis; length 0 drops that axis."""
    shape = list(shape)
    position = axis % (len(shape) + 1) - 1
    if length:
        shape[position] = length
    else:
        del shape[position]
    return tuple(shape)


OPERATORS = {
    ("", "GlobalAveragePool"): global_average_pool, ("", "ReduceMean"): reduce_mean, ("", "Softmax"): softmax,
    ("", "ArgMax"): argmax, ("", "TopK"): topk,
}
