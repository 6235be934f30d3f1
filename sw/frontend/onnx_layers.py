"""ONNX operators with weights or windows: convolution, dense, pooling."""

import numpy as np

from lutloom.frontend.onnx_layout import in_value_order, map_shape, new_index, per_channel, settled
from lutloom.frontend.onnx_values import Tensor, weights
from lutloom.graph import Norm


def conv(op):
    """Conv, 1-D and 2-D; a 1 x 1 convolution of a pooled (C, 1, 1) tensor is a dense layer.

    Weights of one group, and those of one channel each, take the channels in whatever order the value has them.
    """
    tensor, given = op.computed(), op.constant(1, "weights")
    if given.array.ndim != len(tensor.shape) + 1 or given.array.ndim not in (3, 4):
        raise op.error(f"has weights of shape {given.array.shape} for an input of shape {tensor.shape}; only 1-D and "
                       "2-D convolutions are supported")
    space = given.array.shape[2:]
    groups = op.attribute("group", 1)
    outputs, channels = given.array.shape[0], tensor.shape[0]
    if groups < 1 or given.array.shape[1] * groups != channels or outputs % groups:
        raise op.error(f"takes {given.array.shape[1] * groups} channels in {groups} groups for {outputs} outputs, but "
                       f"its input has {channels}; export the model again")
    if tuple(op.attribute("kernel_shape", space)) != space:
        raise op.error(f"says kernel_shape {op.attribute('kernel_shape')}, but its weights are {space}; export the "
                       "model again")
    bias = _bias(op, 2, outputs)
    value_shape = op.reader.shapes[tensor.value]
    if len(value_shape) == 1 and tensor.index.size == channels == value_shape[0] and groups == 1 and _pointwise(op,
                                                                                                               space):
        result = _dense(op, tensor, given, lambda array: array.reshape(outputs, channels), bias)
        return Tensor(result.value, result.index.reshape(outputs, *tensor.shape[1:]))
    depthwise = groups == channels == outputs
    tensor = tensor if groups == 1 or depthwise else settled(op, tensor)
    (height, width, _), order = map_shape(op, tensor)
    place = np.argsort(order)  # of the value's channels among the map's

    def arrange(array):
        array = array.transpose(0, 2, 1)[:, None] if len(space) == 1 else array.transpose(0, 2, 3, 1)
        return array[place] if depthwise else array[..., place] if groups == 1 else array

    weight, quant = weights(op, given, arrange)
    bias = bias[place] if depthwise and bias is not None else bias
    window = Window(op, space, (height, width))
    params = {"weight": weight, "bias": bias, "stride": window.stride, "dilation": window.dilation,
              "pads": window.pads, "groups": groups, "weight_quant": quant}
    return _map(op, "conv", tensor, params, (*window.size, outputs), order if depthwise else np.arange(outputs))


def _pointwise(op, space):
    return (set(space) == {1} and not any(op.attribute("pads", [])) and set(op.attribute("strides", [1])) == {1})


def _bias(op, position, outputs):
    if op.given(position) is None:
        return None
    bias = op.numbers(position, "biases")
    try:
        return np.broadcast_to(bias, (1, outputs))[0].copy()
    except ValueError:
        raise op.error(f"has a bias of shape {bias.shape}, but {outputs} outputs; export the model again") from None


def _map(op, kind, tensor, params, shape, order):
    """Emit an operator that makes a map, seen as NCHW, or as NCL where its input was, with channels in an order."""
    index = new_index(op, shape).transpose(2, 0, 1)[order]
    return op.reader.emit(op, kind, tensor, params, shape=shape,
                          index=index if len(tensor.shape) == 3 else index.reshape(shape[2], shape[1]))


