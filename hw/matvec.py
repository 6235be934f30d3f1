"""Matrix times vector: ``units`` dot products side by side, their accumulators, and the ROM with the weights."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.dot import dot_for


class MatVec(wiring.Component):
    """``units`` dot products over ``lanes`` values a fold, accumulated over the folds of a group.

    acc[u] = sum over the group's folds and lanes of w·x, exact; with bipolar values, binary weights and no mask the
    number of matches instead (the sum is twice that less the number of products).

    Latency: ``delay`` cycles from a group's last fold to o_valid. Throughput: a fold a cycle, no bubble between groups.
    No flow control. No combinational path.

    Parameters
    ----------
    lanes, units : int
    x_format : Format
    w_format : WeightFormat
    acc_shape : Shape
        Holds every sum (sums that wrap on the way come out right).
    masked : bool
        Lanes whose tap is invalid contribute nothing (bipolar values have no zero).
    dsp : bool
        Products on the chip's DSP blocks.

    Members
    -------
    i_valid, i_first, i_last : In(1)
    i_x : In(lanes values)
    i_lanes : In(lanes)
        Which lanes count; only if masked.
    i_w : In(units x lanes codes)
    o_valid : Out(1)
    o_acc : Out(units accumulators)
    """

    def __init__(self, *, lanes, units, x_format, w_format, acc_shape, masked=False, dsp=False):
        self._lanes, self._units, self._masked = lanes, units, masked
        self._acc_shape = acc_shape
        self._dots = [dot_for(x_format, w_format, lanes, masked=masked, dsp=dsp) for _ in range(units)]
        members = {
            "i_valid": In(1),
            "i_first": In(1),
            "i_last": In(1),
            "i_x": In(data.ArrayLayout(unsigned(x_format.bits), lanes)),
            "i_w": In(data.ArrayLayout(unsigned(w_format.bits), units * lanes)),
            "o_valid": Out(1),
            "o_acc": Out(data.ArrayLayout(acc_shape, units)),
        }
        if masked:
            members["i_lanes"] = In(lanes)
        super().__init__(members)

    @property
    def delay(self):
        """Cycles from a group's last fold to o_valid."""
        return self._dots[0].delay + 1

    def elaborate(self, platform):
        m = Module()
        flags = Cat(self.i_valid, self.i_first, self.i_last)
        for stage in range(self._dots[0].delay):
            after = Signal(3, name=f"s{stage}_flags")
            m.d.sync += after.eq(flags)
            flags = after
        valid, first, last = flags
        m.d.sync += self.o_valid.eq(valid & last)
        for unit, dot in enumerate(self._dots):
            m.submodules[f"dot{unit}"] = dot
            m.d.comb += dot.i_x.eq(self.i_x)
            for lane in range(self._lanes):
                m.d.comb += dot.i_w[lane].eq(self.i_w[unit * self._lanes + lane])
            if self._masked:
                m.d.comb += dot.i_valid.eq(self.i_lanes)
            acc = Signal(self._acc_shape, name=f"acc{unit}", reset_less=True)
            with m.If(valid):
                # The old sum is masked, not chosen against: one LUT a bit with its carry.
                m.d.sync += acc.eq(Mux(first, 0, acc) + dot.o)
            m.d.comb += self.o_acc[unit].eq(acc)
        return m
