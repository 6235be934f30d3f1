"""Random small networks with random plans: what a person would not think of trying."""

import random
from dataclasses import replace
from fractions import Fraction
from math import gcd

import numpy as np

from lutloom.formats import Format
from lutloom.hw.build_sparse import skips_zeros
from lutloom.hw.build_stage import able_width, filled, geometry
from lutloom.intervals import output_range
from lutloom.network import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Network,
    Offset,
    SumPool,
    Tensor,
    Thresholds,
    TopK,
    Weights,
)
from lutloom.plan import (
    Plan,
    StagePlan,
    group_layers,
    identifier,
    image_of,
    is_chain,
    order_of,
    pools_whole_map,
    window_of,
)
from lutloom.planner import with_credits
from lutloom.shapes import output_shape
from lutloom.weight_groups import codes_of, members
from lutloom.weights import WeightFormat

PATTERNS = ("X0.0XX", "X0.X0XX", "XX.X", "X0.XX", "X0.XXX", "X0.00X")


class Builder:
    """Layers added one by one; the random choices of one seed."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.array = np.random.default_rng(seed)
        self.grouped = random.Random(seed ^ 0x5EED)
        self.layers, self.tensors = [], {}
        # Networks of odd seeds are what they were before there were these.
        self.more_kinds = () if seed % 2 else ("ternary", "pow2", "codebook", "float16")
        self.pruned = np.random.default_rng(seed) if seed % 5 == 2 else None

    def start(self, shape, format):
        zero = Fraction(self.chance.randint(format.code_low, format.code_high) if format.kind != "bipolar" else 0)
        self.last = Tensor("x", shape, format, Fraction(1), zero, format.code_low, format.code_high)
        self.tensors["x"] = self.last

    def add(self, layer, format=None, zero=Fraction(0)):
        low, high = output_range(layer, self.last)
        form = format or Format.of_range(low, high)
        if isinstance(layer, Flatten | MaxPool):
            form, zero, low, high = self.last.format, self.last.zero_point, self.last.low, self.last.high
        shape = output_shape(layer, self.last.shape)
        self.last = Tensor(layer.output, shape, form, Fraction(1), zero, low, high)
        self.tensors[layer.output] = self.last
        self.layers.append(layer)

    def names(self, kind):
        return dict(name=f"{kind}{len(self.layers)}", input=self.last.name, output=f"t{len(self.layers)}")

    def weights(self, shape):
        kind = self.chance.choice(["int", "bitmask", "binary", "binary", *self.more_kinds])
        if kind == "codebook":
            entries = sorted(self.chance.sample(range(-40, 41), self.chance.randint(2, 9)))
            format = WeightFormat("codebook", (len(entries) - 1).bit_length(), None, tuple(entries))
        elif kind == "pow2":
            format = WeightFormat("pow2", self.chance.randint(2, 4))
        elif kind == "float16":
            least = self.chance.randint(1, 20)
            format = WeightFormat("float16", 16, None, (least, least + self.chance.randint(0, 5)))
            if self.last.format.kind == "bipolar":
                format = WeightFormat("ternary", 2)
        elif kind == "ternary":
            format = WeightFormat("ternary", 2)
        elif kind == "int":
            format = WeightFormat("int", self.chance.randint(2, 6))
        elif kind == "bitmask":
            format = WeightFormat.parse(f"bitmask:{self.chance.choice(PATTERNS)}")
        else:
            format = WeightFormat("binary", 1)
        if kind == "codebook" and self.grouped.random() < 0.6:
            return self.vectors(shape)
        integers = self.array.choice(format.levels, shape)
        sparse = self.pruned is not None and 0 in format.levels and self.pruned.random() < 0.8
        if sparse:
            integers = np.where(self.pruned.random(shape) < self.pruned.choice([0.03, 0.2, 0.5, 1.0]), integers, 0)
        return Weights(format.encode(integers), format, (Fraction(1),), sparse)

    def vectors(self, shape):
        """Weights of a codebook of groups, drawn apart so that all else stays as it was."""
        group = self.grouped.choice([2, 4, 8])
        array = np.random.default_rng(self.grouped.randint(0, 1 << 30))
        table = array.integers(-128, 128, (self.grouped.choice([2, 3, 5, 16, 33, 256]), group))
        table //= self.grouped.choice([1, 1, 16])
        format = WeightFormat.parse(f"codebook:{len(table)}x{group}", tuple(map(int, table.ravel())))
        indices = array.integers(0, len(table), (shape[0], len(members(shape, group))))
        return Weights(codes_of(indices, shape, group), format, (Fraction(1),))

    def conv(self):
        height, width, channels = self.last.shape
        chance = self.chance
        kernel = chance.randint(1, min(4, height)), chance.randint(1, min(4, width))
        dilation = tuple(2 if k > 1 and size >= 2 * k and chance.random() < 0.15 else 1
                         for k, size in zip(kernel, (height, width), strict=True))
        pads = tuple(chance.choice([0, 0, chance.randint(0, kernel[side % 2] - 1)]) for side in range(4))
        groups = chance.choice([1, 1, 1, *[g for g in (2, 3, 4) if channels % g == 0]])
        outputs = groups * chance.randint(1, max(1, 10 // groups))
        stride = chance.choice([(1, 1), (1, 1), (2, 2), (1, 2), (3, 2)])
        layer = Conv(**self.names("conv"), weights=self.weights((outputs, *kernel, channels // groups)),
                     stride=stride, dilation=dilation, pads=pads, groups=groups)
        self.add(layer)

    def dense(self, outputs=None):
        outputs = outputs or self.chance.randint(1, 24)
        self.add(Dense(**self.names("dense"), weights=self.weights((outputs, self.last.shape[0]))))

    def requantise(self, last=False):
        low, high, channels = self.last.low, self.last.high, self.last.shape[-1]
        if last and self.chance.random() < 0.6:
            if self.chance.random() < 0.7:
                self.add(Offset(**self.names("bias"), values=self.array.integers(-99, 99, channels)))
            return
        if self.chance.random() < 0.75:
            bits = self.chance.randint(1, 4)
            format = self.chance.choice([Format("uint", bits), Format("int", bits), Format("bipolar", 1)])
            steps = format.code_high - format.code_low
            if self.chance.random() < 0.2:
                steps = self.chance.randint(1, steps)
            values = np.sort(self.array.integers(low, high + 2, (channels, steps)), axis=1)
            falling = self.array.random(channels) < self.chance.choice([0, 0, 0.5])
            zero = 0 if format.kind == "bipolar" else self.chance.randint(format.code_low, format.code_high)
            layer = Thresholds(**self.names("requantise"), values=values, falling=falling, base=format.code_low)
            self.add(layer, format, Fraction(zero))
            return
        format = Format(self.chance.choice(["uint", "int"]), self.chance.randint(4, 8))
        tflm = self.chance.random() < 0.3
        span = max(abs(low), abs(high), 1)
        if tflm and span < 1 << 18:
            shift = np.full(channels, 31 + max(0, span.bit_length() - format.bits))
            multiplier = self.array.integers(1 << 30, (1 << 31) - 1, channels)
            offset = self.array.integers(-span // 4 - 1, span // 4 + 1, channels)
            fraction = np.zeros(channels, np.int64)
        else:
            tflm = False
            shift = np.full(channels, 14 + max(0, span.bit_length() - format.bits))
            multiplier = self.array.integers(1 << 12, 1 << 15, channels) * self.array.choice([1, 1, 1, -1], channels)
            offset = np.zeros(channels, np.int64)
            fraction = self.array.integers(-(1 << 15), 1 << 15, channels)
        zero = self.chance.randint(format.code_low, format.code_high)
        low_code = format.code_low if self.chance.random() < 0.5 else zero
        numbers = {"multiplier": multiplier, "shift": shift, "offset": offset, "fraction": fraction}
        layer = Multiply(
            **self.names("requantise"), **{name: values.astype(np.int64) for name, values in numbers.items()},
            zero_point=zero, low=low_code, high=format.code_high, rounding="tflm" if tflm else "up",
        )
        self.add(layer, format, Fraction(zero))

    def pool(self):
        height, width, _ = self.last.shape
        chance = self.chance
        kernel = chance.randint(1, min(3, height)), chance.randint(1, min(3, width))
        stride = chance.choice([kernel, (1, 1), (2, 2)])
        pads = tuple(chance.choice([0, 0, 0, kernel[side % 2] - 1]) for side in range(4))
        if chance.random() < 0.6:
            self.add(MaxPool(**self.names("max"), kernel=kernel, stride=stride, pads=pads))
            return
        probe = MaxPool("", "", "", kernel, stride, pads)
        out_height, out_width, _ = output_shape(probe, self.last.shape)
        factors = np.ones((out_height, out_width), np.int64)
        if chance.random() < 0.5:
            factors[-1, :] *= 2
            factors[:, -1] *= 3
        self.add(SumPool(**self.names("sum"), kernel=kernel, stride=stride, pads=pads, factors=factors, pad_code=0))
        self.requantise()


def random_network(seed):
    """A small chain of random layers; the same for the same seed.

    Parameters
    ----------
    seed : int

    Returns
    -------
    Network
    """
    b = Builder(seed)
    chance = b.chance
    formats = [("uint", 8), ("uint", chance.randint(1, 6)), ("int", chance.randint(2, 8)), ("bipolar", 1)]
    format = Format(*chance.choice(formats))
    image = chance.random() < 0.75
    shape = (chance.randint(1, 9), chance.randint(1, 9), chance.randint(1, 5)) if image else (chance.randint(1, 40),)
    b.start(shape, format)
    if format.kind != "bipolar" and chance.random() < 0.2:
        b.requantise()
    if image:
        for _ in range(chance.randint(1, 2)):
            b.conv()
            b.requantise()
            if chance.random() < 0.5 and b.last.format.bits <= 8:
                b.pool()
        if chance.random() < 0.7:
            b.add(Flatten(**b.names("flatten")))
    if len(b.last.shape) == 1:
        for index in range(depth := chance.randint(1, 2)):
            b.dense()
            b.requantise(last=index == depth - 1)
        if chance.random() < 0.25 and b.last.format.kind != "bipolar":
            k = chance.randint(1, min(3, b.last.shape[0]))
            b.add(TopK(**b.names("top"), k=k))
    own = b.tensors["x"].shape
    return Network(
        name=f"random_{seed}", tensors=b.tensors, layers=tuple(b.layers), input="x", output=b.last.name,
        input_shape=own, input_layout="NHWC" if image else "NC", output_shape=b.last.shape,
    )


def random_plan(network, seed, family="generic", patchable=False):
    """A plan with random widths and units for a network; the same for the same seed.

    Parameters
    ----------
    network : Network
    seed : int
    family : "generic", "ice40" or "ecp5"
    patchable : bool

    Returns
    -------
    Plan
    """
    chance, more = random.Random(seed), random.Random(~seed)  # two, so that old seeds keep their plans' widths
    groups = group_layers(network)
    readers = {source: index for index, group in enumerate(groups) for source in group.sources}
    stages = []
    for index, group in enumerate(groups):
        flat = group.output is not group.results or (
            index in readers and groups[readers[index]].image[2] != group.channels_out)
        stage = _with_steps(more, group, _random_stage(chance, group, flat))
        if group.kind == "dot" and skips_zeros(group) and not patchable:
            stage = _sparse(more, group, stage, flat)
        stages.append(stage)
    first, channels = stages[0].width, groups[0].image[2]
    if is_chain(groups):
        input_width = chance.choice([w for w in range(1, channels + 1) if gcd(w, first) in (w, first)])
    else:
        input_width = chance.randint(1, image_of(network.tensors[network.input])[2])
    return with_credits(network, replace(Plan("dataflow", family, input_width, tuple(stages)), patchable=patchable))


def _random_stage(chance, group, flat):
    """A stage for a group; ``flat``: its beats are no wider than a pixel."""
    channels, outputs = group.image[2], group.channels_out
    layers = tuple(layer.name for layer in group.layers)
    name = f"{identifier(group.main.name)}"
    if group.kind not in ("dot", "pool", "map", "topk"):
        width = chance.choice(_stream_widths(group))
        return StagePlan(name, group.kind, layers, width, 1, width, dsp=chance.random() < 0.3)
    convolution = isinstance(group.main, Conv)
    share = channels // group.main.groups if convolution else channels
    masked = convolution and group.input.format.kind == "bipolar" and any(group.main.pads)
    widths = [w for w in range(1, channels + 1) if (channels if group.depthwise else share) % w == 0]
    dense = isinstance(group.main, Dense) and not masked and filled(group.main.weights.format)
    if group.kind in ("map", "pool") or dense:
        widths += [w for w in range(1, min(channels, 9))]
    if group.kind == "dot":
        widths = [w for w in widths if able_width(group, w)]
    width = chance.choice(widths)
    if group.kind == "topk":
        return StagePlan(name, "topk", layers, 1, 1, 1)
    if group.kind == "map":
        units = out = width = chance.choice([w for w in widths if not (flat and outputs % w)])
    elif pools_whole_map(group):
        units = out = width = chance.choice([w for w in widths if not (flat and outputs % w)])
    elif group.kind == "pool":
        units = width
        cost = window_of(group)["kernel"][1]
        out = _out(chance, units, outputs, cost, flat, width < channels)
        if out is None:
            width = units = out = 1
    else:
        parts = group.main.groups if convolution else 1
        per = outputs // parts
        units = chance.choice([u for u in range(1, per + 1) if parts == 1 or per % u == 0])
        kw = window_of(group)["kernel"][1] if convolution else 1
        cost = kw * -(-share // width)
        if group.depthwise:
            units, cost = per * width, kw
        out = _out(chance, units, outputs, cost, flat, parts * -(-per // units) > 1)
        if out is None:
            units = out = 1
    return StagePlan(
        name, group.kind, layers, width, units, out, dsp=chance.random() < 0.3,
        weights_place=chance.choice(["ebr", "lut"]), parameters_place=chance.choice(["ebr", "lut"]),
        rows_place="lut" if share % 3 == 1 else "ebr",  # not drawn: the plans of old seeds stay
    )


def _sparse(chance, group, stage, flat):
    """The stage as one that skips zeros, with widths of its own."""
    outputs, width = group.channels_out, chance.randint(1, min(4, group.image[2]))
    units = chance.randint(1, min(6, outputs))
    out = _out(chance, units, outputs, units, flat, units < outputs)
    if out is None:
        units = out = 1
    return replace(stage, width=width, units=units, out_width=out, run_bits=chance.randint(1, 6),
                   lut_units=min(stage.lut_units, units), weights_place=chance.choice(["ebr", "lut"]))


def _with_steps(chance, group, stage):
    """The stage with random steps of its requantisation, where it has some, products mixed on DSPs and in LUTs, and
    its weights stored in some way."""
    weights = getattr(group.main, "weights", None)
    if weights is not None:  # by what is there, so that the plans of old seeds stay
        stage = replace(stage, packed=weights.format.kind == "ternary" and weights.codes.size % 2 == 0,
                        table_place="lut" if weights.codes.size % 3 == 0 else "ebr")
    if stage.kind == "dot" and stage.dsp:
        stage = replace(stage, lut_units=chance.randint(0, stage.units))
    if stage.kind == "join" or (isinstance(group.requantise, Multiply) and stage.kind == "map"):
        return replace(stage, steps=chance.choice([1, 2, 5]))
    if not isinstance(group.requantise, Multiply):
        return stage
    if pools_whole_map(group):
        return replace(stage, steps=chance.choice([1, 3]))
    most = geometry(group, stage.width, stage.units).cost // -(-stage.units // stage.out_width)
    return replace(stage, steps=chance.randint(1, max(1, min(most, 12))))


def _stream_widths(group):
    """Widths that a stage which joins, parts or keeps streams can have."""
    layer, widths = group.main, range(1, group.image[2] + 1)
    if group.kind == "softmax":
        return [1]
    if group.kind == "concat" and layer.axis == len(group.results.shape) - 1:
        counts = [image_of(tensor)[2] for tensor in group.inputs[:-1]]
        return [w for w in widths if not any(count % w for count in counts)]
    if group.kind == "slice":
        begin, size, step = layer.begin[-1], layer.sizes[-1], layer.steps[-1]
        ends = begin + size == group.image[2]
        return [1] if step != 1 else [w for w in widths if begin % w == 0 and (ends or size % w == 0)]
    if group.kind == "order":
        (*_, size), (*_, stride), base = order_of(group)
        return [1] if stride != 1 else [w for w in widths if not group.image[2] % w and not size % w and not base % w]
    if group.kind == "constant":
        return [w for w in widths if not group.image[2] % w]
    if group.kind == "pad":
        counts = layer.before[-1], layer.after[-1], group.image[2]
        return [w for w in widths if not any(count % w for count in counts)]
    return list(widths)


def _out(chance, units, outputs, cost, flat, several):
    """A random output width that a stage can have; None if there is none."""
    able = [
        w for w in range(1, units + 1)
        if -(-units // w) <= cost and not (several and units % w) and not (flat and outputs % w)
    ]
    return chance.choice(able) if able else None


def random_inputs(network, count, seed):
    """Random codes for a network: (count, *shape), corners more often than elsewhere."""
    rng = np.random.default_rng(seed)
    tensor = network.tensors[network.input]
    low, high = tensor.format.code_low, tensor.format.code_high
    codes = rng.integers(low, high + 1, (count, *tensor.shape))
    corners = rng.random(codes.shape) < 0.2
    codes[corners] = rng.choice([low, high], int(corners.sum()))
    return codes.astype(tensor.format.dtype())