def _dense(op, tensor, given, arrange, bias, part=""):
    """Emit a dense layer over a flattened tensor; arrange gives (N, C) in the ONNX tensor's order."""
    reader = op.reader
    inverse = np.argsort(tensor.index.ravel())  # place in the value -> place in the ONNX tensor

    def columns(array):
        array = arrange(array)
        if array.shape[1] != inverse.size:
            raise op.error(f"takes {array.shape[1]} inputs, but its input has {inverse.size}; export the model again")
        return np.ascontiguousarray(array if tensor.in_order else array[:, inverse])

    weight, quant = weights(op, given, columns)
    params = {"weight": weight, "bias": bias, "weight_quant": quant}
    return reader.emit(op, "dense", reader.flat(tensor), params, shape=(weight.shape[0],),
                       index=new_index(op, weight.shape[:1]), part=part)


def _matrix(op, position, what="weights"):
    given = op.constant(position, what)
    if given.array.ndim != 2:
        raise op.error(f"has {what} of shape {given.array.shape}, which must have 2 dimensions; export the model again")
    return given


def matmul(op):
    """MatMul by a constant on the right: a dense layer, or over the last axis of an NHWC map a 1 x 1 convolution."""
    _two_computed(op)
    if not isinstance(op.given(0), Tensor):
        raise op.error("multiplies by constants on the left, which is not supported; put the weights on the right")
    tensor, given = op.computed(), _matrix(op, 1)
    inputs, outputs = given.array.shape
    if not tensor.shape or tensor.shape[-1] != inputs:
        raise op.error(f"takes {inputs} inputs, but its input has shape {tensor.shape}; export the model again")
    lead = tensor.shape[:-1]
    if tensor.index.size == inputs:
        result = _dense(op, tensor, given, lambda array: array.T, None)
        return Tensor(result.value, result.index.reshape(*lead, outputs))
    shape, (plain, order) = op.reader.shapes[tensor.value], in_value_order(op.reader, tensor)
    if len(shape) == 1 or shape[-1] != inputs or not plain.in_order:
        raise op.error(f"multiplies the rows of a tensor of shape {tensor.shape}, which is supported only over the "
                       "channels of a map; flatten it first")
    weight, quant = weights(op, given, lambda array: np.ascontiguousarray(array.T[:, np.argsort(order)])[:, None, None])
    params = {"weight": weight, "bias": None, "stride": (1, 1), "dilation": (1, 1), "pads": (0, 0, 0, 0), "groups": 1,
              "weight_quant": quant}
    size = (*shape[:2], outputs)
    return op.reader.emit(op, "conv", tensor, params, shape=size,
                          index=new_index(op, size).reshape(*lead, outputs))


def gemm(op):
    """Gemm: alpha · x · W + beta · b."""
    _two_computed(op)
    if op.attribute("transA", 0) or not isinstance(op.given(0), Tensor):
        raise op.error("has transA, or constants on the left, which is not supported; keep the batch first")
    tensor, given = op.computed(), _matrix(op, 1)
    if len(tensor.shape) != 1:
        raise op.error(f"takes a matrix, but its input has shape {tensor.shape} without the batch; flatten it first")
    transposed = op.attribute("transB", 0)
    outputs = given.array.shape[0 if transposed else 1]
    alpha, beta = op.attribute("alpha", 1.0), op.attribute("beta", 1.0)
    if not np.isfinite([alpha, beta]).all():
        raise op.error("has an alpha or beta that is not finite; export the model again")
    bias = _bias(op, 2, outputs)
    bias = None if bias is None or beta == 0 else bias * beta

    def arrange(array):
        return array if transposed else array.T

    if alpha == 1:
        return _dense(op, tensor, given, arrange, bias)
    result = _dense(op, tensor, given, arrange, None, part="product")
    params = {"scale": np.array(float(alpha)), "offset": np.array(0.0) if bias is None else bias}
    return op.reader.emit(op, "affine", result, params)


def _two_computed(op):
    if all(isinstance(op.given(position), Tensor) for position in (0, 1)):
        raise op.error("multiplies two computed tensors, which is not supported; its weights must be constant")


