"""Pooling of whole feature maps: a running result for each channel, and no window."""

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from lutloom.hw.delay import delayed
from lutloom.hw.fifo import values_stream
from lutloom.hw.memory import Ram
from lutloom.hw.pool import greater
from lutloom.hw.requantise import steps_of
from lutloom.hw.stage import Buffered, spaced
from lutloom.schedule import Fold

IN_REGISTERS = 256  # bits of running results that stand in registers rather than in a block RAM


def in_registers(words, bits, latency):
    """Whether so many words of running results go round in registers: where they are few, or too few for a memory,
    which a word must have left before it is asked for again."""
    return words * bits <= IN_REGISTERS or words < latency + 2


class WholePool(Buffered):
    """Greatest code or sum of each channel over all pixels of a feature map, and requantisation.

    A beat a cycle is taken; with each beat of the last pixel a result leaves.

    Parameters
    ----------
    name : str
        Prefix of its memory's name.
    kind : "max" or "sum"
    pixels : int
        Of a feature map, 2 or more.
    x_format : Format
    shape : Shape
        Holds every result.
    width, channels : int
        Values a beat, channels of the feature map.
    requantise : component or None
    out_bits, credits : int
    latency : 1 or 2
        Of the memory.

    Members
    -------
    i, o : streams
    """

    def __init__(self, *, name, kind, pixels, x_format, shape, width, channels, requantise, out_bits, credits, latency):
        if kind not in ("max", "sum"):
            raise ValueError(f"pool kind must be max or sum, not {kind!r}")
        if pixels < 2:
            raise ValueError(f"whole pool pixels must be at least 2, not {pixels}")
        self._kind, self._pixels, self._format, self._shape = kind, pixels, x_format, shape
        self._requantise, self._out_bits, self._credits = requantise, out_bits, credits
        self._out_width, self._channels = width, channels
        self._words = -(-channels // width)
        bits = shape.width * width
        self._ram = None
        if not in_registers(self._words, bits, latency):
            self._ram = Ram(name=f"{name}_running", width=bits, depth=self._words, latency=latency)
        super().__init__({"i": In(values_stream(x_format.bits, width)), "o": Out(values_stream(out_bits, width))})

    @property
    def _late(self):
        """Cycles from a beat to the running results that it makes."""
        return 1 + (self._ram.latency if self._ram else 0)

    @property
    def schedule(self):
        """When beats come and go."""
        delay = self._late + (self._requantise.delay if self._requantise else 0) + 1
        return Fold(words=self._words, pixels=self._pixels, delay=delay, credits=self._credits,
                    gap=steps_of(self._requantise))

    def elaborate(self, platform):
        m = Module()
        word, pixel = Signal(range(max(2, self._words))), Signal(range(self._pixels))
        came, last, credit = Signal(), Signal(), Signal(signed(len(Const(self._credits)) + 2), init=self._credits - 1)
        ends = pixel == self._pixels - 1
        m.d.comb += [came.eq(self.i.valid & self.i.ready), last.eq(came & ends)]
        with m.If(came):
            m.d.sync += word.eq(Mux(word == self._words - 1, 0, word + 1))
            with m.If(word == self._words - 1):
                m.d.sync += pixel.eq(Mux(ends, 0, pixel + 1))
        late = self._late
        x = delayed(m, self.i.payload, late - 1, "x")
        first = delayed(m, pixel == 0, late - 1, "first")
        running = self._running(m, came, word, x, first)
        valid = delayed(m, last, late, "valid", reset_less=False)
        left = self._finish(m, valid, running, delayed(m, word, late, "word"), self._requantise, self._credits)
        m.d.comb += self.i.ready.eq(~credit[-1] & spaced(m, last, steps_of(self._requantise)))
        m.d.sync += credit.eq(credit - last + left)
        return m

    def _running(self, m, came, word, x, first):
        """The running results of each lane, ``_late`` cycles behind the beat that they have in them."""
        size, width = self._shape.width, self._out_width
        held = Signal(data.ArrayLayout(self._shape, width), name="running", reset_less=True)
        results = [held[lane] for lane in range(width)]
        if self._ram is None:
            # The words go round; the one that is written last is the last of them.
            ring = [results] + [
                [Signal(self._shape, name=f"ring{place}_{lane}", reset_less=True) for lane in range(width)]
                for place in range(1, self._words)
            ]
            with m.If(came):
                for before, after in zip(ring, ring[1:], strict=False):
                    m.d.sync += [b.eq(a) for a, b in zip(before, after, strict=True)]
            old, enable = ring[-1], came
        else:
            m.submodules.running = ram = self._ram
            m.d.comb += [
                ram.i_addr.eq(word), ram.i_write_data.eq(held.as_value()),
                ram.i_write_en.eq(delayed(m, came, self._late, "write", reset_less=False)),
                ram.i_write_addr.eq(delayed(m, word, self._late, "place")),
            ]
            old = [ram.o_data[lane * size : (lane + 1) * size] for lane in range(width)]
            old = [value.as_signed() if self._shape.signed else value for value in old]
            enable = Const(1, 1)
        with m.If(enable):
            for lane, result in enumerate(results):
                value = self._value(x[lane])
                if self._kind == "sum":
                    m.d.sync += result.eq(Mux(first, 0, old[lane]) + value)
                else:
                    m.d.sync += result.eq(Mux(first, value, greater(value, old[lane])))
        return held

    def _value(self, code):
        """What a code stands for in the pooling."""
        value = code.as_signed() if self._format.signed else code
        if self._kind == "sum" and self._format.kind == "bipolar":
            return Mux(code, 1, -1)
        return value
