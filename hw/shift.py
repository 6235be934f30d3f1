"""Powers of two as weights: activations shifted."""

from amaranth.hdl import Module, Mux

from lutloom.hw.dot_base import Dot
from lutloom.hw.sign import inverted_if
from lutloom.hw.tree import Term, add_terms, levels, registered


class ShiftDot(Dot):
    """Integer activations times ``pow2`` weights: o = Σ ±x · 2**(e - 1), nothing where e is 0.

    A lane shifts its activation in stages of one exponent bit each, a multiplexer a bit; one more level of LUTs
    inverts, and the ones that complete the negations are the carry inputs of the adder tree.

    Latency: 2 + levels of the tree.
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("pow2",)

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 2 + levels(self._lanes)

    def elaborate(self, platform):
        m = Module()
        exponent_bits, most = self._w_format.bits - 1, (1 << self._w_format.bits - 1) - 2
        x_low, x_high = min(self._x_format.code_low, 0), self._x_format.code_high
        low, high = self.product_range
        shifted = x_low << most, x_high << most
        bounds = min(shifted[0], ~shifted[1]), max(shifted[1], ~shifted[0])
        terms = []
        for lane in range(self._lanes):
            code = self.i_w[lane]
            exponent = code[:exponent_bits]
            # x · 2**e as a shift by e, halved: the lowest place is x itself where e is 0, and falls away there.
            value = self._x(lane)
            for bit in range(exponent_bits):
                value = Mux(exponent[bit], value << (1 << bit), value)
            whole = registered(m, Mux(exponent.any(), value >> 1, 0), *shifted, f"shifted{lane}")
            negative = registered(m, code[-1] & exponent.any(), 0, 1, f"sign{lane}")
            inverted = inverted_if(negative, whole)
            if lane == self._lanes - 1:
                # One term more than there are adders: the last one is negated at once.
                terms.append(Term(registered(m, inverted + negative, low, high, f"product{lane}"), low, high))
                continue
            held = registered(m, negative, 0, 1, f"negative{lane}")
            terms.append(Term(registered(m, inverted, *bounds, f"product{lane}"), *bounds, held, low, high))
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m
