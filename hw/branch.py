"""Streams that part and meet: forks, buffers in memory, unions, parts, constants among a stream, and state."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.fifo import ShiftFifo, lookahead, values_stream
from lutloom.hw.memory import Ram
from lutloom.schedule import Pipe
from lutloom.schedule_branches import Fork as ForkSchedule
from lutloom.schedule_branches import Insert as InsertSchedule
from lutloom.schedule_branches import Select as SelectSchedule
from lutloom.schedule_branches import Store as StoreSchedule
from lutloom.schedule_branches import Turns as TurnsSchedule

DEPTH = 2  # beats at each port: enough that a handshake a cycle goes through without a combinational path


def modulo(m, name, moves, count, marks=()):
    """A counter of beats, and registers that say whether the present place is one of ``marks``.

    Parameters
    ----------
    m : Module
    name : str
    moves : Value
        Go on.
    count : int
        Places.
    marks : sequence of sets of int
        A bit each is kept for these places; runs of places cost a comparator each.

    Returns
    -------
    place : Signal
    list of Signal
    """
    place = Signal(range(max(2, count)), name=name)
    after = Signal.like(place, name=f"{name}_next")
    m.d.comb += after.eq(Mux(place == count - 1, 0, place + 1))
    flags = []
    for index, mark in enumerate(marks):
        flag = Signal(name=f"{name}_mark{index}", init=0 in mark)
        inside = Const(0, 1)
        for low, high in _runs(mark):
            inside = inside | ((after >= low) & (after <= high))
        with m.If(moves):
            m.d.sync += flag.eq(inside)
        flags.append(flag)
    with m.If(moves):
        m.d.sync += place.eq(after)
    return place, flags


def _runs(places):
    """Runs of neighbouring places as (first, last)."""
    found = []
    for place in sorted(places):
        if found and place == found[-1][1] + 1:
            found[-1] = found[-1][0], place
        else:
            found.append((place, place))
    return found


class Fork(wiring.Component):
    """Each beat to every output, offered there one cycle after it came. Each output holds two beats.

    A beat a cycle. No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of a beat.
    ways : int
        Outputs, at least 2.

    Members
    -------
    i : In(stream)
    o0, o1 ... : Out(stream)
    """

    def __init__(self, *, bits, width, ways):
        if ways < 2:
            raise ValueError(f"fork ways must be at least 2, not {ways!r}")
        self._bits, self._width, self._ways = bits, width, ways
        form = values_stream(bits, width)
        super().__init__({"i": In(form), **{f"o{way}": Out(form) for way in range(ways)}})

    @property
    def schedule(self):
        """When beats come and go."""
        return ForkSchedule(depth=DEPTH)

    @property
    def outputs(self):
        """The output streams in order."""
        return [getattr(self, f"o{way}") for way in range(self._ways)]

    def elaborate(self, platform):
        m = Module()
        buffers = [ShiftFifo(bits=self._bits, width=self._width, depth=DEPTH) for _ in range(self._ways)]
        ready = Cat(buffer.i.ready for buffer in buffers).all()
        m.d.comb += self.i.ready.eq(ready)
        for way, buffer in enumerate(buffers):
            m.submodules[f"way{way}"] = buffer
            m.d.comb += [buffer.i.valid.eq(self.i.valid & ready), buffer.i.payload.eq(self.i.payload)]
            wiring.connect(m, buffer.o, wiring.flipped(self.outputs[way]))
        return m


class Buffer(wiring.Component):
    """A first-in first-out buffer in memory: a beat is offered ``latency + 2`` cycles after it came; a beat a cycle.

    No combinational path between the sides.

    Parameters
    ----------
    name : str
        Of its memory.
    bits, width : int
        Shape of a beat.
    depth : int
        Beats held, at least 1.
    latency : 1 or 2
        Of the memory.
    initial : int
        So many constant beats come out first, after a reset again: a state's first frame.
    words : sequence of int
        These beats.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, name, bits, width, depth, latency=1, initial=0, words=()):
        if depth < 1:
            raise ValueError(f"buffer depth must be at least 1, not {depth!r}")
        if initial and len(words) != initial:
            raise ValueError(f"buffer words must be the {initial} initial beats, not {len(words)}")
        self._name, self._bits, self._width, self._depth = name, bits, width, depth
        self._latency, self._initial, self._words = latency, initial, [int(word) for word in words]
        self._ram = Ram(name=name, width=bits * width, depth=depth, latency=latency)
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def delay(self):
        """Cycles from a beat's coming to its offer."""
        return self._latency + 2

    @property
    def schedule(self):
        """When beats come and go."""
        if self._initial:
            return StoreSchedule(initial=self._initial, depth=self._depth, delay=self.delay)
        return Pipe(delay=self.delay, credits=self._depth)

    @property
    def memories(self):
        """Specifications of the memories."""
        return [self._ram.spec]

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = self._ram
        m.submodules.head = head = ShiftFifo(bits=self._bits, width=self._width, depth=self._latency + 2)
        came, leaves, reads = Signal(), Signal(), Signal()
        depth = self._depth

        # Places of the memory are free again when their beat has left the unit, not when it was read.
        full = Signal(init=0)
        count = Signal(range(depth + 1))
        after = Signal.like(count)
        m.d.comb += after.eq(count + came - leaves)
        m.d.sync += [count.eq(after), full.eq(after == depth)]
        m.d.comb += [self.i.ready.eq(~full), came.eq(self.i.valid & self.i.ready)]

        write = self._pointer(m, "write", came)
        m.d.comb += [ram.i_write_en.eq(came), ram.i_write_addr.eq(write), ram.i_write_data.eq(self.i.payload)]

        unread = Signal(range(depth + 1))
        m.d.sync += unread.eq(unread + came - reads)
        m.d.comb += reads.eq((unread != 0) & lookahead(m, head, ram, self._latency, reads, leaves))
        m.d.comb += ram.i_addr.eq(self._pointer(m, "read", reads))
        if not self._initial:
            wiring.connect(m, head.o, wiring.flipped(self.o))
            m.d.comb += leaves.eq(self.o.valid & self.o.ready)
            return m

        # Until the constants have gone, they stand in front.
        left = Signal(range(self._initial + 1), init=self._initial)
        first = Signal(init=1)
        moves = Signal()
        m.d.comb += moves.eq(self.o.valid & self.o.ready)
        with m.If(first & moves):
            m.d.sync += [left.eq(left - 1), first.eq(left != 1)]
        kinds = set(self._words)
        if len(kinds) == 1:
            constant = Const(kinds.pop(), self._bits * self._width)
        else:
            rows = Array(Const(word, self._bits * self._width) for word in reversed(self._words))
            constant = rows[(left - 1)[: len(left)]]
        m.d.comb += [
            self.o.valid.eq(first | head.o.valid),
            self.o.payload.eq(Mux(first, constant, head.o.payload.as_value())),
            head.o.ready.eq(~first & self.o.ready),
            leaves.eq(~first & moves),
        ]
        return m

    def _pointer(self, m, name, moves):
        pointer = Signal(self._ram.i_addr.shape(), name=name)
        with m.If(moves):
            m.d.sync += pointer.eq(Mux(pointer == self._depth - 1, 0, pointer + 1))
        return pointer


