"""Checking a network: every rule of shapes, formats and ranges that the golden model and the hardware rely on."""

from fractions import Fraction

import numpy as np

from lutloom.errors import ModelError
from lutloom.golden.multiply import FLOAT32_BITS
from lutloom.intervals import output_range
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
from lutloom.shapes import output_shape
from lutloom.weight_groups import whole

ACTIVATION_BITS = 16


def verify(network):
    """The network itself; ModelError that names the layer unless it keeps every rule.

    The rules: each tensor is the input or given by one layer, before it is taken; shapes are what the layers give;
    codes, thresholds and multipliers are in range; each tensor's ``low`` and ``high`` lie in its format and cover what
    its layer can give by interval arithmetic.
    """
    try:
        _whole(network)
    except _Broken as error:
        raise ModelError(f"network {network.name!r} {error}") from None
    for layer in network.layers:
        try:
            sources = [network.tensors[name] for name in inputs_of(layer)]
            _layer(layer, sources, network.tensors[layer.output])
        except (_Broken, ValueError) as error:
            raise ModelError(f"layer {layer.name!r} {error}") from None
    return network


class _Broken(Exception):
    """A rule is not kept; the message continues 'layer x ...'."""


def _need(kept, message):
    """_Broken unless a rule is kept."""
    if not kept:
        raise _Broken(message)


def _whole(network):
    """Names, order, and the tensors by themselves."""
    _need(network.layers, "has no layers")
    names = [layer.name for layer in network.layers]
    _need(len(set(names)) == len(names), f"has two layers of one name: {', '.join(names)}")
    given = [network.input]
    for layer in network.layers:
        for name in (*inputs_of(layer), layer.output):
            _need(name in network.tensors, f"has no tensor {name!r}, which layer {layer.name!r} names")
            early = name != layer.output and not isinstance(layer, State) and name not in given
            _need(not early, f"takes {name!r} in layer {layer.name!r} before any layer gives it")
        _need(layer.output not in given, f"gives {layer.output!r} twice, again in layer {layer.name!r}")
        given.append(layer.output)
    strays = sorted(set(network.tensors) - set(given))
    _need(not strays, f"has tensors no layer gives: {', '.join(strays)}")
    _need(network.input in network.tensors, f"has no input tensor {network.input!r}")
    _need(network.output in given, f"has no output tensor {network.output!r}")
    _need(network.input_layout in ("NCHW", "NHWC", "NC"), f"has unknown input layout {network.input_layout!r}")
    _need(network.closing in ("", "softmax"), f"closes with unknown {network.closing!r}")
    own = {"input": network.input_shape, "output": network.output_shape}
    for side, tensor in (("input", network.tensors[network.input]), ("output", network.tensors[network.output])):
        equal = np.prod(own[side], dtype=int) == np.prod(tensor.shape, dtype=int)
        _need(equal, f"has model {side} shape {own[side]}, but {side} tensor {tensor.name!r} has shape {tensor.shape}")
    for name, tensor in network.tensors.items():
        _tensor(name, tensor)


def _tensor(name, tensor):
    """A tensor by itself."""
    _need(tensor.name == name, f"lists tensor {tensor.name!r} as {name!r}")
    sizes = len(tensor.shape) in (1, 3) and all(isinstance(size, int) and size > 0 for size in tensor.shape)
    _need(sizes, f"has tensor {name!r} of shape {tensor.shape}, which is not (H, W, C) or (C,)")
    inside = tensor.format.code_low <= tensor.low <= tensor.high <= tensor.format.code_high
    _need(inside, f"has tensor {name!r} from {tensor.low} to {tensor.high}, not within its format {tensor.format}")
    exact = isinstance(tensor.scale, Fraction) and isinstance(tensor.zero_point, Fraction) and tensor.scale > 0
    _need(exact, f"has tensor {name!r} with scale {tensor.scale!r} and zero point {tensor.zero_point!r}, not Fractions")


def _layer(layer, sources, target):
    """One layer between its tensors."""
    source = sources[0] if sources else target
    match layer:
        case Conv() | Dense():
            _weights(layer, source)
        case MaxPool() | SumPool():
            _pool(layer, source)
        case Thresholds() | Multiply() | Offset():
            _per_channel(layer, source, target)
        case Add() | Product():
            _need(len(sources) == 2, f"takes {len(sources)} inputs, not 2")
            _join(layer, sources, target)
        case Sum() | Times():
            _exact_join(layer, sources)
        case Table():
            size = layer.codes.shape
            _need(size == (1 << source.format.bits,), f"has a table of shape {size} for codes of {source.format}")
        case Softmax():
            _softmax(layer, source)
        case Concat():
            _need(sources, "joins no inputs")
        case Flatten() | TopK() | Reshape() | Transpose() | Broadcast() | Slice() | Pad() | Constant() | State():
            pass
        case _:
            raise _Broken(f"is a {type(layer).__name__}, which is no layer of a network")
    shape = output_shape(layer, *(source.shape for source in sources))
    _need(shape == target.shape, f"gives shape {shape}, but its output {target.name!r} has shape {target.shape}")
    if isinstance(layer, SumPool):
        _need(layer.factors.shape == shape[:2], f"has factors of shape {layer.factors.shape}, not {shape[:2]}")
    if isinstance(layer, MaxPool | Flatten | Reshape | Transpose | Broadcast | Concat | Slice | Pad | State):
        for source in sources:
            _need(source.format == target.format, f"turns {source.format} into {target.format}, but only moves codes")
    if isinstance(layer, Conv | Dense | SumPool | Offset | TopK | Add | Product | Sum | Times | Table | Softmax):
        _need(target.format.kind != "bipolar", "gives bipolar codes, but only a requantiser can")
    if isinstance(layer, Thresholds | Multiply | Add | Product | Table | Softmax):
        _need(target.format.bits <= ACTIVATION_BITS, f"gives {target.format}, but activations take at most 16 bits")
    low, high = output_range(layer, *sources)
    _need(
        target.low <= low and high <= target.high,
        f"gives {low} to {high}, but its output {target.name!r} is declared {target.low} to {target.high}",
    )


