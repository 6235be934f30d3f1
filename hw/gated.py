"""Two gated numbers added in one carry chain: ECP5's adders have a LUT of four inputs at each bit."""

# Ref: Lattice FPGA-TN-02206 (ECP5 slice), CCU2C; Yosys lattice/cells_sim_ecp5.v

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Instance, Signal, Value

from lutloom.hw.sign import gated
from lutloom.hw.tree import shape_of

# S = (A & B) ^ (C & D); where that is 0 both operands are alike, and the carry is A & B, the table's part at C = D = 0.
TABLE = 0x7888


@dataclass(frozen=True)
class Gated:
    """value, a number from ``low`` to ``high``, where ``condition`` is high; else 0."""

    condition: Value
    value: Value
    low: int
    high: int

    @property
    def range(self):
        """Least and greatest number that it can be."""
        return min(self.low, 0), max(self.high, 0)


def add_gated(m, platform, a, b, name):
    """A register with the sum of two gated numbers.

    For an ECP5 the gates are in the adder's own LUTs: a LUT a bit for both products and their sum.

    Parameters
    ----------
    m : Module
    platform : Target or None
    a, b : Gated
    name : str
        Of the register.

    Returns
    -------
    value : Signal
    low, high : int
    """
    low, high = a.range[0] + b.range[0], a.range[1] + b.range[1]
    value = Signal(shape_of(low, high), name=name, reset_less=True)
    total = gated(a.condition, a.value) + gated(b.condition, b.value)
    if getattr(platform, "family", None) == "ecp5":
        total = _chain(m, a, b, len(value), name)
    m.d.sync += value.eq(total)
    return value, low, high


def _chain(m, a, b, width, name):
    """The lowest ``width`` bits of the sum, from CCU2C cells."""
    bits, carry = [], Const(0, 1)
    for at in range(0, width, 2):
        o, after = Signal(2, name=f"{name}_s{at}"), Signal(name=f"{name}_c{at}")
        ports = {}
        for place in range(2):
            for (bit, gate), number in zip(("AB", "CD"), (a, b), strict=True):
                ports |= {f"i_{bit}{place}": _bit(number, at + place), f"i_{gate}{place}": number.condition}
        m.submodules[f"{name}_{at}"] = Instance(
            "CCU2C", p_INIT0=Const(TABLE, 16), p_INIT1=Const(TABLE, 16), p_INJECT1_0="NO", p_INJECT1_1="NO",
            i_CIN=carry, o_COUT=after, o_S0=o[0], o_S1=o[1], **ports,
        )
        bits.append(o)
        carry = after
    return Cat(bits)[:width]


def _bit(number, place):
    """A bit of a number, whose sign goes on for ever."""
    if place < len(number.value):
        return number.value[place]
    return number.value[-1] if number.value.shape().signed else Const(0, 1)
