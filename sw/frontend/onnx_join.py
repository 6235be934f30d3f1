"""ONNX operators of several computed tensors, those that take parts of one, and those that repeat its pixels."""

import numpy as np

from lutloom.frontend import onnx_elementwise
from lutloom.frontend.onnx_layout import map_shape, new_index, placed, settled
from lutloom.frontend.onnx_values import Const, Tensor, infer_shape


def joined(op):
    """Add, Sub or Mul of two tensors that broadcast; in a quantised model of a constant that knows its codes, too."""
    given = [op.given(0), op.given(1)]
    if any(not isinstance(part, Tensor) and (part is None or part.codes is None or part.codes.bits != 8
                                             or not op.reader.quantised) for part in given):
        return onnx_elementwise.affine(op)
    return join(op, op.type.removeprefix("QLinear").lower(), *given)


def total(op):
    """Sum of any number of tensors, and Mean, which divides it."""
    if not all(isinstance(part, Tensor) for part in op.inputs):
        raise op.error("takes a constant, which is not supported; use Add")
    tensor, *others = op.inputs
    for number, other in enumerate(others, 1):
        last = number == len(others) and op.type == "Sum"
        tensor = join(op, "add", tensor, other, part="" if last else f"sum{number}")
    if op.type == "Sum":
        return tensor
    return op.reader.emit(op, "affine", tensor, {"scale": np.array(1 / len(op.inputs)), "offset": np.array(0.0)})


def join(op, kind, *given, part=""):
    """Write a join of two tensors that broadcast, either of them a constant of codes."""
    if _alike(op, *given):
        return op.reader.emit(op, kind, given[0], shape=op.reader.shapes[given[0].value], index=given[0].index,
                              others=(given[1].value,), part=part)
    ranks = {len(tensor.shape) for tensor in given if isinstance(tensor, Tensor)}
    if len(ranks) > 1 and op.reader.batch > 1:
        raise op.error(f"joins tensors of {' and '.join(str(rank + 1) for rank in sorted(ranks))} dimensions, which "
                       "is not supported; reshape one to the other's number")
    parts = [settled(op, tensor) if isinstance(tensor, Tensor) else _unbatched(op, tensor, max(ranks))
             for tensor in given]
    shapes = [tensor.shape if isinstance(tensor, Tensor) else tensor.array.shape for tensor in parts]
    try:
        own = np.broadcast_shapes(*shapes)
    except ValueError:
        raise op.error(f"joins tensors of shapes {shapes[0]} and {shapes[1]} without the batch, which do not fit; "
                       "export the model again") from None
    if own not in shapes:
        raise op.error(f"joins tensors of shapes {shapes[0]} and {shapes[1]}, neither of which has the shape of "
                       "the result; this is not supported")
    first, second, order = _beside(op, parts, _merged(op, shapes))
    shape = np.broadcast_shapes(op.reader.shapes[first.value], op.reader.shapes[second.value])
    if order is None:
        index = first.index if first.shape == own else second.index
    else:
        index = new_index(op, shape).transpose(order)
    return op.reader.emit(op, kind, first, shape=shape, index=index.reshape(own), others=(second.value,), part=part)


def _alike(op, first, second):
    """Whether two tensors show values of one shape in the same way."""
    return isinstance(first, Tensor) and isinstance(second, Tensor) and (
        op.reader.shapes[first.value] == op.reader.shapes[second.value] and np.array_equal(first.index, second.index))


def _unbatched(op, const, rank):
    """A constant without the batch's side, where it has one, in front of tensors of at most this many sides."""
    shape = const.array.shape
    if len(shape) <= rank:
        return const
    if len(shape) > rank + 1 or shape[0] != 1:
        raise op.error(f"joins a constant of shape {shape}, whose batch must be 1 and which must have no more "
                       f"dimensions than the other input's {rank + 1}; export the model again")
    return Const(const.array[0], const.origin, const.codes and const.codes.arranged(lambda array: array[0]))


