"""Width adapters: several narrow beats into a wide one, and back. Each pixel starts a new beat on both sides."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.fifo import ShiftFifo, values_stream
from lutloom.schedule import Gather as GatherSchedule
from lutloom.schedule import Scatter as ScatterSchedule


class Gather(wiring.Component):
    """Collects ``ratio`` beats into one; a pixel's last beat ends the word early, its missing values are zero.

    Full throughput while the sink takes a word within ``ratio - 1`` cycles. A word is offered one cycle after its last
    part came. No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of the beats that come in.
    ratio : int
        Beats in a word, at least 2.
    pixel_beats : int
        Beats a pixel that come in.

    Members
    -------
    i : In(stream of width values)
    o : Out(stream of ratio·width values)
    """

    def __init__(self, *, bits, width, ratio, pixel_beats):
        if ratio < 2:
            raise ValueError(f"gather ratio must be at least 2, not {ratio!r}")
        self._bits, self._width, self._ratio, self._pixel_beats = bits, width, ratio, pixel_beats
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width * ratio))})

    @property
    def schedule(self):
        """When words come out, as a function of when beats came in."""
        return GatherSchedule(ratio=self._ratio, pixel_beats=self._pixel_beats)

    def elaborate(self, platform):
        m = Module()
        part = Signal(range(self._ratio))
        beat = Signal(range(self._pixel_beats))
        last_beat = beat == self._pixel_beats - 1
        last = Signal()
        m.d.comb += last.eq((part == self._ratio - 1) | last_beat)
        step = self._bits * self._width
        parts = [Signal(step, name=f"part_{index}") for index in range(self._ratio - 1)]
        word = self.o.payload.as_value()
        m.d.comb += self.i.ready.eq(~(last & self.o.valid))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last_beat):
                m.d.sync += beat.eq(0)
            m.d.sync += part.eq(part + 1)
            for index in range(self._ratio - 1):
                with m.If(part == index):
                    m.d.sync += parts[index].eq(self.i.payload)
            with m.If(last):
                m.d.sync += [part.eq(0), self.o.valid.eq(1)]
                m.d.sync += [kept.eq(0) for kept in parts]
                for index in range(self._ratio):
                    piece = word.word_select(index, step)
                    kept = parts[index] if index < self._ratio - 1 else 0
                    with m.If(part == index):
                        m.d.sync += piece.eq(self.i.payload)
                    with m.Else():
                        m.d.sync += piece.eq(kept)
        return m


class Scatter(wiring.Component):
    """Takes a wide beat apart into ``ratio`` narrow ones; a pixel's last word gives only the beats it has values for.

    Full throughput, no bubble between words (two words are held). No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of the beats that go out.
    ratio : int
        Beats in a word, at least 2.
    pixel_beats : int
        Beats a pixel that go out.

    Members
    -------
    i : In(stream of ratio·width values)
    o : Out(stream of width values)
    """

    def __init__(self, *, bits, width, ratio, pixel_beats):
        if ratio < 2:
            raise ValueError(f"scatter ratio must be at least 2, not {ratio!r}")
        self._bits, self._width, self._ratio, self._pixel_beats = bits, width, ratio, pixel_beats
        super().__init__({"i": In(values_stream(bits, width * ratio)), "o": Out(values_stream(bits, width))})

    @property
    def schedule(self):
        """When beats come out, as a function of when words came in."""
        return ScatterSchedule(ratio=self._ratio, pixel_beats=self._pixel_beats, depth=2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = ShiftFifo(bits=self._bits, width=self._width * self._ratio, depth=2)
        wiring.connect(m, wiring.flipped(self.i), words.i)
        part = Signal(range(self._ratio))
        beat = Signal(range(self._pixel_beats))
        last_beat = beat == self._pixel_beats - 1
        last = Signal()
        m.d.comb += last.eq((part == self._ratio - 1) | last_beat)
        step = self._bits * self._width
        pieces = Array(words.o.payload.as_value().word_select(index, step) for index in range(self._ratio))
        m.d.comb += [
            self.o.valid.eq(words.o.valid),
            self.o.payload.eq(pieces[part]),
            words.o.ready.eq(self.o.ready & last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [beat.eq(beat + 1), part.eq(part + 1)]
            with m.If(last_beat):
                m.d.sync += beat.eq(0)
            with m.If(last):
                m.d.sync += part.eq(0)
        return m
