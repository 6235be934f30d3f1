"""The network: integers only, no hardware in it, executable in numpy. It is the golden model.

A layer takes tensors of codes and gives one. ``Conv`` and ``Dense`` give exact accumulators: the sum over taps of
weight · value, where a value is the code itself (zero point not subtracted: what it contributes is a constant per
channel that the requantisation behind it holds) or 2·code - 1 for a bipolar input. Requantisation turns accumulators
into the next layer's codes. Layers of two and more inputs, tables and state stand in ``lutloom.layers_arithmetic`` and
``lutloom.layers_moving``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from types import MappingProxyType

import numpy as np

from lutloom.formats import Format
from lutloom.layers_arithmetic import Add, Product, Softmax, Sum, Table, Times
from lutloom.layers_moving import Broadcast, Concat, Constant, Pad, Reshape, Slice, State, Transpose
from lutloom.weight_groups import stored_bits
from lutloom.weights import WeightFormat


@dataclass(frozen=True)
class Tensor:
    """Codes of one shape and format; code q stands for the real number scale · (q - zero_point).

    Parameters
    ----------
    name : str
    shape : (H, W, C) or (C,)
    format : Format
    scale : Fraction
        1 for accumulators whose scale differs by channel (what they mean stands in the requantiser behind them).
    zero_point : Fraction
        An integer for activations; a fraction only at the output, where the source ends with an affine step.
    low, high : int
        The least and the greatest code that can occur (interval arithmetic; within the format).
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    scale: Fraction
    zero_point: Fraction
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Weights:
    """Stored codes of a layer's weights.

    Parameters
    ----------
    codes : uint16 array (N, kh, kw, C/groups) for Conv, (N, C) for Dense
        Stored codes, ``format.bits`` bits each; ``format.decode(codes)`` gives the integers.
    format : WeightFormat
    scale : tuple of Fraction
        Real value of integer 1: one for the layer, or one an output.
    sparse : bool
        Zeros need not be stored.
    """

    codes: np.ndarray
    format: WeightFormat
    scale: tuple[Fraction, ...]
    sparse: bool = False

    @property
    def integers(self):
        """int32 array of codes' shape: the integers that the codes stand for."""
        return self.format.decode(self.codes)

    @property
    def stored_bits(self):
        """Bits that a memory holds of all codes; where a group shares an index, that once. A table is not in it."""
        return stored_bits(self.codes.shape, self.format)


@dataclass(frozen=True, eq=False)
class Conv:
    """acc[y, x, n] = sum over taps of w[n, ky, kx, c] · value[y·sy + ky·dy - top, x·sx + kx·dx - left, c].

    Padded taps have the input's zero point as code; with a bipolar input they contribute nothing.
    """

    name: str
    input: str
    output: str
    weights: Weights
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Dense:
    """acc[n] = sum over c of w[n, c] · value[c], of a (C,) tensor."""

    name: str
    input: str
    output: str
    weights: Weights


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Greatest code of each window and channel; padded taps do not count. Kernel, stride as (y, x)."""

    name: str
    input: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class SumPool:
    """Sum of the values of each window and channel, times a whole factor that may differ by position.

    An average is a sum whose divisor stands in the scale behind it: where the divisor differs by position (9, 6, 4 at
    the rim), the sum is multiplied by lcm / divisor. Padded taps add ``pad_code``.

    Parameters
    ----------
    factors : int64 array (OH, OW)
    """

    name: str
    input: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    factors: np.ndarray
    pad_code: int = 0


@dataclass(frozen=True, eq=False)
class Flatten:
    """(H, W, C) to (H·W·C,), in raster order, channels innermost."""

    name: str
    input: str
    output: str


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Requantisation by comparing: y = base + sum over t of [acc >= values[c, t]], clipped by construction.

    In a falling channel y = base + sum over t of [acc < values[c, t]].

    Parameters
    ----------
    values : int64 array (C, T)
        Ascending along t. A step that never (always) happens stands as high + 1 (low) of the input tensor.
    falling : bool array (C,)
    base : int
        The code below the first threshold (of a rising channel). Bipolar codes are 0 and 1.
    """

    name: str
    input: str
    output: str
    values: np.ndarray
    falling: np.ndarray
    base: int


