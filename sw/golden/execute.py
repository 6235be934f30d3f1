"""Running a network in numpy: exact, and fast enough for whole test sets."""

import numpy as np

from lutloom.errors import DataError
from lutloom.golden import conv as golden_conv
from lutloom.golden import requantise
from lutloom.golden.exact import exact_dtype, sum_bound
from lutloom.golden.join import add, product, scaled_codes, times
from lutloom.golden.moving import broadcast, pad_codes, slice_codes
from lutloom.golden.pool import max_pool, sum_pool
from lutloom.golden.softmax import exponentials, softmax
from lutloom.golden.thresholds import look_up, threshold_table, thresholds
from lutloom.golden.topk import top_k
from lutloom.intervals import add_inputs, multiply_layer, pad_value, sum_pool_bound, value_range
from lutloom.network import (
    Add,
    Broadcast,
    Concat,
    Constant,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Offset,
    Pad,
    Product,
    Reshape,
    Slice,
    Softmax,
    State,
    Sum,
    SumPool,
    Table,
    Thresholds,
    Times,
    TopK,
    Transpose,
    inputs_of,
)
from lutloom.passes.verify import verify

WORK_BYTES = 1 << 22
"""Images are run so many at a time that the largest copy of windows takes about so much memory (it stays in cache)."""

MOST_IMAGES = 64


class Executor:
    """A network, verified and prepared: weights as matrices in the type that is proven exact, tables for thresholds.

    Between layers, whole numbers may be held in floating types; what leaves is in the tensors' own types. A network
    with state runs frame by frame.
    """

    def __init__(self, network):
        self._network = verify(network)
        self._functions = {layer.name: _prepare(layer, network) for layer in network.layers
                           if not isinstance(layer, State)}
        self._states = [layer for layer in network.layers if isinstance(layer, State)]
        self._chunk = 1 if self._states else _chunk(network)
        self._schedules = {}

    def run(self, codes, names):
        """Codes of the named tensors, by name."""
        codes = self._check(codes)
        if names not in self._schedules:
            self._schedules[names] = _schedule(self._network, names)
        steps, states = self._schedules[names]
        kept = {state.output: state.reset[None].astype(self._type(state.output)) for state in states}
        parts = {name: [] for name in names}
        for start in range(0, max(len(codes), 1), self._chunk):
            held = {self._network.input: codes[start:start + self._chunk], **kept}
            size = len(held[self._network.input])
            for function, sources, target, done in steps:
                given = [held[name] for name in sources] or [size]
                held[target] = self._functions[function](*given)
                for name in done:
                    del held[name]
            kept = {state.output: held[state.input] for state in states}
            for name in names:
                parts[name].append(held[name][:size].astype(self._type(name), copy=False))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _type(self, name):
        """The type that a tensor's format takes."""
        return self._network.tensors[name].format.dtype()

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


def _prepare(layer, network):
    """The function of held arrays that a layer is; a Constant's takes how many frames there are."""
    tensors = [network.tensors[name] for name in inputs_of(layer)]
    own = network.tensors[layer.output].format.dtype()
    tensor = tensors[0] if tensors else None
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
        case Thresholds():
            table = threshold_table(layer.values, layer.falling, layer.base, tensor.low, tensor.high)
            if table is None:
                return lambda codes: thresholds(codes, layer.values, layer.falling, layer.base)
            return lambda codes: look_up(codes, table, tensor.low, tensor.high)
        case Multiply() if layer.rounding == "tflm":
            return requantise.prepare(layer, tensor.shape, tensor.low, tensor.high, own)
        case Multiply():
            return lambda codes: multiply_layer(layer, codes).astype(own)
        case Offset():
            return lambda codes: codes.astype(np.int64) + layer.values
        case TopK():
            return lambda codes: top_k(codes, layer.k)
        case Add():
            tables = [scaled_codes(source.format, layer.left, *parameters)
                      for source, parameters in zip(tensors, add_inputs(layer), strict=True)]
            first, second = (_table(table, source) for table, source in zip(tables, tensors, strict=True))
            return lambda a, b: add(first(a), second(b), layer).astype(own)
        case Product():
            return lambda a, b: product(a, b, layer).astype(own)
        case Sum():
            first, second = (_table(table, source) for table, source
                             in zip((layer.first, layer.second), tensors, strict=True))
            return lambda a, b: first(a) + second(b)
        case Times():
            return lambda a, b: times(a, b, layer)
        case Table():
            return _table(layer.codes.astype(own), tensor)
        case Softmax():
            table = exponentials(layer.multiplier, layer.left, layer.least)
            return lambda codes: softmax(codes, table, layer.low, layer.high).astype(own)
    return _prepare_moving(layer, network.tensors[layer.output].shape)


