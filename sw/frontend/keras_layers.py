"""Keras layers of one input that compute: weights, windows, normalisation; and those that do nothing."""

import numpy as np

from lutloom.frontend.keras_activations import activate, activation, elu, leaky_relu, prelu, relu, softmax
from lutloom.frontend.keras_op import View
from lutloom.graph import Norm
from lutloom.shapes import window_shape


def convolution(op):
    """Conv2D and Conv1D, with groups."""
    channels, groups = _channels(op), op.count("groups") if op.config.get("groups") else 1
    filters = op.count("filters")
    if channels % groups or filters % groups:
        raise op.error(f"has {groups} groups, but {channels} channels in and {filters} out; save the model again")
    given = _weights(op, filters, kernel=(*_own(op, "kernel_size"), channels // groups, filters))
    return _windows(op, given["kernel"], given.get("bias"), groups)


def depthwise(op):
    """DepthwiseConv2D and DepthwiseConv1D, with any multiplier."""
    channels, times = _channels(op), op.count("depth_multiplier")
    given = _weights(op, channels * times, kernel=(*_own(op, "kernel_size"), channels, times))
    return _windows(op, _by_channel(given["kernel"]), given.get("bias"), channels)


def separable(op):
    """SeparableConv2D and SeparableConv1D: a depthwise convolution and a pointwise one behind it."""
    channels, times, filters = _channels(op), op.count("depth_multiplier"), op.count("filters")
    shapes = {"depthwise kernel": (*_own(op, "kernel_size"), channels, times),
              "pointwise kernel": (*(1,) * op.rank, channels * times, filters)}
    given = _weights(op, filters, **shapes)
    deep = _windows(op, _by_channel(given["depthwise kernel"]), None, channels, part="depthwise", active=False)
    return _windows(op, given["pointwise kernel"], given.get("bias"), 1, part="pointwise", source=deep)


def _weights(op, outputs, **shapes):
    """Kernels, and the bias where there is one."""
    return op.weights(**shapes, **({"bias": (outputs,)} if op.config.get("use_bias", True) else {}))


def _channels(op):
    op.check_layout()
    return op.map(op.single())[1][2]


def _own(op, key):
    """(y, x), or (x,) of a layer of one dimension."""
    return op.pair(key, None)[2 - op.rank:]


def _by_channel(kernel):
    """A depthwise kernel (.., C, M) as that of C groups (.., 1, C·M)."""
    return kernel.reshape(*kernel.shape[:-2], 1, -1)


def _windows(op, kernel, bias, groups, part="", source=None, active=True):
    """Write a convolution of a kernel (.., C/groups, N), and the fused activation."""
    view = op.single() if source is None else source
    value, shape = op.map(view)
    weight = kernel if kernel.ndim == 4 else kernel[None]
    weight = np.ascontiguousarray(weight.transpose(3, 0, 1, 2))
    one = source is not None  # a pointwise convolution has none of the layer's geometry
    stride, dilation = ((1, 1), (1, 1)) if one else (op.pair("strides"), op.pair("dilation_rate"))
    size, pads = ((shape[:2], (0,) * 4) if one else _window(op, shape, weight.shape[1:3], stride, dilation))
    params = {"weight": weight, "bias": bias, "stride": stride, "dilation": dilation, "pads": pads, "groups": groups,
              "weight_quant": None}
    made = op.emit("conv", (value,), params, shape=(*size, len(weight)), part=part)
    view = View(made, (*size, len(weight))[len(shape) - len(view.shape):])
    return activate(op, view) if active else view


def _window(op, shape, kernel, stride, dilation=(1, 1)):
    """((OH, OW), pads) of a window over a map; of padding "same", TensorFlow puts the odd pixel at the end."""
    padding = op.config.get("padding", "valid")
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    begin, end = [0, 0], [0, 0]
    if padding == "same":
        for axis in (0, 1):
            steps = -(-shape[axis] // stride[axis])
            total = max(0, (steps - 1) * stride[axis] + extent[axis] - shape[axis])
            begin[axis], end[axis] = total // 2, total - total // 2
    elif padding == "causal" and op.rank == 1:
        begin[1] = extent[1] - 1
    elif padding != "valid":
        raise op.error(f"has padding {padding!r}, which is not supported; use 'valid' or 'same'")
    pads = (*begin, *end)
    try:
        return window_shape(shape, kernel, stride, pads, dilation), pads
    except ValueError as error:
        raise op.error(f"{error}; use a larger input") from None


def dense(op):
    """Dense, of a vector, or over the channels of a map."""
    view, units = op.single(), op.count("units")
    inputs = view.shape[-1]
    given = _weights(op, units, kernel=(inputs, units))
    weight, bias = np.ascontiguousarray(given["kernel"].T), given.get("bias")
    value, shape = op.plain(view)
    params = {"weight": weight, "bias": bias, "weight_quant": None}
    if len(shape) == 1:
        made = op.emit("dense", (value,), params, shape=(units,))
    else:
        params = {**params, "weight": weight[:, None, None], "stride": (1, 1), "dilation": (1, 1),
                  "pads": (0, 0, 0, 0), "groups": 1}
        made = op.emit("conv", (value,), params, shape=(*shape[:2], units))
    return activate(op, View(made, (*view.shape[:-1], units)))


def batch_normalization(op):
    """BatchNormalization, with or without gamma and beta: subtract the mean, then scale and shift."""
    view = op.single()
    axis = op.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(view.shape)):
        raise op.error(f"normalises axis {axis}, but only the last one is supported; use channels_last")
    channels = (view.shape[-1],)
    has = {"gamma": op.config.get("scale", True), "beta": op.config.get("center", True)}
    wanted = [key for key in ("gamma", "beta") if has[key]] + ["moving mean", "moving variance"]
    given = op.weights(**dict.fromkeys(wanted, channels))
    norm = Norm(given.get("gamma", np.ones(channels)), given.get("beta", np.zeros(channels)), given["moving mean"],
                given["moving variance"], op.number("epsilon", 1e-3))
    if (norm.variance + norm.epsilon <= 0).any():
        raise op.error("has a variance that is not above zero; train or save the model again")
    if norm.mean.any():
        view = op.elementwise(view, "affine", {"scale": np.array(1.0), "offset": -norm.mean}, part="mean")
    return op.elementwise(view, "affine", {**norm.affine(), "norm": norm})


def pool(op):
    """MaxPooling and AveragePooling of one and two dimensions; padded pixels do not count."""
    op.check_layout()
    view = op.single()
    value, shape = op.map(view)
    kernel = op.pair("pool_size", None)
    stride = op.pair("strides", kernel)
    size, pads = _window(op, shape, kernel, stride)
    params = {"kernel": kernel, "stride": stride, "pads": pads}
    kind = "maxpool" if op.type.startswith("Max") else "avgpool"
    if kind == "avgpool":
        params["divisor"] = _divisor(shape, size, kernel, stride, pads)
    made = op.emit(kind, (value,), params, shape=(*size, shape[2]))
    return View(made, (*size, shape[2])[3 - len(view.shape):])


def _divisor(shape, size, kernel, stride, pads):
    """(OH, OW): how many pixels of each window lie in the map."""
    counts = []
    for axis in (0, 1):
        start = np.arange(size[axis]) * stride[axis] - pads[axis]
        counts.append(np.minimum(start + kernel[axis], shape[axis]) - np.maximum(start, 0))
    return np.outer(*counts).astype(np.int64)


def global_pool(op):
    """GlobalAveragePooling and GlobalMaxPooling."""
    op.check_layout()
    view = op.single()
    value, shape = op.map(view)
    channels = shape[2]
    if "Average" in op.type:
        made = op.emit("globalpool", (value,), shape=(channels,))
    else:
        params = {"kernel": shape[:2], "stride": (1, 1), "pads": (0, 0, 0, 0)}
        made = op.emit("maxpool", (value,), params, shape=(1, 1, channels))
    return View(made, (1,) * (len(view.shape) - 1) + (channels,) if op.config.get("keepdims") else (channels,))


def rescaling(op):
    """Rescaling by two numbers."""
    params = {"scale": np.array(op.number("scale", 1.0)), "offset": np.array(op.number("offset", 0.0))}
    return op.elementwise(op.single(), "affine", params)


def normalization(op):
    """Normalization by a mean and a variance, one or one a channel, of the config or found by ``adapt``."""
    view, axis = op.single(), op.config.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    if axis not in (-1, None, [], len(view.shape)) or op.config.get("invert"):
        raise op.error("normalises another axis than the last one, or inverts, which is not supported; use axis -1")
    size = (view.shape[-1],) if axis not in (None, []) else ()
    given = [op.config.get(key) for key in ("mean", "variance")]
    if None in given:
        given = op.weights(mean=size, variance=size, count=())
        given = [given["mean"], given["variance"]]
    mean, variance = (np.asarray(part, np.float64).ravel() for part in given)
    if {mean.size, variance.size} - {1, view.shape[-1]} or not (np.isfinite(mean).all() and (variance >= 0).all()):
        raise op.error(f"has {mean.size} means and {variance.size} variances for {view.shape[-1]} channels, or such as "
                       "are no numbers; save the model again")
    mean, scale = np.squeeze(mean), 1 / np.maximum(np.sqrt(np.squeeze(variance)), LEAST_DEVIATION)
    view = op.elementwise(view, "affine", {"scale": np.array(1.0), "offset": -mean}, part="mean")
    return op.elementwise(view, "affine", {"scale": scale, "offset": np.array(0.0)})


LEAST_DEVIATION = 1e-7
"""Keras divides by no less."""


def unchanged(op):
    """A layer that does nothing when a trained model runs."""
    return op.single()


UNCHANGED = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
             "ActivityRegularization", "Identity", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom",
             "RandomContrast", "RandomBrightness")

LAYERS = {
    **dict.fromkeys(("Conv2D", "Conv1D"), convolution),
    **dict.fromkeys(("DepthwiseConv2D", "DepthwiseConv1D"), depthwise),
    **dict.fromkeys(("SeparableConv2D", "SeparableConv1D"), separable),
    "Dense": dense, "BatchNormalization": batch_normalization,
    **{f"{kind}Pooling{n}D": pool for kind in ("Max", "Average") for n in (1, 2)},
    **{f"Global{kind}Pooling{n}D": global_pool for kind in ("Max", "Average") for n in (1, 2)},
    "Rescaling": rescaling, "Normalization": normalization, **dict.fromkeys(UNCHANGED, unchanged),
    "Activation": activation, "ReLU": relu, "LeakyReLU": leaky_relu, "ELU": elu, "PReLU": prelu, "Softmax": softmax,
}
