"""Width adapters: several narrow beats into a wide one, and back. Each pixel starts a new beat on both sides."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.fifo import ShiftFifo, values_stream
from lutloom.schedule import Gather as GatherSchedule
from lutloom.schedule import Scatter as ScatterSchedule


def word_parts(m, moves, ratio, pixel_beats):
    """Which part of a word a beat is, and whether it is its last: registers, so that `last` may stand in a handshake.

    Parameters
    ----------
    m : Module
    moves : Signal
        A beat goes by.
    ratio, pixel_beats : int
    """
    part, beat = Signal(range(ratio)), Signal(range(pixel_beats))
    last, last_beat = Signal(init=pixel_beats == 1), Signal(init=pixel_beats == 1)
    next_part, next_beat = Signal.like(part), Signal.like(beat)
    m.d.comb += [next_part.eq(Mux(last, 0, part + 1)), next_beat.eq(Mux(last_beat, 0, beat + 1))]
    ends = next_beat == pixel_beats - 1
    with m.If(moves):
        m.d.sync += [part.eq(next_part), beat.eq(next_beat), last_beat.eq(ends)]
        m.d.sync += last.eq((next_part == ratio - 1) | ends)
    return part, last


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
        moves = Signal()
        m.d.comb += moves.eq(self.i.valid & self.i.ready)
        part, last = word_parts(m, moves, self._ratio, self._pixel_beats)
        step = self._bits * self._width
        parts = [Signal(step, name=f"part_{index}") for index in range(self._ratio - 1)]
        word = self.o.payload.as_value()
        m.d.comb += self.i.ready.eq(~(last & self.o.valid))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(moves):
            for index in range(self._ratio - 1):
                with m.If(part == index):
                    m.d.sync += parts[index].eq(self.i.payload)
            with m.If(last):
                m.d.sync += self.o.valid.eq(1)
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
        moves = Signal()
        m.d.comb += moves.eq(self.o.valid & self.o.ready)
        part, last = word_parts(m, moves, self._ratio, self._pixel_beats)
        step = self._bits * self._width
        pieces = Array(words.o.payload.as_value().word_select(index, step) for index in range(self._ratio))
        m.d.comb += [
            self.o.valid.eq(words.o.valid),
            self.o.payload.eq(pieces[part]),
            words.o.ready.eq(self.o.ready & last),
        ]
        return m
