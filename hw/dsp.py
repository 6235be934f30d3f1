"""Products on DSP blocks."""

# Ref: Lattice FPGA-TN-02205 (ECP5 sysDSP), MULT18X18D
# Ref: Lattice FPGA-TN-02007 (iCE40 UltraPlus DSP), SB_MAC16: two 8x8 products, or one of 16x16, with all registers

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.bipolar import magnitude
from lutloom.hw.dot_base import Dot
from lutloom.hw.sign import inverted_if
from lutloom.hw.tree import Term, add_terms, checked_count, checked_shape, levels, range_of, shape_of

MOST_BITS = 16
"""Widest operand that both chips' blocks take, signed or not."""


class Multipliers(wiring.Component):
    """``count`` products side by side: o[n] = i_a[n] · i_b[n].

    Latency: ``delay`` cycles, registers at the operands, in the middle and at the product; a result a cycle. No flow
    control, no combinational path. This one is portable; ``multipliers_for`` chooses one that maps to a chip's blocks
    by overriding ``_multiply``.

    Parameters
    ----------
    count : int
    a_shape, b_shape : Shape
        Of at most 16 bits.

    Members
    -------
    i_a : In(ArrayLayout(a_shape, count))
    i_b : In(ArrayLayout(b_shape, count))
    o : Out(ArrayLayout(product_shape, count))

    Raises
    ------
    ValueError
        For a count or a shape out of range.
    """

    delay = 3

    def __init__(self, *, count, a_shape, b_shape):
        self._count = checked_count("count", count)
        self._a_shape, self._b_shape = checked_shape(a_shape), checked_shape(b_shape)
        widest = max(self._a_shape.width, self._b_shape.width)
        if widest > MOST_BITS:
            raise ValueError(f"operands of a DSP product must be of at most {MOST_BITS} bits, not {widest}")
        super().__init__(
            {
                "i_a": In(data.ArrayLayout(self._a_shape, count)),
                "i_b": In(data.ArrayLayout(self._b_shape, count)),
                "o": Out(data.ArrayLayout(self.product_shape, count)),
            }
        )

    @property
    def product_shape(self):
        """The narrowest shape that holds every product."""
        return shape_of(*self.product_range)

    @property
    def product_range(self):
        """Least and greatest product."""
        products = [a * b for a in range_of(self._a_shape) for b in range_of(self._b_shape)]
        return min(products), max(products)

    def model(self, a, b):
        """o of a and b, integer arrays (..., count)."""
        return a * b

    def elaborate(self, platform):
        m = Module()
        for number, product in enumerate(self._multiply(m)):
            m.d.comb += self.o[number].eq(product)
        return m

    def _multiply(self, m):
        """The products, ``delay`` cycles late."""
        products = []
        for number in range(self._count):
            a = Signal(self._a_shape, name=f"s0_a{number}", reset_less=True)
            b = Signal(self._b_shape, name=f"s0_b{number}", reset_less=True)
            inner = Signal(self.product_shape, name=f"s1_product{number}", reset_less=True)
            outer = Signal(self.product_shape, name=f"s2_product{number}", reset_less=True)
            m.d.sync += [a.eq(self.i_a[number]), b.eq(self.i_b[number]), inner.eq(a * b), outer.eq(inner)]
            products.append(outer)
        return products