def _merged(op, shapes):
    """Shapes that broadcast, with as many sides each, at most three: neighbours that broadcast alike are one side."""
    rank = max(map(len, shapes))
    shapes = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    while len(shapes[0]) > 3:
        own = np.broadcast_shapes(*shapes)
        place = next((i for i in range(len(own) - 1)
                      if all(shape[i:i + 2] in (own[i:i + 2], (1, 1)) for shape in shapes)), None)
        if place is None:
            raise op.error(f"joins tensors of {rank + 1} dimensions, which is not supported; use vectors or NCHW maps")
        shapes = [(*shape[:place], shape[place] * shape[place + 1], *shape[place + 2:]) for shape in shapes]
    return shapes


def _beside(op, parts, shapes):
    """Two tensors or constants as views of values that broadcast as they do, and how these lie (None: as vectors)."""
    seen = [Tensor(part.value, part.index.reshape(shape), part.integer) if isinstance(part, Tensor) else None
            for part, shape in zip(parts, shapes, strict=True)]
    tensors = [tensor for tensor in seen if tensor]
    if len(shapes[0]) == 1:
        order, tensors = None, [op.reader.flat(tensor) for tensor in tensors]
    else:
        order, tensors = placed(op.reader, tensors) or (None, ())
        if order is None:
            raise op.error(f"joins tensors of shapes {' and '.join(str(tensor.shape) for tensor in seen if tensor)} "
                           "that were reshaped or transposed in different ways, which is not supported; transpose "
                           "neither")
    left = iter(tensors)
    first, second = (_constant(op, part, shape, order) if tensor is None else next(left)
                     for part, tensor, shape in zip(parts, seen, shapes, strict=True))
    if order is None and first.shape == second.shape and (first.index != second.index).any():
        raise op.error("joins two tensors of different layouts, which is not supported; transpose neither")
    return first, second, order


def _constant(op, part, shape, order):
    """A value of a constant's codes, which lies as an order says."""
    if len({*np.ravel(part.codes.scale)}) != 1 or len({*np.ravel(part.codes.zero_point)}) != 1:
        raise op.error("joins a constant quantised by channel, which is not supported; quantise it per tensor")
    codes = part.codes.codes.reshape(shape)
    if order is None:
        return op.reader.constant(op, part, codes, np.arange(codes.size))
    codes = codes.reshape((1,) * (3 - codes.ndim) + codes.shape).transpose(np.argsort(order))
    return op.reader.constant(op, part, codes, np.arange(codes.size).reshape(codes.shape).transpose(order))


def concat(op):
    """Concat of maps along channels, height or width, or of vectors."""
    parts = [part if isinstance(part, Tensor) else None for part in op.inputs]
    if None in parts:
        raise op.error("joins a constant to a computed tensor, which is not supported; leave it out")
    ranks = {len(part.shape) for part in parts}
    rank = len(parts[0].shape)
    axis = op.attribute("axis", 1)
    axis += rank + 1 if axis < 0 else 0
    if len(ranks) != 1 or not 1 <= axis <= rank or rank not in (1, 2, 3):
        raise op.error(f"joins tensors of shapes {', '.join(str(part.shape) for part in parts)} along axis {axis} "
                       "(counted with the batch), which is not supported; join NCHW maps, or vectors")
    shapes = ", ".join(str(part.shape) for part in parts)
    if any(length != part.shape[i] for part in parts for i, length in enumerate(parts[0].shape) if i != axis - 1):
        raise op.error(f"joins tensors of shapes {shapes}, which do not fit; export the model again")
    if len({part.integer for part in parts}) != 1:
        raise op.error("joins codes and real numbers; export the model again")
    if rank == 1:
        place, parts = 0, [op.reader.flat(part) for part in parts]
    else:
        order, parts = placed(op.reader, [settled(op, part) for part in parts]) or (None, ())
        if order is None:
            raise op.error(f"joins tensors of shapes {shapes} that were reshaped or transposed in different ways, "
                           "which is not supported; transpose none of them")
        place = order[axis - 1 - rank]
    shape = list(op.reader.shapes[parts[0].value])
    shape[place] = sum(op.reader.shapes[part.value][place] for part in parts)
    if rank == 1:
        starts = np.cumsum([0, *(len(part.index) for part in parts)])
        index = np.concatenate([part.index + start for part, start in zip(parts, starts, strict=False)])
    else:
        index = new_index(op, shape).transpose(order)
        index = index[0] if rank == 2 else index
    return op.reader.emit(op, "concat", parts[0], {"axis": place}, shape=shape, index=index,
                          others=tuple(part.value for part in parts[1:]))


