"""One wide product, pipelined."""

from amaranth.hdl import Cat, Const, Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutloom.hw.dsp import MOST_BITS, Multipliers, multipliers_for
from lutloom.hw.gated import Gated, add_gated
from lutloom.hw.planes import Plane, add_planes, plane_levels
from lutloom.hw.sign import gated
from lutloom.hw.tree import checked_shape, range_of, registered, shape_of


class Product(wiring.Component):
    """o = i_a · i_b, of operands of any width.

    In LUTs: a row a bit of the narrower operand, summed by a tree of two-operand adders with a register behind each. On
    DSP blocks: pieces of 16 bits, summed likewise.

    Latency: ``delay`` cycles; a product a cycle. No flow control, no combinational path.

    Parameters
    ----------
    a_shape, b_shape : Shape
    dsp : bool
    paired : bool
        In LUTs: two rows come from one adder, without a register between; for chips whose adders can.

    Members
    -------
    i_a : In(a_shape)
    i_b : In(b_shape)
    o : Out(product_shape)

    Raises
    ------
    ValueError
        For a shape without bits.
    """

    def __init__(self, *, a_shape, b_shape, dsp=False, paired=False):
        self._a_shape, self._b_shape = checked_shape(a_shape), checked_shape(b_shape)
        self._dsp, self._paired = dsp, paired
        super().__init__({"i_a": In(self._a_shape), "i_b": In(self._b_shape), "o": Out(self.product_shape)})

    @property
    def product_range(self):
        """Least and greatest product."""
        products = [a * b for a in range_of(self._a_shape) for b in range_of(self._b_shape)]
        return min(products), max(products)

    @property
    def product_shape(self):
        """The narrowest shape that holds every product."""
        return shape_of(*self.product_range)

    @property
    def delay(self):
        """Cycles from i_a and i_b to o."""
        if self._dsp:
            return Multipliers.delay + ceil_log2(len(_pieces(self._a_shape)) * len(_pieces(self._b_shape)))
        rows = min(self._b_shape, self._a_shape, key=lambda shape: shape.width)
        pairs = self._row_pairs(rows)
        return 1 + plane_levels(rows.width - pairs, rows.signed)

    def _row_pairs(self, rows):
        """How many pairs of rows come from one adder each; the row of a sign is taken away, and is in none."""
        return (rows.width - rows.signed) // 2 if self._paired else 0

    def model(self, a, b):
        """o of a and b, integers or integer arrays."""
        return a * b

    def elaborate(self, platform):
        m = Module()
        planes = self._blocks(m, platform) if self._dsp else self._rows(m, platform)
        total = add_planes(m, planes)
        m.d.comb += self.o.eq(total.value << total.shift)
        return m

    def _rows(self, m, platform):
        a, b = (self.i_a, self.i_b) if len(self.i_b) <= len(self.i_a) else (self.i_b, self.i_a)
        low, high = range_of(a.shape())
        planes = []
        pairs = self._row_pairs(b.shape())
        for bit in range(0, 2 * pairs, 2):
            rows = Gated(b[bit], a, low, high), Gated(b[bit + 1], _doubled(a), 2 * low, 2 * high)
            planes.append(Plane(*add_gated(m, platform, *rows, f"rows{bit}"), bit))
        for bit in range(2 * pairs, len(b)):
            row = registered(m, gated(b[bit], a), low, high, f"row{bit}")
            planes.append(Plane(row, low, high, bit, b.shape().signed and bit == len(b) - 1))
        return planes

    def _blocks(self, m, platform):
        planes = []
        for a_at, a_shape in _pieces(self._a_shape):
            for b_at, b_shape in _pieces(self._b_shape):
                unit = multipliers_for(platform)(count=1, a_shape=a_shape, b_shape=b_shape)
                m.submodules[f"piece{a_at}_{b_at}"] = unit
                m.d.comb += [
                    unit.i_a[0].eq(self.i_a[a_at : a_at + a_shape.width]),
                    unit.i_b[0].eq(self.i_b[b_at : b_at + b_shape.width]),
                ]
                planes.append(Plane(unit.o[0], *unit.product_range, a_at + b_at))
        return sorted(planes, key=lambda plane: plane.shift)


def _doubled(value):
    """2 · value, of its signedness."""
    both = Cat(Const(0, 1), value)
    return both.as_signed() if value.shape().signed else both


def _pieces(shape):
    """(lowest bit, shape) of the pieces of an operand: the top one is signed if the operand is."""
    starts = range(0, shape.width, MOST_BITS)
    tops = [min(MOST_BITS, shape.width - at) for at in starts]
    last = len(tops) - 1
    return [
        (at, signed(bits) if shape.signed and piece == last else unsigned(bits))
        for piece, (at, bits) in enumerate(zip(starts, tops, strict=True))
    ]
