"""ONNX operators of several computed tensors, those that take parts of one, and those that repeat its pixels."""

import numpy as np

from lutloom.frontend import onnx_elementwise
from lutloom.frontend.onnx_layout import map_shape, new_index, settled
from lutloom.frontend.onnx_values import Const, Tensor, infer_shape, map_index


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
    """Write a join of two tensors, either of them a constant of codes."""
    rank = max(len(part.shape if isinstance(part, Tensor) else _unbatched(op, part.array.shape)) for part in given)
    if _alike(op, *given):
        return op.reader.emit(op, kind, given[0], shape=op.reader.shapes[given[0].value], index=given[0].index,
                              others=(given[1].value,), part=part)
    first, second = (_aligned(op, settled(op, part) if isinstance(part, Tensor) else part, rank) for part in given)
    try:
        own = np.broadcast_shapes(first.shape, second.shape)
        shape = np.broadcast_shapes(op.reader.shapes[first.value], op.reader.shapes[second.value])
    except ValueError:
        raise op.error(f"joins tensors of shapes {first.shape} and {second.shape} without the batch, which do not fit; "
                       "export the model again") from None
    whole = next((part for part in (first, second) if part.shape == own and op.reader.shapes[part.value] == shape),
                 None)
    if whole is None:
        raise op.error(f"joins tensors of shapes {first.shape} and {second.shape}, neither of which has the shape of "
                       "the result; this is not supported")
    other = second if whole is first else first
    if other.shape == own and (other.index.ravel() != whole.index.ravel()).any():
        raise op.error("joins two tensors of different layouts, which is not supported; transpose neither")
    return op.reader.emit(op, kind, first, shape=shape, index=whole.index, others=(second.value,), part=part)


def _alike(op, first, second):
    """Whether two tensors show values of one shape in the same way."""
    return isinstance(first, Tensor) and isinstance(second, Tensor) and first.shape == second.shape and (
        op.reader.shapes[first.value] == op.reader.shapes[second.value]) and bool((first.index == second.index).all())


def _unbatched(op, shape):
    """A constant's shape without the batch's side of 1."""
    if len(shape) > 1 and shape[0] != 1 and len(shape) == 4:
        raise op.error(f"joins a constant of shape {shape}, whose batch must be 1; export the model again")
    return shape[1:] if len(shape) in (2, 4) and shape[0] == 1 else shape


def _aligned(op, part, rank):
    """A Tensor whose value has one side, or three; a constant becomes a value."""
    if isinstance(part, Const):
        return _constant(op, part, rank)
    shape = op.reader.shapes[part.value]
    if rank == 3 and len(shape) == 1 and part.shape == (shape[0], 1, 1):
        return op.reader.emit(op, "reshape", part, shape=(1, 1, shape[0]), index=part.index,
                              part=f"map{op.reader.count('map')}")
    if rank == 3 and len(shape) == 3 and (part.index.ravel() != map_index(shape).ravel()).any():
        raise op.error(f"joins a tensor of shape {part.shape} that was reshaped or transposed, which is not supported; "
                       "keep maps as they were computed")
    return part


def _constant(op, part, rank):
    """A value of a constant's codes."""
    shape = _unbatched(op, part.array.shape)
    shape = (1,) * (rank - len(shape)) + tuple(shape)
    if len({*np.ravel(part.codes.scale)}) != 1 or len({*np.ravel(part.codes.zero_point)}) != 1:
        raise op.error("joins a constant quantised by channel, which is not supported; quantise it per tensor")
    codes = part.codes.codes.reshape(shape)
    if rank == 3:
        codes = codes.transpose(1, 2, 0)
    if rank not in (1, 3):
        raise op.error(f"joins tensors of {rank + 1} dimensions, which is not supported; use vectors or NCHW maps")
    index = map_index(codes.shape) if rank == 3 else np.arange(codes.size)
    return op.reader.constant(op, part, codes, index)


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
    parts = [settled(op, part) for part in parts] if rank > 1 else parts
    order = _order(op, parts)
    if order is None:
        parts = [_aligned(op, part, rank) if rank == 3 else op.reader.flat(part) for part in parts]
    shapes = [op.reader.shapes[part.value] for part in parts]
    place = 0 if rank == 1 else (order or (2, 0, 1))[axis - 1]
    if any(a != b for shape in shapes for i, (a, b) in enumerate(zip(shape, shapes[0], strict=True)) if i != place):
        raise op.error(f"joins tensors of shapes {', '.join(str(part.shape) for part in parts)}, which do not fit; "
                       "export the model again")
    shape = list(shapes[0])
    shape[place] = sum(shape[place] for shape in shapes)
    if rank == 1:
        starts = np.cumsum([0, *(len(part.index) for part in parts)])
        index = np.concatenate([part.index + start for part, start in zip(parts, starts, strict=False)])
    elif order:
        index = new_index(op, shape)
        index = index.transpose(order) if rank == 3 else index[0].transpose([side - 1 for side in order])
    else:
        index = new_index(op, shape).transpose(2, 0, 1)
    integer = {part.integer for part in parts}
    if len(integer) != 1:
        raise op.error("joins codes and real numbers; export the model again")
    return op.reader.emit(op, "concat", parts[0], {"axis": place}, shape=shape, index=index,
                          others=tuple(part.value for part in parts[1:]))


