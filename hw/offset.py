"""A constant per channel on accumulators."""

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.delay import delayed
from lutloom.hw.memory import Rom
from lutloom.hw.tree import checked_count, checked_shape, range_of, shape_of


class Offset(wiring.Component):
    """o = acc + values[channel], exact; a beat holds ``lanes`` accumulators, channel ``beat · lanes + lane``.

    Latency: ``delay`` = memory latency + 1 cycles; a beat a cycle. No flow control, no combinational path.

    Parameters
    ----------
    name : str
        Prefix of the memory's name.
    acc_shape : Shape
    lanes : int
    values : integer array (beats, lanes)
    out_shape : Shape or None
        None: the narrowest that holds every sum. A narrower one is for who knows that sums fit it.
    value_shape : Shape or None
        Of the values in memory; None: the narrowest that holds them.
    latency : 1 or 2
        Of the memory.
    place : "ebr" or "lut"

    Members
    -------
    i_valid : In(1)
    i_acc : In(ArrayLayout(acc_shape, lanes))
    i_beat : In(range(beats))
    o_valid : Out(1)
    o : Out(ArrayLayout(out_shape, lanes))

    Raises
    ------
    ValueError
        For values of a wrong shape, or lanes out of range.
    """

    def __init__(self, *, name, acc_shape, lanes, values, out_shape=None, value_shape=None, latency=1,
                 place="ebr"):
        self._lanes, self._acc_shape, self._latency = checked_count("lanes", lanes), checked_shape(acc_shape), latency
        self._values = np.asarray(values, dtype=np.int64)
        if self._values.ndim != 2 or self._values.shape[1] != lanes or not self._values.shape[0]:
            raise ValueError(f"offset values must be of shape (beats, {lanes}), not {self._values.shape}")
        least, greatest = int(self._values.min()), int(self._values.max())
        low, high = range_of(self._acc_shape)
        out_shape = shape_of(low + least, high + greatest) if out_shape is None else checked_shape(out_shape)
        self._value_shape = shape_of(least, greatest) if value_shape is None else checked_shape(value_shape)
        stored_low, stored_high = range_of(self._value_shape)
        if least < stored_low or greatest > stored_high:
            raise ValueError(f"offset values {least} to {greatest} must fit {self._value_shape!r}; take it wider")
        width = self._value_shape.width
        words = [
            sum((int(value) & ((1 << width) - 1)) << lane * width for lane, value in enumerate(row))
            for row in self._values
        ]
        self._rom = Rom(
            name=f"{name}_offset", width=width * lanes, depth=len(words), init=words, latency=latency, place=place
        )
        super().__init__(
            {
                "i_valid": In(1),
                "i_acc": In(data.ArrayLayout(self._acc_shape, lanes)),
                "i_beat": In(range(max(2, len(words)))),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(out_shape, lanes)),
            }
        )

    @property
    def beats(self):
        """Beats with parameters of their own."""
        return len(self._values)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._latency + 1

    @property
    def memories(self):
        """Specification of the memory."""
        return [self._rom.spec]

    def model(self, acc, beat):
        """o of one beat's accumulators (..., lanes)."""
        return np.asarray(acc) + self._values[beat]

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = self._rom
        m.d.comb += self._rom.i_addr.eq(self.i_beat)
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self.delay, "valid", reset_less=False))
        width = self._value_shape.width
        for lane in range(self._lanes):
            value = self._rom.o_data[lane * width : (lane + 1) * width]
            value = value.as_signed() if self._value_shape.signed else value
            acc = delayed(m, self.i_acc[lane], self._latency, f"s0_acc{lane}")
            total = Signal(self.o[lane].shape(), name=f"sum{lane}", reset_less=True)
            m.d.sync += total.eq(acc + value)
            m.d.comb += self.o[lane].eq(total)
        return m
