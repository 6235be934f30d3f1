"""Softmax in TFLite Micro's fixed point, one value after the other with one serial multiplier."""

# Ref: tensorflow/lite/kernels/internal/reference/softmax.h, gemmlowp/fixedpoint/fixedpoint.h

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.golden.fixed_point import TWO_48_17, TWO_NEG_32_17
from lutloom.golden.softmax import SUM_BITS, exponentials
from lutloom.hw.fifo import values_stream
from lutloom.hw.memory import Ram, Rom
from lutloom.hw.tree import checked_count
from lutloom.schedule import Reduce

MOST = (1 << 31) - 1
STEPS = 3  # of Newton and Raphson
SHIFTS = 12  # that bring the sum's highest bit to the top: the greatest code alone adds 2**19


class SerialMultiply(wiring.Component):
    """o = (i_a · i_b + 2**30) >> 31 of signed 32-bit numbers: gemmlowp's doubling high multiply without its one
    saturating case (-2**31 by itself).

    A product is begun where i_start is high, and stands at o from ``delay`` cycles later on; no other may be begun
    between. A bit of i_b a cycle.

    Members
    -------
    i_start : In(1)
    i_a, i_b : In(signed(32))
    o : Out(signed(32))
    """

    delay = 34

    def __init__(self):
        super().__init__({"i_start": In(1), "i_a": In(signed(32)), "i_b": In(signed(32)), "o": Out(signed(32))})

    def elaborate(self, platform):
        m = Module()
        a, b = Signal(signed(32), reset_less=True), Signal(32, reset_less=True)
        high, low = Signal(signed(33), reset_less=True), Signal(32, reset_less=True)
        left = Signal(range(33))
        term = Mux(b[0], a, 0)
        total = Signal(signed(34))
        # The top bit of a signed number counts negative.
        m.d.comb += total.eq(Mux(left == 1, high - term, high + term))
        with m.If(self.i_start):
            # The half that rounds lies where 32 cycles bring it to bit 30 of the product.
            m.d.sync += [a.eq(self.i_a), b.eq(self.i_b), left.eq(32), high.eq(0), low.eq(0)]
        with m.Elif(left != 0):
            m.d.sync += [high.eq(total >> 1), low.eq(Cat(low[1:], total[0])), b.eq(b >> 1), left.eq(left - 1)]
        whole = Cat(low, high).as_signed()
        m.d.sync += self.o.eq((whole + (1 << 30)) >> 31)
        return m


