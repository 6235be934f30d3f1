"""Requantisation by multiplying, rounding, shifting and clamping."""

# Ref: tensorflow/lite/kernels/internal/common.cc (MultiplyByQuantizedMultiplier), gemmlowp/fixedpoint/fixedpoint.h

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.golden.multiply import FLOAT32_BITS, multiply
from lutloom.hw.delay import delayed
from lutloom.hw.memory import Rom
from lutloom.hw.product import Product
from lutloom.hw.tree import checked_count, checked_shape, range_of, registered, shape_of


class Multiply(wiring.Component):
    """o = clamp(zero_point + round((acc + offset) · multiplier / 2**shift), low, high), parameters by channel.

    A beat holds ``lanes`` accumulators, channel ``beat · lanes + lane``. The unit computes acc · m + bias, with m and
    bias from two memories: m is the multiplier brought to the greatest shift of all channels, bias holds offset,
    fraction, rounding and (with one rounding) zero point, so that the shift is wiring.

    rounding "up": one rounding, half towards +inf. "tflm": TensorFlow Lite Micro's two roundings, as
    ``lutloom.golden.multiply`` states; the second one only where a shift is beyond 31. Its saturation needs a
    multiplier of -2**31 and is not there; the accumulator shifted left must fit 32 bits, as in the source. "float32":
    the product is rounded to 24 bits first, which matters where it then lies half-way between two integers, and halves
    go to the even one.

    Latency: ``delay`` cycles: memory latency, the product, its sum with bias, 3 for a second rounding (2 with
    "float32"), 2 for clamping;
    a beat a cycle. No flow control, no combinational path.

    Parameters
    ----------
    name : str
        Prefix of the memories' names.
    acc_shape : Shape
    lanes : int
    multiplier, shift, offset, fraction : integer arrays (beats, lanes)
        Shifts of 0 to 62, of 25 at least with "float32". ``fraction`` is added to the product; it must be 0 with "tflm"
        and "float32".
    zero_point, low, high : int
    out_format : Format
    rounding : "up", "tflm" or "float32"
    dsp : bool
        The product on DSP blocks.
    paired : bool
        In LUTs: as ``Product`` takes it.
    latency : 1 or 2
        Of the memories.
    place : "ebr" or "lut"

    Members
    -------
    i_valid : In(1)
    i_acc : In(ArrayLayout(acc_shape, lanes))
    i_beat : In(range(beats))
    o_valid : Out(1)
    o : Out(ArrayLayout(bits, lanes))
        Codes, two's complement if the format is signed.

    Raises
    ------
    ValueError
        For arrays of a wrong shape, and for parameters out of range.
    """

    def __init__(self, *, name, acc_shape, lanes, multiplier, shift, offset, fraction, zero_point, low, high,
                 out_format, rounding="up", dsp=False, paired=False, latency=1,
                 place="ebr"):
        self._lanes, self._acc_shape = checked_count("lanes", lanes), checked_shape(acc_shape)
        self._format, self._rounding, self._latency = out_format, rounding, latency
        arrays = {"multiplier": multiplier, "shift": shift, "offset": offset, "fraction": fraction}
        self._parameters = {what: np.asarray(array, dtype=np.int64) for what, array in arrays.items()}
        shape = self._parameters["multiplier"].shape
        for what, array in self._parameters.items():
            if array.ndim != 2 or array.shape != shape or shape[1] != lanes or not shape[0]:
                raise ValueError(f"multiply {what} must be of shape (beats, {lanes}), not {array.shape}")
        self._check(rounding, zero_point, low, high)
        self._zero_point, self._low, self._high = zero_point, low, high
        self._derive()
        self._make(name, place, dsp=dsp, paired=paired)
        super().__init__(
            {
                "i_valid": In(1),
                "i_acc": In(data.ArrayLayout(self._acc_shape, lanes)),
                "i_beat": In(range(max(2, self.beats))),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(unsigned(out_format.bits), lanes)),
            }
        )

    def _make(self, name, place, **products):
        """The products and the memories."""
        self._product = [
            Product(a_shape=self._acc_shape, b_shape=self._factor_shape, **products) for _ in range(self._lanes)
        ]
        options = dict(latency=self._latency, place=place)
        self._factor_rom = parameter_rom(f"{name}_factor", [self._factor_shape], [self._factors], **options)
        self._bias_rom = parameter_rom(
            f"{name}_bias", [self._bias_shape, self._gap_shape], [self._biases, self._gaps], **options
        )

    def _check(self, rounding, zero_point, low, high):
        form, shift = self._format, self._parameters["shift"]
        if rounding not in ("up", "tflm", "float32"):
            raise ValueError(f"rounding must be up, tflm or float32, not {rounding!r}")
        if not form.code_low <= low <= high <= form.code_high:
            raise ValueError(f"multiply codes {low} to {high} must ascend and fit {form}; take more bits")
        if shift.min() < 0 or shift.max() > 62:
            raise ValueError(f"multiply shift must be 0 to 62, not {shift.min()} to {shift.max()}")
        if rounding != "up" and (self._parameters["fraction"] != 0).any():
            raise ValueError(f"multiply fraction must be 0 with {rounding} rounding; take up")
        if rounding == "float32" and shift.min() <= FLOAT32_BITS:
            raise ValueError(f"multiply shift must be above {FLOAT32_BITS} with float32 rounding, not {shift.min()}")
        if (self._parameters["multiplier"] == -(1 << 31)).any():
            raise ValueError("multiply multiplier must be above -2**31, where tflm rounding saturates")

    def _derive(self):
        """The factor and the bias of every channel as Python integers (they can pass 64 bits), and the ranges."""
        p = {what: array.tolist() for what, array in self._parameters.items()}
        rows = range(len(p["shift"]))
        # What the second rounding shifts away (0: there is none), and the shift of the first.
        second = np.maximum(self._parameters["shift"] - 31, 0) if self._rounding == "tflm" else 0
        second = np.broadcast_to(second, self._parameters["shift"].shape)
        self._second = int(second.max())
        first = (self._parameters["shift"] - second).tolist()
        self._first = max(max(row) for row in first)
        self._gaps = (self._second - second).tolist()
        self._gap_shape = unsigned(int(max(max(row) for row in self._gaps)).bit_length())
        in_float32 = self._rounding == "float32"
        zero = self._zero_point if not self._second and not in_float32 else 0
        self._factors, self._biases, low, high = [], [], 0, 0
        acc_low, acc_high = range_of(self._acc_shape)
        for beat in rows:
            factors, biases = [], []
            for lane in range(self._lanes):
                up = self._first - first[beat][lane]
                factor = p["multiplier"][beat][lane] << up
                half = 0 if in_float32 else (1 << first[beat][lane]) >> 1
                bias = p["offset"][beat][lane] * factor + ((p["fraction"][beat][lane] + half) << up)
                bias += zero << self._first
                factors.append(factor)
                biases.append(bias)
                ends = factor * acc_low + bias, factor * acc_high + bias
                low, high = min(low, *ends), max(high, *ends)
            self._factors.append(factors)
            self._biases.append(biases)
        self._sum_low, self._sum_high = low, high
        self._factor_shape, self._bias_shape = (
            shape_of(min(min(row) for row in rows), max(max(row) for row in rows))
            for rows in (self._factors, self._biases)
        )

    @property
    def beats(self):
        """Beats with parameters of their own."""
        return len(self._factors)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._latency + self._product[0].delay + self._tail

    @property
    def _tail(self):
        """Cycles from the product to o."""
        return 1 + (3 if self._second else 2 if self._rounding == "float32" else 0) + 2

    @property
    def memories(self):
        """Specifications of the memories."""
        return [self._factor_rom.spec, self._bias_rom.spec]

    def model(self, acc, beat):
        """Codes of one beat's accumulators (..., lanes)."""
        channel = {what: array[beat] for what, array in self._parameters.items()}
        return multiply(
            acc, **channel, zero_point=self._zero_point, low=self._low, high=self._high, rounding=self._rounding
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.factor, m.submodules.bias = self._factor_rom, self._bias_rom
        m.d.comb += [
            self._factor_rom.i_addr.eq(self.i_beat),
            self._bias_rom.i_addr.eq(delayed(m, self.i_beat, self._product[0].delay, "beat")),
        ]
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self.delay, "valid", reset_less=False))
        for lane, product in enumerate(self._product):
            m.submodules[f"product{lane}"] = product
            (factor,) = parameters_of(self._factor_rom.o_data, [self._factor_shape], lane)
            bias, gap = parameters_of(self._bias_rom.o_data, [self._bias_shape, self._gap_shape], lane)
            m.d.comb += [
                product.i_a.eq(delayed(m, self.i_acc[lane], self._latency, f"s0_acc{lane}")),
                product.i_b.eq(factor),
            ]
            m.d.comb += self.o[lane].eq(self._finish(m, product.o + bias, gap, lane))
        return m

    def _finish(self, m, value, gap, lane):
        """The code of a lane's sum of product and bias; ``_tail`` cycles."""
        if self._rounding == "float32":
            return self._clamp(m, *self._to_even(m, value, lane), lane)
        value = registered(m, value, self._sum_low, self._sum_high, f"s1_sum{lane}")
        value, low, high = value >> self._first, self._sum_low >> self._first, self._sum_high >> self._first
        if self._second:
            value, low, high = self._round_again(m, value, low, high, gap, lane)
        return self._clamp(m, value, low, high, lane)

    def _to_even(self, m, value, lane):
        """The product in float32 rounded to an integer, halves to even, and the zero point; 3 cycles.

        With k the integer below and b the bits of its magnitude, numbers of 24 bits lie 2**(b - 24) apart: a product
        becomes k + 1/2 where it is no farther from it than half of that. The sum's own sign stays, for numbers below
        zero are rounded as those above.
        """
        shift = self._first
        least, most = min(self._sum_low, -(1 << shift)), max(self._sum_high, (1 << shift) - 1)  # of shift bits at least
        value = registered(m, value, least, most, f"s1_sum{lane}")
        whole, low, high = value >> shift, least >> shift, most >> shift
        # How far the product is from k + 1/2, in steps of 2**-25, and whether there is more below these.
        top = Cat(value[shift - FLOAT32_BITS - 1 : shift - 1], ~value[shift - 1]).as_signed()
        more = value[: shift - FLOAT32_BITS - 1].any()
        size = max(abs(self._low - self._zero_point), abs(self._high - self._zero_point)).bit_length()
        near = Signal(size + 1, name=f"s2_near{lane}", reset_less=True)
        for bits in range(size + 1):
            above, rest = top >> bits, top[:bits].any() | more
            m.d.sync += near[bits].eq((above == 0) | (above == -1) | ((above == 1) & ~rest))
        held = registered(m, whole, low, high, f"s2_whole{lane}")
        upper = registered(m, value[shift - 1], 0, 1, f"s2_upper{lane}")
        magnitude = Mux(held < 0, ~held, held)
        half = Signal(name=f"half{lane}")
        for bits in range(size + 1):
            fits = magnitude < (1 << bits)
            least = magnitude >= (1 << bits >> 1) if bits else Const(1, 1)
            with m.If(fits & least):
                m.d.comb += half.eq(near[bits])
        up = Mux(half, held[0], upper)
        zero = self._zero_point
        low, high = low + zero, high + 1 + zero
        return registered(m, held + up + zero, low, high, f"s3_value{lane}"), low, high

    def _round_again(self, m, value, low, high, gap, lane):
        """gemmlowp's RoundingDivideByPOT by the greatest shift less ``gap``, and the zero point; 3 cycles."""
        shift = self._second
        gap = delayed(m, gap, 1, f"s1_gap{lane}")
        # Halves go away from zero: below zero the half that is added is one less, unless nothing is shifted away.
        less = value < 0
        if any(shift in row for row in self._gaps):
            less = less & (gap != shift)
        value = registered(m, value - less, low - 1, high, f"s2_value{lane}")
        gap = delayed(m, gap, 1, f"s2_gap{lane}")
        gaps = sorted({number for row in self._gaps for number in row})
        low, high = min(low - 1, 0) << gaps[-1], max(high, 0) << gaps[-1]
        shifted = Signal(shape_of(low, high), name=f"s3_value{lane}", reset_less=True)
        with m.Switch(gap):
            for number in gaps:
                with m.Case(number) if number != gaps[-1] else m.Default():
                    m.d.sync += shifted.eq(value << number)
        constant = (1 << (shift - 1)) + (self._zero_point << shift)
        low, high = low + constant, high + constant
        return registered(m, shifted + constant, low, high, f"s4_value{lane}") >> shift, low >> shift, high >> shift

    def _clamp(self, m, value, low, high, lane):
        """The value, which lies in low ... high, within the codes; 2 cycles."""
        bits = self._format.bits
        held = registered(m, value, low, high, f"s5_value{lane}")
        below, above = Signal(name=f"s5_below{lane}"), Signal(name=f"s5_above{lane}")
        m.d.sync += [below.eq(value < self._low if low < self._low else 0)]
        m.d.sync += [above.eq(value > self._high if high > self._high else 0)]
        code = Signal(bits, name=f"s6_code{lane}", reset_less=True)
        m.d.sync += code.eq(Mux(below, self._low, Mux(above, self._high, held)))
        return code


def parameter_rom(name, shapes, tables, reads=1, **options):
    """A memory whose words hold, for each lane, a number of each of several tables (beats, lanes).

    Each word lies in it as ``reads`` narrower ones behind each other, the lowest bits first.
    """
    words = []
    for rows in zip(*tables, strict=True):
        word = at = 0
        for numbers in zip(*rows, strict=True):
            for shape, number in zip(shapes, numbers, strict=True):
                word |= (number & ((1 << shape.width) - 1)) << at
                at += shape.width
        words.append(word)
    width = -(-sum(shape.width for shape in shapes) * len(tables[0][0]) // reads)
    parts = [word >> part * width & ((1 << width) - 1) for word in words for part in range(reads)]
    return Rom(name=name, width=width, depth=len(parts), init=parts, **options)


def parameters_of(word, shapes, lane):
    """The numbers of a lane in a word of ``parameter_rom``."""
    at, numbers = lane * sum(shape.width for shape in shapes), []
    for shape in shapes:
        number = word[at : at + shape.width]
        numbers.append(number.as_signed() if shape.signed else number)
        at += shape.width
    return numbers
