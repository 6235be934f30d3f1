"""Pooling: greatest value or sum of a window, for several channels at once."""

import numpy as np
from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


def greater(a, b):
    """The greater of two values."""
    return Mux(a > b, a, b)


class Pool(wiring.Component):
    """Greatest code or sum of the values of a window, one kernel column a fold, ``units`` channels side by side.

    max: o = max over the group's folds and kernel rows of x. sum: o = factor · sum of them, the factor by position.

    Latency: ``delay`` cycles from a group's last fold to o_valid. Throughput: a fold a cycle, no bubble between groups.
    No flow control. No combinational path.

    Parameters
    ----------
    kind : "max" or "sum"
    rows : int
        Kernel rows.
    units : int
        Channels.
    x_format : Format
        Of the codes; padding is up to who sends them.
    acc_shape : Shape
        Of the results.
    factors : int array (OH, OW), optional
        For sums, products of a number by row and a number by column.
    masked : bool
        Values of lanes that are not valid add nothing: padding of bipolar values, which have no zero.

    Members
    -------
    i_valid, i_first, i_last : In(1)
    i_x : In(rows·units values)
    i_row, i_column : In
        The position.
    i_lanes : In(rows·units)
        Which values count; only if masked.
    o_valid : Out(1)
    o_acc : Out(units results)
    """

    def __init__(self, *, kind, rows, units, x_format, acc_shape, factors=None, masked=False):
        if kind not in ("max", "sum"):
            raise ValueError(f"pool kind must be max or sum, not {kind!r}")
        self._kind, self._rows, self._units, self._format, self._acc_shape = kind, rows, units, x_format, acc_shape
        self._factors = np.ones((1, 1), int) if factors is None else np.asarray(factors)
        self._masked = masked
        height, width = self._factors.shape
        super().__init__(
            {
                **({"i_lanes": In(rows * units)} if masked else {}),
                "i_valid": In(1),
                "i_first": In(1),
                "i_last": In(1),
                "i_x": In(data.ArrayLayout(unsigned(x_format.bits), rows * units)),
                "i_row": In(range(max(2, height))),
                "i_column": In(range(max(2, width))),
                "o_valid": Out(1),
                "o_acc": Out(data.ArrayLayout(acc_shape, units)),
            }
        )

    @property
    def _levels(self):
        return max(1, (self._rows - 1).bit_length())

    @property
    def _scaled(self):
        return bool((self._factors != 1).any())

    @property
    def delay(self):
        """Cycles from a group's last fold to o_valid."""
        return self._levels + 1 + 2 * self._scaled

    def elaborate(self, platform):
        m = Module()
        along = Cat(self.i_valid, self.i_first, self.i_last, self.i_row, self.i_column)
        for stage in range(self._levels):
            after = Signal(len(along), name=f"s{stage}_along")
            m.d.sync += after.eq(along)
            along = after
        valid, first, last = along[0], along[1], along[2]
        row, column = along[3 : 3 + len(self.i_row)], along[3 + len(self.i_row) :]
        done = Signal()
        m.d.sync += done.eq(valid & last)
        results = []
        for unit in range(self._units):
            values = []
            for j in range(self._rows):
                code = self.i_x[j * self._units + unit]
                value = code.as_signed() if self._format.signed else code
                if self._kind == "sum" and self._format.kind == "bipolar":
                    value = Mux(code, 1, -1)
                if self._masked:
                    value = Mux(self.i_lanes[j * self._units + unit], value, 0)
                values.append(value)
            for level in range(self._levels):
                pairs = [values[k : k + 2] for k in range(0, len(values), 2)]
                values = []
                for k, pair in enumerate(pairs):
                    joined = pair[0]
                    if len(pair) == 2:
                        joined = pair[0] + pair[1] if self._kind == "sum" else greater(*pair)
                    held = Signal(joined.shape(), name=f"s{level}_u{unit}_{k}", reset_less=True)
                    m.d.sync += held.eq(joined)
                    values.append(held)
            value = values[0]
            acc = Signal(self._acc_shape if self._kind == "sum" else value.shape(), name=f"acc{unit}", reset_less=True)
            with m.If(valid):
                if self._kind == "sum":
                    m.d.sync += acc.eq(Mux(first, 0, acc) + value)
                else:
                    m.d.sync += acc.eq(Mux(first | (value > acc), value, acc))
            results.append(acc)
        if self._scaled:
            results, done = self._scale(m, results, done, row, column)
        m.d.comb += self.o_valid.eq(done)
        for unit, result in enumerate(results):
            m.d.comb += self.o_acc[unit].eq(result)
        return m

    def _scale(self, m, results, done, row, column):
        """Times the factor of the position: one of a few constants, each a few shifts and adds."""
        row_held, column_held = Signal.like(row, name="factor_row"), Signal.like(column, name="factor_column")
        m.d.sync += [row_held.eq(row), column_held.eq(column)]
        choices = sorted({int(f) for f in self._factors.flat})
        pick = Signal(range(max(2, len(choices))))
        for r in range(self._factors.shape[0]):
            for c in range(self._factors.shape[1]):
                index = choices.index(int(self._factors[r, c]))
                if index:
                    with m.If((row_held == r) & (column_held == c)):
                        m.d.comb += pick.eq(index)
        pick_held = Signal.like(pick)
        m.d.sync += pick_held.eq(pick)
        after, last = Signal(), Signal()
        m.d.sync += [after.eq(done), last.eq(after)]
        scaled = []
        for unit, result in enumerate(results):
            products = []
            for k, factor in enumerate(choices):
                product = Signal(self._acc_shape, name=f"product{unit}_{k}", reset_less=True)
                m.d.sync += product.eq(result * factor)
                products.append(product)
            chosen = Signal(self._acc_shape, name=f"scaled{unit}", reset_less=True)
            with m.Switch(pick_held):
                for k, product in enumerate(products):
                    with m.Case(k):
                        m.d.sync += chosen.eq(product)
            scaled.append(chosen)
        return scaled, last