@dataclass(frozen=True, eq=False)
class Multiply:
    """Requantisation by multiplying: y = clamp(zero_point + round((acc + offset) · multiplier / 2**shift), low, high).

    rounding "up": one rounding, half towards +inf: ((acc + offset)·multiplier + 2**(shift-1)) >> shift, with
    ``fraction`` added to the product before (so offsets need not be multiples of an accumulator's unit).
    rounding "tflm": TensorFlow Lite Micro's reference, MultiplyByQuantizedMultiplier: a left shift by
    max(31 - shift, 0), saturating rounding doubling high multiply by the 32-bit multiplier, rounding divide by
    2**max(shift - 31, 0); ``fraction`` is zero.
    rounding "float32": onnxruntime's integer kernels: multiplier / 2**shift is a number in float32, the product with
    acc + offset (below 2**24) is one too, and is rounded to an integer, halves to even; ``fraction`` is zero.

    Parameters
    ----------
    multiplier, shift, offset, fraction : int64 arrays (C,)
    """

    name: str
    input: str
    output: str
    multiplier: np.ndarray
    shift: np.ndarray
    offset: np.ndarray
    fraction: np.ndarray
    zero_point: int
    low: int
    high: int
    rounding: str = "up"


@dataclass(frozen=True, eq=False)
class Offset:
    """y = acc + values[c]: a bias on accumulators that are the network's output."""

    name: str
    input: str
    output: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class TopK:
    """Indices of the k greatest codes of a (C,) tensor, best first, the lower index first among equals."""

    name: str
    input: str
    output: str
    k: int = 1


Layer = (
    Conv | Dense | MaxPool | SumPool | Flatten | Thresholds | Multiply | Offset | TopK
    | Add | Product | Sum | Times | Table | Softmax
    | Reshape | Transpose | Broadcast | Concat | Slice | Pad | Constant | State
)


def inputs_of(layer):
    """Names of the tensors that a layer takes, in order; a State's is of the frame before."""
    return layer.inputs if hasattr(layer, "inputs") else (layer.input,)


@dataclass(frozen=True, eq=False)
class Network:
    """Integer layers in topological order, and what the model around them means.

    Parameters
    ----------
    name : str
    tensors : mapping of str to Tensor
    layers : tuple of Layer
    input, output : str
        Names of tensors.
    input_shape : tuple of int
        The model's own, without the batch.
    input_layout : "NCHW", "NHWC" or "NC"
    output_shape : tuple of int
        The model's own, without the batch.
    closing : "" or "softmax"
        A float softmax behind the output, which the hardware leaves to the host.
    info : mapping of str to str
        Where it came from: weights, activations, model.
    """

    name: str
    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    input: str
    output: str
    input_shape: tuple[int, ...]
    input_layout: str
    output_shape: tuple[int, ...]
    closing: str = ""
    info: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "info", MappingProxyType(dict(self.info)))
        object.__setattr__(self, "layers", tuple(self.layers))

    def __call__(self, codes):
        """Codes of the output for a batch of input codes (batch first, NHWC): exactly what the hardware gives.

        A network with state takes the batch as one stream, in order, from a cleared state.
        """
        return self._executor.run(codes, (self.output,))[self.output]

    def run(self, codes, names):
        """Codes of some tensors for a batch of input codes: a dict by tensor name."""
        return self._executor.run(codes, names)

    @property
    def has_state(self):
        """Whether a frame's output depends on the frames before it."""
        return any(isinstance(layer, State) for layer in self.layers)

    def trace(self, codes):
        """Codes of every tensor for a batch of input codes: a dict by tensor name, the input's among them."""
        return self._executor.run(codes, tuple(self.tensors))

    def encode(self, data):
        """Input codes (batch first, NHWC) of a user's data; see ``lutloom.network_data``."""
        from lutloom.network_data import encode

        return encode(self, data)

    def decode(self, codes):
        """Real outputs, float64, in the model's own layout, of output codes; see ``lutloom.network_data``."""
        from lutloom.network_data import decode

        return decode(self, codes)

    def save(self, path):
        """Write a ``.npz`` that ``load`` reads; no pickle in it, and it appears under its name only when whole."""
        from lutloom.network_file import save

        save(self, path)

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote; ModelError for anything else."""
        from lutloom.network_file import load

        return load(path)

    @cached_property
    def _executor(self):
        """The network, checked and prepared for numpy."""
        from lutloom.golden.execute import Executor

        return Executor(self)
