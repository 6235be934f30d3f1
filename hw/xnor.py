"""XNOR and popcount: bipolar activations times binary weights."""

from amaranth.hdl import Cat, Const, Module, unsigned

from lutloom.golden.dot import matches
from lutloom.hw.dot_base import Dot
from lutloom.hw.tree import Term, add_terms, levels, registered


class XnorDot(Dot):
    """Bipolar times binary: o = matches (Σ w·x is 2·o - lanes); masked: o = Σ w·x over the valid lanes.

    Matches are counted in leaves of three (one level of LUTs behind the XNOR), then by a tree of adders with a register
    behind each; a quarter of the matches enters on the adders' carry inputs. Cost at 64 lanes: 2.0 SB_LUT4 a bit on
    iCE40, 2.55 LUT4 a bit on ECP5 (``-nowidelut``, CCU2C counted as two); see scripts/unit_area. Masked, the valid
    lanes are counted as well: units that share a mask share that count when they are flattened.

    Latency: 1 + levels of the tree, and one more if masked.
    """

    X_KINDS = ("bipolar",)
    W_KINDS = ("binary",)

    @property
    def acc_shape(self):
        """The narrowest shape that holds every result."""
        return super().acc_shape if self._masked else unsigned(self._lanes.bit_length())

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        return 1 + levels(_leaves(self._lanes)) + self._masked

    def model(self, x, w, valid=None):
        """o of codes x and w and of mask valid, arrays (..., lanes)."""
        return super().model(x, w, valid) if self._masked else matches(x, w)

    def elaborate(self, platform):
        m = Module()
        match = ~(self.i_x.as_value() ^ self.i_w.as_value())
        if not self._masked:
            m.d.comb += self.o.eq(_popcount(m, match, "match"))
            return m
        count = _popcount(m, match & self.i_valid, "match")
        valid = _popcount(m, self.i_valid, "valid")
        low, high = self.product_range
        m.d.comb += self.o.eq(registered(m, (count << 1) - valid, low * self._lanes, high * self._lanes, "sum"))
        return m


def _leaves(count):
    """Leaves of the tree that counts so many bits: n leaves leave room for n - 1 bits on carries."""
    return -(-count // 4)


def _popcount(m, bits, name):
    """How many bits are set, ``1 + levels(_leaves(len(bits)))`` cycles later."""
    leaves = _leaves(len(bits))
    carries, rest, at = bits[: leaves - 1], bits[leaves - 1 :], 0
    terms = []
    for leaf in range(leaves):
        end = len(rest) * (leaf + 1) // leaves
        value = registered(m, count_ones(list(rest[at:end])), 0, end - at, f"{name}_leaf{leaf}")
        carry = registered(m, carries[leaf], 0, 1, f"{name}_carry{leaf}") if leaf < leaves - 1 else None
        terms.append(Term(value, 0, end - at, carry))
        at = end
    total, _ = add_terms(m, terms, name)
    return total.value


def count_ones(bits):
    """How many of a few bits are set, by full adders of two LUTs each instead of carry chains; combinational."""
    columns, result = [list(bits)], []
    while columns:
        column, carries = columns.pop(0), []
        while len(column) > 1:
            a, b, *column = column
            c = column.pop(0) if column else Const(0, 1)
            column.append(a ^ b ^ c)
            carries.append((a & b) | (c & (a ^ b)))
        result.extend(column)
        if carries:
            columns.append(carries)
    return Cat(result)
