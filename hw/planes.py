"""Sums of bit planes: what is left to add when each bit of the weights has had an adder tree of its own."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Value
from amaranth.utils import ceil_log2

from lutloom.hw.tree import registered


@dataclass(frozen=True)
class Plane:
    """A summand value · 2**shift, taken away if negative.

    Parameters
    ----------
    value : Value
        A number from ``low`` to ``high``.
    low, high, shift : int
    negative : bool
        Of the greatest shift alone.
    """

    value: Value
    low: int
    high: int
    shift: int
    negative: bool = False


def add_planes(m, planes, name="plane"):
    """Sum of planes of ascending shift by a tree of two-operand adders, a register behind each.

    Adders span only the bits where both operands have some. A negative plane that is alone is negated in one level.

    Parameters
    ----------
    m : Module
    planes : sequence of Plane
        All of the same cycle.
    name : str
        Of the registers.

    Returns
    -------
    Plane
        Not negative. It took ``plane_levels`` cycles.
    """
    level = 0
    while len(planes) > 1 or planes[0].negative:
        after = []
        for at in range(0, len(planes), 2):
            stage = f"{name}{level}_{at // 2}"
            pair = planes[at : at + 2]
            if len(planes) == 1:
                (b,) = pair
                after.append(Plane(registered(m, -b.value, -b.high, -b.low, stage), -b.high, -b.low, b.shift))
            elif len(pair) == 1:
                (b,) = pair
                after.append(Plane(registered(m, b.value, b.low, b.high, stage), b.low, b.high, b.shift, b.negative))
            else:
                after.append(_meet(m, *pair, stage))
        planes, level = after, level + 1
    return planes[0]


def plane_levels(count, negative):
    """Cycles of ``add_planes`` over so many planes, the last of them negative or not."""
    return max(ceil_log2(count), int(negative))


def _meet(m, a, b, name):
    """The registered sum of two planes."""
    apart = b.shift - a.shift
    upper = a.value >> apart
    upper = upper - b.value if b.negative else upper + b.value
    value = Cat(_extended(a.value, apart), upper)
    value = value.as_signed() if upper.shape().signed else value
    ends = (-b.high, -b.low) if b.negative else (b.low, b.high)
    low, high = a.low + (ends[0] << apart), a.high + (ends[1] << apart)
    return Plane(registered(m, value, low, high, name), low, high, a.shift)


def _extended(value, bits):
    """The lowest bits of a number, as many as are asked for."""
    if len(value) >= bits:
        return value[:bits]
    fill = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, fill.replicate(bits - len(value)))
