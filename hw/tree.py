"""Registered trees: sums of many terms, and the greatest of many codes."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


def shape_of(low, high):
    """The narrowest Amaranth shape, of one bit at least, that holds every integer from low to high."""
    if low > high:
        raise ValueError(f"low must be at most high, not {low} with {high}")
    if low >= 0:
        return unsigned(max(1, int(high).bit_length()))
    return signed(max(int(high).bit_length() if high > 0 else 0, int(~low).bit_length()) + 1)


@dataclass(frozen=True)
class Term:
    """An integer on its way through an adder tree, and a bit that is still to be added to it.

    The bit costs nothing: it is the carry input of the adder that the term meets next.

    Parameters
    ----------
    value : Value
        A number from ``low`` to ``high``.
    low, high : int
    carry : Value or None
        One bit.
    sum_low, sum_high : int
        Range of value + carry.
    """

    value: Value
    low: int
    high: int
    carry: Value | None = None
    sum_low: int | None = None
    sum_high: int | None = None

    @property
    def total(self):
        """Range of value + carry."""
        low = self.low if self.sum_low is None else self.sum_low
        high = self.high + (self.carry is not None) if self.sum_high is None else self.sum_high
        return low, high


def registered(m, value, low, high, name):
    """A register that takes ``value``, wide enough for low ... high."""
    signal = Signal(shape_of(low, high), name=name, reset_less=True)
    m.d.sync += signal.eq(value)
    return signal


def add_terms(m, terms, name=""):
    """Sum of terms by a tree of two-operand adders, a register behind each.

    An odd term out waits in a register, its pending carry with it. Where both terms of an adder have a carry pending,
    the second one's stays pending; one that is left at the root costs a level.

    Parameters
    ----------
    m : Module
    terms : sequence of Term
        All of the same cycle.
    name : str
        Of the registers.

    Returns
    -------
    Term
        Without a carry.
    levels : int
        Cycles, see `levels`.
    """
    level = 0
    while len(terms) > 1 or terms[0].carry is not None:
        pairs = [tuple(terms[at : at + 2]) for at in range(0, len(terms), 2)]
        last = len(terms) == 1
        terms = [_meet(m, pair, f"t{level}_{name}{index}", last) for index, pair in enumerate(pairs)]
        level += 1
    return terms[0], level


def levels(count):
    """Cycles of a tree over so many terms, none pending at the root."""
    return ceil_log2(count)


def _meet(m, pair, name, last):
    """The registered sum of one or two terms."""
    if len(pair) == 1 and not last:
        (term,) = pair
        value = registered(m, term.value, term.low, term.high, name)
        carry = None if term.carry is None else registered(m, term.carry, 0, 1, name + "_carry")
        return Term(value, term.low, term.high, carry, *term.total)
    a, b = pair if len(pair) == 2 else (pair[0], Term(Const(0, 1), 0, 0))
    if a.carry is None:
        a, b = b, a
    (low, high), kept = a.total, None
    if b.carry is not None:
        kept = registered(m, b.carry, 0, 1, name + "_carry")
    value = a.value + b.value
    if a.carry is not None:
        # The lowest place makes the carry: 1 + carry overflows where the carry is one.
        value = (_above(Const(1, 1), a.value) + _above(a.carry, b.value)) >> 1
    value = registered(m, value, low + b.low, high + b.high, name)
    return Term(value, low + b.low, high + b.high, kept, low + b.total[0], high + b.total[1])


def _above(bit, value):
    """2 · value + bit."""
    both = Cat(bit, value)
    return both.as_signed() if value.shape().signed else both


class AdderTree(wiring.Component):
    """Sum of ``count`` numbers, exact: o = i[0] + i[1] + ...

    One adder a level between registers. Latency: ``delay`` cycles; a sum a cycle. No flow control. With one number
    (delay 0) the path from i to o is combinational; no other.

    Parameters
    ----------
    shape : Shape
        Of each number, at least one bit wide.
    count : int
        1 or more.

    Members
    -------
    i : In(ArrayLayout(shape, count))
    o : Out(acc_shape)

    Raises
    ------
    ValueError
        For a count or a shape out of range.
    """

    def __init__(self, *, shape, count):
        self._shape, self._count = checked_shape(shape), checked_count("count", count)
        self._low, self._high = range_of(self._shape)
        super().__init__({"i": In(data.ArrayLayout(self._shape, count)), "o": Out(self.acc_shape)})

    @property
    def acc_shape(self):
        """The narrowest shape that holds every sum."""
        return shape_of(self._low * self._count, self._high * self._count)

    @property
    def delay(self):
        """Cycles from i to o."""
        return levels(self._count)

    def model(self, i):
        """o of i, integers of shape (..., count)."""
        from lutloom.golden.dot import dot

        return dot(i, [1] * self._count)

    def elaborate(self, platform):
        m = Module()
        terms = [Term(number, self._low, self._high) for number in self.i]
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m


class MaxTree(wiring.Component):
    """Greatest of ``count`` numbers.

    One comparison a level between registers. Latency: ``delay`` cycles; a result a cycle. No flow control. With one
    number (delay 0) the path from i to o is combinational; no other.

    Parameters
    ----------
    shape : Shape
        Of each number and of the result, at least one bit wide.
    count : int
        1 or more.

    Members
    -------
    i : In(ArrayLayout(shape, count))
    o : Out(shape)

    Raises
    ------
    ValueError
        For a count or a shape out of range.
    """

    def __init__(self, *, shape, count):
        self._shape, self._count = checked_shape(shape), checked_count("count", count)
        super().__init__({"i": In(data.ArrayLayout(self._shape, count)), "o": Out(self._shape)})

    @property
    def delay(self):
        """Cycles from i to o."""
        return levels(self._count)

    def model(self, i):
        """o of i, integers of shape (..., count)."""
        import numpy as np

        return np.max(i, axis=-1)

    def elaborate(self, platform):
        m = Module()
        values, level = list(self.i), 0
        while len(values) > 1:
            after = []
            for at in range(0, len(values), 2):
                held = Signal(self._shape, name=f"t{level}_{at // 2}", reset_less=True)
                a, b = values[at], values[min(at + 1, len(values) - 1)]
                m.d.sync += held.eq(Mux(b > a, b, a) if a is not b else a)
                after.append(held)
            values, level = after, level + 1
        m.d.comb += self.o.eq(values[0])
        return m


def checked_count(what, number):
    """A positive integer, or ValueError."""
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{what} must be a positive integer, not {number!r}")
    return number


def checked_shape(shape):
    """A shape of at least one bit, or ValueError."""
    shape = Shape.cast(shape)
    if shape.width < 1:
        raise ValueError(f"a number must have at least one bit, not {shape!r}")
    return shape


def range_of(shape):
    """Least and greatest integer of a shape."""
    if shape.signed:
        return -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1
    return 0, (1 << shape.width) - 1
