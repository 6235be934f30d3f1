"""Keras activations: layers of their own, and those fused into other layers."""

import numpy as np

from lutloom.frontend.keras_calls import foreign
from lutloom.frontend.keras_op import Op, View

LINEAR = ("linear", None)
TABLES = {"sigmoid": "logistic", "tanh": "tanh", "elu": "elu", "leaky_relu": "leaky_relu", "softplus": "softplus",
          "hard_sigmoid": "hard_sigmoid", "hard_silu": "hard_swish", "hard_swish": "hard_swish", "silu": "silu",
          "swish": "silu", "gelu": "gelu", "selu": "selu"}
"""Functions of one number, which become tables of codes, by Keras's names."""

KNOWN = ("linear", "relu", "relu6", "softmax", *TABLES)


def activation(op):
    """Activation."""
    return _apply(op, op.single(), op.config["activation"], "")


def activate(op, view):
    """The fused activation of a layer behind what it computes."""
    return _apply(op, view, op.config.get("activation"), "activation")


def _apply(op, view, given, part):
    """A View behind an activation as a config names it: a name, a function, or a layer."""
    if isinstance(given, dict):
        kind = given.get("class_name")
        if kind == "function" and not foreign({**given, "registered_name": None}):
            given = given.get("config")  # Keras's own functions are known by name; others fail below
        elif foreign(given) or kind not in LAYERS:
            name = given.get("registered_name") or kind
            raise op.error(f"has the custom activation {name!r}, whose code is not run; use one of {', '.join(KNOWN)}")
        else:
            inner = Op(op.reader, op.call, [view])
            inner.type, inner.config = kind, given["config"]
            return LAYERS[kind](inner, view, part)
    if given in LINEAR:
        return view
    if given == "relu":
        return op.elementwise(view, "relu", part=part)
    if given == "relu6":
        return op.elementwise(view, "clip", {"low": 0.0, "high": 6.0}, part=part)
    if given == "softmax":
        return _softmax(op, view, part)
    if given not in TABLES:
        raise op.error(f"has activation {given!r}, which is not supported; use one of {', '.join(KNOWN)}")
    return table(op, view, TABLES[given], part)


def table(op, view, function, part="", **params):
    """Write a function of one number."""
    if function == "leaky_relu":
        params.setdefault("alpha", 0.2)
    if function == "elu":
        params.setdefault("alpha", 1.0)
    if function == "hard_sigmoid":
        params.update({"alpha": 0.2 if op.reader.is_keras_2 else 1 / 6, "beta": 0.5})
    return op.elementwise(view, "table", {"function": function, **params}, part=part)


def relu(op, view=None, part=""):
    """ReLU, with a slope below zero and a bound above."""
    view = op.single() if view is None else view
    threshold, slope = op.number("threshold", 0.0), op.number("negative_slope", 0.0)
    most = op.number("max_value")
    if threshold:
        raise op.error(f"has threshold {threshold:g}, which is not supported; use 0")
    if most is not None and most < 0:
        raise op.error(f"has max_value {most:g}, which must not be negative; save the model again")
    if slope:
        view = table(op, view, "leaky_relu", part, alpha=slope)
        if most is None:
            return view
        return op.elementwise(view, "clip", {"low": float("-inf"), "high": most}, part="bound")
    if most is None:
        return op.elementwise(view, "relu", part=part)
    return op.elementwise(view, "clip", {"low": 0.0, "high": most}, part=part)


def leaky_relu(op, view=None, part=""):
    """LeakyReLU; Keras 2 calls the slope alpha."""
    view = op.single() if view is None else view
    key = "alpha" if "alpha" in op.config else "negative_slope"
    return table(op, view, "leaky_relu", part, alpha=op.number(key, 0.3))


def elu(op, view=None, part=""):
    """ELU."""
    return table(op, op.single() if view is None else view, "elu", part, alpha=op.number("alpha", 1.0))


def prelu(op):
    """PReLU: a function of one slope, or of a slope a channel relu(x) - slope · relu(-x)."""
    view = op.single()
    shared, shape = op.config.get("shared_axes") or [], list(view.shape)
    for axis in shared:
        if type(axis) is not int or not -len(shape) < axis <= len(shape):
            raise op.error(f"has shared_axes {shared}, which must be integers from 1 to {len(shape)}; share those axes "
                           "alone")
        shape[axis - 1] = 1  # as Keras does it: the axes before the first one count from the last one backwards
    slopes = op.weights(alpha=tuple(shape))["alpha"]
    if (slopes == slopes.flat[0]).all():
        return table(op, view, "leaky_relu", alpha=float(slopes.flat[0]))
    rows = slopes.reshape(-1, shape[-1])
    if (rows != rows[0]).any():
        raise op.error(f"has {slopes.size} slopes, but one for all or one a channel is supported; share the other axes")
    zero = np.array(0.0)
    above = op.elementwise(view, "relu", part="above")
    below = op.elementwise(view, "affine", {"scale": np.array(-1.0), "offset": zero}, part="negated")
    below = op.elementwise(below, "relu", part="below")
    slopes = -np.asarray(rows[0], np.float64)
    below = op.elementwise(below, "affine", {"scale": slopes if slopes.size > 1 else slopes[0], "offset": zero},
                           part="slopes")
    (one, side), (other, _) = op.plain(above), op.plain(below)
    return View(op.emit("add", (one, other), shape=side), view.shape)


def softmax(op, view=None, part=""):
    """Softmax over the last axis."""
    view = op.single() if view is None else view
    axis = op.config["axis"]
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(view.shape)):
        raise op.error(f"is over axis {axis}, but only the last one is supported; leave axis out")
    return _softmax(op, view, part)


def _softmax(op, view, part):
    value, shape = op.plain(view)
    return View(op.emit("softmax", (value,), shape=shape, part=part), view.shape)


LAYERS = {"ReLU": relu, "LeakyReLU": leaky_relu, "ELU": elu, "Softmax": softmax}
