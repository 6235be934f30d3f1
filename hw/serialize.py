"""From a group's results, all there at once, to a stream of narrower beats."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class Serialize(wiring.Component):
    """A group's results, all there at once, as beats of ``width`` values, ``gap`` cycles apart.

    The first beat comes out in the cycle of i_valid (combinational), the others behind it; the next group may come
    ``gap`` cycles after the last of them. No flow control.

    Parameters
    ----------
    shape : Shape
        Of a result.
    units, width : int
        Results a group, values a beat.
    beats : int
        Beats a pixel. The last group of a pixel gives those that are left.
    gap : int
        Cycles from a beat to the next one; 1: they follow each other.

    Members
    -------
    i_valid : In(1)
    i : In(units results)
    o_valid : Out(1)
    o : Out(width results)
    o_beat : Out
        The beat's place in its pixel.
    """

    def __init__(self, *, shape, units, width, beats, gap=1):
        self._shape, self._units, self._width, self._beats, self._gap = shape, units, width, beats, gap
        if beats > self.group_beats and units % width:
            raise ValueError(f"serialize width must divide units {units}, not {width}")
        super().__init__(
            {
                "i_valid": In(1),
                "i": In(data.ArrayLayout(shape, units)),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(shape, width)),
                "o_beat": Out(range(max(2, beats))),
            }
        )

    @property
    def group_beats(self):
        """Beats of a group."""
        return -(-self._units // self._width)

    def elaborate(self, platform):
        m = Module()
        beats = self.group_beats
        beat = Signal(range(max(2, self._beats)))
        m.d.comb += self.o_beat.eq(beat)
        with m.If(self.o_valid):
            m.d.sync += beat.eq(Mux(beat == self._beats - 1, 0, beat + 1))
        size = len(Signal(self._shape))
        now = Cat(self.i.as_value(), Const(0, size * (beats * self._width - self._units)))
        step = size * self._width
        if beats == 1:
            m.d.comb += [self.o_valid.eq(self.i_valid), self.o.as_value().eq(now)]
            return m
        kept = Signal(step * (beats - 1), reset_less=True)
        left = Signal(beats - 1)  # a thermometer of the beats that are still kept
        due = self._due(m)
        m.d.sync += [kept.eq(Mux(due, kept >> step, kept)), left.eq(Mux(due, left >> 1, left))]
        with m.If(self.i_valid):
            m.d.sync += [kept.eq(now[step:]), left.eq(-1)]
        with m.If((beat == self._beats - 1) & self.o_valid):
            m.d.sync += left.eq(0)
        m.d.comb += self.o_valid.eq(self.i_valid | (left[0] & due))
        m.d.comb += self.o.as_value().eq(Mux(self.i_valid, now[:step], kept[:step]))
        return m

    def _due(self, m):
        """High in a cycle in which a beat that is kept may leave."""
        if self._gap == 1:
            return Const(1, 1)
        wait, due = Signal(range(self._gap)), Signal()
        m.d.comb += due.eq(wait == 0)
        m.d.sync += wait.eq(Mux(self.o_valid, self._gap - 1, Mux(due, 0, wait - 1)))
        return due
