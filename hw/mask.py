"""Bit mask weights: a sign and a few magnitude bits at fixed places."""

from amaranth.hdl import Module

from lutloom.hw.dot_base import Dot
from lutloom.hw.planes import Plane, add_planes, plane_levels
from lutloom.hw.sign import gated, inverted_if
from lutloom.hw.tree import Term, add_terms, levels, registered


class MaskDot(Dot):
    """Integer activations times ``bitmask`` or ``ternary`` weights: o = Σ w·x, w = ± Σ stored bits · 2**place.

    Each stored magnitude bit has an adder tree of its own, over ±x or 0: one LUT a bit ahead of the first adder, and
    the ones that complete the negations on the adders' carry inputs. The trees' sums meet shifted by wiring, so that
    masked bits between stored ones cost nothing. 3 stored bits by 4 bits, 32 lanes: 22 LUT4 a product on iCE40, 26 on
    ECP5.

    Latency: 1 + levels of a tree over the lanes, and of one over the stored magnitude bits.
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("bitmask", "ternary")

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + levels(self._lanes) + plane_levels(len(self._w_format.shifts), False)

    def elaborate(self, platform):
        m = Module()
        sign = self._w_format.bits - 1
        x_low, x_high = self._x_format.code_low, self._x_format.code_high
        low, high = min(x_low, -x_high), max(x_high, -x_low)
        bounds = min(x_low, ~x_high), max(x_high, ~x_low)
        negatives = [registered(m, self._w_bit(lane, sign), 0, 1, f"negative{lane}") for lane in range(self._lanes)]
        planes = []
        for bit, shift in enumerate(reversed(self._w_format.shifts)):
            terms = []
            for lane in range(self._lanes):
                part = gated(self._w_bit(lane, bit), self._x(lane))
                part = inverted_if(self._w_bit(lane, sign), part)
                if lane == self._lanes - 1:
                    # One term more than there are adders: the last one is negated at once.
                    value = registered(m, part + self._w_bit(lane, sign), low, high, f"part{bit}_{lane}")
                    terms.append(Term(value, low, high))
                else:
                    value = registered(m, part, *bounds, f"part{bit}_{lane}")
                    terms.append(Term(value, *bounds, negatives[lane], low, high))
            total, _ = add_terms(m, terms, f"{bit}_")
            planes.append(Plane(total.value, total.low, total.high, shift))
        total = add_planes(m, planes)
        m.d.comb += self.o.eq(total.value << total.shift)
        return m
