"""Two's complement weights, multiplied in LUTs."""

from amaranth.hdl import Module

from lutloom.hw.dot_base import Dot
from lutloom.hw.planes import Plane, add_planes, plane_levels
from lutloom.hw.sign import gated
from lutloom.hw.tree import Term, add_terms, levels, registered


class FixedDot(Dot):
    """Integer activations times ``int`` weights: o = Σ w·x, w = Σ bits · 2**place, the top bit's place negative.

    Each bit of the weights has an adder tree of its own, over x or 0; the trees' sums meet shifted by wiring.

    Latency: 1 + levels of a tree over the lanes, and of one over the weights' bits.
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("int",)

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + levels(self._lanes) + plane_levels(self._w_format.bits, True)

    def elaborate(self, platform):
        m = Module()
        low, high = min(self._x_format.code_low, 0), self._x_format.code_high
        planes = []
        for bit in range(self._w_format.bits):
            terms = []
            for lane in range(self._lanes):
                part = gated(self._w_bit(lane, bit), self._x(lane))
                terms.append(Term(registered(m, part, low, high, f"part{bit}_{lane}"), low, high))
            total, _ = add_terms(m, terms, f"{bit}_")
            planes.append(Plane(total.value, total.low, total.high, bit, bit == self._w_format.bits - 1))
        total = add_planes(m, planes)
        m.d.comb += self.o.eq(total.value << total.shift)
        return m
