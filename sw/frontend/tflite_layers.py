"""TFLite operators with weights or windows: convolutions, fully connected layers, pools, means."""

import numpy as np

from lutloom.frontend.tflite_op import FORMATS
from lutloom.graph import WeightQuant
from lutloom.shapes import window_shape

SAME, VALID = 0, 1
WEIGHT_BITS = {"INT8": 8, "UINT8": 8, "INT4": 4}


def conv(op):
    """CONV_2D, with groups where the filter has fewer channels than the input."""
    op.arity(2, 3)
    codes = _filter(op, 4)
    source = op.value(0, 3)
    channels, depth = op.reader.shapes[source][2], codes.shape[3]
    if channels % depth or len(codes) % (channels // depth):
        raise op.error(f"has a filter of shape {codes.shape}, but its input has {channels} channels")
    stride, dilation = (op.option(2), op.option(1)), (op.option(5, default=1), op.option(4, default=1))
    _convolution(op, source, codes, 0, channels // depth, stride, dilation, op.option(3, "<b"))


def depthwise_conv(op):
    """DEPTHWISE_CONV_2D: one group a channel, any multiplier."""
    op.arity(2, 3)
    codes = _filter(op, 4)
    source = op.value(0, 3)
    channels = op.reader.shapes[source][2]
    if codes.shape[0] != 1 or codes.shape[3] % channels:
        raise op.error(f"has a filter of shape {codes.shape}, but its input has {channels} channels")
    stride, dilation = (op.option(2), op.option(1)), (op.option(6, default=1), op.option(5, default=1))
    _convolution(op, source, codes.transpose(3, 1, 2, 0), 3, channels, stride, dilation, op.option(4, "<b"))


def _convolution(op, source, codes, axis, groups, stride, dilation, activation):
    """Write a conv of weight codes (N, kh, kw, C/groups) whose scales run along an axis of the file's filter."""
    size = op.reader.shapes[source]
    pads = _pads(op, size, codes.shape[1:3], stride, dilation)
    params = {"stride": stride, "dilation": dilation, "pads": pads, "groups": groups, **_weights(op, codes, axis),
              **op.clamp(activation, op.quant(op.out()))}
    shape = *_window_shape(op, size, codes.shape[1:3], stride, pads, dilation), len(codes)
    op.emit("conv", [source], params, shape=shape)


def fully_connected(op):
    """FULLY_CONNECTED: dense; over several rows a convolution of 1x1."""
    op.arity(2, 3)
    if op.option(1, "<b"):
        raise op.error("has weights in a shuffled format, which is not supported; convert the model again")
    codes = _filter(op, 2)
    source = op.value(0)
    size = int(np.prod(op.reader.shapes[source]))
    if size % codes.shape[1]:
        raise op.error(f"has weights of shape {codes.shape}, but an input of {size} values")
    rows, clamp = size // codes.shape[1], op.clamp(op.option(0, "<b"), op.quant(op.out()))
    if rows == 1:
        params = {**_weights(op, codes, 0), **clamp}
        op.emit("dense", [op.value(0, 1)], params, shape=(len(codes),))
        return
    source = op.reader.view(op, source, (1, rows, codes.shape[1]))
    params = {"stride": (1, 1), "dilation": (1, 1), "pads": (0, 0, 0, 0), "groups": 1,
              **_weights(op, codes[:, None, None, :], 0), **clamp}
    op.emit("conv", [source], params, shape=(1, rows, len(codes)))


def _filter(op, sides):
    """The codes of a filter."""
    info = op.info(1)
    if info.data is None:
        raise op.error("has weights that are computed, which is not supported; weights must be constants")
    given, wanted = op.info(0).type, "UINT8" if op.info(0).type == "UINT8" else "INT8 or INT4"
    if info.type not in WEIGHT_BITS or (info.type == "UINT8") != (given == "UINT8"):
        raise op.error(f"has weights of type {info.type} and an input of type {given}; with {given} inputs weights "
                       f"must be {wanted}")
    if given != op.out().type or given not in FORMATS:
        raise op.error(f"takes {given} and gives {op.out().type}; activations must be INT8 or UINT8 alike")
    if info.data.ndim != sides or not info.data.size:
        raise op.error(f"has weights of shape {info.shape}, not of {sides} sides; the file is damaged")
    if info.scale is None:
        raise op.error("has weights without a scale; convert the model again")
    return info.data


def _weights(op, codes, axis):
    """weight, weight_quant, bias and bias_codes of codes with N first; the file's scales run along an axis."""
    info, count = op.info(1), len(codes)
    if info.scale.size not in (1, count) or (info.scale.size > 1 and info.axis != axis):
        raise op.error(f"has {info.scale.size} weight scales along axis {info.axis} for {count} outputs; one or "
                       f"{count} along axis {axis} are supported")
    bits = WEIGHT_BITS[info.type]
    signed = info.type != "UINT8"
    least = -(1 << bits - 1) if signed else 0
    if (info.zero_point < least).any() or (info.zero_point >= least + (1 << bits)).any():
        raise op.error("has a weight zero point that is no weight code; convert the model again")
    scale, zero_point = info.scale, info.zero_point.astype(np.int64)
    if scale.size == 1:
        scale, zero_point = scale[0], zero_point[0]
    quant = WeightQuant("int", codes, scale, zero_point, bits, signed)
    sides = (-1,) + (1,) * (codes.ndim - 1)
    scales = np.broadcast_to(scale, count).astype(np.float64)
    integers = codes.astype(np.int64) - np.broadcast_to(zero_point, count).reshape(sides)
    bias_codes, bias = _bias(op, count), None
    if bias_codes is not None:
        bias = bias_codes * scales * float(op.quant(op.info(0)).scale)
    return {"weight": integers * scales.reshape(sides), "weight_quant": quant, "bias": bias, "bias_codes": bias_codes}


def _bias(op, count):
    """int64 array (N,), or None."""
    if len(op.inputs) < 3 or op.inputs[2] is None:
        return None
    info = op.info(2)
    if info.type != "INT32":
        raise op.error(f"has a bias of type {info.type}, which is not supported; it must be INT32")
    return op.constant(2, "a bias", count)


def max_pool(op):
    """MAX_POOL_2D."""
    source, params, shape = _pool(op)
    op.emit("maxpool", [source], params, shape=shape)


def average_pool(op):
    """AVERAGE_POOL_2D: padding does not count."""
    source, params, shape = _pool(op)
    size, kernel, stride, pads = op.reader.shapes[source], params["kernel"], params["stride"], params["pads"]
    counts = [_counts(size[axis], shape[axis], kernel[axis], stride[axis], pads[axis]) for axis in (0, 1)]
    params["divisor"] = np.outer(*counts)
    op.emit("avgpool", [source], params, shape=shape)


def _pool(op):
    """(source, params, shape) of a pool."""
    op.arity(1)
    source = op.value(0, 3)
    stride, kernel = (op.option(2), op.option(1)), (op.option(4), op.option(3))
    size = op.reader.shapes[source]
    pads = _pads(op, size, kernel, stride, (1, 1))
    given, made = op.quant(op.info(0)), op.quant(op.out())
    # TFLM takes scales within 1e-6 for the same
    if given.format != made.format or given.zero_point != made.zero_point or abs(given.scale - made.scale) > 1e-6:
        raise op.error("has an output of another scale or zero point than its input, which is not supported")
    params = {"kernel": kernel, "stride": stride, "pads": pads, **op.clamp(op.option(5, "<b"), made)}
    return source, params, (*_window_shape(op, size, kernel, stride, pads, (1, 1)), size[2])


def _counts(size, outputs, taps, stride, before):
    """How many taps of each window lie inside, along one axis."""
    first = np.arange(outputs) * stride - before
    return np.minimum(first + taps, size) - np.maximum(first, 0)


def mean(op):
    """MEAN over height, width or both."""
    op.arity(2)
    info, rank = op.info(0), len(op.info(0).shape)
    axes = {int(axis) % rank if -rank <= axis < rank else rank for axis in op.constant(1, "axes")}
    source = op.value(0, 3)
    size = op.reader.shapes[source]
    channels = rank - 1 in axes and info.shape[-1] != 1
    if rank in axes or channels or any(info.shape[axis] != 1 for axis in axes if axis < rank - 3):
        raise op.error(f"averages shape {info.shape} over axes {sorted(axes)}; only height and width are supported")
    kernel = tuple(size[side] if rank - 3 + side in axes else 1 for side in (0, 1))
    if op.quant(op.info(0)).format != op.quant(op.out()).format:
        raise op.error("gives another type than it takes, which is not supported")
    shape = *(1 if rank - 3 + side in axes else size[side] for side in (0, 1)), size[2]
    op.emit("mean", [source], {"kernel": kernel}, shape=shape)


def _pads(op, size, kernel, stride, dilation):
    """(top, left, bottom, right) of SAME or VALID; every number of the window checked first."""
    if any(number < 1 for number in (*kernel, *stride, *dilation)):
        raise op.error(f"has kernel {kernel}, stride {stride} and dilation {dilation}; they must be positive")
    padding = op.option(0, "<b")
    if padding not in (SAME, VALID):
        raise op.error(f"has padding {padding}, which is neither SAME nor VALID; the file is damaged")
    if padding == VALID:
        return 0, 0, 0, 0
    total = []
    for side, taps, step, spread in zip(size, kernel, stride, dilation, strict=False):
        total.append(max((-(-side // step) - 1) * step + (taps - 1) * spread + 1 - side, 0))
    if max(total) > 1 << 16:
        raise op.error(f"pads by {max(total)}, which is more than any window needs; the file is damaged")
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2


def _window_shape(op, size, kernel, stride, pads, dilation):
    try:
        return window_shape(size, kernel, stride, pads, dilation)
    except ValueError as error:
        raise op.error(f"{error}; the file is damaged") from None


OPERATORS = {
    "CONV_2D": conv, "DEPTHWISE_CONV_2D": depthwise_conv, "FULLY_CONNECTED": fully_connected,
    "MAX_POOL_2D": max_pool, "AVERAGE_POOL_2D": average_pool, "MEAN": mean,
}
