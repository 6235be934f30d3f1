"""Weights that are entries of a table: decoded in front of a dot product of integers."""

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import data

from lutloom.formats import Format
from lutloom.hw.bipolar import BipolarDot
from lutloom.hw.dot_base import Dot
from lutloom.hw.dsp import DspDot
from lutloom.hw.fixed import FixedDot
from lutloom.weight_format import WeightFormat


class TableDot(Dot):
    """Activations times ``codebook`` weights (or any of few codes): o = Σ table[code] · x.

    A table in logic a lane, and a register behind it; then the dot product of two's complement weights. A table of 16
    entries of 8 bits is 8 LUT4 a lane, which the lane's product adds to its own.

    Latency: 1 + that of the dot product within.

    Parameters
    ----------
    dsp, paired : bool
        Of the dot product within, as ``lutloom.hw.dot.dot_for`` takes them.
    others : as of ``Dot``
    """

    X_KINDS = ("uint", "int", "bipolar")
    W_KINDS = ("codebook", "pow2", "ternary")

    def __init__(self, *, dsp=False, paired=False, **others):
        super().__init__(**others)
        bits = Format.of_range(min(self._w_format.low, -1), self._w_format.high).bits
        own = others | {"w_format": WeightFormat("int", max(bits, 2))}
        if self._x_format.kind == "bipolar":
            self._dot = BipolarDot(**own)
        else:
            self._dot = DspDot(**own) if dsp else FixedDot(paired=paired, **own)

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + self._dot.delay

    def elaborate(self, platform):
        m = Module()
        m.submodules.dot = dot = self._dot
        bits = dot.w_format.bits
        integers = self._w_format.decode(range(1 << self._w_format.bits)).tolist()
        table = Array(Const(integer & (1 << bits) - 1, bits) for integer in integers)
        x = Signal.like(Cat(*self._lanes_of_x()), name="x_held", reset_less=True)
        m.d.sync += x.eq(Cat(*self._lanes_of_x()))
        m.d.comb += [dot.i_x.eq(x), self.o.eq(dot.o)]
        w = Signal(data.ArrayLayout(bits, self._lanes), name="w_held", reset_less=True)
        for lane in range(self._lanes):
            m.d.sync += w[lane].eq(table[self.i_w[lane]])
        m.d.comb += dot.i_w.eq(w)
        if self._masked:
            valid = Signal(self._lanes, name="valid_held", reset_less=True)
            m.d.sync += valid.eq(self.i_valid)
            m.d.comb += dot.i_valid.eq(valid)
        return m

    def _lanes_of_x(self):
        """The codes of the activations."""
        return [self.i_x[lane] for lane in range(self._lanes)]
