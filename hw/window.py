"""The window keeps the rows of a feature map that are still needed and emits, fold by fold, what a product wants."""

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutloom.hw.delay import delayed
from lutloom.hw.fifo import values_stream
from lutloom.hw.memory import Ram


def counter(m, name, step, count):
    """A counter of 0 ... count - 1 that goes round, and whether it is at its last: both registers.

    Parameters
    ----------
    m : Module
    name : str
    step : Value
        Count on.
    count : int
    """
    value, last = Signal(range(max(2, count)), name=name), Signal(name=f"last_{name}", init=count == 1)
    if count > 1:
        with m.If(step):
            m.d.sync += [value.eq(Mux(last, 0, value + 1)), last.eq(value == count - 2)]
    return value, last


def table(m, index, values, name, shape):
    """A signal that is values[index]: the most frequent value, and a case for each index that differs."""
    result = Signal(shape, name=name)
    values = [int(value) for value in values]
    usual = max(set(values), key=values.count)
    m.d.comb += result.eq(Const(usual, shape))
    with m.Switch(index):
        for value in sorted(set(values) - {usual}):
            with m.Case(*[k for k, entry in enumerate(values) if entry == value]):
                m.d.comb += result.eq(Const(value, shape))
    return result


def waiting(m, g, folds, came, fire, wrap, row, column, last_column):
    """High while the next fold is the first of a position whose words have not all come.

    Parameters
    ----------
    m : Module
    g : Geometry
    folds : int
        Of a position.
    came, fire, wrap : Value
        A word comes in; a fold is launched; it is its position's last.
    row, column, last_column : Value
        The position.
    """
    # Words that came in, less those that the next position needs: not negative when it may start.
    need = g.need
    begin = int(need[0, 0])
    frame = g.height * g.row_words
    across = np.append(np.diff(need[0]), 0)
    down = np.append(need[1:, 0] - need[:-1, -1], frame + begin - need[-1, -1])
    surplus = Signal(signed(bits_for(frame + g.capacity) + 1), init=-begin)
    steps = [int(step) for step in [*across, *down]]
    step_shape = signed(max(bits_for(min(steps)), bits_for(max(steps))) + 1)
    step = Mux(last_column, table(m, row, down, "step_down", step_shape),
               table(m, column, across, "step_across", step_shape))
    opens = Signal(init=1)  # the next fold is its position's first
    with m.If(fire):
        m.d.sync += opens.eq(wrap)
    if folds > 1:
        # Counted off a cycle after the position's first fold, which is soon enough for the next position's.
        opened, held = Signal(), Signal(step_shape, reset_less=True)
        m.d.sync += [opened.eq(fire & opens), held.eq(step)]
        m.d.sync += surplus.eq(surplus - Mux(opened, held, 0) + came)
    else:
        m.d.sync += surplus.eq(surplus - Mux(fire, step, 0) + came)
    return opens & surplus[-1]


def has_room(m, g, capacity, came, row_end, row):
    """High while a word can be taken: ``capacity`` words are held, and rows are free when no window reads them more.

    Parameters
    ----------
    m : Module
    g : Geometry
    capacity : int
    came, row_end : Value
        A word comes in; the last fold of a row of positions is launched.
    row : Value
        Of the position.
    """
    room = Signal(signed(bits_for(capacity + g.height * g.row_words) + 2), init=capacity - 1)
    frees = np.diff(g.freed_rows, prepend=0) * g.row_words
    freed = Signal(range(int(frees.max()) + 1))
    amount = table(m, row, frees, "frees", freed.shape())
    m.d.sync += freed.eq(0)
    with m.If(row_end):
        m.d.sync += freed.eq(amount)
    m.d.sync += room.eq(room - came + freed)
    return ~room[-1]


