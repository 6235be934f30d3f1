"""Bipolar activations times weights of several bits."""

from amaranth.hdl import Cat, Const, Module

from lutloom.hw.dot_base import Dot
from lutloom.hw.sign import gated, inverted_if
from lutloom.hw.tree import Term, add_terms, levels, registered


class BipolarDot(Dot):
    """Bipolar activations times ``int`` or ``bitmask`` weights: o = Σ ±w over the lanes (that are valid).

    -w is ~w + 1: one LUT a bit inverts, and the ones are the carry inputs of the adder tree.

    Latency: 1 + levels of the tree.
    """

    X_KINDS = ("bipolar",)
    W_KINDS = ("int", "bitmask", "ternary")

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + levels(self._lanes)

    def elaborate(self, platform):
        m = Module()
        low, high = self.product_range
        w_low, w_high = self._w_format.low, self._w_format.high
        bounds = min(w_low, ~w_high, low), max(w_high, ~w_low, high)
        terms = []
        for lane in range(self._lanes):
            negative, weight = self._parts(lane)
            inverted = inverted_if(negative, weight)
            if self._masked:
                valid = self.i_valid[lane]
                negative = negative & valid
                inverted = gated(valid, inverted)
            if lane == self._lanes - 1:
                # One term more than there are adders: the last one is negated at once.
                terms.append(Term(registered(m, inverted + negative, low, high, f"product{lane}"), low, high))
            else:
                value = registered(m, inverted, *bounds, f"product{lane}")
                terms.append(Term(value, *bounds, registered(m, negative, 0, 1, f"negative{lane}"), low, high))
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m

    def _parts(self, lane):
        """Whether to negate, and what."""
        code, minus = self.i_w[lane], ~self.i_x[lane][0]
        if self._w_format.kind == "int":
            return minus, code.as_signed()
        return minus ^ code[-1], magnitude(self._w_format, code)


def magnitude(w_format, code):
    """The stored magnitude bits of a ``bitmask`` code at their places."""
    places = dict(zip(reversed(w_format.shifts), code[:-1], strict=True))
    return Cat(places.get(place, Const(0, 1)) for place in range(max(places) + 1))
