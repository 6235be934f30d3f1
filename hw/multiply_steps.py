"""Requantisation by multiplying in steps: one narrow multiplier a lane, used again and again."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned

from lutloom.hw.delay import delayed
from lutloom.hw.multiply import Multiply, parameter_rom, parameters_of
from lutloom.hw.product import Product
from lutloom.hw.tree import range_of, shape_of

MOST_STEPS = 32
BLOCK_BITS = 36  # no block RAM gives wider words


def reads_of(bits, steps, latency):
    """Narrow words that a wide one is read as: a power of two; all are there before the accumulator's time is over."""
    reads = 1 << max(1, steps - latency + 1).bit_length() - 1
    while reads > 1 and -(-bits * 2 // reads) <= BLOCK_BITS:
        reads //= 2
    return reads


class SteppedMultiply(Multiply):
    """``Multiply`` with beats at least ``steps`` cycles apart, for a fraction of its products.

    The multiplier goes through in ``steps`` digits, lowest first, each times the accumulator; what has been summed
    moves down a digit at a time. 32 steps are a serial multiplier, one bit a cycle; fewer share a wider one. The offset
    is added in front of the product, and the numbers of a channel are read from one memory, as several narrow words one
    after the other where that takes fewer blocks.

    Latency: ``delay`` cycles. No flow control, no combinational path.

    Parameters
    ----------
    steps : int
        2 to 32.
    others : as of ``Multiply``

    Raises
    ------
    ValueError
        For other steps, and as ``Multiply``.
    """

    def __init__(self, *, steps, **others):
        if not isinstance(steps, int) or not 2 <= steps <= MOST_STEPS:
            raise ValueError(f"multiply steps must be 2 to {MOST_STEPS}, not {steps!r}")
        self._steps = steps
        super().__init__(**others)

    def _make(self, name, place, **products):
        offsets = self._parameters["offset"].tolist()
        # What is added to the product, beside the offset's part of it.
        extras = [
            [bias - offset * factor for bias, offset, factor in zip(*row, strict=True)]
            for row in zip(self._biases, offsets, self._factors, strict=True)
        ]
        self._extra = extras[0][0] if len({extra for row in extras for extra in row}) == 1 else None
        least, most = (pick(pick(row) for row in offsets) for pick in (min, max))
        low, high = range_of(self._acc_shape)
        self._x_range = low + least, high + most
        tables = [self._factors, offsets, self._gaps] + ([extras] if self._extra is None else [])
        self._shapes = [self._factor_shape, shape_of(least, most), self._gap_shape]
        if self._extra is None:
            self._shapes.append(shape_of(*(pick(pick(row) for row in extras) for pick in (min, max))))
        bits = sum(shape.width for shape in self._shapes) * self._lanes
        self._reads = 1 if place == "lut" else reads_of(bits, self._steps, self._latency)
        self._rom = parameter_rom(name, self._shapes, tables, reads=self._reads, latency=self._latency, place=place)
        self._digit = -(-self._factor_shape.width // self._steps)
        digit_shape = signed(self._digit + 1) if self._factor_shape.signed else unsigned(self._digit)
        x_shape = shape_of(*self._x_range)
        self._product = [Product(a_shape=x_shape, b_shape=digit_shape, **products) for _ in range(self._lanes)]

    @property
    def steps(self):
        """Cycles from a beat to the next one, at least."""
        return self._steps

    @property
    def _known(self):
        """Cycles from i to the whole of a channel's numbers."""
        return self._latency + self._reads - 1

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._known + self._steps + self._product[0].delay + 1 + self._tail

    @property
    def memories(self):
        """Specification of the memory."""
        return [self._rom.spec]

    def elaborate(self, platform):
        m = Module()
        word = self._read(m)
        start = delayed(m, self.i_valid, self._known, "start", reset_less=False)
        # A beat's first digit is multiplied in the cycle behind `start`, its last one `steps` behind it.
        late = self._product[0].delay
        first = delayed(m, start, 1 + late, "first")
        last_digit = Const(0, 1)
        if self._factor_shape.signed:
            last_digit = delayed(m, start, self._steps, "last", reset_less=False)
        valid = delayed(m, start, self.delay - self._known, "valid", reset_less=False)
        m.d.comb += self.o_valid.eq(valid)
        for lane, product in enumerate(self._product):
            m.submodules[f"product{lane}"] = product
            factor, offset, gap, *extra = parameters_of(word, self._shapes, lane)
            acc = Signal(self._acc_shape, name=f"acc{lane}", reset_less=True)
            with m.If(self.i_valid):
                m.d.sync += acc.eq(self.i_acc[lane])
            x = Signal(shape_of(*self._x_range), name=f"x{lane}", reset_less=True)
            left = Signal(self._digit * self._steps, name=f"factor{lane}", reset_less=True)
            later = [gap, *extra]
            held = [Signal.like(number, name=f"held{lane}_{k}", reset_less=True) for k, number in enumerate(later)]
            m.d.sync += left.eq(left >> self._digit)
            with m.If(start):
                m.d.sync += [x.eq(acc + offset), left.eq(factor)]
                m.d.sync += [kept.eq(number) for kept, number in zip(held, later, strict=True)]
            digit = Cat(left[: self._digit], last_digit & left[self._digit - 1])
            m.d.comb += [product.i_a.eq(x), product.i_b.eq(digit)]
            gap, *extra = (delayed(m, kept, late + 1, f"late{lane}_{k}") for k, kept in enumerate(held))
            whole = self._sum(m, product, first, lane)
            total = whole + (extra[0] if extra else self._extra)
            m.d.comb += self.o[lane].eq(self._finish(m, total, gap, lane))
        return m

    def _read(self, m):
        """A beat's word of the memory, whole in the cycle ``_known`` behind it."""
        m.submodules.parameters = rom = self._rom
        if self._reads == 1:
            m.d.comb += rom.i_addr.eq(self.i_beat if self.beats > 1 else 0)
            return rom.o_data
        beat = Signal.like(self.i_beat, reset_less=True)
        part = Signal(range(self._reads))
        with m.If(self.i_valid):
            m.d.sync += [beat.eq(self.i_beat), part.eq(1)]
        with m.Elif(part != 0):
            m.d.sync += part.eq(part + 1)
        m.d.comb += rom.i_addr.eq(Cat(part, Mux(self.i_valid, self.i_beat, beat)) if self.beats > 1 else part)
        parts = [delayed(m, rom.o_data, self._reads - 1 - number, f"part{number}") for number in range(self._reads)]
        return Cat(parts)

    def _sum(self, m, product, first, lane):
        """The digits' products summed: the whole product in the cycle behind its last digit's."""
        digit = self._digit
        low, high = range_of(product.product_shape)
        least, most = low, high
        while (low + (least >> digit), high + (most >> digit)) != (least, most):
            least, most = low + (least >> digit), high + (most >> digit)
        total = Signal(shape_of(least, most), name=f"total{lane}", reset_less=True)
        gone = Signal(digit * (self._steps - 1), name=f"gone{lane}", reset_less=True)
        m.d.sync += [total.eq(Mux(first, 0, total >> digit) + product.o), gone.eq(Cat(gone, total[:digit])[digit:])]
        whole = Cat(gone, total)
        return whole.as_signed() if total.shape().signed else whole