def batch_normalization(op):
    """BatchNormalization: subtract the mean, then scale and shift, each step exact."""
    if op.attribute("training_mode", 0) or any(name in op.reader.wanted for name in op.node.output[1:] if name):
        raise op.error("is in training mode; export the model in evaluation mode (model.eval())")
    if not op.attribute("spatial", 1):
        raise op.error("has spatial = 0, which is not supported; export it with statistics per channel")
    tensor = op.computed()
    gamma, beta, mean, variance = (op.numbers(i, "batch-norm parameters") for i in range(1, 5))
    epsilon = op.attribute("epsilon", 1e-5)
    if not tensor.shape or len({a.shape for a in (gamma, beta, mean, variance)} | {tensor.shape[:1]}) != 1:
        raise op.error(f"has parameters of shape {gamma.shape}, but its input has shape {tensor.shape}; export the "
                       "model again")
    if (variance + epsilon <= 0).any():
        raise op.error("has a variance that is not above zero; train or export the model again")
    spread = (-1,) + (1,) * (len(tensor.shape) - 1)

    arrays = {"scale": gamma, "offset": beta, "mean": mean, "variance": variance}
    for _ in range(2):  # one that differs within a channel makes the tensor a view of a flattened value for all
        made = []
        for what, array in arrays.items():
            tensor, own = per_channel(op, tensor, array.reshape(spread), what)
            made.append(own)
    norm = Norm(*made, epsilon)
    if norm.mean.any():
        tensor = op.reader.emit(op, "affine", tensor, {"scale": np.array(1.0), "offset": -norm.mean}, part="mean")
    return op.reader.emit(op, "affine", tensor, {**norm.affine(), "norm": norm})


def max_pool(op):
    """MaxPool; ceil mode becomes padding at the end."""
    if len(op.node.output) > 1 and op.node.output[1] in op.reader.wanted:
        raise op.error("has its indices used, which is not supported; use only its first output")
    tensor = op.computed()
    (height, width, channels), order = map_shape(op, tensor)
    window = Window(op, _kernel(op, tensor), (height, width))
    params = {"kernel": window.kernel, "stride": window.stride, "pads": window.checked_pool_pads()}
    return _map(op, "maxpool", tensor, params, (*window.size, channels), order)


def global_max_pool(op):
    """GlobalMaxPool: a max pool over the whole map."""
    tensor = op.computed()
    (height, width, channels), order = map_shape(op, tensor)
    params = {"kernel": (height, width), "stride": (1, 1), "pads": (0, 0, 0, 0)}
    return _map(op, "maxpool", tensor, params, (1, 1, channels), order)


def average_pool(op):
    """AveragePool with the divisor of every window: what a window has beyond the padded map never counts.

    In quantised models it does where padding counts, as in onnxruntime's QLinearAveragePool.
    """
    tensor = op.computed()
    (height, width, channels), order = map_shape(op, tensor)
    window = Window(op, _kernel(op, tensor), (height, width))
    divisor = window.divisor(bool(op.attribute("count_include_pad", 0)))
    if op.reader.quantised and op.attribute("count_include_pad", 0):
        divisor = np.full_like(divisor, np.prod(window.kernel))
    params = {"kernel": window.kernel, "stride": window.stride, "pads": window.checked_pool_pads(), "divisor": divisor}
    return _map(op, "avgpool", tensor, params, (*window.size, channels), order)


def _kernel(op, tensor):
    kernel = tuple(op.attribute("kernel_shape", ()))
    if len(kernel) != len(tensor.shape) - 1:
        raise op.error(f"has kernel_shape {list(kernel)} for an input of shape {tensor.shape}; export the model again")
    if set(op.attribute("dilations", [1])) != {1}:
        raise op.error(f"has dilations {op.attribute('dilations')}, which are not supported in pooling; use 1")
    return kernel


