"""Ternary weights five in a byte, taken apart behind their ROM."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.stored import TRIT_BITS, TRITS, TRITS_OF


class Trits(wiring.Component):
    """Bytes into codes of ``ternary`` weights, sign and magnitude: a word a cycle.

    Each byte is ten functions of eight bits in LUTs, with a register behind them.

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
        table = Array(Const(sum(int(code) << 2 * place for place, code in enumerate(codes)), 2 * TRITS)
                      for codes in TRITS_OF)
        held = []
        for at in range(0, self._count, TRITS):
            number = at // TRITS
            codes = Signal(2 * min(TRITS, self._count - at), name=f"codes{number}", reset_less=True)
            m.d.sync += codes.eq(table[self.i[number * TRIT_BITS:(number + 1) * TRIT_BITS]])
            held.append(codes)
        m.d.comb += self.o.eq(Cat(held))
        return m