class Ecp5Multipliers(Multipliers):
    """On MULT18X18D, one a product, with its input, pipeline and output registers."""

    def _multiply(self, m):
        products = []
        for number in range(self._count):
            a, b, product = Signal(18, name=f"a{number}"), Signal(18, name=f"b{number}"), Signal(36, name=f"p{number}")
            m.d.comb += [a.eq(self.i_a[number]), b.eq(self.i_b[number])]
            registers = {f"p_REG_{where}_CLK": "CLK0" for where in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")}
            ports = {f"i_A{bit}": a[bit] for bit in range(18)} | {f"i_B{bit}": b[bit] for bit in range(18)}
            ports |= {f"o_P{bit}": product[bit] for bit in range(36)}
            m.submodules[f"mult{number}"] = Instance(
                "MULT18X18D", **registers, **ports, p_GSR="DISABLED",
                i_SIGNEDA=Const(self._a_shape.signed), i_SIGNEDB=Const(self._b_shape.signed),
                i_SOURCEA=Const(0, 1), i_SOURCEB=Const(0, 1), i_CLK0=ClockSignal(), i_CE0=Const(1, 1),
                i_RST0=Const(0, 1),
            )
            products.append(product[: self.product_shape.width])
        return products


class Ice40Multipliers(Multipliers):
    """On SB_MAC16: two products in a block where both operands have at most 8 bits, else one."""

    def _multiply(self, m):
        small = max(self._a_shape.width, self._b_shape.width) <= 8
        size = 8 if small else 16
        each = 2 if small else 1
        products = []
        for first in range(0, self._count, each):
            a, b = Signal(16, name=f"a{first}"), Signal(16, name=f"b{first}")
            both = Signal(32, name=f"p{first}")
            for place in range(min(each, self._count - first)):
                part = slice(place * size, (place + 1) * size)
                m.d.comb += [a[part].eq(self.i_a[first + place]), b[part].eq(self.i_b[first + place])]
                products.append(both[place * 2 * size :][: self.product_shape.width])
            m.submodules[f"mac{first}"] = self._mac(small, a, b, both)
        return products

    def _mac(self, small, a, b, o):
        parameters = dict(
            p_A_REG=1, p_B_REG=1, p_TOP_8x8_MULT_REG=1, p_BOT_8x8_MULT_REG=1, p_MODE_8x8=int(small),
            p_A_SIGNED=int(self._a_shape.signed), p_B_SIGNED=int(self._b_shape.signed),
        )
        if small:
            # The third register is the accumulator's; its other operand is the constant C, D = 0.
            for half in ("TOP", "BOT"):
                parameters |= {
                    f"p_{half}OUTPUT_SELECT": 1, f"p_{half}ADDSUB_LOWERINPUT": 1, f"p_{half}ADDSUB_UPPERINPUT": 1
                }
        else:
            parameters |= {
                "p_PIPELINE_16x16_MULT_REG1": 1, "p_PIPELINE_16x16_MULT_REG2": 1, "p_TOPOUTPUT_SELECT": 3,
                "p_BOTOUTPUT_SELECT": 3,
            }
        wide = ("SELECT", "LOWERINPUT")
        parameters = {name: Const(value, 2 if name.endswith(wide) else 1) for name, value in parameters.items()}
        low = (
            "AHOLD BHOLD CHOLD DHOLD IRSTTOP IRSTBOT ORSTTOP ORSTBOT OLOADTOP OLOADBOT ADDSUBTOP ADDSUBBOT OHOLDTOP "
            "OHOLDBOT CI ACCUMCI SIGNEXTIN"
        )
        return Instance(
            "SB_MAC16", **parameters, **{f"i_{name}": Const(0, 1) for name in low.split()}, i_CLK=ClockSignal(),
            i_CE=Const(1, 1), i_A=a, i_B=b, i_C=Const(0, 16), i_D=Const(0, 16), o_O=o,
        )


def multipliers_for(platform):
    """The class of multipliers for what a design is elaborated for: a Target, or None for the portable one."""
    mapped = {"ecp5": Ecp5Multipliers, "ice40": Ice40Multipliers}
    return mapped.get(getattr(platform, "family", None), Multipliers)


class DspDot(Dot):
    """Integer activations times ``int`` or ``bitmask`` weights on DSP blocks: o = Σ w·x.

    ``bitmask`` weights become two's complement in front of the block. A block a product; on iCE40 one for two products
    where activations and weights have at most 8 bits.

    Latency: 3 + levels of the adder tree, whatever the chip.
    """

    X_KINDS = ("uint", "int")
    W_KINDS = ("int", "bitmask")

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return Multipliers.delay + levels(self._lanes)

    def elaborate(self, platform):
        m = Module()
        multipliers = multipliers_for(platform)(
            count=self._lanes,
            a_shape=shape_of(self._x_format.code_low, self._x_format.code_high),
            b_shape=shape_of(self._w_format.low, self._w_format.high),
        )
        m.submodules.multipliers = multipliers
        low, high = self.product_range
        terms = []
        for lane in range(self._lanes):
            m.d.comb += [multipliers.i_a[lane].eq(self.i_x[lane]), multipliers.i_b[lane].eq(self._weight(lane))]
            terms.append(Term(multipliers.o[lane], low, high))
        total, _ = add_terms(m, terms)
        m.d.comb += self.o.eq(total.value)
        return m

    def _weight(self, lane):
        """The integer that a weight's code stands for."""
        code = self.i_w[lane]
        if self._w_format.kind == "int":
            return code.as_signed()
        return inverted_if(code[-1], magnitude(self._w_format, code)) + code[-1]