class Window(wiring.Component):
    """Line buffers banked by kernel row, and the sequencer that launches groups of folds out of them.

    A group is launched when its last pixel has come and ``i_go`` is high; once launched, it runs without a stall, one
    fold a cycle, and the next group follows without a bubble if its conditions hold. Rows are freed when the last
    window that reads them has gone by.

    Latency: ``delay`` cycles from a fold's launch to ``o_valid``. Throughput: one input word and one fold a cycle.
    Combinational paths: from ``i_go`` to ``o_launch``; none between the streams' sides.

    Parameters
    ----------
    name : str
        Prefix of its memories' names.
    geometry : Geometry
    bits, lanes : int
        A word is ``lanes`` values of ``bits`` bits.
    pad_code : int or None
        What padded taps read; None if they need not have a value (``o_taps`` masks them out).
    latency : 1 or 2
        Of the memories.
    place : "ebr" or "lut"
        Of the memories.
    lead : int
        ``o_address`` comes so many cycles before ``o_valid``; the words wait in registers where it is long.

    Members
    -------
    i : In(stream of lanes values)
    i_go : In(1)
        The output has room for a group.
    o_launch : Out(1)
        High in the cycle of a group's first fold.
    o_valid, o_first, o_last : Out(1)
        A fold; the first, the last of its group.
    o_x : Out(kernel rows x lanes values)
        Value ``j·lanes + v``: value v of kernel row j's word.
    o_taps : Out(kernel rows)
        Which rows' words are inside the feature map.
    o_address : Out
        The fold's number within its position, ``lead`` cycles ahead.
    o_row, o_column : Out
        The position, valid with o_valid.
    """

    def __init__(self, *, name, geometry, bits, lanes, pad_code=None, latency=1, lead=1, place="ebr"):
        self._name, self._geometry, self._bits, self._lanes = name, geometry, bits, lanes
        self._pad_code, self._latency, self._place = pad_code, latency, place
        g = geometry
        self._mux = g.banks > 1 or (pad_code is not None and any(g.pads))
        self._lead = lead
        if lead < 1:
            raise ValueError(f"window lead must be at least 1 cycle, not {lead}")
        self._registers = max(int(self._mux), lead - 1 - latency)  # behind the memories
        super().__init__(
            {
                "i": In(values_stream(bits, lanes)),
                "i_go": In(1),
                "o_launch": Out(1),
                "o_valid": Out(1),
                "o_first": Out(1),
                "o_last": Out(1),
                "o_x": Out(data.ArrayLayout(unsigned(bits), g.kernel[0] * lanes)),
                "o_taps": Out(g.kernel[0]),
                "o_address": Out(range(max(2, g.cost * g.position_groups))),
                "o_row": Out(range(max(2, g.out_height))),
                "o_column": Out(range(max(2, g.out_width))),
            }
        )

    @property
    def geometry(self):
        """Where the window goes."""
        return self._geometry

    @property
    def bits(self):
        """Bits of a value."""
        return self._bits

    @property
    def lanes(self):
        """Values a word."""
        return self._lanes

    @property
    def lead(self):
        """Cycles by which o_address comes before o_valid."""
        return self._lead

    @property
    def delay(self):
        """Cycles from the launch of a fold to o_valid."""
        return 1 + self._latency + self._registers

    def elaborate(self, platform):
        m = Module()
        g = self._geometry
        fire, row_end = Signal(), Signal()
        flags = Cat(fire_first := Signal(), fire_last := Signal(), fire_wrap := Signal())
        place = self._sequence(m, fire, fire_first, fire_last, fire_wrap, row_end)
        banks = [
            Ram(
                name=f"{self._name}_row{bank}",
                width=self._bits * self._lanes,
                depth=g.depth_rows * g.row_words,
                latency=self._latency,
                place=self._place,
            )
            for bank in range(g.banks)
        ]
        for bank, ram in enumerate(banks):
            m.submodules[f"row{bank}"] = ram
        self._write(m, banks, row_end, place["row"])
        self._read(m, banks, place)

        # What goes with a fold, delayed to its output; the address leads.
        valid, along = fire, Cat(flags, place["row"], place["column"])
        address = Signal.like(self.o_address)
        for stage in range(self.delay):
            if stage == self.delay - self._lead:
                self._count(m, address, valid, along[2])
            after_valid = Signal(name=f"s{stage}_valid")
            after = Signal(len(along), name=f"s{stage}_along", reset_less=True)
            m.d.sync += [after_valid.eq(valid), after.eq(along)]
            valid, along = after_valid, after
        rows = len(place["row"])
        m.d.comb += [
            self.o_valid.eq(valid),
            self.o_first.eq(along[0]),
            self.o_last.eq(along[1]),
            self.o_row.eq(along[3 : 3 + rows]),
            self.o_column.eq(along[3 + rows :]),
            self.o_address.eq(address),
        ]
        return m

    def _count(self, m, address, valid, wrap):
        with m.If(valid):
            m.d.sync += address.eq(Mux(wrap, 0, address + 1))

    def _sequence(self, m, fire, first, last, wrap, row_end):
        """Counters over words, columns, replays, blocks and positions; returns the registers the readers use."""
        g = self._geometry
        busy = Signal()
        word_ends, kx_ends, rep_ends, block_ends = Signal(), Signal(), Signal(), Signal()
        # Each counter goes on where all before it are at their last count; `last` flags are registers.
        last_word = counter(m, "word", fire, g.block_words)[1]
        m.d.comb += word_ends.eq(fire & last_word)
        last_kx = counter(m, "kx", word_ends, g.kernel[1])[1]
        m.d.comb += kx_ends.eq(word_ends & last_kx)
        last_rep = counter(m, "rep", kx_ends, g.reps)[1]
        m.d.comb += rep_ends.eq(kx_ends & last_rep)
        last_block = counter(m, "block", rep_ends, g.blocks)[1]
        m.d.comb += block_ends.eq(rep_ends & last_block)
        column, last_column = counter(m, "column", block_ends, g.out_width)
        row, last_row = counter(m, "row", row_end, g.out_height)

        came = self.i.valid & self.i.ready
        waits = waiting(m, g, g.cost * g.position_groups, came, fire, wrap, row, column, last_column)
        m.d.comb += [
            fire.eq(busy | (self.i_go & ~waits)),
            self.o_launch.eq(fire & ~busy),
            first.eq(~busy),
            last.eq(last_word & last_kx),
            wrap.eq(last & last_rep & last_block),
            row_end.eq(fire & wrap & last_column),
        ]

        # The word's place in its row, and its column; outside the feature map they are not used.
        shape = range(g.row_words + 1)
        bits = len(Signal(shape))
        home = -g.pads[1] * g.words
        current, base, pixel = (
            Signal(bits, name=name, init=home % (1 << bits)) for name in ("current", "base", "pixel")
        )
        outside = [-g.pads[1], g.width - 1 + g.pads[3] + g.stride[1] + g.kernel[1] * g.dilation[1]]
        x_shape = signed(max(bits_for(outside[0]), bits_for(outside[1])) + 1)
        x, x_base = Signal(x_shape, init=-g.pads[1]), Signal(x_shape, init=-g.pads[1])
        y = Signal(signed(max(bits_for(g.height + g.pads[2] + g.stride[0]), bits_for(-g.pads[0])) + 1), init=-g.pads[0])
        ring = Signal(range(max(2, g.ring)), init=-g.pads[0] % g.ring)
        # To the next position's first row, and to the next frame's.
        ring_steps = [g.stride[0], g.height - g.stride[0] * (g.out_height - 1)]

        def turned(step):
            places = [(place + step) % g.ring for place in range(g.ring)]
            return table(m, ring, places, f"ring_after_{step % g.ring}", ring.shape())

        with m.If(fire):
            m.d.sync += [busy.eq(~last), current.eq(current + 1)]
            with m.If(last_word):
                m.d.sync += [current.eq(current + g.dilation[1] * g.words - g.block_words + 1), x.eq(x + g.dilation[1])]
            with m.If(last):
                m.d.sync += [current.eq(base), x.eq(x_base)]
                with m.If(last_rep):
                    m.d.sync += [base.eq(base + g.block_words), current.eq(base + g.block_words)]
            with m.If(wrap):
                along = pixel + g.stride[1] * g.words
                m.d.sync += [pixel.eq(along), base.eq(along), current.eq(along)]
                m.d.sync += [x.eq(x_base + g.stride[1]), x_base.eq(x_base + g.stride[1])]
                with m.If(last_column):
                    m.d.sync += y.eq(y + g.stride[0])
                    m.d.sync += [signal.eq(home) for signal in (pixel, base, current)]
                    m.d.sync += [x.eq(-g.pads[1]), x_base.eq(-g.pads[1])]
                    m.d.sync += ring.eq(Mux(last_row, *(turned(step) for step in reversed(ring_steps))))
                    with m.If(last_row):
                        m.d.sync += y.eq(-g.pads[0])
        return {"row": row, "column": column, "current": current, "x": x, "y": y, "ring": ring}

    def _write(self, m, banks, row_end, row):
        """The input side: a word into its bank while there is room."""
        g = self._geometry
        came = Signal()
        m.d.comb += came.eq(self.i.valid & self.i.ready)
        m.d.comb += self.i.ready.eq(has_room(m, g, g.capacity, came, row_end, row))
        address = Signal(range(max(2, g.depth_rows * g.row_words)))
        start = Signal.like(address)
        left = Signal(range(max(2, g.row_words)))
        bank = Signal(range(max(2, g.banks)))
        row_words_end = left == g.row_words - 1
        with m.If(came):
            m.d.sync += [left.eq(left + 1), address.eq(address + 1)]
            with m.If(row_words_end):
                m.d.sync += [left.eq(0), address.eq(start), bank.eq(bank + 1)]
                with m.If(bank == g.banks - 1):
                    turn = start == (g.depth_rows - 1) * g.row_words
                    following = Mux(turn, 0, start + g.row_words)
                    m.d.sync += [bank.eq(0), start.eq(following), address.eq(following)]
        for index, ram in enumerate(banks):
            m.d.comb += [
                ram.i_write_en.eq(came & (bank == index)),
                ram.i_write_addr.eq(address),
                ram.i_write_data.eq(self.i.payload),
            ]

    def _read(self, m, banks, place):
        """The output side: addresses, memories, then each kernel row's word from the bank that holds its row."""
        g = self._geometry
        rows, step = g.kernel[0], g.dilation[0]
        ring = place["ring"]
        for index, ram in enumerate(banks):
            held = [0] * g.ring  # which of the bank's rows a window at this place of the ring reads
            for start in range(g.ring):
                for j in range(rows):
                    turned = (start + j * step) % g.ring
                    if turned % g.banks == index:
                        held[start] = turned // g.banks * g.row_words
            offset = table(m, ring, held, f"offset{index}", range(max(2, max(held) + 1)))
            s0_address = Signal(ram.i_addr.shape(), name=f"s0_address{index}", reset_less=True)
            m.d.sync += s0_address.eq(place["current"] + offset)
            m.d.comb += ram.i_addr.eq(s0_address)

        taps = []
        inside_x = Const(1)
        if g.pads[1] or g.pads[3]:
            inside_x = (place["x"] >= 0) & (place["x"] < g.width)
        for j in range(rows):
            y = place["y"] + j * step
            inside_y = (y >= 0) & (y < g.height) if g.pads[0] or g.pads[2] else Const(1)
            taps.append(inside_x & inside_y)
        taps = Cat(taps)
        picks = []
        for j in range(rows):
            where = [(start + j * step) % g.ring % g.banks for start in range(g.ring)]
            picks.append(table(m, ring, where, f"pick{j}", range(max(2, g.banks))))
        along = Cat(taps, *picks)
        for stage in range(1 + self._latency):
            after = Signal(len(along), name=f"s{stage}_picks", reset_less=True)
            m.d.sync += after.eq(along)
            along = after
        words = Array(ram.o_data for ram in banks)
        x = Signal(self._bits * self._lanes * rows)
        width = len(picks[0])
        for j in range(rows):
            pick = along[rows + j * width : rows + (j + 1) * width]
            word = words[pick] if g.banks > 1 else banks[0].o_data
            if self._pad_code is not None and any(g.pads):
                padding = Cat(Const(self._pad_code, self._bits + 1)[: self._bits] for _ in range(self._lanes))
                word = Mux(along[j], word, padding)
            m.d.comb += x.word_select(j, self._bits * self._lanes).eq(word)
        m.d.comb += [
            self.o_x.eq(delayed(m, x, self._registers, "x")),
            self.o_taps.eq(delayed(m, along[:rows], self._registers, "taps")),
        ]