class Softmax(wiring.Component):
    """Softmax over ``count`` codes that come one a beat, as ``lutloom.golden.softmax`` states it.

    The codes are kept in a memory while their greatest is found; their exponentials, from a table, are summed; the
    sum's reciprocal comes by Newton and Raphson; then each output is a product. One multiplier, a bit a cycle, serves
    all. The first output is offered ``delay`` cycles after the last input, each other ``gap`` cycles after the one
    before has gone, and the next vector is taken one cycle after the last has gone.

    Parameters
    ----------
    name : str
        Prefix of its memories' names.
    count : int
    multiplier, left, least : int
        Of the layer ``lutloom.network.Softmax``.
    low, high : int
        The least and the greatest output code.
    in_format, out_format : Format
    latency : 1 or 2
        Of the memories.

    Members
    -------
    i, o : streams of one value
    """

    def __init__(self, *, name, count, multiplier, left, least, low, high, in_format, out_format, latency=1):
        self._count, self._low, self._high = checked_count("count", count), low, high
        self._in, self._out, self._latency = in_format, out_format, latency
        if in_format.bits != 8:
            raise ValueError(f"softmax codes must have 8 bits, not {in_format}")
        self._table = exponentials(multiplier, left, least)
        self._codes = Ram(name=f"{name}_codes", width=8, depth=count, latency=latency)
        self._exps = Rom(name=f"{name}_exp", width=32, depth=256, init=self._table.tolist(), latency=latency)
        super().__init__({"i": In(values_stream(8, 1)), "o": Out(values_stream(out_format.bits, 1))})

    @property
    def _look(self):
        """Cycles from the number of a code to its exponential."""
        return 2 * self._latency + 1

    @property
    def gap(self):
        """Cycles from an output's going to the next one's offer."""
        return self._look + 1 + SerialMultiply.delay + 1 + SHIFTS + 2

    @property
    def delay(self):
        """Cycles from the last input to the first output."""
        total = 1 + self._count + self._look + 1
        newton = (1 + 2 * STEPS) * (SerialMultiply.delay + 1)
        return total + SHIFTS + 1 + newton + self.gap

    @property
    def schedule(self):
        """When beats come and go."""
        return Reduce(beats_in=self._count, beats_out=self._count, delay=self.delay, gap=self.gap)

    @property
    def memories(self):
        """Specifications of the memories."""
        return [self._codes.spec, self._exps.spec]

    def elaborate(self, platform):
        m = Module()
        m.submodules.codes, m.submodules.exps = codes, exps = self._codes, self._exps
        m.submodules.multiply = multiply = SerialMultiply()
        count = self._count
        code = self.i.payload[0].as_signed() if self._in.signed else self.i.payload[0]
        greatest = Signal(code.shape(), reset_less=True)
        place = Signal(range(count))  # of the code that comes in or is looked up
        last = place == count - 1
        exp = Signal(32, reset_less=True)
        total = Signal(32, reset_less=True)
        zeros = Signal(range(SHIFTS + 1), reset_less=True)
        y = Signal(signed(32), reset_less=True)
        wait = Signal(range(max(count + self._look + 2, SerialMultiply.delay + 2, 64)))
        done = wait == 0
        step = Signal(range(2 * STEPS + 2))

        # Looking up: place -> code -> difference -> exponential, `look` cycles.
        difference = Signal(8, reset_less=True)
        kept = codes.o_data.as_signed() if self._in.signed else codes.o_data
        m.d.sync += difference.eq(greatest - kept)
        m.d.comb += [codes.i_addr.eq(place), exps.i_addr.eq(difference), codes.i_write_addr.eq(place)]
        m.d.comb += [codes.i_write_data.eq(self.i.payload[0]), exp.eq(exps.o_data)]

        # Shares are not negative: rounding to nearest is adding a half. They are shifted by what the exponent says, of
        # which ``least`` is sure.
        least = SUM_BITS + 31 - (self._high - self._low).bit_length() - SHIFTS
        rounded, twice = Signal(33, reset_less=True), Signal(33, reset_less=True)
        rest_shifts = Signal(range(SHIFTS + 1), reset_less=True)
        half = Cat(total[1:], Const(0, 1)).as_signed()  # of the sum brought to the top
        rest = Signal(signed(32), reset_less=True)
        # Steps 0, 1, 3, 5 multiply half the sum, steps 2, 4, 6 the rest.
        m.d.comb += [multiply.i_a.eq(Mux(step[0] | (step == 0), half, rest)), multiply.i_b.eq(y)]
        with m.If(~done):
            m.d.sync += wait.eq(wait - 1)
        with m.FSM():
            with m.State("collect"):
                m.d.comb += [self.i.ready.eq(1), codes.i_write_en.eq(self.i.valid)]
                with m.If(self.i.valid):
                    with m.If((place == 0) | (code > greatest)):
                        m.d.sync += greatest.eq(code)
                    m.d.sync += place.eq(Mux(last, 0, place + 1))
                    with m.If(last):
                        m.d.sync += [total.eq(0), zeros.eq(0), wait.eq(count + self._look)]
                        m.next = "sum"
            with m.State("sum"):
                # The place runs ahead of the sum by `look` cycles.
                m.d.sync += place.eq(Mux(last, 0, place + 1))
                with m.If(wait <= count):
                    with m.If(~done):
                        m.d.sync += total.eq(total + ((exp + (1 << SUM_BITS - 1)) >> SUM_BITS))
                with m.If(done):
                    m.d.sync += [place.eq(0), wait.eq(SHIFTS)]
                    m.next = "shift"
            with m.State("shift"):
                with m.If(~total[31]):
                    m.d.sync += [total.eq(total << 1), zeros.eq(zeros + 1)]
                with m.If(done):
                    m.d.sync += [step.eq(0), y.eq(TWO_NEG_32_17)]
                    m.next = "start"
            with m.State("start"):
                m.d.comb += multiply.i_start.eq(1)
                m.d.sync += wait.eq(SerialMultiply.delay - 1)
                m.next = "newton"
            with m.State("newton"):
                with m.If(done):
                    m.d.sync += step.eq(step + 1)
                    with m.If(step == 0):
                        m.d.sync += y.eq(TWO_48_17 + multiply.o)
                    with m.Elif(step[0]):
                        m.d.sync += rest.eq((1 << 29) - multiply.o)
                    with m.Else():
                        m.d.sync += y.eq(y + _saturated(multiply.o, 2))
                    m.next = "start"
                    with m.If(step == 2 * STEPS):
                        m.next = "scale"
            with m.State("scale"):
                m.d.sync += [y.eq(_saturated(y, 1)), wait.eq(self._look)]
                m.next = "look"
            with m.State("look"):
                m.d.comb += [multiply.i_a.eq(exp), multiply.i_start.eq(done)]
                with m.If(done):
                    m.d.sync += wait.eq(SerialMultiply.delay)
                    m.next = "share"
            with m.State("share"):
                with m.If(done):
                    m.d.sync += [twice.eq((multiply.o << 1) >> least), rest_shifts.eq(SHIFTS - zeros), wait.eq(SHIFTS)]
                    m.next = "settle"
            with m.State("settle"):
                with m.If(rest_shifts != 0):
                    m.d.sync += [twice.eq(twice >> 1), rest_shifts.eq(rest_shifts - 1)]
                with m.If(done):
                    m.next = "give"
            with m.State("give"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [place.eq(Mux(last, 0, place + 1)), wait.eq(self._look)]
                    m.next = "look"
                    with m.If(last):
                        m.next = "collect"
        m.d.sync += rounded.eq((twice + 1) >> 1)
        code_out = Mux(rounded > self._high - self._low, self._high, rounded + self._low)
        m.d.comb += self.o.payload[0].eq(code_out)
        return m


def _saturated(value, bits):
    """A signed 32-bit value times 2**bits, within 32 bits."""
    wide = value << bits
    top = wide[31:]
    most = Mux(wide[-1], Const(-MOST - 1, signed(32)), Const(MOST, signed(32)))
    return Mux(top.all() | ~top.any(), wide[:32].as_signed(), most)