def _order(op, parts):
    """Which side of their values each side of tensors is, where these are rows, or maps with channels last; or None."""
    shapes = [op.reader.shapes[part.value] for part in parts]
    if any(len(shape) != 3 for shape in shapes):
        return None
    if all(part.shape == shape and part.in_order for part, shape in zip(parts, shapes, strict=True)):
        return (0, 1, 2)
    rows = all(len(part.shape) == 2 and shape[0] == 1 for part, shape in zip(parts, shapes, strict=True))
    for order in ((2, 1), (1, 2)) if rows else ():
        if all((np.arange(part.index.size).reshape(shape)[0].transpose([side - 1 for side in order]).shape == part.shape
                and (np.arange(part.index.size).reshape(shape)[0].transpose([side - 1 for side in order])
                     == part.index).all()) for part, shape in zip(parts, shapes, strict=True)):
            return order
    return None


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
    tensor = settled(op, tensor)
    shape, rank = op.reader.shapes[tensor.value], len(parts)
    if rank == 3 and len(shape) == 3 and (tensor.index.ravel() == map_index(shape).ravel()).all():
        parts = [parts[1], parts[2], parts[0]]
    elif len(shape) != rank or not tensor.in_order:
        raise op.error(f"slices a tensor of shape {tensor.shape} that was reshaped or transposed from a value of shape "
                       f"{shape} (NHWC), which is not supported; keep maps as they were computed")
    size = tuple(len(range_) for range_ in parts)
    params = {"begin": tuple(range_.start for range_ in parts), "sizes": size,
              "steps": tuple(range_.step for range_ in parts)}
    index = new_index(op, size)
    moved = rank == 3 and not tensor.in_order
    return op.reader.emit(op, "slice", tensor, params, shape=size, part=part,
                          index=index.transpose(2, 0, 1) if moved or tensor.shape != shape else index)


def pad(op):
    """Pad with one constant number."""
    tensor = settled(op, op.computed())
    if op.attribute("mode", "constant") != "constant":
        raise op.error(f"has mode {op.attribute('mode')!r}, which is not supported; pad with a constant")
    widths = op.attribute("pads") if op.given(1) is None else op.constant(1, "widths").array.ravel().tolist()
    rank, shape = len(tensor.shape) + 1, op.reader.shapes[tensor.value]
    number = op.attribute("value", 0.0) if op.given(2) is None else op.constant(2, "value").array.item()
    if op.given(3) is not None or widths is None or len(widths) != 2 * rank or min(widths) < 0 or widths[0] or (
            widths[rank] or max(widths) > 1 << 16):
        raise op.error(f"pads by {widths}, which is not supported; pad any but the batch by small numbers")
    if rank != 4 or len(shape) != 3 or (tensor.index.ravel() != map_index(shape).ravel()).any():
        raise op.error(f"pads a tensor of shape {tensor.shape} that is no NCHW map as it was computed, which is not "
                       "supported")
    if number and not op.reader.quantised:
        raise op.error(f"pads with {number:g}, but only 0 is supported in a model of real numbers; pad with 0")
    before, after = ((side[1], side[2], side[0]) for side in (widths[1:rank], widths[rank + 1:]))
    size = tuple(b + length + a for b, length, a in zip(before, shape, after, strict=True))
    params = {"before": tuple(before), "after": tuple(after), "value": float(number)}
    return op.reader.emit(op, "pad", tensor, params, shape=size, index=new_index(op, size).transpose(2, 0, 1))


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
