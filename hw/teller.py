"""A line of text about the self test over a serial line, several times a second."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

_SLOT_BITS = 12  # a line every 2**12 characters, 0.36 s at 115,200 baud


class Teller(wiring.Component):
    """Sends ``P iiiiii ssssss`` and a line feed, 8N1: P for passed, F for failed, ``-`` for no result so far; interval
    and stalls as six hexadecimal digits, of the last interval that ended before the line began.

    Parameters
    ----------
    divisor : int
        Cycles a bit, at least 8: what a bit depends on has registers of its own on the way.
    slot_bits : int
        A line every 2**slot_bits characters, 5 at least.

    Members
    -------
    i_passed, i_failed : In(1)
    i_done : In(1)
        Cycles and stalls are those of a whole interval.
    i_cycles, i_stalls : In(24)
    o_tx : Out(1)
    """

    def __init__(self, *, divisor, slot_bits=_SLOT_BITS):
        if divisor < 8:
            raise ValueError(f"divisor must be 8 or more, not {divisor!r}")
        if slot_bits < 5:
            raise ValueError(f"slot_bits must be 5 or more, not {slot_bits!r}")
        self._divisor, self._slot_bits = divisor, slot_bits
        super().__init__({
            "i_passed": In(1), "i_failed": In(1), "i_done": In(1), "i_cycles": In(24), "i_stalls": In(24),
            "o_tx": Out(1, init=1),
        })  # fmt: skip

    @staticmethod
    def model(passed, failed, interval, stalls):
        """The line."""
        return f"{'F' if failed else 'P' if passed else '-'} {interval:06x} {stalls:06x}\n".encode()

    def elaborate(self, platform):
        m = Module()
        timer, tick = Signal(range(self._divisor)), Signal()
        m.d.sync += [tick.eq(timer == self._divisor - 2), timer.eq(Mux(tick, 0, timer + 1))]

        # All that follows changes at a tick, and is looked at a tick later: registers in between cost nothing.
        bit, slot = Signal(4), Signal(self._slot_bits, init=-1)  # bit 9 is the last one of a slot
        slot_ends, speaks = Signal(), Signal()
        m.d.sync += [slot_ends.eq(bit == 9), speaks.eq(slot[4:] == 0)]

        digits = Signal(48)  # the next digit is the top one
        digit, is_digit = Signal(4), Signal()
        hexadecimal, other, character = Signal(8), Signal(8), Signal(8)
        at = slot[:4]
        m.d.sync += [
            digit.eq(digits[-4:]),
            is_digit.eq((at != 0) & (at != 1) & (at != 8) & (at != 15)),
            hexadecimal.eq(Mux(digit >= 10, ord("a") - 10, ord("0")) + digit),
            other.eq(Mux(self.i_failed, ord("F"), Mux(self.i_passed, ord("P"), ord("-")))),
            character.eq(Mux(is_digit, hexadecimal, other)),
        ]
        with m.If(at == 15):
            m.d.sync += other.eq(ord("\n"))
        with m.Elif(at != 0):
            m.d.sync += other.eq(ord(" "))

        bits = Signal(9, init=-1)
        next_bits, load = Signal(9), Signal()  # what the shift register takes at the next tick
        m.d.sync += [
            load.eq((bit == 0) & speaks),
            next_bits.eq(Mux(load, Cat(C(0, 1), character), Cat(bits[1:], C(1, 1)))),
        ]
        m.d.comb += self.o_tx.eq(bits[0])
        turn, keep = Signal(), Signal()  # the digits' next one; the digits are being told
        m.d.sync += [turn.eq(tick & slot_ends & is_digit), keep.eq(speaks)]
        with m.If(tick):
            m.d.sync += [bits.eq(next_bits), bit.eq(Mux(slot_ends, 0, bit + 1)), slot.eq(slot + slot_ends)]
        with m.If(turn):
            m.d.sync += digits.eq(digits << 4)
        with m.Elif(self.i_done & ~keep):
            m.d.sync += digits.eq(Cat(self.i_stalls, self.i_cycles))
        return m
