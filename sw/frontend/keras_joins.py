"""Keras layers of several inputs: sums, differences, products, the greatest and the least, concatenation."""

import numpy as np

from lutloom.frontend.keras_op import View


def _parts(op):
    """(values, shapes) of inputs that broadcast, and the View's shape of the result."""
    if len(op.inputs) < 2:
        raise op.error("takes one input, but must take two or more; save the model again")
    shapes = [view.shape for view in op.inputs]
    if len({len(shape) for shape in shapes}) != 1:
        raise op.error(f"joins tensors of shapes {', '.join(map(str, shapes))}, which must have as many dimensions "
                       "each; reshape one of them")
    return [op.plain(view) for view in op.inputs], shapes


def _joined(op, kind):
    """Write a join of two inputs, or a chain of them; gives the View of what it makes."""
    parts, shapes = _parts(op)
    (value, shape), *others = parts
    for number, (other, side) in enumerate(others, 1):
        try:
            shape = tuple(int(n) for n in np.broadcast_shapes(shape, side))
        except ValueError:
            raise op.error(f"joins tensors of shapes {', '.join(map(str, shapes))}, which do not fit; save the model "
                           "again") from None
        value = op.emit(kind, (value, other), shape=shape, part="" if number == len(others) else str(number))
    return View(value, shape[len(shape) - len(shapes[0]):])


def add(op):
    """Add."""
    return _joined(op, "add")


def multiply(op):
    """Multiply."""
    return _joined(op, "mul")


def subtract(op):
    """Subtract."""
    if len(op.inputs) != 2:
        raise op.error(f"takes {len(op.inputs)} inputs, but must take two; save the model again")
    return _joined(op, "sub")


def average(op):
    """Average: a sum, divided."""
    count = len(op.inputs)
    view = _joined(op, "add")
    return op.elementwise(view, "affine", {"scale": np.array(1 / count), "offset": np.array(0.0)}, part="average")


def extreme(op):
    """Maximum and Minimum: max(a, b) = a + relu(b - a), and min(a, b) = a - relu(a - b)."""
    is_max, parts = op.type == "Maximum", _parts(op)[0]
    if len({shape for _, shape in parts}) != 1:
        raise op.error(f"compares tensors of shapes {', '.join(str(shape) for _, shape in parts)}, which must be the "
                       "same; make them so")
    (value, shape), *others = parts
    for number, (other, _) in enumerate(others, 1):
        pair = (other, value) if is_max else (value, other)
        more = op.emit("sub", pair, shape=shape, part=f"difference{number}")
        more = op.emit("relu", (more,), shape=shape, part=f"relu{number}")
        value = op.emit("add" if is_max else "sub", (value, more), shape=shape,
                        part="" if number == len(others) else f"part{number}")
    return View(value, op.inputs[0].shape)


def concatenate(op):
    """Concatenate along channels, rows or columns."""
    parts, shapes = _parts(op)
    rank = len(shapes[0])
    axis = op.config["axis"]
    if isinstance(axis, bool) or not isinstance(axis, int) or axis == 0 or not -rank <= axis <= rank:
        raise op.error(f"joins along axis {axis!r}, which must be one behind the batch; save the model again")
    axis = axis - 1 if axis > 0 else axis + rank
    if any(a != b for shape in shapes for i, (a, b) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis):
        raise op.error(f"joins tensors of shapes {', '.join(map(str, shapes))}, which do not fit; save the model again")
    own = tuple(sum(shape[axis] for shape in shapes) if i == axis else size for i, size in enumerate(shapes[0]))
    missing = len(parts[0][1]) - rank
    shape = (1,) * missing + own
    return View(op.emit("concat", tuple(value for value, _ in parts), {"axis": axis + missing}, shape=shape), own)


LAYERS = {"Add": add, "Multiply": multiply, "Subtract": subtract, "Average": average, "Concatenate": concatenate,
          "Maximum": extreme, "Minimum": extreme}
