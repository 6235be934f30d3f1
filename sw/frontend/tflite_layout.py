"""TFLite operators that move codes: views, transposes, unions, parts, padding."""

from math import prod

import numpy as np

from lutloom.frontend.sides import three_sides
from lutloom.frontend.tflite_op import placed


def reshape(op):
    """RESHAPE, SQUEEZE and EXPAND_DIMS: the output tensor's shape says it all.

    One of more than four sides stays the value that it is; RESHAPE and TRANSPOSE alone take it.
    """
    op.arity(1, 2)
    given, made = op.info(0), op.out()
    if prod(given.shape) != prod(made.shape):
        raise op.error(f"makes shape {made.shape} of {given.shape}, which has another number of values; the file is "
                       "damaged")
    source, quant = op.reader.value(op, given), op.quant(made)
    same = quant == op.reader.quants[source]
    if same and (_has_many_sides(made) or op.reader.shapes[source] == op.shape(made)):
        op.reader.values[made.index] = source
    else:
        op.emit("reshape", [source], shape=op.shape(made))


def _has_many_sides(info):
    return placed(info.shape) is None and info.shape[0] == 1


def transpose(op):
    """TRANSPOSE; a view where only sides of 1 change places."""
    op.arity(2)
    shape, made = op.info(0).shape, op.out()
    rank = len(shape)
    order = op.constant(1, "an order", rank).tolist()
    if sorted(order) != list(range(rank)):
        raise op.error(f"has order {order}, which does not name each of {rank} axes once; the file is damaged")
    found = three_sides(shape, order)
    if found is None:
        raise op.error(f"moves more than 3 sides of {shape} among each other (order {order}), which is not supported; "
                       "transpose in two steps")
    sides, order = found
    if order == (0, 1, 2):
        reshape(op)
        return
    source = op.reader.view(op, op.reader.value(op, op.info(0)), sides)
    sides = tuple(sides[axis] for axis in order)
    if _has_many_sides(made):
        op.reader.values[made.index] = op.reader.write(op, "transpose", (source,), {"order": order}, sides,
                                                       op.quant(made), made.name)
    else:
        op.emit("transpose", [source], {"order": order}, shape=sides)


def concat(op):
    """CONCATENATION; inputs of another scale than the output's are requantised."""
    op.arity(1, 1 << 16)
    if op.option(1, "<b"):
        raise op.error("has a fused activation, which is not supported; convert the model again")
    rank, axis = len(op.out().shape), op.option(0)
    if not -rank <= axis < rank or any(len(info.shape) != rank for info in op.inputs if info is not None):
        raise op.error(f"joins along axis {axis} of {rank}; the file is damaged")
    sides, made = len(op.shape(op.out())), op.quant(op.out())
    axis = axis % rank - rank + sides
    if axis < 0:
        raise op.error("joins along the batch, which is not supported; convert the model with a batch of 1")
    sources = []
    for position in range(len(op.inputs)):
        source = op.value(position, sides)
        if op.reader.quants[source] != made:
            source = op.emit("requantize", [source], shape=op.reader.shapes[source], part=f"input {position}")
        sources.append(source)
    shapes = [op.reader.shapes[source] for source in sources]
    if any(a != b for shape in shapes for i, (a, b) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis):
        raise op.error(f"joins shapes {', '.join(map(str, shapes))}, which do not fit; the file is damaged")
    shape = list(shapes[0])
    shape[axis] = sum(shape[axis] for shape in shapes)
    op.emit("concat", sources, {"axis": axis}, shape=shape)


def strided_slice(op):
    """STRIDED_SLICE with constant begin, end and strides."""
    op.arity(4)
    if op.option(2) or op.option(3):
        raise op.error("has an ellipsis or new-axis mask, which is not supported; slice every axis by numbers")
    shape = op.info(0).shape
    begin, end, step = (op.constant(position, "bounds", len(shape)).tolist() for position in (1, 2, 3))
    if 0 in step:
        raise op.error("has a stride of 0; the file is damaged")
    if op.option(5, "<?", False):
        end = [a + b for a, b in zip(begin, end, strict=True)]
    masks = op.option(0), op.option(1), op.option(4)
    parts = []
    for axis, side in enumerate(shape):
        first, last, shrinks = (bool(mask >> axis & 1) for mask in masks)
        start, stop = None if first else begin[axis], None if last else end[axis]
        if shrinks:
            start = (begin[axis] + side if begin[axis] < 0 else begin[axis]) if not first else 0
            if not 0 <= start < side:
                raise op.error(f"takes {begin[axis]} of a side of {side}; the file is damaged")
            parts.append(range(start, start + 1))
        else:
            parts.append(range(side)[slice(start, stop, step[axis])])
    _slice(op, parts, 0)


