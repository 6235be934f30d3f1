"""Running a network in numpy: exact, and fast enough for whole test sets."""

from math import prod

import numpy as np

from lutloom.errors import DataError
from lutloom.golden import conv as golden_conv
from lutloom.golden.exact import exact_dtype, sum_bound
from lutloom.golden.pool import max_pool, sum_pool
from lutloom.golden.thresholds import look_up, threshold_table, thresholds
from lutloom.golden.topk import top_k
from lutloom.intervals import multiply_layer, pad_value, sum_pool_bound, value_range
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, SumPool, Thresholds, TopK
from lutloom.passes.verify import verify

WORK_BYTES = 1 << 22
"""Images are run so many at a time that the largest copy of windows takes about so much memory (it stays in cache)."""

MOST_IMAGES = 64


class Executor:
    """A network, verified and prepared: weights as matrices in the type that is proven exact, tables for thresholds.

    Between layers, whole numbers may be held in floating types; what leaves is in the tensors' own types.
    """

    def __init__(self, network):
        self._network = verify(network)
        self._functions = {layer.name: _prepare(layer, network.tensors[layer.input]) for layer in network.layers}
        self._steps = tuple(_pool_first(network))
        self._chunk = _chunk(network)

    def run(self, codes):
        """Codes of the output."""
        codes = self._check(codes)
        last_use = {name: index for index, (_, name, _) in enumerate(self._steps)}
        outputs = []
        for start in range(0, max(len(codes), 1), self._chunk):
            held = {self._network.input: codes[start : start + self._chunk]}
            for index, (function, source, target) in enumerate(self._steps):
                held[target] = self._functions[function](held[source])
                if last_use[source] == index and source != self._network.output:
                    del held[source]
            outputs.append(self._own_type(self._network.output, held[self._network.output]))
        return np.concatenate(outputs)

    def trace(self, codes):
        """Codes of every tensor, by name."""
        codes = self._check(codes)
        traces = []
        for start in range(0, max(len(codes), 1), self._chunk):
            held = {self._network.input: codes[start : start + self._chunk]}
            for layer in self._network.layers:
                held[layer.output] = self._functions[layer.name](held[layer.input])
            traces.append({name: self._own_type(name, array) for name, array in held.items()})
        return {name: np.concatenate([trace[name] for trace in traces]) for name in traces[0]}

    def _own_type(self, name, array):
        """A tensor's codes in the type that its format takes."""
        return array.astype(self._network.tensors[name].format.dtype(), copy=False)

    def _check(self, codes):
        """Input codes in their own type; DataError unless they are integers of the right shape and range."""
        tensor, codes = self._network.tensors[self._network.input], np.asarray(codes)
        if codes.dtype.kind not in "iub":
            raise DataError(f"a network takes integer codes, not {codes.dtype}; encode() makes them of real values")
        if codes.shape[1:] != tensor.shape or codes.ndim != len(tensor.shape) + 1:
            raise DataError(
                f"network {self._network.name!r} takes codes of shape {('batch', *tensor.shape)}, not {codes.shape}; "
                "encode() brings data of the model's own layout into it"
            )
        if codes.size and not (tensor.low <= int(codes.min()) and int(codes.max()) <= tensor.high):
            raise DataError(
                f"network {self._network.name!r} takes codes from {tensor.low} to {tensor.high}, not "
                f"{int(codes.min())} to {int(codes.max())}; encode() brings real values into that range"
            )
        return codes.astype(tensor.format.dtype(), copy=False)


def _prepare(layer, tensor):
    """The function of held arrays that a layer is, for an input tensor."""
    match layer:
        case Conv():
            return _prepare_conv(layer, tensor)
        case Dense():
            dtype = exact_dtype(sum_bound(layer.weights.integers, _most(tensor)))
            matrix = np.ascontiguousarray(layer.weights.integers.T.astype(dtype))
            return lambda codes: _values(codes, tensor, dtype) @ matrix
        case MaxPool():
            return lambda codes: max_pool(codes, layer.kernel, layer.stride, layer.pads)
        case SumPool():
            dtype = exact_dtype(sum_pool_bound(layer, tensor))
            rest = layer.kernel, layer.stride, layer.pads, layer.factors, layer.pad_code, dtype
            return lambda codes: sum_pool(_values(codes, tensor, dtype), *rest)
        case Flatten():
            return lambda codes: codes.reshape(len(codes), prod(tensor.shape))
        case Thresholds():
            table = threshold_table(layer.values, layer.falling, layer.base, tensor.low, tensor.high)
            if table is None:
                return lambda codes: thresholds(codes, layer.values, layer.falling, layer.base)
            return lambda codes: look_up(codes, table, tensor.low, tensor.high)
        case Multiply():
            return lambda codes: multiply_layer(layer, codes)
        case Offset():
            return lambda codes: codes.astype(np.int64) + layer.values
        case TopK():
            return lambda codes: top_k(codes, layer.k)
    raise TypeError(f"a network has no layers of type {type(layer).__name__}")


def _prepare_conv(layer, tensor):
    """A convolution with its weights as matrices."""
    integers, padding = layer.weights.integers, pad_value(tensor)
    dtype = exact_dtype(sum_bound(integers, max(_most(tensor), abs(padding))))
    matrices = golden_conv.conv_matrices(integers, layer.groups, dtype)
    rest = integers.shape[1:3], layer.stride, layer.dilation, layer.pads, padding
    return lambda codes: golden_conv.conv_with(_values(codes, tensor, dtype), matrices, *rest)


def _most(tensor):
    """No value of the tensor is greater in magnitude."""
    return max(map(abs, value_range(tensor)))


def _values(codes, tensor, dtype):
    """What codes stand for, in a type."""
    values = codes.astype(dtype, copy=False)
    return 2 * values - 1 if tensor.format.kind == "bipolar" else values


def _pool_first(network):
    """(layer, source, target) in order, with max pooling moved in front of a rising requantiser: the greatest of
    the requantised is the requantised greatest, and there are fewer to requantise."""
    layers, used = network.layers, [layer.input for layer in network.layers] + [network.output]
    index = 0
    while index < len(layers):
        layer, after = layers[index], layers[index + 1 : index + 2]
        rising = (isinstance(layer, Thresholds) and not layer.falling.any()) or (
            isinstance(layer, Multiply) and (layer.multiplier >= 0).all()
        )
        if (
            rising
            and after
            and isinstance(after[0], MaxPool)
            and after[0].input == layer.output
            and used.count(layer.output) == 1
        ):
            yield after[0].name, layer.input, layer.output
            yield layer.name, layer.output, after[0].output
            index += 2
        else:
            yield layer.name, layer.input, layer.output
            index += 1


def _chunk(network):
    """How many images are run at a time."""
    most = 1
    for layer in network.layers:
        shape = network.tensors[layer.output].shape
        taps = layer.weights.codes[0].size * layer.groups if isinstance(layer, Conv) else 1
        positions = shape[0] * shape[1] if len(shape) == 3 else 1
        most = max(most, 4 * positions * max(taps, shape[-1]))
    return max(1, min(MOST_IMAGES, WORK_BYTES // most))
