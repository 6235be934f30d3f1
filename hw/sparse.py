"""A stage that skips zeros: each product reads the value that its next weight wants, out of a memory of its own."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutloom.hw.delay import delayed
from lutloom.hw.fifo import ShiftFifo, lookahead, values_stream
from lutloom.hw.memory import Ram, Rom
from lutloom.hw.requantise import steps_of
from lutloom.hw.stage import Stage
from lutloom.hw.window import counter
from lutloom.schedule import Windowed


@dataclass(frozen=True)
class Groups:
    """How often a stage computes, where groups differ in length.

    Parameters
    ----------
    positions : int
        Vectors a frame.
    words : int
        Of a vector.
    lengths : int64 array (groups,)
        Cycles of each group of outputs, at least 2.
    """

    positions: int
    words: int
    lengths: np.ndarray

    @property
    def cost(self):
        """Cycles of the shortest group."""
        return int(self.lengths.min())

    @property
    def position_groups(self):
        """Groups a vector."""
        return len(self.lengths)


class SparseWindow(wiring.Component):
    """Vectors in memories, a copy for every unit, out of which each unit and lane reads what its own weights want.

    A vector's words are written into ``units`` x ``width`` memories at once, which hold two vectors. A fold is a word
    of the weights' memory: for each unit and lane a code, and how many words further the value lies that it belongs to
    (from the vector's first word in the first fold of a group). A group is launched when its vector is there and
    ``i_go`` is high, and runs without a stall; the next follows without a bubble.

    Latency: ``delay`` cycles from a fold's launch to ``o_valid``. Throughput: a word and a fold a cycle.
    Combinational paths: from ``i_go`` to ``o_launch``.

    Parameters
    ----------
    name : str
        Prefix of its memories' names.
    geometry : Groups
    weights : Rom
        A word a fold, ``units·width`` pairs of code and step.
    code_bits : int
    bits, width, units : int
        A word of the input is ``width`` values of ``bits`` bits.
    latency : 1 or 2
        Of the memories.
    place, lengths_place : "ebr" or "lut"
        Of the vectors; of the groups' lengths.

    Members
    -------
    i : In(stream of width values)
    i_go : In(1)
    o_launch, o_valid, o_first, o_last : Out(1)
        As ``lutloom.hw.window.Window`` has them.
    o_x : Out(width x units values)
        Value ``lane·units + unit``.
    o_w : Out(units x width codes)
    """

    def __init__(self, *, name, geometry, weights, code_bits, bits, width, units, latency=1, place="ebr",
                 lengths_place="lut"):
        self._name, self._geometry, self._weights, self._code_bits = name, geometry, weights, code_bits
        self._bits, self._width, self._units, self._latency, self._place = bits, width, units, latency, place
        if geometry.cost < 2:
            raise ValueError(f"groups of a stage that skips zeros must take at least 2 cycles, not {geometry.cost}")
        if weights.spec.depth != geometry.lengths.sum():
            raise ValueError(f"the weights must be {geometry.lengths.sum()} words, not {weights.spec.depth}")
        self._run_bits = weights.spec.width // (units * width) - code_bits
        self._lengths = None
        if geometry.lengths.min() != geometry.lengths.max():
            self._lengths = Rom(
                name=f"{name}_lengths", width=bits_for(int(geometry.lengths.max()) - 1), depth=len(geometry.lengths),
                init=[int(length) - 1 for length in geometry.lengths], latency=latency, place=lengths_place,
            )
        depth = self.capacity
        self._rams = {
            (unit, lane): Ram(name=f"{name}_x{unit}_{lane}", width=bits, depth=depth, latency=latency, place=place)
            for unit in range(units) for lane in range(width)
        }
        self._write_en, self._whole = Signal(), Signal()
        self._write_addr = Signal(range(depth))
        super().__init__(
            {
                "i": In(values_stream(bits, width)),
                "i_go": In(1),
                "o_launch": Out(1),
                "o_valid": Out(1),
                "o_first": Out(1),
                "o_last": Out(1),
                "o_x": Out(data.ArrayLayout(bits, width * units)),
                "o_w": Out(data.ArrayLayout(code_bits, units * width)),
            }
        )

    @property
    def geometry(self):
        """Groups and their lengths."""
        return self._geometry

    @property
    def bits(self):
        """Bits of a value."""
        return self._bits

    @property
    def lanes(self):
        """Values a word."""
        return self._width

    @property
    def capacity(self):
        """Words held."""
        return 2 * self._geometry.words

    @property
    def _spare(self):
        """Registers behind the block RAM of an ECP5: the ways are long."""
        return self._latency - 1

    @property
    def _fetch(self):
        """Cycles from a fold's launch to its steps and codes."""
        return self._weights.latency + self._spare

    @property
    def delay(self):
        """Cycles from the launch of a fold to o_valid."""
        return self._fetch + 1 + self._latency + self._spare

    @property
    def free_delay(self):
        """Cycles from a vector's last fold to the first in which its words can be written over."""
        return self._fetch + 2

    @property
    def hold(self):
        """Cycles from a vector's last word to its first fold: more than one where it is short, since after a reset the
        lengths have to be read first."""
        return 1 if self._lengths is None else max(1, self._latency + 4 - self._geometry.words)

    def elaborate(self, platform):
        m = Module()
        m.submodules.weights = weights = self._weights
        fire, ends = Signal(), Signal()
        flags, half = self._sequence(m, fire, ends)
        self._take(m, ends)

        valid = delayed(m, fire, self._fetch, "fetched", reset_less=False)
        along = delayed(m, Cat(flags, half), self._fetch, "along")
        words = delayed(m, weights.o_data, self._spare, "words_held")
        size = self._code_bits + self._run_bits
        codes, steps = [], []
        for stream in range(self._units * self._width):
            word = words[stream * size:(stream + 1) * size]
            codes.append(word[: self._code_bits])
            steps.append(word[self._code_bits:])
        begin = Mux(along[2], self._geometry.words, 0)
        after = 1 + self._latency + self._spare
        for lane in range(self._width):
            values = self.i.payload[lane]
            for unit in range(self._units):
                m.submodules[f"x{unit}_{lane}"] = ram = self._rams[unit, lane]
                m.d.comb += [ram.i_write_en.eq(self._write_en), ram.i_write_addr.eq(self._write_addr),
                             ram.i_write_data.eq(values)]
                place = Signal(ram.i_addr.shape(), name=f"place{unit}_{lane}", reset_less=True)
                m.d.sync += place.eq(Mux(along[0], begin, place) + steps[unit * self._width + lane])
                m.d.comb += ram.i_addr.eq(place)
                value = delayed(m, ram.o_data, self._spare, f"x{unit}_{lane}_held")
                m.d.comb += self.o_x[lane * self._units + unit].eq(value)
        flags = delayed(m, along[:2], after, "flags")
        m.d.comb += [
            self.o_valid.eq(delayed(m, valid, after, "valid", reset_less=False)),
            self.o_first.eq(flags[0]), self.o_last.eq(flags[1]),
            self.o_w.eq(delayed(m, Cat(codes), after, "codes")),
        ]
        return m

    def _sequence(self, m, fire, ends):
        """Launches groups; (first and last of a group, which vector) of a fold, with its launch."""
        g = self._geometry
        busy, half, ready = Signal(), Signal(), Signal(range(3))
        left_one = Signal()  # the next fold is its group's last
        last = Signal()
        m.d.comb += last.eq(busy & left_one)
        length = self._length(m, self.o_launch)
        left = Signal(len(length))  # folds of the group that are to come
        with m.If(fire):
            m.d.sync += [busy.eq(~last), left.eq(left - 1), left_one.eq(left == 2)]
        with m.If(self.o_launch):
            m.d.sync += [left.eq(length), left_one.eq(length == 1)]
        last_group = counter(m, "group", fire & last, g.position_groups)[1]
        m.d.comb += [
            fire.eq(busy | (self.i_go & (ready != 0))),
            self.o_launch.eq(fire & ~busy),
            ends.eq(fire & last & last_group),
        ]
        whole = delayed(m, self._whole, self.hold - 1, "whole", reset_less=False)
        m.d.sync += ready.eq(ready + whole - ends)
        with m.If(ends):
            m.d.sync += half.eq(~half)
        address = Signal(self._weights.i_addr.shape())
        with m.If(fire):
            m.d.sync += address.eq(Mux(ends, 0, address + 1))
        m.d.comb += self._weights.i_addr.eq(address)
        return Cat(~busy, last), half

    def _length(self, m, launch):
        """Cycles less one of the group that is launched next."""
        g = self._geometry
        if self._lengths is None:
            return Signal(bits_for(g.cost - 1), init=g.cost - 1, name="length")
        m.submodules.lengths = rom = self._lengths
        m.submodules.head = head = ShiftFifo(bits=rom.spec.width, width=1, depth=self._latency + 2)
        reads = Signal()
        m.d.comb += [reads.eq(lookahead(m, head, rom, self._latency, reads, launch)), head.o.ready.eq(launch)]
        place = Signal(rom.i_addr.shape())
        with m.If(reads):
            m.d.sync += place.eq(Mux(place == len(g.lengths) - 1, 0, place + 1))
        m.d.comb += rom.i_addr.eq(place)
        length = Signal(rom.spec.width, name="length")
        m.d.comb += length.eq(head.o.payload[0])
        return length

    def _take(self, m, ends):
        """The input side: words into the memories while there is room."""
        words = self._geometry.words
        came = self._write_en
        m.d.comb += came.eq(self.i.valid & self.i.ready)
        freed = delayed(m, ends, self.free_delay - 1, "freed", reset_less=False)
        room = Signal(range(-1, self.capacity), init=self.capacity - 1)
        m.d.sync += room.eq(room - came + Mux(freed, words, 0))
        m.d.comb += self.i.ready.eq(~room[-1])
        with m.If(came):
            m.d.sync += self._write_addr.eq(Mux(self._write_addr == self.capacity - 1, 0, self._write_addr + 1))
        m.d.comb += self._whole.eq(came & ((self._write_addr == words - 1) | (self._write_addr == 2 * words - 1)))


class SparseStage(Stage):
    """A stage of dot products whose weights of zero are skipped.

    Its parameters are those of ``Stage``, with a ``SparseWindow`` for a window and without ``weights``; ``work`` takes
    other values in each unit.
    """

    @property
    def schedule(self):
        """When the stage takes words and gives beats."""
        window = self._window
        g = window.geometry
        groups, positions = g.position_groups, np.arange(1, g.positions + 1)
        last = np.arange(g.positions * groups) % groups == groups - 1
        need = np.repeat(positions * g.words, groups)
        return Windowed(
            words=g.positions * g.words, cost=g.cost, need=need, emits=np.tile(np.array(self._emits), g.positions),
            frees=np.where(last, need, 0), capacity=window.capacity, credits=self._credits,
            room=self._serialize.group_beats, gap=steps_of(self._requantise),
            delay=window.delay + self._work.delay + (self._requantise.delay if self._requantise else 0) + 1,
            free_delay=window.free_delay, hold=window.hold, costs=np.tile(g.lengths, g.positions),
        )

    def _weigh(self, m, window, work):
        """Bring the weights to the work."""
        m.d.comb += work.i_w.eq(window.o_w)