def slice_(op):
    """Slice by constants, of a map or a vector."""
    tensor = op.computed()
    starts, ends = (op.constant(position, "bounds").array.ravel().tolist() for position in (1, 2))
    rank = len(tensor.shape) + 1
    axes = range(len(starts)) if op.given(3) is None else op.constant(3, "axes").array.ravel().tolist()
    steps = [1] * len(starts) if op.given(4) is None else op.constant(4, "steps").array.ravel().tolist()
    parts = [range(size) for size in tensor.shape]
    if not len(starts) == len(ends) == len(list(axes)) == len(steps) or 0 in steps:
        raise op.error("has bounds, axes and steps that do not fit; export the model again")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis += rank if axis < 0 else 0
        if not 0 <= axis < rank:
            raise op.error(f"slices axis {axis} of {rank} dimensions; export the model again")
        if axis == 0:
            if start or step != 1 or end < op.reader.batch:
                raise op.error("slices the batch, which is not supported; slice only the other dimensions")
            continue
        parts[axis - 1] = range(tensor.shape[axis - 1])[start:end:step]
    return _part(op, tensor, parts)


def split(op):
    """Split into parts of given or equal sizes."""
    tensor = op.computed()
    rank, count = len(tensor.shape) + 1, len(op.node.output)
    axis = op.attribute("axis", 0)
    axis += rank if axis < 0 else 0
    if not 1 <= axis < rank:
        raise op.error(f"splits axis {axis} of {rank} dimensions, which is not supported; split any but the batch")
    side, sizes = tensor.shape[axis - 1], op.attribute("split")
    if op.given(1) is not None:
        sizes = op.constant(1, "sizes").array.ravel().tolist()
    if sizes is None:
        each = -(-side // count)
        sizes = [min(each, side - each * i) for i in range(count)]
    if len(sizes) != count or sum(sizes) != side or min(sizes) < 1:
        raise op.error(f"splits a side of {side} into {sizes}; export the model again")
    results, begin = [], 0
    for index, (name, size) in enumerate(zip(op.node.output, sizes, strict=True)):
        parts = [range(length) for length in tensor.shape]
        parts[axis - 1] = range(begin, begin + size)
        begin += size
        results.append(_part(op, tensor, parts, f"part{index}") if name in op.reader.wanted else None)
    return results


def _part(op, tensor, parts, part=""):
    """The Tensor of one range an axis of the ONNX tensor."""
    if any(len(range_) == 0 for range_ in parts):
        raise op.error("takes nothing of its input; export the model again")
    if all(range_ == range(size) for range_, size in zip(parts, tensor.shape, strict=True)):
        return tensor
    tensor, order = _one(op, tensor, "slices")
    parts = [range(1)] * (len(order) - len(parts)) + parts
    parts = [parts[side] for side in np.argsort(order)]
    size = tuple(len(range_) for range_ in parts)
    params = {"begin": tuple(range_.start for range_ in parts), "sizes": size,
              "steps": tuple(range_.step for range_ in parts)}
    index = new_index(op, size).transpose(order)
    return op.reader.emit(op, "slice", tensor, params, shape=size, part=part,
                          index=index.reshape(index.shape[len(order) - len(tensor.shape):]))


def _one(op, tensor, verb):
    """A tensor as the view of a value that lies as an order of its sides, and this order."""
    if len(tensor.shape) == 1 and tensor.in_order:
        return op.reader.flat(tensor), (0,)
    found = placed(op.reader, [settled(op, tensor)]) if len(tensor.shape) in (2, 3) else None
    if found is None:
        raise op.error(f"{verb} a tensor of shape {tensor.shape} that was reshaped or transposed from a value of shape "
                       f"{op.reader.shapes[tensor.value]} (NHWC), which is not supported; keep maps as they were "
                       "computed")
    order, (tensor,) = found
    return tensor, order


def pad(op):
    """Pad with one constant number."""
    tensor = op.computed()
    if op.attribute("mode", "constant") != "constant":
        raise op.error(f"has mode {op.attribute('mode')!r}, which is not supported; pad with a constant")
    widths = op.attribute("pads") if op.given(1) is None else op.constant(1, "widths").array.ravel().tolist()
    rank = len(tensor.shape) + 1
    number = op.attribute("value", 0.0) if op.given(2) is None else op.constant(2, "value").array.item()
    if op.given(3) is not None or widths is None or len(widths) != 2 * rank or min(widths) < 0 or widths[0] or (
            widths[rank] or max(widths) > 1 << 16):
        raise op.error(f"pads by {widths}, which is not supported; pad any but the batch by small numbers")
    if number and not op.reader.quantised:
        raise op.error(f"pads with {number:g}, but only 0 is supported in a model of real numbers; pad with 0")
    tensor, order = _one(op, tensor, "pads")
    if len(order) != 3:
        raise op.error("pads a vector, which is not supported; pad maps")
    before, after = (tuple(([0] * (4 - rank) + side)[place] for place in np.argsort(order))
                     for side in (widths[1:rank], widths[rank + 1:]))
    shape = op.reader.shapes[tensor.value]
    size = tuple(b + length + a for b, length, a in zip(before, shape, after, strict=True))
    index = new_index(op, size).transpose(order)
    return op.reader.emit(op, "pad", tensor, {"before": before, "after": after, "value": float(number)}, shape=size,
                          index=index[0] if rank == 3 else index)


def resize(op):
    """Resize and Upsample by whole numbers, each pixel the nearest one."""
    tensor = op.computed()
    if op.reader.quantised:
        raise op.error("is supported only in models of real numbers; take a float model")
    if op.attribute("mode", "nearest") != "nearest":
        raise op.error(f"has mode {op.attribute('mode')!r}, which is not supported; use 'nearest'")
    (height, width, channels), order = map_shape(op, tensor)
    made = infer_shape(op, op.reader.batch)
    if made is None or len(made) != 4 or len(tensor.shape) != 3 or made[:2] != (op.reader.batch, channels):
        raise op.error("makes maps of a size that is not known, or of other channels; export the model with a fixed "
                       "input size and constants folded")
    factors = []
    for given, size in ((height, made[2]), (width, made[3])):
        if size % given or not np.array_equal(_nearest(op, given, size), np.arange(size) // (size // given)):
            raise op.error(f"makes {size} pixels of {given} by coordinates that do not repeat each of them as often; "
                           "use whole scales, 'asymmetric' with 'floor' or 'half_pixel'")
        factors.append(size // given)
    shape = (*made[2:], channels)
    if factors == [1, 1]:
        return tensor
    return op.reader.emit(op, "upsample", tensor, {"factor": tuple(factors)}, shape=shape,
                          index=new_index(op, shape).transpose(2, 0, 1)[order])


def _nearest(op, given, size):
    """Which pixel each of a larger row is."""
    place, scale = np.arange(size), size / given
    mode = op.attribute("coordinate_transformation_mode", "half_pixel") if op.type == "Resize" else "asymmetric"
    match mode:
        case "half_pixel" | "half_pixel_symmetric" | "pytorch_half_pixel":
            place = (place + 0.5) / scale - 0.5 if size > 1 else place * 0.0
        case "asymmetric":
            place = place / scale
        case "align_corners":
            place = place * (given - 1) / max(1, size - 1)
        case _:
            raise op.error(f"has coordinate_transformation_mode {mode!r}, which is not supported; use 'asymmetric'")
    how = op.attribute("nearest_mode", "round_prefer_floor") if op.type == "Resize" else "floor"
    rounded = {"round_prefer_floor": lambda x: np.ceil(x - 0.5), "round_prefer_ceil": lambda x: np.floor(x + 0.5),
               "floor": np.floor, "ceil": np.ceil}
    if how not in rounded:
        raise op.error(f"has nearest_mode {how!r}, which is not supported; use 'floor'")
    return np.clip(rounded[how](place), 0, given - 1)


OPERATORS = {
    **dict.fromkeys([("", "Add"), ("", "Sub"), ("", "Mul")], joined),
    **dict.fromkeys([("", "Sum"), ("", "Mean")], total),
    ("", "Concat"): concat, ("", "Slice"): slice_, ("", "Split"): split, ("", "Pad"): pad,
    **dict.fromkeys([("", "Resize"), ("", "Upsample")], resize),
}
