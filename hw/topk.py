"""Indices of the greatest values of a vector."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutloom.golden.topk import top_k
from lutloom.hw.delay import delayed
from lutloom.hw.fifo import values_stream
from lutloom.hw.tree import checked_count, checked_shape, range_of
from lutloom.schedule import Reduce


class TopK(wiring.Component):
    """Indices of the k greatest of ``count`` values, best first, the lower index first among equals.

    A frame is ceil(count / width) beats; the values beyond ``count`` in its last beat are ignored. Within a frame a
    beat a cycle is taken; then k beats of one index each are offered, the first ``delay`` cycles after the last beat
    came, and the next frame's first beat is taken one cycle after the last of them has gone. No combinational path
    between i and o.

    Parameters
    ----------
    shape : Shape
        Of a value.
    count : int
        Values a frame.
    width : int
        Values a beat. With k > 1 it must be 1.
    k : int

    Members
    -------
    i : In(stream of width values)
    o : Out(stream of one index)

    Raises
    ------
    ValueError
        For parameters out of range.
    """

    def __init__(self, *, shape, count, width=1, k=1):
        self._shape, self._count = checked_shape(shape), checked_count("count", count)
        self._width, self._k = checked_count("width", width), checked_count("k", k)
        if k > count:
            raise ValueError(f"k must be at most the {count} values of a frame, not {k}")
        if k > 1 and width > 1:
            raise ValueError(f"width must be 1 for the {k} greatest values, not {width}; put a scatter in front")
        super().__init__(
            {
                "i": In(values_stream(self._shape.width, width)),
                "o": Out(values_stream(self.index_bits, 1)),
            }
        )

    @property
    def beats(self):
        """Input beats a frame."""
        return -(-self._count // self._width)

    @property
    def index_bits(self):
        """Bits of an index."""
        return max(1, ceil_log2(self._count))

    @property
    def delay(self):
        """Cycles from a frame's last input beat to its first output beat."""
        return ceil_log2(self._width) + 1

    @property
    def schedule(self):
        """When beats are taken and given."""
        return Reduce(beats_in=self.beats, beats_out=self._k, delay=self.delay)

    def model(self, values):
        """Indices (frames, k) of values (frames, count)."""
        return top_k(values, self._k)

    def elaborate(self, platform):
        m = Module()
        collecting, beat = Signal(init=1), Signal(range(max(2, self.beats)))
        left = Signal(range(self._k + 1))  # results not yet taken
        came = self.i.valid & self.i.ready
        last = beat == self.beats - 1
        m.d.comb += [self.i.ready.eq(collecting), self.o.valid.eq(left.any())]
        with m.If(came):
            m.d.sync += [beat.eq(Mux(last, 0, beat + 1)), collecting.eq(~last)]

        entries = [
            (
                Signal(self._shape, name=f"value{n}", reset_less=True),
                Signal(self.index_bits, name=f"index{n}", reset_less=True),
            )
            for n in range(self._k)
        ]
        held = Signal(self._k)  # entries that hold something
        value, index, flags = self._best(m, Cat(came, came & last), beat, last)
        valid, done = flags[0], flags[1]
        with m.If(valid):
            ahead = [Signal(name=f"ahead{n}") for n in range(self._k)]  # the new value does not stand before entry n
            for n, (kept, _) in enumerate(entries):
                m.d.comb += ahead[n].eq(held[n] & (value <= kept))
            for n, (kept, kept_index) in enumerate(entries):
                with m.If(~ahead[n]):
                    before = ahead[n - 1] if n else Const(1, 1)
                    m.d.sync += kept.eq(Mux(before, value, entries[n - 1][0] if n else value))
                    m.d.sync += kept_index.eq(Mux(before, index, entries[n - 1][1] if n else index))
            m.d.sync += held.eq(Mux(done, 0, Cat(Const(1, 1), held)))
            with m.If(done):
                m.d.sync += left.eq(self._k)
        m.d.comb += self.o.payload[0].eq(entries[0][1])
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
            m.d.sync += [entries[n][1].eq(entries[n + 1][1]) for n in range(self._k - 1)]
            with m.If(left == 1):
                m.d.sync += collecting.eq(1)
        return m

    def _best(self, m, flags, beat, last):
        """A beat's greatest value, its index, and flags, by a tree with a register behind each level."""
        low = Const(range_of(self._shape)[0], self._shape)
        codes = [self.i.payload[place] for place in range(self._width)]
        inputs = [code.as_signed() if self._shape.signed else code for code in codes]
        values = [
            # The least value at a higher index never wins.
            Mux(last, low, value) if place >= self._width - (-self._count % self._width) else value
            for place, value in enumerate(inputs)
        ]
        pairs = [(value, Const(place, max(1, ceil_log2(self._width)))) for place, value in enumerate(values)]
        level = 0
        while len(pairs) > 1:
            after = []
            for at in range(0, len(pairs), 2):
                (a, a_place), (b, b_place) = pairs[at], pairs[min(at + 1, len(pairs) - 1)]
                value = Signal(self._shape, name=f"s{level}_value{at // 2}", reset_less=True)
                place = Signal(len(a_place), name=f"s{level}_place{at // 2}", reset_less=True)
                take = b > a
                m.d.sync += [value.eq(Mux(take, b, a)), place.eq(Mux(take, b_place, a_place))]
                after.append((value, place))
            pairs, level = after, level + 1
        value, place = pairs[0]
        index = delayed(m, beat, level, "beat") * self._width + place
        return value, index, delayed(m, flags, level, "flags", reset_less=False)