def _join(layer, sources, target):
    """Formats, multipliers and the 32 bits that sums and products must keep to."""
    for source in sources:
        small = source.format.bits <= ACTIVATION_BITS and source.format.kind != "bipolar"
        _need(small, f"takes {source.format}, but inputs must be numbers of at most 16 bits")
    _fits_clamp(layer, target)
    pairs = [(layer.multiplier, layer.shift)]
    ends = [[end + offset for end in (source.low, source.high)]
            for source, offset in zip(sources, layer.offsets, strict=True)]
    if isinstance(layer, Add):
        pairs += zip(layer.multipliers, layer.shifts, strict=True)
        _need(0 <= layer.left <= 31, f"has a left shift of {layer.left}, outside 0 to 31")
        reach = [abs(end) << layer.left for side in ends for end in side]
    else:
        reach = [abs(a * b) for a in ends[0] for b in ends[1]]
    fits = all(0 <= multiplier < 1 << 31 and 0 <= shift <= 62 for multiplier, shift in pairs)
    _need(fits, "has multipliers outside 0 to 2**31 - 1, or shifts outside 0 to 62")
    if isinstance(layer, Product):
        reach = [size << max(31 - layer.shift, 0) for size in reach]
    else:
        fits = layer.shift >= 31 and all(shift >= 31 for shift in layer.shifts)
        _need(fits, "has shifts below 31, which sums do not take")
    _need(max(reach) < 1 << 31, f"computes with numbers up to {max(reach)}, beyond 32 bits")


def _exact_join(layer, sources):
    """The tables and inputs of a Sum or Times."""
    _need(len(sources) == 2, f"takes {len(sources)} inputs, not 2")
    for source in sources:
        small = source.format.bits <= ACTIVATION_BITS and source.format.kind != "bipolar"
        _need(small, f"takes {source.format}, but inputs must be numbers of at most 16 bits")
    if isinstance(layer, Times):
        whole = len(layer.offsets) == 2 and all(isinstance(offset, int) for offset in layer.offsets)
        _need(whole, f"has offsets {layer.offsets}, not two whole numbers")
        return
    for table, source in zip((layer.first, layer.second), sources, strict=True):
        size = 1 << source.format.bits
        known = table.dtype == np.int64 and table.shape == (size,)
        _need(known, f"has a table {table.dtype}{table.shape} for codes of {source.format}, not int64 ({size},)")
        _need(max(abs(int(table.min())), abs(int(table.max()))) < 1 << 61, "has a table of more than 62 bits")


def _softmax(layer, source):
    """The fixed point that the exponential is computed in."""
    _need(source.format.bits == 8 and source.format.kind != "bipolar", f"takes {source.format}, not 8 bits")
    _need(layer.high - layer.low in (255, 65535), f"gives {layer.low} to {layer.high}, not all of 8 or 16 bits")
    fits = 0 <= layer.multiplier < 1 << 31 and 0 <= layer.left <= 31 and layer.least <= 0
    _need(fits and max(layer.least, -255) << layer.left >= -(1 << 31), "has a multiplier or range beyond 32 bits")


def _fits_clamp(layer, target):
    """What a layer clamps to."""
    inside = target.format.code_low <= layer.low <= layer.high <= target.format.code_high
    _need(inside, f"clamps to {layer.low} to {layer.high}, which {target.format} does not hold")


def _weights(layer, source):
    """Weight codes, scales and geometry."""
    codes, format = layer.weights.codes, layer.weights.format
    sides = 4 if isinstance(layer, Conv) else 2
    known = codes.dtype == np.uint16 and codes.ndim == sides and codes.size > 0
    _need(known, f"has weight codes {codes.dtype}{codes.shape}, not uint16 with {sides} axes")
    most = int(codes.max())
    _need(most < 1 << format.bits, f"has weight code {most}, but {format} has {format.bits} bits")
    if format.group > 1:
        _need(whole(codes, format.group), f"has a group of weights that are not members of one entry of {format}")
    count = len(layer.weights.scale)
    _need(count in (1, len(codes)), f"has {count} weight scales for {len(codes)} outputs")
    _need(all(scale > 0 for scale in layer.weights.scale), "has a weight scale that is not positive")
    if isinstance(layer, Dense):
        return
    _geometry(layer, codes.shape[1:3], layer.dilation)
    groups = layer.groups
    even = isinstance(groups, int) and groups > 0 and len(codes) % groups == 0
    _need(even, f"has {len(codes)} outputs in {groups} groups")
    if any(layer.pads) and source.format.kind != "bipolar":
        zero = source.zero_point
        inside = zero.denominator == 1 and source.format.code_low <= zero <= source.format.code_high
        _need(inside, f"pads with zero point {zero}, which is no code of {source.format}")