class Window:
    """Geometry of a sliding window over a map, as (y, x); a 1-D one has height 1.

    Members
    -------
    kernel, stride, dilation, size : (y, x); size is the output's
    pads : (top, left, bottom, right), at the end just what the last window needs
    """

    def __init__(self, op, kernel, space):
        self._op, self._space = op, space
        count = len(kernel)
        fill = 2 - count
        stride = list(op.attribute("strides", [1] * count))
        dilation = list(op.attribute("dilations", [1] * count))
        pads = list(op.attribute("pads", [0] * 2 * count))
        auto = op.attribute("auto_pad", "NOTSET")
        if len(stride) != count or len(dilation) != count or len(pads) != 2 * count or min(
                [*kernel, *stride, *dilation]) < 1 or min(pads) < 0:
            raise op.error(f"has strides {stride}, dilations {dilation} or pads {pads} that do not fit its kernel "
                           f"{list(kernel)}; export the model again")
        if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
            raise op.error(f"has auto_pad {auto!r}, which is not supported; use NOTSET, VALID, SAME_UPPER or "
                           "SAME_LOWER")
        self.kernel = (1,) * fill + tuple(kernel)
        self.stride = (1,) * fill + tuple(stride)
        self.dilation = (1,) * fill + tuple(dilation)
        begin = [0] * fill + (pads[:count] if auto == "NOTSET" else [0] * count)
        end = [0] * fill + (pads[count:] if auto == "NOTSET" else [0] * count)
        ceil = bool(op.attribute("ceil_mode", 0)) and auto == "NOTSET"
        axes = [self._axis(axis, begin[axis], end[axis], auto, ceil) for axis in (0, 1)]
        self.size = tuple(axis[0] for axis in axes)
        self.begin, self.end = zip(*(axis[1:] for axis in axes), strict=True)
        needed = [max(0, (self.size[i] - 1) * self.stride[i] + self._extent(i) - space[i] - self.begin[i])
                  for i in (0, 1)]
        self.pads = (*self.begin, *needed)

    def _extent(self, axis):
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def _axis(self, axis, begin, end, auto, ceil):
        """(output size, padding before, padding after) along an axis."""
        have, stride, extent = self._space[axis], self.stride[axis], self._extent(axis)
        if auto.startswith("SAME"):
            size = -(-have // stride)
            total = max(0, (size - 1) * stride + extent - have)
            begin = (total + 1) // 2 if auto == "SAME_LOWER" else total // 2
            return size, begin, total - begin
        room = have + begin + end - extent
        if room < 0:
            raise self._op.error(f"has a window of {extent} on {have + begin + end} padded pixels; use a larger input")
        size = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and (size - 1) * stride >= have + begin:
            size -= 1  # ONNX: a window that would start in the padding at the end is dropped
        return size, begin, end

    def checked_pool_pads(self):
        """Pads of a pooling window, each less than the kernel."""
        if any(pad >= self.kernel[i % 2] for i, pad in enumerate((*self.begin, *self.end)) if pad):
            raise self._op.error(f"has padding {[*self.begin, *self.end]} that is not smaller than its kernel "
                                 f"{list(self.kernel)}; use less padding")
        return self.pads

    def divisor(self, count_padding):
        """(OH, OW) integers: the pixels of each window, with or without padded ones."""
        counts = []
        for axis in (0, 1):
            low = -self.begin[axis] if count_padding else 0
            high = self._space[axis] + (self.end[axis] if count_padding else 0)
            start = np.arange(self.size[axis]) * self.stride[axis] - self.begin[axis]
            counts.append(np.minimum(start + self.kernel[axis], high) - np.maximum(start, low))
        return np.outer(*counts).astype(np.int64)


OPERATORS = {
    ("", "Conv"): conv, ("", "MatMul"): matmul, ("", "Gemm"): gemm, ("", "BatchNormalization"): batch_normalization,
    ("", "MaxPool"): max_pool, ("", "GlobalMaxPool"): global_max_pool, ("", "AveragePool"): average_pool,
}
