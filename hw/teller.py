"""A line of text about the self test over a serial line, several times a second."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

_GAP_BITS = 15  # 2**15 bit times, 0.28 s at 115,200 baud, between lines


class Teller(wiring.Component):
    """Sends ``P iiiiii ssssss`` and a line end, 8N1: P for passed, F for failed, ``-`` for no result so far; interval
    and stalls as six hexadecimal digits.

    Parameters
    ----------
    divisor : int
        Cycles a bit.
    gap_bits : int
        2**gap_bits bit times between lines.

    Members
    -------
    i_passed, i_failed : In(1)
    i_interval, i_stalls : In(24)
    o_tx : Out(1)
    """

    def __init__(self, *, divisor, gap_bits=_GAP_BITS):
        if divisor < 2:
            raise ValueError(f"divisor must be 2 or more, not {divisor!r}")
        self._divisor, self._gap_bits = divisor, gap_bits
        super().__init__(
            {"i_passed": In(1), "i_failed": In(1), "i_interval": In(24), "i_stalls": In(24), "o_tx": Out(1, init=1)}
        )

    @staticmethod
    def model(passed, failed, interval, stalls):
        """The line."""
        return f"{'F' if failed else 'P' if passed else '-'} {interval:06x} {stalls:06x}\r\n".encode()

    def elaborate(self, platform):
        m = Module()
        timer, tick = Signal(range(self._divisor)), Signal()
        m.d.comb += tick.eq(timer == self._divisor - 1)
        m.d.sync += timer.eq(Mux(tick, 0, timer + 1))

        digits = Signal(48)  # the next digit is the top one
        digit = digits[-4:]
        status = Mux(self.i_failed, ord("F"), Mux(self.i_passed, ord("P"), ord("-")))
        character, at = Signal(8), Signal(5)
        fixed = {0: status, 1: C(ord(" "), 8), 8: C(ord(" "), 8), 15: C(ord("\r"), 8), 16: C(ord("\n"), 8)}
        hexadecimal = digit + Mux(digit >= 10, ord("a") - 10, ord("0"))
        m.d.comb += character.eq(Array(fixed.get(k, hexadecimal) for k in range(17))[at])

        bits, left = Signal(10, init=1), Signal(4)
        gap = Signal(self._gap_bits)
        m.d.comb += self.o_tx.eq(bits[0])
        with m.If(tick):
            with m.If(left != 0):
                m.d.sync += [bits.eq(Cat(bits[1:], C(1, 1))), left.eq(left - 1)]
            with m.Elif(gap != 0):
                m.d.sync += [gap.eq(gap - 1), digits.eq(Cat(self.i_stalls, self.i_interval))]
            with m.Else():
                m.d.sync += [bits.eq(Cat(C(0, 1), character, C(1, 1))), left.eq(9), at.eq(at + 1)]
                with m.If((at != 0) & (at != 1) & (at != 8)):
                    m.d.sync += digits.eq(digits << 4)
                with m.If(at == 16):
                    m.d.sync += [at.eq(0), gap.eq(-1)]
        return m