def _prepare_moving(layer, shape):
    """The function of a layer that only moves codes."""
    match layer:
        case Flatten() | Reshape():
            return lambda codes: codes.reshape(len(codes), *shape)
        case Transpose():
            order = 0, *(axis + 1 for axis in layer.order)
            return lambda codes: codes.transpose(order)
        case Broadcast():
            return lambda codes: broadcast(codes, shape)
        case Concat():
            return lambda *codes: np.concatenate(codes, axis=layer.axis + 1)
        case Slice():
            return lambda codes: slice_codes(codes, layer.begin, layer.sizes, layer.steps)
        case Pad():
            return lambda codes: pad_codes(codes, layer.before, layer.after, layer.code)
        case Constant():
            return lambda frames: np.broadcast_to(layer.codes, (frames, *shape))
    raise TypeError(f"a network has no layers of type {type(layer).__name__}")


def _table(table, tensor):
    """A function of codes of a tensor, by a table whose first entry is the format's least code."""
    # codes as unsigned numbers of their own type: the negative ones come last
    size = len(table)
    if tensor.format.bits == 8 * tensor.format.dtype().itemsize:
        turned = np.roll(table, -size // 2) if tensor.format.signed else table
        unsigned = np.dtype(f"u{tensor.format.dtype().itemsize}")
        return lambda codes: turned[codes.astype(tensor.format.dtype(), copy=False).view(unsigned)]
    return lambda codes: table[codes.astype(np.int64) - tensor.format.code_low]


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


def _schedule(network, names):
    """(steps, states) that give the named tensors: (function, sources, target, tensors that nobody reads later)."""
    layers, states = _live(network, names)
    steps = list(_pool_first(layers, {*names, *(state.input for state in states)}))
    last = {}
    for index, (_, sources, target) in enumerate(steps):
        for name in (*sources, target):
            last[name] = index
    kept = {*names, *(state.input for state in states)}
    done = [[] for _ in steps]
    for name, index in last.items():
        if name not in kept:
            done[index].append(name)
    return [(*step, dead) for step, dead in zip(steps, done, strict=True)], states


def _live(network, names):
    """(layers, states) that the named tensors depend on, in order."""
    wanted, before = set(names), None
    while wanted != before:  # a state is given by a layer behind it
        before = set(wanted)
        for layer in reversed(network.layers):
            if layer.output in wanted:
                wanted.update(inputs_of(layer))
    layers = [layer for layer in network.layers if layer.output in wanted]
    return ([layer for layer in layers if not isinstance(layer, State)],
            [layer for layer in layers if isinstance(layer, State)])


def _pool_first(layers, kept):
    """(layer, sources, target) in order, with max pooling moved in front of a rising requantiser: the greatest of
    the requantised is the requantised greatest, and there are fewer to requantise."""
    used = [name for layer in layers for name in inputs_of(layer)] + list(kept)
    index = 0
    while index < len(layers):
        layer, after = layers[index], layers[index + 1:index + 2]
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
            yield after[0].name, (layer.input,), layer.output
            yield layer.name, (layer.output,), after[0].output
            index += 2
        else:
            yield layer.name, inputs_of(layer), layer.output
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