class Turns(wiring.Component):
    """Beats of several inputs in turn: ``beats[k]`` of input k, again and again. Each input holds two beats.

    A beat a cycle, one cycle after it came. No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of a beat.
    beats : sequence of int

    Members
    -------
    i0, i1 ... : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, bits, width, beats):
        self._bits, self._width, self._beats = bits, width, tuple(int(count) for count in beats)
        if len(self._beats) < 2 or min(self._beats) < 1:
            raise ValueError(f"turns must be of two inputs or more, a beat or more each, not {self._beats}")
        form = values_stream(bits, width)
        super().__init__({**{f"i{port}": In(form) for port in range(len(self._beats))}, "o": Out(form)})

    @property
    def schedule(self):
        """When beats come and go."""
        return TurnsSchedule(beats=self._beats, depth=DEPTH)

    @property
    def inputs(self):
        """The input streams in order."""
        return [getattr(self, f"i{port}") for port in range(len(self._beats))]

    def elaborate(self, platform):
        m = Module()
        starts = [sum(self._beats[:port]) for port in range(len(self._beats))]
        moves = Signal()
        marks = [set(range(start, start + count)) for start, count in zip(starts, self._beats, strict=True)]
        _, mine = modulo(m, "place", moves, sum(self._beats), marks)
        m.d.comb += moves.eq(self.o.valid & self.o.ready)
        payload, valid = Const(0, self._bits * self._width), Const(0, 1)
        for port, (stream, turn) in enumerate(zip(self.inputs, mine, strict=True)):
            m.submodules[f"way{port}"] = buffer = ShiftFifo(bits=self._bits, width=self._width, depth=DEPTH)
            wiring.connect(m, wiring.flipped(stream), buffer.i)
            m.d.comb += buffer.o.ready.eq(self.o.ready & turn)
            valid = valid | (buffer.o.valid & turn)
            payload = payload | (buffer.o.payload.as_value() & turn.replicate(self._bits * self._width))
        m.d.comb += [self.o.valid.eq(valid), self.o.payload.eq(payload)]
        return m


class Select(wiring.Component):
    """Keeps the beats of a frame at some places and drops the others. Holds two kept beats.

    A beat a cycle in, kept ones out one cycle later. No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of a beat.
    kept : sequence of int
        Places, ascending.
    beats : int
        Places a frame.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, bits, width, kept, beats):
        self._bits, self._width, self._kept, self._beats = bits, width, tuple(kept), beats
        if not self._kept or list(self._kept) != sorted(set(self._kept)) or not 0 <= min(kept) <= max(kept) < beats:
            raise ValueError(f"selected places must ascend within 0 ... {beats - 1}, not {self._kept}")
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def schedule(self):
        """When beats come and go."""
        return SelectSchedule(kept=self._kept, beats=self._beats, depth=DEPTH)

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = ShiftFifo(bits=self._bits, width=self._width, depth=DEPTH)
        moves = Signal()
        _, (keep,) = modulo(m, "place", moves, self._beats, [set(self._kept)])
        m.d.comb += [
            moves.eq(self.i.valid & self.i.ready),
            self.i.ready.eq(buffer.i.ready),
            buffer.i.valid.eq(self.i.valid & keep),
            buffer.i.payload.eq(self.i.payload),
        ]
        wiring.connect(m, buffer.o, wiring.flipped(self.o))
        return m


