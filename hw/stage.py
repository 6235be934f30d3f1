"""A dataflow stage: window, arithmetic, requantisation, output buffer; one credit domain, no stall net."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.delay import delayed
from lutloom.hw.fifo import ShiftFifo, values_stream
from lutloom.hw.pool import Pool
from lutloom.hw.requantise import steps_of
from lutloom.hw.serialize import Serialize
from lutloom.schedule import Pipe, Windowed


class Buffered(wiring.Component):
    """What the end of every stage shares: a requantiser that runs free, then a buffer whose places are credits."""

    def _finish(self, m, valid, values, beat, requantise, credits):
        """Requantise, blank what is beyond the last channel, and buffer.

        Parameters
        ----------
        valid, beat : Signal
        values : Array view
        requantise : unit with i_valid, i_acc, i_beat, o_valid, o; or None
        credits : int

        Returns
        -------
        Value
            High in a cycle in which an output beat leaves.
        """
        if requantise is not None:
            m.submodules.requantise = requantise
            m.d.comb += [requantise.i_valid.eq(valid), requantise.i_acc.eq(values)]
            if requantise.beats > 1:
                m.d.comb += requantise.i_beat.eq(beat)
            valid, values = requantise.o_valid, requantise.o
        bits, width = self._out_bits, self._out_width
        m.submodules.buffer = buffer = ShiftFifo(bits=bits, width=width, depth=credits)
        m.d.comb += buffer.i.valid.eq(valid)
        spare = -self._channels % width
        if spare:
            beats = -(-self._channels // width)
            place = Signal(range(max(2, beats)))
            last = place == beats - 1
            with m.If(valid):
                m.d.sync += place.eq(Mux(last, 0, place + 1))
        for lane in range(width):
            value = values[lane]
            value = (value.as_value() if hasattr(value, "as_value") else value)[:bits]
            if spare and lane >= width - spare:
                value = Mux(last, Const(0, bits), value)
            m.d.comb += buffer.i.payload[lane].eq(value)
        wiring.connect(m, buffer.o, wiring.flipped(self.o))
        return self.o.valid & self.o.ready


class Stage(Buffered):
    """Window, dot products or pooling, and requantisation, over every position of a feature map.

    Parameters
    ----------
    name : str
        Prefix of its memories' names.
    window : Window
    work : MatVec or Pool
    weights : Rom or None
        A word a fold of a position, ``units·lanes`` codes; read ``window lead`` cycles ahead. Where the lead is longer
        than the memory's latency, registers stand between: the way from ECP5's block RAM is long.
    decode : component or None
        Makes the work's codes of the words of ``weights``, in its ``delay`` cycles; they are part of the lead.
    shape : Shape
        Of a result.
    units, out_width, channels : int
        Results a group, values an output beat, channels of the output.
    requantise : component or None
    out_bits : int
    credits : int
    masked : bool
        The work takes a mask of lanes.

    Members
    -------
    i, o : streams
    """

    def __init__(
        self, *, name, window, work, weights, shape, units, out_width, channels, requantise, out_bits, credits, masked,
        decode=None,
    ):
        self._name, self._window, self._work, self._weights = name, window, work, weights
        self._shape, self._units, self._out_width, self._channels = shape, units, out_width, channels
        self._requantise, self._out_bits, self._credits = requantise, out_bits, credits
        self._masked, self._decode = masked, decode
        gap = steps_of(requantise)
        self._serialize = Serialize(shape=shape, units=units, width=out_width, beats=self.pixel_beats, gap=gap)
        if gap > 1 and self._serialize.group_beats * gap > window.geometry.cost:
            raise ValueError(
                f"stage requantisation must be done within a group's {window.geometry.cost} cycles, but "
                f"{self._serialize.group_beats} beats of {gap} steps take longer"
            )
        if credits < self._serialize.group_beats:
            raise ValueError(f"stage credits must be at least a group's {self._serialize.group_beats}, not {credits}")
        super().__init__(
            {"i": In(values_stream(window.bits, window.lanes)), "o": Out(values_stream(out_bits, out_width))}
        )

    @property
    def pixel_beats(self):
        """Output beats a pixel."""
        return -(-self._channels // self._out_width)

    @property
    def _emits(self):
        """Beats of each group of a position."""
        groups = self._window.geometry.position_groups
        full = self._serialize.group_beats
        return [full] * (groups - 1) + [self.pixel_beats - full * (groups - 1)]

    @property
    def schedule(self):
        """When the stage takes words and gives beats."""
        g = self._window.geometry
        groups = g.position_groups
        # A row's words are free only after its last position's last group.
        last = np.arange(g.need.size * groups) % groups == groups - 1
        return Windowed(
            words=g.height * g.row_words,
            cost=g.cost,
            need=np.repeat(g.need.ravel(), groups),
            emits=np.tile(np.array(self._emits), g.need.size),
            frees=np.where(last, np.repeat(g.frees.ravel(), groups), 0),
            capacity=g.capacity,
            credits=self._credits,
            room=self._serialize.group_beats,
            gap=steps_of(self._requantise),
            delay=self._window.delay + self._work.delay + (self._requantise.delay if self._requantise else 0) + 1,
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.window = window = self._window
        m.submodules.work = work = self._work
        m.submodules.serialize = serialize = self._serialize
        wiring.connect(m, wiring.flipped(self.i), window.i)
        m.d.comb += [
            work.i_valid.eq(window.o_valid),
            work.i_first.eq(window.o_first),
            work.i_last.eq(window.o_last),
            work.i_x.eq(window.o_x),
        ]
        if isinstance(work, Pool):
            m.d.comb += [work.i_row.eq(window.o_row), work.i_column.eq(window.o_column)]
        self._weigh(m, window, work)
        if self._masked:
            lanes = len(work.i_lanes) // len(window.o_taps)
            m.d.comb += work.i_lanes.eq(Cat(tap.replicate(lanes) for tap in window.o_taps))
        m.d.comb += [serialize.i_valid.eq(work.o_valid), serialize.i.eq(work.o_acc)]
        left = self._finish(
            m, serialize.o_valid, serialize.o, serialize.o_beat, self._requantise, self._credits
        )
        self._admit(m, window, left)
        return m

    def _weigh(self, m, window, work):
        """Bring the weights to the work."""
        if self._weights is None:
            return
        m.submodules.weights = self._weights
        decode = self._decode
        spare = window.lead - self._weights.latency - (decode.delay if decode is not None else 0)
        m.d.comb += self._weights.i_addr.eq(window.o_address)
        words = delayed(m, self._weights.o_data, spare, "weights_held")
        if decode is not None:
            m.submodules.decode = decode
            m.d.comb += decode.i.eq(words)
            words = decode.o
        m.d.comb += work.i_w.eq(words)

    def _admit(self, m, window, left):
        """Credits: a group is launched when the buffer will have room for all that it gives."""
        emits = self._emits
        full = self._serialize.group_beats
        credit = Signal(signed(len(Const(self._credits)) + 2), init=self._credits - full)
        taken, took = Signal(range(full + 1)), Signal(range(full + 1))
        with m.If(window.o_launch):
            m.d.comb += taken.eq(full)
            if emits[-1] != full:
                group = Signal(range(len(emits)))
                last = group == len(emits) - 1
                m.d.sync += group.eq(Mux(last, 0, group + 1))
                with m.If(last):
                    m.d.comb += taken.eq(emits[-1])
        if window.geometry.cost > 1:  # counted off a cycle later, soon enough for the next group
            m.d.sync += took.eq(taken)
        else:
            m.d.comb += took.eq(taken)
        m.d.sync += credit.eq(credit - took + left)
        m.d.comb += window.i_go.eq(~credit[-1])


class MapStage(Buffered):
    """Requantisation of a stream, value by value.

    Parameters
    ----------
    requantise : component
    shape : Shape
        What a code becomes in front of the requantiser.
    in_bits, out_bits, width, channels, credits : int

    Members
    -------
    i, o : streams
    """

    def __init__(self, *, requantise, shape, in_bits, out_bits, width, channels, credits):
        self._requantise, self._shape = requantise, shape
        self._out_bits, self._out_width, self._channels, self._credits = out_bits, width, channels, credits
        super().__init__({"i": In(values_stream(in_bits, width)), "o": Out(values_stream(out_bits, width))})

    @property
    def schedule(self):
        """When beats leave."""
        return Pipe(delay=self._requantise.delay + 1, credits=self._credits, gap=steps_of(self._requantise))

    def elaborate(self, platform):
        m = Module()
        beats = -(-self._channels // self._out_width)
        beat = Signal(range(max(2, beats)))
        came = self.i.valid & self.i.ready
        with m.If(came):
            m.d.sync += beat.eq(Mux(beat == beats - 1, 0, beat + 1))
        left = self._finish(m, came, self.i.payload, beat, self._requantise, self._credits)
        credit = Signal(signed(len(Const(self._credits)) + 2), init=self._credits - 1)
        m.d.comb += self.i.ready.eq(~credit[-1] & spaced(m, came, steps_of(self._requantise)))
        m.d.sync += credit.eq(credit - came + left)
        return m


def spaced(m, came, gap):
    """High when ``gap`` cycles or more have passed since ``came`` was high."""
    if gap == 1:
        return Const(1, 1)
    wait = Signal(range(gap))
    m.d.sync += wait.eq(Mux(came, gap - 1, Mux(wait == 0, 0, wait - 1)))
    return wait == 0
