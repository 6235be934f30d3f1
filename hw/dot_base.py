"""What all dot products share: parameters, ports, bounds, and the golden function."""

from amaranth.hdl import unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.golden.dot import dot
from lutloom.hw.tree import checked_count, shape_of


class Dot(wiring.Component):
    """Dot product of ``lanes`` activations and weights a cycle, exact: o = Σ w·x over the lanes (that are valid).

    Latency: ``delay`` cycles; a result a cycle. No flow control, no combinational path. The inputs are not registered
    in front of the first level of logic.

    Parameters
    ----------
    lanes : int
        1 or more.
    x_format : Format
        Of the activations, at most 16 bits.
    w_format : WeightFormat
    masked : bool
        Take ``i_valid``; for bipolar activations, which have no zero, alone.

    Members
    -------
    i_x : In(ArrayLayout(x_format.bits, lanes))
        Codes.
    i_w : In(ArrayLayout(w_format.bits, lanes))
        Codes.
    i_valid : In(lanes)
        Only if masked: lanes that count.
    o : Out(acc_shape)

    Raises
    ------
    ValueError
        For lanes out of range, formats that the unit does not take, or a mask on activations other than bipolar.
    """

    X_KINDS = ()
    W_KINDS = ()

    def __init__(self, *, lanes, x_format, w_format, masked=False):
        self._lanes = checked_count("lanes", lanes)
        name = type(self).__name__
        if x_format.kind not in self.X_KINDS or x_format.bits > 16:
            kinds = " or ".join(self.X_KINDS)
            raise ValueError(f"{name} activations must be {kinds} of at most 16 bits, not {x_format}")
        if w_format.kind not in self.W_KINDS:
            raise ValueError(f"{name} weights must be {' or '.join(self.W_KINDS)}, not {w_format}")
        if masked and x_format.kind != "bipolar":
            raise ValueError(f"masked must be False for {x_format} activations, whose padding has a code; take bipolar")
        self._x_format, self._w_format, self._masked = x_format, w_format, bool(masked)
        members = {
            "i_x": In(data.ArrayLayout(unsigned(x_format.bits), lanes)),
            "i_w": In(data.ArrayLayout(unsigned(w_format.bits), lanes)),
            "o": Out(self.acc_shape),
        }
        if masked:
            members["i_valid"] = In(lanes)
        super().__init__(members)

    @property
    def lanes(self):
        """Products a cycle."""
        return self._lanes

    @property
    def x_format(self):
        """Format of the activations."""
        return self._x_format

    @property
    def w_format(self):
        """Format of the weights."""
        return self._w_format

    @property
    def masked(self):
        """Whether lanes can be left out."""
        return self._masked

    @property
    def product_range(self):
        """Least and greatest product of a lane."""
        values = self._x_format.value_low, self._x_format.value_high
        products = [w * x for w in (self._w_format.low, self._w_format.high) for x in values] + [0] * self._masked
        return min(products), max(products)

    @property
    def acc_shape(self):
        """The narrowest shape that holds every result."""
        low, high = self.product_range
        return shape_of(low * self._lanes, high * self._lanes)

    @property
    def delay(self):
        """Cycles from i_x and i_w to o."""
        raise NotImplementedError

    def model(self, x, w, valid=None):
        """o of codes x and w and of mask valid, arrays (..., lanes); signed codes as signed integers."""
        return dot(self._x_format.values(x), self._w_format.decode(w), valid)

    def _x(self, lane):
        """The code of an activation, signed if it is."""
        code = self.i_x[lane]
        return code.as_signed() if self._x_format.signed else code

    def _w_bit(self, lane, bit):
        """A stored bit of a weight."""
        return self.i_w[lane][bit]
