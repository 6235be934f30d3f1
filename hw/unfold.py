"""Windows of a feature map one after the other, as a stream: each as if it were the whole input of a dense layer."""

from math import prod

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from lutloom.hw.delay import delayed
from lutloom.hw.fifo import ShiftFifo, values_stream
from lutloom.hw.memory import Ram
from lutloom.hw.window import counter, has_room, waiting
from lutloom.schedule import Windowed


def rows_held(geometry):
    """Rows that an Unfold of a geometry holds: a window's and those that the next one adds; so many that the first
    window of a frame comes while the last one of the frame before goes out."""
    rows = min(geometry.span, geometry.height)
    return rows + max(rows, geometry.stride[0])


class Unfold(wiring.Component):
    """The words of every window in raster order: of a window by kernel row, kernel column, word of the pixel.

    One memory holds the rows that are still needed. A word a cycle goes out, and one comes in, until a window waits for
    its last row. No combinational path between the streams' sides.

    Parameters
    ----------
    name : str
        Prefix of its memory's name.
    geometry : Geometry
        One block, played once.
    bits, width : int
        A word is ``width`` values of ``bits`` bits.
    pad_code : int
        What padded taps read.
    latency : 1 or 2
        Of the memory.

    Members
    -------
    i, o : streams of ``width`` values
    """

    def __init__(self, *, name, geometry, bits, width, pad_code, latency=1):
        if geometry.blocks != 1 or geometry.reps != 1:
            raise ValueError("unfold geometry must have one block that is played once")
        self._geometry, self._bits, self._width, self._pad_code = geometry, bits, width, pad_code
        self._latency = latency
        self._ram = Ram(name=f"{name}_rows", width=bits * width, depth=self.capacity, latency=latency)
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def rows(self):
        """Rows held."""
        return rows_held(self._geometry)

    @property
    def capacity(self):
        """Words held."""
        return self.rows * self._geometry.row_words

    @property
    def patch_words(self):
        """Words of a window."""
        return prod(self._geometry.kernel) * self._geometry.words

    @property
    def _held(self):
        """Beats read ahead: as many as are on their way, and one for the way of a credit."""
        return self._latency + 3

    @property
    def schedule(self):
        """When words come and go: each word of a window is a group of one fold."""
        g, each = self._geometry, self.patch_words
        last = np.arange(g.need.size * each) % each == each - 1
        return Windowed(
            words=g.height * g.row_words, cost=1, need=np.repeat(g.need.ravel(), each),
            emits=np.ones(len(last), np.int64), frees=np.where(last, np.repeat(g.frees.ravel(), each), 0),
            capacity=self.capacity, credits=self._held, room=1, delay=self._latency + 2,
        )

    def elaborate(self, platform):
        m = Module()
        g, latency = self._geometry, self._latency
        m.submodules.ram = ram = self._ram
        m.submodules.head = head = ShiftFifo(bits=self._bits, width=self._width, depth=self._held)
        wiring.connect(m, head.o, wiring.flipped(self.o))

        fire, came, leaves = Signal(), Signal(), Signal()
        m.d.comb += [came.eq(self.i.valid & self.i.ready), leaves.eq(self.o.valid & self.o.ready)]
        last_word = counter(m, "word", fire, g.words)[1]
        last_kx = counter(m, "kx", fire & last_word, g.kernel[1])[1]
        tap_row_ends = last_word & last_kx
        last_ky = counter(m, "ky", fire & tap_row_ends, g.kernel[0])[1]
        wrap = Signal()
        m.d.comb += wrap.eq(tap_row_ends & last_ky)
        column, last_column = counter(m, "column", fire & wrap, g.out_width)
        row_end = Signal()
        m.d.comb += row_end.eq(fire & wrap & last_column)
        row, last_row = counter(m, "row", row_end, g.out_height)

        places = Signal(range(self._held + 1), init=self._held)
        m.d.sync += places.eq(places + leaves - fire)
        waits = waiting(m, g, self.patch_words, came, fire, wrap, row, column, last_column)
        m.d.comb += fire.eq((places != 0) & ~waits)
        m.d.comb += self.i.ready.eq(has_room(m, g, self.capacity, came, row_end, row))

        write = Signal(range(max(2, self.capacity)))
        with m.If(came):
            m.d.sync += write.eq(Mux(write == self.capacity - 1, 0, write + 1))
        m.d.comb += [ram.i_write_en.eq(came), ram.i_write_addr.eq(write), ram.i_write_data.eq(self.i.payload)]

        inside = self._read(m, fire, (last_word, tap_row_ends, wrap, last_column, last_row))
        valid = delayed(m, fire, latency + 1, "valid", reset_less=False)
        data = ram.o_data
        if inside is not None:
            padding = Const(sum(self._pad_code % (1 << self._bits) << self._bits * lane for lane in range(self._width)),
                            len(data))
            data = Mux(delayed(m, inside, latency + 1, "inside"), data, padding)
        m.d.comb += [head.i.valid.eq(valid), head.i.payload.eq(data)]
        return m

    def _read(self, m, fire, ends):
        """Drives the memory's address, a cycle after a fold's launch; whether its tap is in the feature map, where
        some are not."""
        g = self._geometry
        last_word, tap_row_ends, wrap, last_column, last_row = ends
        ring = self.rows * g.row_words
        top, line = (Signal(range(ring), name=name, init=-g.pads[0] % self.rows * g.row_words)
                     for name in ("top", "line"))  # where the window's first row lies, and the row that is read

        def moved(place, rows):
            step = rows % self.rows * g.row_words
            return Mux(place >= ring - step, place + step - ring, place + step) if step else place

        # The word's place in its row; outside the feature map it is not used.
        bits = bits_for(max(1, g.row_words - 1))
        home = -g.pads[1] * g.words
        word, base = (Signal(bits, name=name, init=home % (1 << bits)) for name in ("place", "base"))
        following = Signal(range(ring))
        m.d.comb += following.eq(Mux(last_column, Mux(
            last_row, moved(top, g.height - g.stride[0] * (g.out_height - 1)), moved(top, g.stride[0])), top))
        with m.If(fire):
            m.d.sync += word.eq(word + 1)
            with m.If(last_word):
                m.d.sync += word.eq(word + (g.dilation[1] - 1) * g.words + 1)
            with m.If(tap_row_ends):
                m.d.sync += [word.eq(base), line.eq(moved(line, g.dilation[0]))]
            with m.If(wrap):
                along = Mux(last_column, home, base + g.stride[1] * g.words)[:bits]
                m.d.sync += [base.eq(along), word.eq(along), top.eq(following), line.eq(following)]
        s0_address = Signal(self._ram.i_addr.shape(), reset_less=True)
        m.d.sync += s0_address.eq(line + word)
        m.d.comb += self._ram.i_addr.eq(s0_address)
        if not any(g.pads):
            return None
        return self._inside(m, fire, ends)

    def _inside(self, m, fire, ends):
        """Whether the tap that is read lies in the feature map."""
        g = self._geometry
        last_word, tap_row_ends, wrap, last_column, last_row = ends
        tests = []
        for axis, size in ((0, g.height), (1, g.width)):
            if not g.pads[axis] and not g.pads[axis + 2]:
                continue
            reach = size + g.pads[axis + 2] + g.stride[axis] + g.kernel[axis] * g.dilation[axis]
            shape = signed(max(bits_for(reach), bits_for(-g.pads[axis])) + 1)
            begin, place = (Signal(shape, name=f"{name}_{'yx'[axis]}", init=-g.pads[axis])
                            for name in ("begin", "tap"))
            step, back = (tap_row_ends, wrap) if axis == 0 else (last_word, tap_row_ends)
            moves, turns = (last_column, last_row & last_column) if axis == 0 else (Const(1), last_column)
            after = Signal(shape, name=f"after_{'yx'[axis]}")
            m.d.comb += after.eq(Mux(turns, -g.pads[axis], Mux(moves, begin + g.stride[axis], begin)))
            with m.If(fire):
                with m.If(step):
                    m.d.sync += place.eq(place + g.dilation[axis])
                with m.If(back):
                    m.d.sync += place.eq(begin)
                with m.If(wrap):
                    m.d.sync += [begin.eq(after), place.eq(after)]
            tests.append((place >= 0) & (place < size))
        inside = tests[0]
        for test in tests[1:]:
            inside &= test
        return inside