def _pool(layer, source):
    """Geometry of pooling, and what padded taps add."""
    _geometry(layer, layer.kernel, (1, 1))
    if isinstance(layer, MaxPool):
        fits = all(pad < layer.kernel[side % 2] for side, pad in enumerate(layer.pads))
        _need(fits, f"pads {layer.pads} around a kernel of {layer.kernel}, so that a window may hold padding alone")
    else:
        _need(np.asarray(layer.factors).dtype.kind in "iu", "has factors that are not integers")
        bipolar = source.format.kind == "bipolar"
        _need(not (bipolar and layer.pad_code), f"pads a bipolar input with {layer.pad_code}, which must be 0")


def _geometry(layer, kernel, dilation):
    """Kernel, stride, dilation and pads as whole numbers."""
    for what, numbers, least, count in (
        ("kernel", kernel, 1, 2),
        ("stride", layer.stride, 1, 2),
        ("dilation", dilation, 1, 2),
        ("pads", layer.pads, 0, 4),
    ):
        whole = len(numbers) == count and all(isinstance(number, int) and number >= least for number in numbers)
        _need(whole, f"has {what} {tuple(numbers)}, not {count} whole numbers of at least {least}")


def _per_channel(layer, source, target):
    """Parameters of requantisers and biases."""
    channels = source.shape[-1]
    if isinstance(layer, Thresholds):
        values = layer.values
        known = values.dtype == np.int64 and values.ndim == 2
        _need(known, f"has thresholds {values.dtype}{values.shape}, not int64 (C, T)")
        _need(len(values) == channels, f"has thresholds of {len(values)} channels, but its input has {channels}")
        _need(layer.falling.shape == (channels,), f"has {layer.falling.shape} directions for {channels} channels")
        _need((np.diff(values, axis=1) >= 0).all(), "has thresholds that do not ascend")
        inside = not values.size or (source.low <= int(values.min()) and int(values.max()) <= source.high + 1)
        _need(inside, f"has thresholds outside {source.low} to {source.high + 1}")
        top = layer.base + values.shape[1]
        fits = target.format.code_low <= layer.base and top <= target.format.code_high
        _need(fits, f"gives {layer.base} to {top}, which {target.format} does not hold")
        return
    names = ("values",) if isinstance(layer, Offset) else ("multiplier", "shift", "offset", "fraction")
    for name in names:
        array = getattr(layer, name)
        fits = array.dtype == np.int64 and array.shape == (channels,)
        _need(fits, f"has {name} {array.dtype}{array.shape}, not int64 {(channels,)}")
    if isinstance(layer, Multiply):
        _multiply(layer, source, target)


ROUNDINGS = "up", "tflm", "float32"


def _multiply(layer, source, target):
    """Ranges of a multiplying requantiser."""
    _need(layer.rounding in ROUNDINGS, f"has rounding {layer.rounding!r}, not {', '.join(ROUNDINGS)}")
    _need(0 <= layer.shift.min() and layer.shift.max() <= 62, "has shifts outside 0 to 62")
    _fits_clamp(layer, target)
    if layer.rounding == "up":
        return
    _need(not layer.fraction.any(), f"has fractions, which rounding {layer.rounding} does not take")
    if layer.rounding == "float32":
        fits = 0 <= layer.multiplier.min() and layer.multiplier.max() < 1 << FLOAT32_BITS
        _need(fits, f"has multipliers outside 0 to 2**{FLOAT32_BITS} - 1, which rounding float32 takes")
        _need(layer.shift.min() > FLOAT32_BITS, f"has shifts below {FLOAT32_BITS + 1}, which rounding float32 takes")
        reach = max(abs(source.low + int(layer.offset.min())), abs(source.high + int(layer.offset.max())))
        _need(reach < 1 << FLOAT32_BITS, f"has accumulators up to {reach}, which float32 does not hold")
        return
    fits = 0 <= layer.multiplier.min() and layer.multiplier.max() < 1 << 31
    _need(fits, "has multipliers outside 0 to 2**31 - 1, which rounding tflm takes")
    for offset, shift in zip(layer.offset.tolist(), layer.shift.tolist(), strict=True):
        left = max(31 - shift, 0)
        ends = (source.low + offset) << left, (source.high + offset) << left
        fits = -(1 << 31) <= ends[0] and ends[1] < 1 << 31
        _need(fits, f"has an accumulator of {ends[0]} to {ends[1]} after its left shift, beyond 32 bits")