def slice_(op):
    """SLICE with constant begin and size; -1 takes all the rest."""
    op.arity(3)
    shape = op.info(0).shape
    begin, size = (op.constant(position, "bounds", len(shape)).tolist() for position in (1, 2))
    parts = []
    for start, count, side in zip(begin, size, shape, strict=True):
        count = side - start if count == -1 else count
        if start < 0 or count < 0 or start + count > side:
            raise op.error(f"takes {count} from {start} of a side of {side}; the file is damaged")
        parts.append(range(start, start + count))
    _slice(op, parts, 0)


def split(op):
    """SPLIT into equal parts."""
    op.arity(2, outputs=None)
    shape, count = op.info(1).shape, len(op.outputs)
    axis = _axis(op, 0, len(shape))
    if not count or shape[axis] % count:
        raise op.error(f"splits a side of {shape[axis]} into {count}; the file is damaged")
    _split(op, 1, axis, [shape[axis] // count] * count)


def split_v(op):
    """SPLIT_V into parts of given sizes; -1 takes all the rest."""
    op.arity(3, outputs=None)
    shape = op.info(0).shape
    axis, sizes = _axis(op, 2, len(shape)), op.constant(1, "sizes", len(op.outputs)).tolist()
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    if any(size < 0 for size in sizes) or sum(sizes) != shape[axis]:
        raise op.error(f"splits a side of {shape[axis]} into {sizes}; the file is damaged")
    _split(op, 0, axis, sizes)


def _axis(op, position, rank):
    """A constant axis, counted from the front."""
    axis = int(op.constant(position, "an axis", 1)[0])
    if not -rank <= axis < rank:
        raise op.error(f"has axis {axis} of {rank}; the file is damaged")
    return axis % rank


def _split(op, source, axis, sizes):
    begin, shape = 0, op.info(source).shape
    for position, size in enumerate(sizes):
        parts = [range(side) for side in shape]
        parts[axis] = range(begin, begin + size)
        begin += size
        if op.outputs[position] is not None and op.reader.is_read(op.outputs[position].index):
            _slice(op, parts, source, position)


def _slice(op, parts, source, position=0):
    """Write the slice of a range an axis of the file's tensor."""
    if any(len(part) == 0 for part in parts):
        raise op.error("takes nothing of its input; the file is damaged")
    name = op.value(source)
    if op.quant(op.out(position)) != op.reader.quants[name]:
        raise op.error("has an output of another scale or zero point than its input, which is not supported")
    sides = len(op.reader.shapes[name])
    parts = [range(1)] * (sides - len(parts)) + parts[-sides:]
    params = {"begin": tuple(part.start for part in parts), "sizes": tuple(len(part) for part in parts),
              "steps": tuple(part.step for part in parts)}
    if params["sizes"] == op.reader.shapes[name] and all(step == 1 for step in params["steps"]):
        op.reader.values[op.out(position).index] = op.reader.view(op, name, op.shape(op.out(position)))
    else:
        op.emit("slice", [name], params, position=position, shape=params["sizes"])


def pad(op):
    """PAD and PADV2, of any axis but the batch."""
    op.arity(2, 3)
    rank = len(op.info(0).shape)
    widths = op.constant(1, "widths", 2 * rank).reshape(rank, 2)
    made = op.quant(op.out())
    if made != op.quant(op.info(0)):
        raise op.error("has an output of another scale or zero point than its input, which is not supported")
    code = made.zero_point
    if len(op.inputs) == 3 and op.inputs[2] is not None:
        code = int(op.constant(2, "a value", 1)[0])
        if not made.format.code_low <= code <= made.format.code_high:
            raise op.error(f"pads with {code}, which is no code of {made.format}; the file is damaged")
    sides = max(len(op.shape(op.info(0))), len(op.shape(op.out())))
    if (widths < 0).any() or (widths > 1 << 16).any() or widths[:-sides].any():
        raise op.error(f"pads by {widths.tolist()}; only height, width and channels by small numbers are supported")
    source = op.value(0, sides)
    widths = np.concatenate([np.zeros((max(sides - rank, 0), 2), np.int64), widths])[-sides:]
    before, after = (tuple(int(number) for number in widths[:, side]) for side in (0, 1))
    shape = [b + size + a for b, size, a in zip(before, op.reader.shapes[source], after, strict=True)]
    op.emit("pad", [source], {"before": before, "after": after, "code": code}, shape=shape)


OPERATORS = {
    "RESHAPE": reshape, "SQUEEZE": reshape, "EXPAND_DIMS": reshape, "TRANSPOSE": transpose, "CONCATENATION": concat,
    "STRIDED_SLICE": strided_slice, "SLICE": slice_, "SPLIT": split, "SPLIT_V": split_v, "PAD": pad, "PADV2": pad,
}
