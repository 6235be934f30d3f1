"""Keras layers that move numbers: Flatten, Reshape, Permute, padding, cropping, nearest upsampling."""

from math import prod

from lutloom.frontend.keras_op import View
from lutloom.frontend.sides import three_sides

MOST_PADDING = 1024


def flatten(op):
    """Flatten: raster order, which is how values lie."""
    op.check_layout()
    view = op.single()
    return View(view.value, (prod(view.shape),))


def reshape(op):
    """Reshape to any sides, one of which may be -1; what is more than three is for other layers here alone."""
    view, target = op.single(), list(op.config["target_shape"])
    if any(isinstance(size, bool) or not isinstance(size, int) for size in target) or target.count(-1) > 1:
        raise op.error(f"has target_shape {target}, which must be integers with one -1 at most; save the model again")
    if -1 in target:
        rest = -prod(target)
        target[target.index(-1)] = prod(view.shape) // rest if rest > 0 else 0
    if min(target, default=0) < 1 or prod(target) != prod(view.shape):
        raise op.error(f"makes shape {tuple(op.config['target_shape'])} of {view.shape}, which must hold as many "
                       "values; reshape to another shape")
    return View(view.value, tuple(target))


def zero_padding(op):
    """ZeroPadding2D and ZeroPadding1D."""
    op.check_layout()
    view = op.single()
    value, shape = op.map(view)
    sides = _sides(op, "padding")
    before, after = (tuple(int(side[end]) for side in sides) for end in (0, 1))
    made = tuple(b + size + a for b, size, a in zip(before, shape, after, strict=True))
    return View(op.emit("pad", (value,), {"before": before, "after": after}, shape=made),
                made[3 - len(view.shape):])


def cropping(op):
    """Cropping2D and Cropping1D."""
    op.check_layout()
    view = op.single()
    value, shape = op.map(view)
    begin, end = zip(*_sides(op, "cropping"), strict=True)
    made = tuple(size - b - e for size, b, e in zip(shape, begin, end, strict=True))
    if min(made) < 1:
        raise op.error(f"crops a map of shape {view.shape} by {op.config['cropping']}, which leaves nothing; use a "
                       "larger input")
    params = {"begin": begin, "sizes": made, "steps": (1, 1, 1)}
    return View(op.emit("slice", (value,), params, shape=made), made[3 - len(view.shape):])


def _sides(op, key):
    """(before, after) of each side of a map (H, W, C), as a config has them of padding or cropping."""
    given = op.config[key]
    given = [given] * op.rank if isinstance(given, int) else given
    if op.rank == 1:
        given = [given if len(given) == 2 else given * 2]
    sides = [(side, side) if isinstance(side, int) else tuple(side) for side in given]
    numbers = [number for side in sides for number in side]
    whole = all(isinstance(number, int) and 0 <= number <= MOST_PADDING for number in numbers)
    if len(sides) != op.rank or any(len(side) != 2 for side in sides) or not whole:
        raise op.error(f"has {key} {op.config[key]}, which must be integers from 0 to {MOST_PADDING}; save the model "
                       "again")
    return [(0, 0)] * (2 - op.rank) + sides + [(0, 0)]


def upsampling(op):
    """UpSampling2D and UpSampling1D: every pixel again, the nearest one."""
    op.check_layout()
    how = op.config.get("interpolation", "nearest")
    if how != "nearest":
        raise op.error(f"has interpolation {how!r}, which is not supported; use 'nearest'")
    view, factor = op.single(), op.pair("size", None)
    value, (height, width, channels) = op.map(view)
    made = (height * factor[0], width * factor[1], channels)
    if factor == (1, 1):
        return view
    return View(op.emit("upsample", (value,), {"factor": factor}, shape=made), made[3 - len(view.shape):])


def permute(op):
    """Permute: the sides behind the batch in another order."""
    view, dims = op.single(), list(op.config["dims"])
    rank = len(view.shape)
    if sorted(dims) != list(range(1, rank + 1)):
        raise op.error(f"has dims {dims}, which must name each of {rank} sides once; save the model again")
    made = tuple(view.shape[side - 1] for side in dims)
    found = three_sides(view.shape, [side - 1 for side in dims])
    if found is None:
        raise op.error(f"moves more than 3 sides of {view.shape} among each other (dims {dims}), which is not "
                       "supported; permute in two steps")
    sides, order = found
    if order == (0, 1, 2):  # sides of 1 alone change places, and numbers lie as before
        return View(view.value, made)
    value = op.reader.shaped(view.value, sides)
    return View(op.emit("transpose", (value,), {"order": order}, shape=[sides[axis] for axis in order]), made)


LAYERS = {
    "Flatten": flatten, "Reshape": reshape, "Permute": permute,
    **{f"{name}{n}D": layer for n in (1, 2) for name, layer in
       (("ZeroPadding", zero_padding), ("Cropping", cropping), ("UpSampling", upsampling))},
}
