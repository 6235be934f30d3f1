"""Two streams into one, value by value: sums and products of codes."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.golden.join import scaled_codes
from lutloom.hw.delay import delayed
from lutloom.hw.fifo import ShiftFifo, values_stream
from lutloom.hw.memory import Rom
from lutloom.hw.product import Product
from lutloom.hw.requantise import steps_of
from lutloom.hw.stage import Buffered, spaced
from lutloom.hw.tree import registered, shape_of
from lutloom.network import Add, Sum
from lutloom.schedule_branches import Zip

DEPTH = 2  # beats held at each input


def by_code(values, form, bits):
    """Words of a table whose address is a code: ``values`` are those of the codes in ascending order.

    Codes are two's complement, so that a signed format's table begins with the value of 0.
    """
    words = [int(value) & ((1 << bits) - 1) for value in values]
    half = len(words) // 2 if form.signed else 0
    return words[half:] + words[:half]


class Combine(wiring.Component):
    """What stands in front of the requantiser of a join: a number for each pair of codes.

    Latency: ``delay`` cycles; a beat a cycle. No flow control, no combinational path.

    Members
    -------
    i_valid : In(1)
    i_a, i_b : In(lanes codes)
    o_valid : Out(1)
    o_acc : Out(lanes numbers of acc_shape)
    """

    def __init__(self, lanes, formats, acc_shape):
        self._lanes, self._formats, self.acc_shape = lanes, formats, acc_shape
        super().__init__(
            {
                "i_valid": In(1),
                "i_a": In(data.ArrayLayout(unsigned(formats[0].bits), lanes)),
                "i_b": In(data.ArrayLayout(unsigned(formats[1].bits), lanes)),
                "o_valid": Out(1),
                "o_acc": Out(data.ArrayLayout(acc_shape, lanes)),
            }
        )


class SumOfTables(Combine):
    """What each of two codes contributes to a sum, from tables, summed.

    Parameters
    ----------
    name : str
        Prefix of the memories' names; each input and lane has one.
    layer : lutloom.network.Add or Sum
    formats : (Format, Format)
    lanes : int
    latency : 1 or 2
        Of the memories.
    """

    def __init__(self, *, name, layer, formats, lanes, latency):
        self._latency, self._minus = latency, isinstance(layer, Add) and bool(layer.subtract)
        self._tables = [layer.first, layer.second] if isinstance(layer, Sum) else [
            scaled_codes(form, layer.left, layer.offsets[k], layer.multipliers[k], layer.shifts[k])
            for k, form in enumerate(formats)
        ]
        a, b = self._tables
        ends = (a.min() - b.max(), a.max() - b.min()) if self._minus else (a.min() + b.min(), a.max() + b.max())
        self._range = int(ends[0]), int(ends[1])
        self._shapes = [shape_of(int(table.min()), int(table.max())) for table in self._tables]
        self._roms = [
            [self._rom(f"{name}_{'ab'[k]}{lane}", k, formats[k]) for lane in range(lanes)] for k in range(2)
        ]
        super().__init__(lanes, formats, shape_of(*self._range))

    def _rom(self, name, k, form):
        width = self._shapes[k].width
        words = by_code(self._tables[k], form, width)
        return Rom(name=name, width=width, depth=len(words), init=words, latency=self._latency)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._latency + 1

    @property
    def memories(self):
        """Specifications of the memories."""
        return [rom.spec for roms in self._roms for rom in roms]

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self.delay, "valid", reset_less=False))
        for lane in range(self._lanes):
            values = []
            for k, codes in enumerate((self.i_a, self.i_b)):
                rom = self._roms[k][lane]
                m.submodules[f"{'ab'[k]}{lane}"] = rom
                m.d.comb += rom.i_addr.eq(codes[lane])
                values.append(rom.o_data.as_signed() if self._shapes[k].signed else rom.o_data)
            total = values[0] - values[1] if self._minus else values[0] + values[1]
            m.d.comb += self.o_acc[lane].eq(registered(m, total, *self._range, f"sum{lane}"))
        return m


class ProductOfCodes(Combine):
    """(a + offsets[0]) · (b + offsets[1]).

    Parameters
    ----------
    layer : lutloom.network.Product or Times
    formats : (Format, Format)
    lanes : int
    dsp, paired : bool
        As ``Product`` takes them.
    """

    def __init__(self, *, layer, formats, lanes, dsp=False, paired=False):
        self._offsets, self._dsp = layer.offsets, dsp
        self._shapes = [
            shape_of(form.code_low + offset, form.code_high + offset)
            for form, offset in zip(formats, layer.offsets, strict=True)
        ]
        a, b = self._shapes
        self._products = [Product(a_shape=a, b_shape=b, dsp=dsp, paired=paired) for _ in range(lanes)]
        super().__init__(lanes, formats, self._products[0].product_shape)

    memories = ()

    @property
    def delay(self):
        """Cycles from i to o."""
        return 1 + self._products[0].delay

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self.delay, "valid", reset_less=False))
        for lane, product in enumerate(self._products):
            m.submodules[f"product{lane}"] = product
            for k, (codes, port) in enumerate(((self.i_a, product.i_a), (self.i_b, product.i_b))):
                code = codes[lane].as_signed() if self._formats[k].signed else codes[lane]
                held = Signal(self._shapes[k], name=f"{'ab'[k]}{lane}_held", reset_less=True)
                m.d.sync += held.eq(code + self._offsets[k])
                m.d.comb += port.eq(held)
            m.d.comb += self.o_acc[lane].eq(product.o)
        return m


class JoinStage(Buffered):
    """Two streams of equal shape, beat by beat into one.

    Parameters
    ----------
    combine : Combine
    requantise : component or None
        Behind it; None: exact sums or products, which several read.
    formats : (Format, Format)
    out_bits, width, channels, credits : int

    Members
    -------
    i0, i1, o : streams
    """

    def __init__(self, *, combine, requantise, formats, out_bits, width, channels, credits):
        self._combine, self._requantise, self._bits = combine, requantise, [form.bits for form in formats]
        self._out_bits, self._out_width, self._channels, self._credits = out_bits, width, channels, credits
        super().__init__(
            {
                **{f"i{port}": In(values_stream(bits, width)) for port, bits in enumerate(self._bits)},
                "o": Out(values_stream(out_bits, width)),
            }
        )

    @property
    def inputs(self):
        """The input streams in order."""
        return [self.i0, self.i1]

    @property
    def delay(self):
        """Cycles from the meeting of two beats to the offer of their result."""
        return self._combine.delay + (0 if self._requantise is None else self._requantise.delay) + 1

    @property
    def schedule(self):
        """When beats come and go."""
        return Zip(delay=self.delay, credits=self._credits, depth=DEPTH, gap=steps_of(self._requantise))

    def elaborate(self, platform):
        m = Module()
        m.submodules.combine = combine = self._combine
        buffers = []
        for port, stream in enumerate(self.inputs):
            buffer = ShiftFifo(bits=self._bits[port], width=self._out_width, depth=DEPTH)
            m.submodules[f"way{port}"] = buffer
            wiring.connect(m, wiring.flipped(stream), buffer.i)
            buffers.append(buffer)
        a, b = buffers
        credit = Signal(signed(self._credits.bit_length() + 2), init=self._credits - 1)
        came = Signal()
        m.d.comb += [
            came.eq(a.o.valid & b.o.valid & ~credit[-1] & spaced(m, came, steps_of(self._requantise))),
            a.o.ready.eq(came), b.o.ready.eq(came),
            combine.i_valid.eq(came), combine.i_a.eq(a.o.payload), combine.i_b.eq(b.o.payload),
        ]
        beats = -(-self._channels // self._out_width)
        beat = Signal(range(max(2, beats)))
        with m.If(combine.o_valid):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
        left = self._finish(m, combine.o_valid, combine.o_acc, beat, self._requantise, self._credits)
        m.d.sync += credit.eq(credit - came + left)
        return m


class TableLookup(wiring.Component):
    """o = the table's entry of a code: in a requantiser's place, of any function of one code.

    Latency: ``delay`` cycles; a beat a cycle. No flow control, no combinational path.

    Parameters
    ----------
    name : str
        Prefix of the memories' names, one a lane.
    layer : lutloom.network.Table
    in_format, out_format : Format
    lanes : int
    latency : 1 or 2
    place : "ebr" or "lut"

    Members
    -------
    i_valid : In(1)
    i_acc : In(lanes codes)
    o_valid : Out(1)
    o : Out(lanes codes)
    """

    beats = 1

    def __init__(self, *, name, layer, in_format, out_format, lanes, latency=1, place="ebr"):
        self._lanes, self._latency = lanes, latency
        words = by_code(layer.codes, in_format, out_format.bits)
        self._roms = [
            Rom(name=f"{name}_table{lane}", width=out_format.bits, depth=len(words), init=words, latency=latency,
                place=place)
            for lane in range(lanes)
        ]
        shape = signed(in_format.bits) if in_format.signed else unsigned(in_format.bits)
        super().__init__(
            {
                "i_valid": In(1),
                "i_acc": In(data.ArrayLayout(shape, lanes)),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(unsigned(out_format.bits), lanes)),
            }
        )

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._latency

    @property
    def memories(self):
        """Specifications of the memories."""
        return [rom.spec for rom in self._roms]

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self._latency, "valid", reset_less=False))
        for lane, rom in enumerate(self._roms):
            m.submodules[f"table{lane}"] = rom
            code = self.i_acc[lane]
            m.d.comb += [rom.i_addr.eq(code.as_unsigned() if code.shape().signed else code)]
            m.d.comb += self.o[lane].eq(rom.o_data)
        return m
