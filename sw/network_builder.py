"""Making a network layer by layer, with shapes, ranges and accumulator formats worked out on the way."""

from fractions import Fraction

from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import Flatten, MaxPool, Network, Tensor
from lutloom.passes.verify import verify
from lutloom.shapes import output_shape


class NetworkBuilder:
    """A chain of layers that grows.

    Parameters
    ----------
    shape : tuple of int
        (H, W, C) or (C,) of the input.
    format : Format or str
        Of the input.
    low, high : int or None
        Range of the input's codes; the format's where None.
    zero_point : int
    """

    def __init__(self, shape, format="uint:8", low=None, high=None, zero_point=0):
        format = Format.parse(format) if isinstance(format, str) else format
        low = format.code_low if low is None else low
        high = format.code_high if high is None else high
        self.last = Tensor("input", tuple(shape), format, Fraction(1), Fraction(zero_point), low, high)
        self._tensors, self._layers = {"input": self.last}, []

    def add(self, kind, name, *arguments, format=None, zero_point=0, by_format=False, **parameters):
        """Append a layer and give its output tensor, which is named as the layer.

        Parameters
        ----------
        kind : type
            Conv, Dense, MaxPool ...; made with (name, input, output, *arguments, **parameters).
        format : Format, str or None
            Of the output; None: the input's where codes only move, the narrowest that holds its range otherwise.
        by_format : bool
            Ranges from formats instead of weights: what ``--patchable`` takes.
        """
        source = self.last
        layer = kind(name, source.name, name, *arguments, **parameters)
        low, high = output_range(layer, source, by_format=by_format)
        moved = kind in (MaxPool, Flatten)
        if isinstance(format, str):
            format = Format.parse(format)
        elif format is None:
            format = source.format if moved else Format.of_range(low, high)
        zero = source.zero_point if moved else Fraction(zero_point)
        shape = output_shape(layer, source.shape)
        self.last = self._tensors[name] = Tensor(name, shape, format, Fraction(1), zero, low, high)
        self._layers.append(layer)
        return self.last

    def network(self, name="network", **parameters):
        """The network, verified; its own layout is NHWC (or NC) unless ``parameters`` say otherwise."""
        shape = self._tensors["input"].shape
        defaults = {
            "input_shape": shape,
            "input_layout": "NHWC" if len(shape) == 3 else "NC",
            "output_shape": self.last.shape,
        }
        ends = "input", self.last.name
        return verify(Network(name, self._tensors, tuple(self._layers), *ends, **(defaults | parameters)))
