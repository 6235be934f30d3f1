"""Beats of a frame in another order, and the same beats in every frame."""

from math import prod

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.fifo import ShiftFifo, lookahead, values_stream
from lutloom.hw.memory import Ram, Rom
from lutloom.schedule_branches import Always
from lutloom.schedule_branches import Reorder as ReorderSchedule


class Reorder(wiring.Component):
    """Beats of a frame in another order, some of them several times or not at all: transposes, broadcasts, reversals.

    Beat (a, b, c) of the output's ``sizes`` is beat base + a · strides[0] + b · strides[1] + c · strides[2] of the
    input. A frame goes out, a beat a cycle, when it is there as a whole, ``latency + 2`` cycles after its last beat
    came; meanwhile the next comes in. No combinational path between the sides.

    Parameters
    ----------
    name : str
        Of its memory, which holds two frames.
    bits, width : int
        Shape of a beat.
    beats : int
        Of a frame at the input.
    sizes, strides : (int, int, int)
        In beats; strides may be 0 and negative.
    base : int
    latency : 1 or 2
        Of the memory.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, name, bits, width, beats, sizes, strides, base=0, latency=1):
        reach = [sorted((0, (size - 1) * stride)) for size, stride in zip(sizes, strides, strict=True)]
        if min(sizes) < 1 or base + sum(low for low, _ in reach) < 0 or base + sum(h for _, h in reach) >= beats:
            raise ValueError(f"reordered places must lie among the {beats} of a frame")
        self._bits, self._width, self._beats, self._latency = bits, width, beats, latency
        self._sizes, self._strides, self._base = tuple(sizes), tuple(strides), base
        self._ram = Ram(name=name, width=bits * width, depth=2 * beats, latency=latency)
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def schedule(self):
        """When beats come and go."""
        return ReorderSchedule(beats=self._beats, beats_out=prod(self._sizes), delay=self._latency + 2)

    @property
    def memories(self):
        """Specifications of the memories."""
        return [self._ram.spec]

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self._ram
        m.submodules.head = head = ShiftFifo(bits=self._bits, width=self._width, depth=self._latency + 2)
        wiring.connect(m, head.o, wiring.flipped(self.o))
        came, leaves, reads = Signal(), Signal(), Signal()
        m.d.comb += [came.eq(self.i.valid & self.i.ready), leaves.eq(self.o.valid & self.o.ready)]

        write = Signal(range(2 * self._beats))
        in_last, out_last = Signal(), self._counted(m, "left", prod(self._sizes), leaves)
        m.d.comb += in_last.eq(came & ((write == self._beats - 1) | (write == 2 * self._beats - 1)))
        with m.If(came):
            m.d.sync += write.eq(Mux(write == 2 * self._beats - 1, 0, write + 1))
        m.d.comb += [ram.i_write_en.eq(came), ram.i_write_addr.eq(write), ram.i_write_data.eq(self.i.payload)]

        # A half of the memory is free again when the last beat of its frame has left the unit.
        held, after = Signal(range(3)), Signal(range(3))
        full = Signal()
        m.d.comb += [after.eq(held + in_last - (leaves & out_last)), self.i.ready.eq(~full)]
        m.d.sync += [held.eq(after), full.eq(after == 2)]

        unread = Signal(range(3))
        read_last = self._address(m, ram, reads)
        m.d.sync += unread.eq(unread + in_last - (reads & read_last))
        m.d.comb += reads.eq((unread != 0) & lookahead(m, head, ram, self._latency, reads, leaves))
        return m

    def _counted(self, m, name, count, moves):
        """High at the last of ``count`` moves."""
        if count == 1:
            return Const(1)
        left = Signal(range(count), init=count - 1, name=name)
        last = Signal(name=f"{name}_last")
        m.d.comb += last.eq(left == 0)
        with m.If(moves):
            m.d.sync += left.eq(Mux(last, count - 1, left - 1))
        return last

    def _address(self, m, ram, reads):
        """Drives the address of the memory in the order of the output; high at a frame's last beat.

        Counters of the three axes say how far the next beat is: a constant for each axis that goes on.
        """
        outer, middle, inner = self._sizes
        last_inner = self._counted(m, "inner", inner, reads)
        last_middle = self._counted(m, "middle", middle, reads & last_inner)
        last_outer = self._counted(m, "outer", outer, reads & last_inner & last_middle)
        a, b, c = self._strides
        half, place = Signal(), Signal(range(2 * self._beats), init=self._base)
        frame_last = last_inner & last_middle & last_outer
        with m.If(reads):
            with m.If(frame_last):
                m.d.sync += [half.eq(~half), place.eq(Mux(half, self._base, self._base + self._beats))]
            with m.Elif(last_inner & last_middle):
                m.d.sync += place.eq(place + (a - (middle - 1) * b - (inner - 1) * c))
            with m.Elif(last_inner):
                m.d.sync += place.eq(place + (b - (inner - 1) * c))
            with m.Else():
                m.d.sync += place.eq(place + c)
        m.d.comb += ram.i_addr.eq(place)
        return frame_last


class Constants(wiring.Component):
    """The same beats again and again; the first is there at once, also after a reset.

    Parameters
    ----------
    name : str
        Of its memory.
    bits, width : int
        Shape of a beat.
    words : sequence of int
        The beats of a period, at least one.
    latency : 1 or 2
        Of the memory.
    place : "ebr" or "lut"

    Members
    -------
    o : Out(stream)
    """

    inputs = ()

    def __init__(self, *, name, bits, width, words, latency=1, place="ebr"):
        if not len(words):
            raise ValueError("constants must be one word or more")
        self._bits, self._width, self._latency = bits, width, latency
        self._words = [int(word) for word in words]
        self._rom = None
        if len(self._words) > 1:
            self._rom = Rom(name=name, width=bits * width, depth=len(words), init=self._words, latency=latency,
                            place=place)
        super().__init__({"o": Out(values_stream(bits, width))})

    @property
    def schedule(self):
        """When beats go."""
        return Always()

    @property
    def memories(self):
        """Specifications of the memories."""
        return [self._rom.spec] if self._rom else []

    def elaborate(self, platform):
        m = Module()
        if self._rom is None:
            m.d.comb += [self.o.valid.eq(1), self.o.payload.eq(self._words[0])]
            return m
        m.submodules.rom = rom = self._rom
        m.submodules.head = head = ShiftFifo(bits=self._bits, width=self._width, depth=self._latency + 2)
        reads, leaves, moves = Signal(), Signal(), Signal()
        # The first beats, which the memory has not given yet after a reset, are constants in logic.
        early, depth = self._latency + 2, len(self._words)
        left = Signal(range(early + 1), init=early)
        first = Signal(init=1)
        place = Signal(range(depth), init=early % depth)
        with m.If(reads):
            m.d.sync += place.eq(Mux(place == depth - 1, 0, place + 1))
        m.d.comb += [
            rom.i_addr.eq(place), reads.eq(lookahead(m, head, rom, self._latency, reads, leaves)),
            moves.eq(self.o.valid & self.o.ready), leaves.eq(moves & ~first), head.o.ready.eq(self.o.ready & ~first),
        ]
        with m.If(first & moves):
            m.d.sync += [left.eq(left - 1), first.eq(left != 1)]
        rows = Array(Const(self._words[(early - count) % depth], self._bits * self._width)
                     for count in range(early + 1))
        m.d.comb += [
            self.o.valid.eq(first | head.o.valid),
            self.o.payload.eq(Mux(first, rows[left], head.o.payload.as_value())),
        ]
        return m
