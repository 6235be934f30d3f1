"""IEEE halves as weights: exact products, shifted to their places."""

from amaranth.hdl import Cat, Module, Mux, unsigned

from lutloom.hw.delay import delayed
from lutloom.hw.dot_base import Dot
from lutloom.hw.product import Product
from lutloom.hw.sign import inverted_if
from lutloom.hw.tree import Term, add_terms, levels, registered, shape_of
from lutloom.weight_format import HALF_BITS


class HalfDot(Dot):
    """Integer activations times ``float16`` weights, exact: o = Σ ± significand · x · 2**(exponent - least).

    The significand, its leading one restored, is multiplied as an integer; the product is shifted by the exponent's
    distance from the layer's least one, in two stages with a register between, and negated by the carry inputs of the
    adder tree. Nothing is rounded.

    Latency: that of the product, 3, and levels of the tree.

    Parameters
    ----------
    dsp, paired : bool
        Of the products, as ``lutloom.hw.product.Product`` takes them.
    others : as of ``Dot``
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("float16",)

    def __init__(self, *, dsp=False, paired=False, **others):
        super().__init__(**others)
        shape = shape_of(self._x_format.code_low, self._x_format.code_high)
        self._products = [
            Product(a_shape=unsigned(HALF_BITS), b_shape=shape, dsp=dsp, paired=paired)
            for _ in range(self._lanes)
        ]

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return self._products[0].delay + 3 + levels(self._lanes)

    def elaborate(self, platform):
        m = Module()
        least, greatest = self._w_format.values
        places = (greatest - least).bit_length()
        coarse = places // 2
        x_low, x_high = min(self._x_format.code_low, 0), self._x_format.code_high
        most = (1 << HALF_BITS) - 1
        low, high = self.product_range
        terms = []
        for lane, product in enumerate(self._products):
            m.submodules[f"product{lane}"] = product
            code = self.i_w[lane]
            fraction, exponent, sign = code[: HALF_BITS - 1], code[HALF_BITS - 1 : 15], code[15]
            m.d.comb += [product.i_a.eq(Cat(fraction, exponent.any())), product.i_b.eq(self._x(lane))]
            # Subnormal numbers have exponent 0 and the places of exponent 1.
            distance = (Mux(exponent.any(), exponent, 1) - least)[:places]
            held = delayed(m, Cat(sign, distance), product.delay, f"lane{lane}")
            sign, distance = held[0], held[1:]
            value, reach = product.o, 1
            ends = x_low * most, x_high * most
            for step, bits in enumerate((range(coarse), range(coarse, places))):
                for bit in bits:
                    value = Mux(distance[bit], value << (1 << bit), value)
                    reach <<= 1 << bit
                value = registered(m, value, ends[0] * reach, ends[1] * reach, f"shifted{step}_{lane}")
                sign = registered(m, sign, 0, 1, f"sign{step}_{lane}")
                distance = registered(m, distance, 0, (1 << max(places, 1)) - 1, f"distance{step}_{lane}")
            inverted = inverted_if(sign, value)
            if lane == self._lanes - 1:
                # One term more than there are adders: the last one is negated at once.
                terms.append(Term(registered(m, inverted + sign, low, high, f"term{lane}"), low, high))
                continue
            bounds = min(low, ~high), max(high, ~low)
            negative = registered(m, sign, 0, 1, f"negative{lane}")
            terms.append(Term(registered(m, inverted, *bounds, f"term{lane}"), *bounds, negative, low, high))
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m
