"""Two's complement weights, multiplied in LUTs."""

from amaranth.hdl import Module

from lutloom.hw.dot_base import Dot
from lutloom.hw.gated import Gated, add_gated
from lutloom.hw.planes import Plane, add_planes, plane_levels
from lutloom.hw.sign import gated
from lutloom.hw.tree import Term, add_terms, levels, registered


class FixedDot(Dot):
    """Integer activations times ``int`` weights: o = Σ w·x, w = Σ bits · 2**place, the top bit's place negative.

    Each bit of the weights has an adder tree of its own, over x or 0; the trees' sums meet shifted by wiring.

    Latency: 1 + levels of a tree over the lanes, and of one over the weights' bits; 1 less if ``paired``.

    Parameters
    ----------
    paired : bool
        The first adders take x or 0 of two lanes at once, without a register between: for chips whose adders can.
    others : as of ``Dot``
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("int",)

    def __init__(self, *, paired=False, **others):
        super().__init__(**others)
        self._paired = bool(paired) and self._lanes > 1

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return int(not self._paired) + levels(self._lanes) + plane_levels(self._w_format.bits, True)

    def elaborate(self, platform):
        m = Module()
        planes = []
        for bit in range(self._w_format.bits):
            terms = self._pairs(m, platform, bit) if self._paired else self._parts(m, bit, range(self._lanes))
            total, _ = add_terms(m, terms, f"{bit}_")
            planes.append(Plane(total.value, total.low, total.high, bit, bit == self._w_format.bits - 1))
        total = add_planes(m, planes)
        m.d.comb += self.o.eq(total.value << total.shift)
        return m

    def _parts(self, m, bit, lanes):
        """x or 0 of some lanes, by a bit of their weights."""
        low, high = min(self._x_format.code_low, 0), self._x_format.code_high
        return [
            Term(registered(m, gated(self._w_bit(lane, bit), self._x(lane)), low, high, f"part{bit}_{lane}"), low, high)
            for lane in lanes
        ]

    def _pairs(self, m, platform, bit):
        """The same, summed by twos; an odd lane out is alone."""
        terms = []
        for lane in range(0, self._lanes - 1, 2):
            a, b = (
                Gated(self._w_bit(k, bit), self._x(k), self._x_format.code_low, self._x_format.code_high)
                for k in (lane, lane + 1)
            )
            terms.append(Term(*add_gated(m, platform, a, b, f"pair{bit}_{lane}")))
        return terms + self._parts(m, bit, range(self._lanes & ~1, self._lanes))
