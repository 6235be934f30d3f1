"""Random small networks whose streams part and meet: sums, unions, parts, pads, tables, softmax and state."""

from fractions import Fraction
from math import prod

import numpy as np

from lutloom.formats import Format
from lutloom.golden.multiply import FLOAT32_BITS
from lutloom.intervals import output_range
from lutloom.network import (
    Add,
    Broadcast,
    Concat,
    Constant,
    Conv,
    Flatten,
    MaxPool,
    Multiply,
    Network,
    Pad,
    Product,
    Reshape,
    Slice,
    Softmax,
    State,
    Sum,
    Table,
    Tensor,
    Thresholds,
    Times,
    TopK,
    Transpose,
)
from lutloom.shapes import output_shape
from lutloom.sim.random_network import Builder

MOST_VALUES = 400  # of a tensor, so that a frame does not take for ever
SOFTMAXES = ((1073741824, 23, -248), (1717986918, 18, -8192), (2147483647, 26, -15), (1340000000, 21, -255))


class BranchBuilder(Builder):
    """Blocks of layers between the present tensor and the next; ``last`` may be set back to begin another way."""

    def join(self, layer, sources, format=None, zero=Fraction(0)):
        """Append a layer of several inputs, or one that moves codes."""
        low, high = output_range(layer, *sources)
        first = sources[0]
        form, zero = (format, zero) if format else (first.format, first.zero_point)
        shape = output_shape(layer, *(source.shape for source in sources))
        self.last = self.tensors[layer.output] = Tensor(layer.output, shape, form, Fraction(1), zero, low, high)
        self.layers.append(layer)

    def moved(self, kind, **parameters):
        self.join(kind(**self.names(kind.__name__.lower()), **parameters), [self.last])

    def codes(self, format):
        """A code of a format."""
        return self.chance.randint(format.code_low, format.code_high)

    def exponents(self, span, format, channels):
        """Multipliers and shifts of TFLM's arithmetic that bring a span to a format; small ones are shifted left."""
        shift = 31 + span.bit_length() - format.bits + self.array.integers(-1, 3, channels)
        least = 31 - max(0, 30 - span.bit_length() - 1)
        return self.array.integers(1 << 30, (1 << 31) - 1, channels), np.clip(shift, least, 62).astype(np.int64)

    def bring(self, format):
        """Requantise to a format; of present codes or accumulators."""
        low, high, channels = self.last.low, self.last.high, self.last.shape[-1]
        if format.bits > 4 and high - low < 1 << 20 and self.chance.random() < 0.2:
            self.in_float32(format)
            return
        if format.bits <= 4 and self.chance.random() < 0.6 or format.kind == "bipolar":
            steps = format.code_high - format.code_low
            values = np.sort(self.array.integers(low, high + 2, (channels, steps)), axis=1)
            falling = self.array.random(channels) < self.chance.choice([0, 0.5])
            layer = Thresholds(**self.names("requantise"), values=values, falling=falling, base=format.code_low)
            self.add(layer, format, Fraction(0 if format.kind == "bipolar" else self.codes(format)))
            return
        offset = self.array.integers(-(high - low) // 4 - 1, (high - low) // 4 + 2, channels)
        span = max(abs(low), abs(high)) + int(abs(offset).max()) + 1
        multiplier, shift = self.exponents(span, format, channels)
        zero = self.codes(format)
        layer = Multiply(
            **self.names("requantise"), multiplier=multiplier, shift=shift, offset=offset,
            fraction=np.zeros(channels, np.int64), zero_point=zero, low=format.code_low, high=format.code_high,
            rounding="tflm",
        )
        self.add(layer, format, Fraction(zero))

    def in_float32(self, format):
        """Requantise as onnxruntime does: by a float32 multiplier a channel."""
        low, high, channels = self.last.low, self.last.high, self.last.shape[-1]
        offset = self.array.integers(-(high - low) // 4 - 1, (high - low) // 4 + 2, channels)
        reach = max(abs(low), abs(high)) + int(abs(offset).max()) + 1
        multiplier = self.array.integers(1 << FLOAT32_BITS - 1, 1 << FLOAT32_BITS, channels)
        shift = FLOAT32_BITS + reach.bit_length() - format.bits + self.array.integers(-1, 3, channels)
        zero = self.codes(format)
        layer = Multiply(
            **self.names("requantise"), multiplier=multiplier, shift=np.maximum(shift, FLOAT32_BITS + 1), offset=offset,
            fraction=np.zeros(channels, np.int64), zero_point=zero, low=format.code_low, high=format.code_high,
            rounding="float32",
        )
        self.add(layer, format, Fraction(zero))

    def same(self, outputs=None, kernel=None):
        """A convolution that keeps rows and columns; depthwise at times."""
        height, width, channels = self.last.shape
        chance = self.chance
        kernel = kernel or (chance.choice([1, 2, 3]), chance.choice([1, 2, 3]))
        dilation = tuple(2 if k > 1 and size > 4 and chance.random() < 0.2 else 1
                         for k, size in zip(kernel, (height, width), strict=True))
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        before = [chance.randint(0, r) for r in reach]
        pads = (*before, *(r - b for r, b in zip(reach, before, strict=True)))
        depthwise = channels > 1 and chance.random() < 0.35 and (outputs is None or outputs % channels == 0)
        if depthwise:
            outputs = outputs or channels * chance.choice([1, 1, 2, 3])
        else:
            outputs = outputs or chance.randint(1, 6)
        weights = self.weights((outputs, *kernel, 1 if depthwise else channels))
        self.add(Conv(**self.names("conv"), weights=weights, dilation=dilation, pads=pads,
                      groups=channels if depthwise else 1))

    def depthwise(self):
        """A depthwise convolution with a stride."""
        height, width, channels = self.last.shape
        chance = self.chance
        kernel = chance.randint(1, min(3, height)), chance.randint(1, min(3, width))
        pads = tuple(chance.choice([0, kernel[side % 2] // 2]) for side in range(4))
        outputs = channels * chance.choice([1, 1, 2, 3])
        self.add(Conv(**self.names("conv"), weights=self.weights((outputs, *kernel, 1)), groups=channels, pads=pads,
                      stride=chance.choice([(1, 1), (2, 2), (1, 2)])))
        self.bring(self.format())

    def format(self, numbers=False):
        """A format of activations; ``numbers``: one that can be added."""
        chance = self.chance
        kinds = [Format("int", 8), Format("uint", 8), Format("int", chance.randint(2, 6)),
                 Format("uint", chance.randint(2, 6))]
        return chance.choice(kinds if numbers else [*kinds, Format("bipolar", 1)])

    def way(self, format, outputs):
        """A way of one to three layers from the present tensor to one of this format and so many channels."""
        chance = self.chance
        for _ in range(chance.choice([0, 0, 1])):
            if len(self.last.shape) == 3:
                self.same()
                self.bring(self.format())
        if len(self.last.shape) == 3:
            self.same(outputs)
        else:
            self.dense(outputs)
        self.bring(format)
        if chance.random() < 0.2:
            self.table(format)

    def table(self, format=None):
        """Any function of a code."""
        format = format or self.format(numbers=True)
        if self.last.format.kind == "bipolar" or self.last.format.bits > 8 or format.kind == "bipolar":
            return
        codes = self.array.integers(format.code_low, format.code_high + 1, 1 << self.last.format.bits)
        layer = Table(**self.names("table"), codes=codes.astype(np.int64), function="random")
        self.join(layer, [self.last], format, Fraction(self.codes(format)))

    def add_or_product(self):
        """A residual: the present tensor, or a way from it, with another way."""
        chance, start = self.chance, self.last
        if self.last.format.kind == "bipolar" or self.last.format.bits > 8 or chance.random() < 0.5:
            self.way(self.format(numbers=True), None if chance.random() < 0.5 else start.shape[-1])
        a = self.last
        if chance.random() < 0.9:
            self.last = start
            self.way(self.format(numbers=True), a.shape[-1])
        pair = [a, self.last]
        chance.shuffle(pair)
        self.meet(pair)

    def meet(self, pair, format=None):
        """The sum, difference or product of two tensors of equal shape."""
        chance, format = self.chance, format or self.format(numbers=True)
        zero = self.codes(format)
        low = zero if chance.random() < 0.3 else format.code_low
        offsets = tuple(-int(tensor.zero_point) if chance.random() < 0.8 else chance.randint(-40, 40)
                        for tensor in pair)
        shared = dict(name=f"join{len(self.layers)}", inputs=tuple(tensor.name for tensor in pair),
                      output=f"t{len(self.layers)}", offsets=offsets, zero_point=zero, low=low, high=format.code_high)
        ends = [max(abs(tensor.low + offset), abs(tensor.high + offset), 1)
                for tensor, offset in zip(pair, offsets, strict=True)]
        if chance.random() < 0.35:
            multiplier, shift = self.exponents(ends[0] * ends[1], format, 1)
            layer = Product(**shared, multiplier=int(multiplier[0]), shift=int(shift[0]))
        else:
            left = chance.choice([20, 20, 10, 0])
            multipliers = tuple(chance.randint(1 << 30, (1 << 31) - 1) for _ in pair)
            shifts = tuple(chance.choice([32, 32, 33, 35]) for _ in pair)
            shift = max(31, 31 + left + max(ends).bit_length() - format.bits + chance.randint(-1, 1))
            layer = Add(**shared, left=left, multipliers=multipliers, shifts=shifts,
                        multiplier=chance.randint(1 << 30, (1 << 31) - 1), shift=shift,
                        subtract=int(chance.random() < 0.25))
        self.join(layer, pair, format, Fraction(zero))

    def exact(self, pair, format):
        """The exact sum or product of two tensors of equal shape, requantised."""
        chance, name = self.chance, f"exact{len(self.layers)}"
        shared = dict(name=name, inputs=tuple(tensor.name for tensor in pair), output=f"t{len(self.layers)}")
        if chance.random() < 0.5:
            layer = Times(**shared, offsets=tuple(chance.randint(-20, 20) for _ in pair))
        else:
            tables = [self.array.integers(-900, 900, 1 << tensor.format.bits) for tensor in pair]
            layer = Sum(**shared, first=tables[0].astype(np.int64), second=tables[1].astype(np.int64))
        low, high = output_range(layer, *pair)
        self.join(layer, pair, Format.of_range(low, high), Fraction(0))
        self.bring(format)

    def transpose(self):
        """The axes in another order."""
        if len(self.last.shape) == 3:
            self.moved(Transpose, order=tuple(self.chance.sample(range(3), 3)))

    def backwards(self):
        """Codes of some axes backwards."""
        steps = tuple(self.chance.choice([1, -1, -1, -2]) for _ in self.last.shape)
        begin = tuple(0 if step > 0 else side - 1 for side, step in zip(self.last.shape, steps, strict=True))
        sizes = tuple(-(-side // abs(step)) for side, step in zip(self.last.shape, steps, strict=True))
        self.moved(Slice, begin=begin, sizes=sizes, steps=steps)

    def broadcast(self):
        """The present tensor joined with something smaller: made of it, or the same in every frame."""
        chance, start = self.chance, self.last
        if start.format.kind == "bipolar" or start.format.bits > 8:
            self.bring(self.format(numbers=True))
            start = self.last
        part = tuple(side if chance.random() < 0.5 else 1 for side in start.shape)
        if chance.random() < 0.5:
            self.constant(start.shape if chance.random() < 0.3 else part, self.format(numbers=True), start.shape)
        else:
            self.moved(Slice, begin=tuple(chance.randrange(side - own + 1) for side, own in
                                          zip(start.shape, part, strict=True)), sizes=part, steps=(1,) * len(part))
            self.moved(Broadcast, shape=start.shape)
        pair = [start, self.last]
        chance.shuffle(pair)
        if chance.random() < 0.5:
            self.meet(pair)
        else:
            self.exact(pair, self.format(numbers=True))

    def constant(self, shape, format, whole):
        """A constant tensor, of a smaller shape repeated."""
        own = self.array.integers(format.code_low, format.code_high + 1, shape)
        codes = np.broadcast_to(own, whole).astype(np.int64)
        layer = Constant(f"constant{len(self.layers)}", f"t{len(self.layers)}", codes)
        self.last = self.tensors[layer.output] = Tensor(
            layer.output, whole, format, Fraction(1), Fraction(self.codes(format)), int(codes.min()), int(codes.max()))
        self.layers.append(layer)

    def concat(self):
        """A union of two or three: the present tensor, ways from it, the same one twice."""
        chance, start = self.chance, self.last
        axis = chance.randrange(len(start.shape))
        own = start.format.bits <= 8 and chance.random() < 0.6
        format = start.format if own else self.format()
        parts = []
        for index in range(chance.choice([2, 2, 3])):
            self.last = start
            if not (own and (index == 0 or chance.random() < 0.2)):
                free = axis == len(start.shape) - 1
                self.way(format, None if free else start.shape[-1])
            parts.append(self.last)
        chance.shuffle(parts)
        self.unite(parts, axis)

    def unite(self, parts, axis):
        """The tensors behind each other."""
        layer = Concat(f"concat{len(self.layers)}", tuple(part.name for part in parts), f"t{len(self.layers)}", axis)
        self.join(layer, parts)
        last = self.last
        self.last = self.tensors[last.name] = Tensor(
            last.name, last.shape, last.format, last.scale, last.zero_point, min(part.low for part in parts),
            max(part.high for part in parts),
        )

    def twice(self):
        """The same sums brought to codes in two ways, which meet."""
        if len(self.last.shape) == 3:
            self.same()
        else:
            self.dense()
        sums, format, parts = self.last, self.format(), []
        for _ in range(2):
            self.last = sums
            self.bring(format)
            parts.append(self.last)
        self.unite(parts, self.chance.randrange(len(sums.shape)))

    def slice(self):
        """Some codes of each axis, every other one perhaps."""
        begin, sizes, steps = [], [], []
        for side in self.last.shape:
            step = self.chance.choice([1, 1, 1, 2]) if side > 2 else 1
            first = self.chance.choice([0, self.chance.randrange(side)])
            most = -(-(side - first) // step)
            begin.append(first)
            sizes.append(self.chance.choice([most, self.chance.randint(1, most)]))
            steps.append(step)
        self.moved(Slice, begin=tuple(begin), sizes=tuple(sizes), steps=tuple(steps))

    def shuffle(self):
        """Parts of an axis in another order: a split and a union."""
        start, chance = self.last, self.chance
        axis = chance.randrange(len(start.shape))
        if start.shape[axis] < 2:
            return
        cut = chance.randint(1, start.shape[axis] - 1)
        parts = []
        for first, size in ((cut, start.shape[axis] - cut), (0, cut)):
            self.last = start
            begin, sizes = [0] * len(start.shape), list(start.shape)
            begin[axis], sizes[axis] = first, size
            self.moved(Slice, begin=tuple(begin), sizes=tuple(sizes), steps=(1,) * len(sizes))
            parts.append(self.last)
        self.unite(parts, axis)

    def pad(self):
        """A rim of one code."""
        chance = self.chance
        rims = [[chance.choice([0, 0, 1, 2]) for _ in self.last.shape] for _ in range(2)]
        self.moved(Pad, before=tuple(rims[0]), after=tuple(rims[1]), code=self.codes(self.last.format))

    def reshape(self):
        """The same codes in another shape."""
        count = prod(self.last.shape)
        height = self.chance.choice([k for k in range(1, count + 1) if count % k == 0])
        width = self.chance.choice([k for k in range(1, count // height + 1) if count // height % k == 0])
        shape = (height, width, count // height // width)
        self.moved(Reshape, shape=shape if self.chance.random() < 0.8 else (count,))

    def stream(self):
        """Rows of frames before, in front of this frame's; the last ones are kept: how wake-word models stream."""
        start, chance = self.last, self.chance
        rows = chance.randint(1, 3)
        shape = (rows, *start.shape[1:])
        before = self.state(shape, start.format)
        self.unite([before, start], 0)
        united = self.last
        self.moved(Slice, begin=(united.shape[0] - rows, *(0 for _ in shape[1:])), sizes=shape, steps=(1,) * len(shape))
        self.close(before)
        self.last = united

    def recur(self):
        """The present tensor joined with what became of it in the frame before."""
        start, format = self.last, self.format(numbers=True)
        before = self.state(start.shape, format)
        self.last = start
        if start.format.kind == "bipolar" or start.format.bits > 8:
            self.way(self.format(numbers=True), start.shape[-1])
        pair = [self.last, before]
        self.chance.shuffle(pair)
        self.meet(pair, format)
        self.close(before)

    def delay(self):
        """A frame before, and the one before that, in the present one's place."""
        for _ in range(self.chance.choice([1, 1, 2])):
            start = self.last
            before = self.state(start.shape, start.format)
            self.last = start
            self.close(before)
            self.last = before

    def state(self, shape, format):
        """The output of a state, whose input `close` states."""
        reset = np.full(shape, self.codes(format)) if self.chance.random() < 0.4 else self.array.integers(
            format.code_low, format.code_high + 1, shape)
        zero = Fraction(0 if format.kind == "bipolar" else self.codes(format))
        tensor = Tensor(f"t{len(self.layers)}", shape, format, Fraction(1), zero, format.code_low, format.code_high)
        self.layers.append(State(f"state{len(self.layers)}", "", tensor.name, reset.astype(np.int64)))
        self.tensors[tensor.name] = tensor
        return tensor

    def close(self, tensor):
        """The present tensor becomes what a state gives in the next frame."""
        index = next(k for k, layer in enumerate(self.layers) if layer.output == tensor.name)
        layer = self.layers[index]
        self.layers[index] = State(layer.name, self.last.name, layer.output, layer.reset)

    def wait(self):
        """A sum with something that takes all of the input.

        Constants and the frames before may give all of the first beats of a frame, or all its beats, before its input
        comes, and benches take these for beats too many.
        """
        if self.last.format.bits > 8:
            self.bring(self.format())
        outputs, pair = self.chance.randint(1, 12), []
        for start in self.last, self.tensors["x"]:
            self.last = start
            if len(start.shape) == 3:
                self.add(Flatten(**self.names("flatten")))
            self.dense(outputs)
            self.bring(self.format(numbers=True))
            pair.append(self.last)
        self.meet(pair)

    def softmax(self):
        """Softmax over the channels."""
        self.bring(form := Format(self.chance.choice(["int", "uint"]), 8))
        out = self.chance.choice([form, Format("int", 16)]) if self.chance.random() < 0.5 else form
        multiplier, left, least = self.chance.choice(SOFTMAXES)
        layer = Softmax(**self.names("softmax"), multiplier=multiplier, left=left, least=least, low=out.code_low,
                        high=out.code_high)
        self.join(layer, [self.last], out, Fraction(0))


BLOCKS = ("add_or_product", "add_or_product", "concat", "concat", "slice", "shuffle", "pad", "table", "reshape",
          "stream", "recur", "delay", "depthwise", "same", "pool", "twice", "transpose", "backwards", "broadcast",
          "broadcast")


def random_branches(seed):
    """A small network of random blocks, most of which part and meet; the same for the same seed.

    Parameters
    ----------
    seed : int

    Returns
    -------
    Network
    """
    b = BranchBuilder(seed)
    chance = b.chance
    image = chance.random() < 0.8
    shape = (chance.randint(1, 6), chance.randint(1, 6), chance.randint(1, 5)) if image else (chance.randint(1, 20),)
    b.start(shape, b.format())
    for _ in range(chance.randint(1, 4)):
        block = chance.choice(BLOCKS)
        image = len(b.last.shape) == 3
        if not image and block in ("depthwise", "same", "pool") or prod(b.last.shape) > MOST_VALUES:
            continue
        if block == "pool":
            b.pool()
            continue
        getattr(b, block)()
        if block == "same":
            b.bring(b.format())
    if not b.layers or isinstance(b.layers[-1], Flatten | Reshape | MaxPool):
        b.bring(b.format())
    if any(isinstance(layer, Pad | State) for layer in b.layers):
        b.wait()
        if chance.random() < 0.3:
            b.recur()  # the network's output is read inside it too
    ending = chance.random()
    if ending < 0.3 and prod(b.last.shape) <= 40:
        if len(b.last.shape) == 3 and (ending < 0.1 or chance.random() < 0.6):
            b.add(Flatten(**b.names("flatten")))
        if ending >= 0.1:
            b.softmax()
        elif b.last.format.kind != "bipolar":
            b.add(TopK(**b.names("top"), k=chance.randint(1, min(3, b.last.shape[0]))))
    own = b.tensors["x"].shape
    return Network(
        name=f"branches_{seed}", tensors=b.tensors, layers=tuple(b.layers), input="x", output=b.last.name,
        input_shape=own, input_layout="NHWC" if len(own) == 3 else "NC", output_shape=b.last.shape,
    )