class Insert(wiring.Component):
    """A stream with constant beats in between: at the places ``own`` of a frame its beats, elsewhere ``word``.

    Holds two beats. A beat a cycle. No combinational path between the sides.

    Parameters
    ----------
    bits, width : int
        Shape of a beat.
    own : sequence of int
        Places, ascending.
    beats : int
        Places a frame.
    word : int
        The constant beat.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, bits, width, own, beats, word):
        self._bits, self._width, self._own, self._beats, self._word = bits, width, tuple(own), beats, word
        if not self._own or list(self._own) != sorted(set(self._own)) or not 0 <= min(own) <= max(own) < beats:
            raise ValueError(f"places must ascend within 0 ... {beats - 1}, not {self._own}")
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def schedule(self):
        """When beats come and go."""
        return InsertSchedule(own=self._own, beats=self._beats, depth=DEPTH)

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = ShiftFifo(bits=self._bits, width=self._width, depth=DEPTH)
        wiring.connect(m, wiring.flipped(self.i), buffer.i)
        moves = Signal()
        _, (mine,) = modulo(m, "place", moves, self._beats, [set(self._own)])
        m.d.comb += [
            moves.eq(self.o.valid & self.o.ready),
            self.o.valid.eq(buffer.o.valid | ~mine),
            self.o.payload.eq(Mux(mine, buffer.o.payload.as_value(), self._word)),
            buffer.o.ready.eq(self.o.ready & mine),
        ]
        return m
