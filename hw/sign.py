"""Binary weights times activations of several bits: additions and subtractions."""

from amaranth.hdl import Cat, Const, Module

from lutloom.hw.dot_base import Dot
from lutloom.hw.tree import Term, add_terms, levels, registered


class SignDot(Dot):
    """Integer activations times binary weights: o = Σ ±x.

    -x is ~x + 1: one LUT a bit inverts, and the ones are the carry inputs of the adder tree.

    Latency: 1 + levels of the tree.
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("binary",)

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + levels(self._lanes)

    def elaborate(self, platform):
        m = Module()
        x_low, x_high = self._x_format.code_low, self._x_format.code_high
        low, high = self.product_range
        terms = []
        for lane in range(self._lanes):
            negative = ~self._w_bit(lane, 0)
            inverted = inverted_if(negative, self._x(lane))
            if lane == self._lanes - 1:
                # One term more than there are adders: the last one is negated at once.
                terms.append(Term(registered(m, inverted + negative, low, high, f"product{lane}"), low, high))
                continue
            bounds = min(x_low, ~x_high), max(x_high, ~x_low)
            value = registered(m, inverted, *bounds, f"product{lane}")
            terms.append(Term(value, *bounds, registered(m, negative, 0, 1, f"negative{lane}"), low, high))
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m


def inverted_if(condition, value):
    """~value, or value, signed."""
    wide = value.as_unsigned() if value.shape().signed else Cat(value, Const(0, 1))
    return (wide ^ condition.replicate(len(wide))).as_signed()


def gated(condition, value):
    """value, or 0, in the value's shape."""
    bits = value.as_unsigned() & condition.replicate(len(value))
    return bits.as_signed() if value.shape().signed else bits
