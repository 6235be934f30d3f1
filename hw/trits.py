"""Ternary weights five in a byte, taken apart behind their ROM."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.stored import PAIRS, TRIT_BITS, TRITS, TRITS_OF


class Trits(wiring.Component):
    """Bytes into codes of ``ternary`` weights, sign and magnitude: a word a cycle.

    The encoding (``lutloom.stored``) is made for this: a byte takes 21 LUT4 and ten registers behind them, where
    the digits of a number to base 3 take a hundred.

    Latency: 1. No flow control, no combinational path.

    Parameters
    ----------
    count : int
        Weights a word; of the last byte those beyond are left out.

    Members
    -------
    i : In(bytes)
    o : Out(2 bits a weight)
    """

    delay = 1

    def __init__(self, *, count):
        if count < 1:
            raise ValueError(f"weights a word must be at least 1, not {count!r}")
        self._count = count
        super().__init__({"i": In(-(-count // TRITS) * TRIT_BITS), "o": Out(2 * count)})

    def model(self, numbers):
        """Codes of the bytes of a word."""
        return TRITS_OF[numbers].ravel()[:self._count].tolist()

    def elaborate(self, platform):
        m = Module()
        pairs = Array(Const(int(a) | int(b) << 2, 4) for a, b in PAIRS)
        held = []
        for at in range(0, self._count, TRITS):
            number = at // TRITS
            codes = Signal(2 * min(TRITS, self._count - at), name=f"codes{number}", reset_less=True)
            m.d.sync += codes.eq(self._codes(m, self.i[number * TRIT_BITS:(number + 1) * TRIT_BITS], number, pairs))
            held.append(codes)
        m.d.comb += self.o.eq(Cat(held))
        return m

    @staticmethod
    def _codes(m, byte, number, pairs):
        """The five codes of a byte."""
        rare, five = Signal(name=f"rare{number}"), Signal(5, name=f"five{number}")
        other = Signal(name=f"other{number}")
        m.d.comb += [rare.eq(byte[5:].all()), five.eq(Mux(rare, byte[:5], byte[3:])), other.eq(five[:2] == 2)]
        rest = five[2:]
        first = Mux(other, Cat(rest[:2].any(), rest[1]), five[:2])
        second = Mux(other, Mux(rest[2], pairs[8], pairs[7]), pairs[rest])
        return Cat(first, second, Mux(rare, pairs[8], pairs[byte[:3]]))
