"""Requantisation by thresholds: a pipelined binary search in memory."""

import numpy as np
from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.golden.thresholds import thresholds
from lutloom.hw.delay import delayed
from lutloom.hw.memory import Rom
from lutloom.hw.tree import checked_count, checked_shape, range_of, shape_of


class Thresholds(wiring.Component):
    """Code of an accumulator: o = base + Σ_t [acc >= T(channel, t)]; in a falling channel base + Σ_t [acc < T].

    A beat holds ``lanes`` accumulators, channel ``beat · lanes + lane``. Level j of the search compares with one of
    2**j thresholds a channel, which it reads from a memory of its own: one for all lanes at level 0, one a lane behind
    it. Where there are fewer thresholds than codes, steps that always or never happen fill the tables, so that neither
    ``base`` nor the direction costs an adder.

    Cost: a comparator a level and lane. Latency: ``delay`` = bits · (memory latency + 1) cycles; a beat
    a cycle. No flow control, no combinational path.

    Parameters
    ----------
    name : str
        Prefix of the memories' names.
    acc_shape : Shape
    lanes : int
    values : integer array (beats, lanes, T)
        Ascending along T; less than 2**bits of them.
    falling : bool array (beats, lanes) or None
        None: no channel falls, nor can any by another image.
    base : int
    out_format : Format
    acc_low, acc_high : int or None
        Range of the accumulators that occur, which keeps comparators and memories narrow; acc_shape's by default.
    latency : 1 or 2
        Of the memories.
    place : str, or sequence of str
        "ebr" or "lut", for all levels or for each.

    Members
    -------
    i_valid : In(1)
    i_acc : In(ArrayLayout(acc_shape, lanes))
    i_beat : In(range(beats))
    o_valid : Out(1)
    o : Out(ArrayLayout(bits, lanes))
        Codes, two's complement if the format is signed.

    Raises
    ------
    ValueError
        For arrays of a wrong shape or order, and for codes or places that do not fit.
    """

    def __init__(self, *, name, acc_shape, lanes, values, falling=None, base=0, out_format, acc_low=None, acc_high=None,
                 latency=1, place="ebr"):
        self._name, self._lanes, self._base = name, checked_count("lanes", lanes), base
        self._acc_shape, self._format, self._latency = checked_shape(acc_shape), out_format, latency
        values = np.asarray(values, dtype=np.int64)
        if values.ndim != 3 or values.shape[1] != lanes or not values.shape[0]:
            raise ValueError(f"threshold values must be of shape (beats, {lanes}, steps), not {values.shape}")
        if (np.diff(values, axis=-1) < 0).any():
            raise ValueError("threshold values must ascend within a channel; sort them")
        beats, _, steps = values.shape
        if base < out_format.code_low or base + steps > out_format.code_high:
            raise ValueError(f"threshold codes {base} to {base + steps} must fit {out_format}; take more bits")
        low, high = range_of(self._acc_shape)
        self._low, self._high = (low if acc_low is None else acc_low), (high if acc_high is None else acc_high)
        if not low <= self._low <= self._high <= high:
            raise ValueError(f"accumulators of {self._low} to {self._high} must fit {self._acc_shape!r}; take it wider")
        self._values, self._has_falling = values, falling is not None
        self._falling = np.zeros((beats, lanes), bool) if falling is None else np.asarray(falling, dtype=bool)
        if self._falling.shape != (beats, lanes):
            raise ValueError(f"threshold directions must be of shape ({beats}, {lanes}), not {self._falling.shape}")
        bits = out_format.bits
        places = [place] * bits if isinstance(place, str) else list(place)
        if len(places) != bits:
            raise ValueError(f"threshold places must be one a level, {bits}, not {len(places)}")
        self._levels = [self._level_roms(level, where) for level, where in enumerate(places)]
        super().__init__(
            {
                "i_valid": In(1),
                "i_acc": In(data.ArrayLayout(self._acc_shape, lanes)),
                "i_beat": In(range(max(2, beats))),
                "o_valid": Out(1),
                "o": Out(data.ArrayLayout(unsigned(bits), lanes)),
            }
        )

    @property
    def compare_shape(self):
        """Shape of the stored thresholds: from a step that always happens to one that never does."""
        return shape_of(self._low, self._high + 1)

    @property
    def beats(self):
        """Beats with parameters of their own."""
        return len(self._values)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._format.bits * (self._latency + 1)

    @property
    def memories(self):
        """Specifications of the memories, in order of levels and lanes."""
        return [rom.spec for roms in self._levels for rom in roms]

    def model(self, acc, beat):
        """Codes of one beat's accumulators (..., lanes)."""
        return thresholds(acc, self._values[beat], self._falling[beat], self._base)

    def _padded(self):
        """Thresholds (beats, lanes, 2**bits - 1) that make the count, or its complement, the code itself."""
        steps = (1 << self._format.bits) - 1
        beats, lanes, given = self._values.shape
        below = self._base - self._format.code_low
        padded = np.full((beats, lanes, steps), self._high + 1, dtype=np.int64)
        always = np.where(self._falling, steps - given - below, below)
        place = np.arange(steps) - always[..., None]
        inside = (place >= 0) & (place < given)
        if given:
            kept = np.clip(self._values, self._low, self._high + 1)
            padded[inside] = np.take_along_axis(kept, np.clip(place, 0, given - 1), axis=-1)[inside]
        padded[place < 0] = self._low
        return padded

    def _level_roms(self, level, place):
        """The memories of a level."""
        bits, width = self._format.bits, self.compare_shape.width
        # Threshold t (from 1) is asked at the level of its lowest set bit; its higher bits are the prefix.
        table = self._padded()[..., (1 << (bits - 1 - level)) - 1 :: 1 << (bits - level)] & ((1 << width) - 1)
        beats = len(table)
        options = dict(depth=beats << level, latency=self._latency, place=place)
        if level:
            return [
                Rom(name=f"{self._name}_level{level}_lane{lane}", width=width, init=table[:, lane].ravel().tolist(),
                    **options)
                for lane in range(self._lanes)
            ]
        cell = width + self._has_falling
        words = [
            sum((int(table[beat, lane, 0]) | int(self._falling[beat, lane]) << width) << lane * cell
                for lane in range(self._lanes))
            for beat in range(beats)
        ]
        return [Rom(name=f"{self._name}_level0", width=cell * self._lanes, init=words, **options)]

    def elaborate(self, platform):
        m = Module()
        for roms in self._levels:
            for rom in roms:
                m.submodules[rom.spec.name[len(self._name) + 1 :]] = rom
        shape, bits = self.compare_shape, self._format.bits
        cell = shape.width + self._has_falling
        m.d.comb += self.o_valid.eq(delayed(m, self.i_valid, self.delay, "valid", reset_less=False))
        m.d.comb += self._levels[0][0].i_addr.eq(self.i_beat)
        beat, prefixes, falling = self.i_beat, [None] * self._lanes, [None] * self._lanes
        # acc >= T is the sign of T + ~acc: the carry chain's own last bit, no logic ahead of the register or behind it.
        inverted = [~_signed(self.i_acc[lane]) for lane in range(self._lanes)]
        for level, roms in enumerate(self._levels):
            # A level is its memory, then a comparison with a register behind it; all else goes along.
            beat = delayed(m, beat, self._latency + 1, f"s{level}_beat")
            for lane in range(self._lanes):
                held = delayed(m, inverted[lane], self._latency, f"s{level}_inverted{lane}")
                if level:
                    prefix = delayed(m, prefixes[lane], self._latency + 1, f"s{level}_prefix{lane}")
                    stored = roms[lane].o_data
                    if self._has_falling:
                        falling[lane] = delayed(m, falling[lane], self._latency + 1, f"s{level}_falling{lane}")
                else:
                    prefix, stored = None, roms[0].o_data[lane * cell : lane * cell + shape.width]
                    if self._has_falling:
                        sign = roms[0].o_data[lane * cell + shape.width]
                        falling[lane] = delayed(m, sign, 1, f"s{level}_falling{lane}")
                reached = Signal(name=f"s{level}_reached{lane}", reset_less=True)
                m.d.sync += reached.eq(((stored.as_signed() if shape.signed else stored) + held)[-1])
                prefixes[lane] = reached if prefix is None else Cat(reached, prefix)
                if level + 1 < bits:
                    inverted[lane] = delayed(m, held, 1, f"s{level}_compared{lane}")
                    m.d.comb += self._levels[level + 1][lane].i_addr.eq(Cat(prefixes[lane], beat))
        for lane, code in enumerate(prefixes):
            if self._has_falling:
                code = code ^ falling[lane].replicate(bits)
            if self._format.signed:
                code = Cat(code[:-1], ~code[-1])
            m.d.comb += self.o[lane].eq(code)
        return m


def _signed(value):
    """The same number as a signed value."""
    return value if value.shape().signed else Cat(value, 0).as_signed()
