"""The graph: what a model file says, in the source's own real-valued semantics, layout NHWC.

A front end makes it, passes fold and calibrate it, and ``lutloom.passes.lower`` turns it into an integer network.
Every array is float64 or an integer array; shapes have no batch dimension: (H, W, C) or (C,).

Operators and their ``params``
------------------------------
conv         weight (N, kh, kw, C/groups), bias (N,) or None, stride (y, x), dilation (y, x),
             pads (top, left, bottom, right), groups, weight_quant (a WeightQuant or None)
dense        weight (N, C), bias (N,) or None, weight_quant. Takes a (C,) tensor; its columns are in NHWC order.
affine       scale and offset, each () or (C,): y = x·scale + offset  (batch norm, Mul, Add, Sub, Div by constants).
             A batch norm is an affine that subtracts the mean, where it is not 0, and behind it one with ``norm``, a
             Norm: what scale and offset were made of, which is believed up to the pass ``fold``. ``open``: the norm's
             statistics are yet to be measured.
relu         -
clip         low, high (floats; ±inf where open)
sign         - (-1 for x < 0, 0 for 0, +1 for x > 0)
maxpool      kernel, stride, pads (top, left, bottom, right; ceil mode is resolved into pads at the end)
avgpool      kernel, stride, pads, divisor: (OH, OW) integers, what each window's sum is divided by
globalpool   - (average over H and W; gives (C,))
flatten      - (to (C,) in NHWC order)
reshape      - (raster order; the shape is the output's)
add, sub, mul  - ; two inputs that broadcast
concat       axis; any number of inputs
pad          before, after (one an axis): so many zeros
slice        begin, sizes, steps (one an axis)
transpose    order: axis i of the output is axis order[i] of the input
upsample     factor (y, x): every pixel so often, the nearest one
table        function ("leaky_relu", "logistic", "tanh", "elu" ...: see ``lutloom.functions``), alpha, beta
quant        scale, zero_point (each () or (C,)), bits, signed, narrow, rounding
bipolarquant scale
trunc        scale, zero_point, in_bits, out_bits, rounding
multithreshold  thresholds (C, T), out_scale, out_bias
softmax      - (over channels)
argmax       - (gives (1,))
topk         k (indices, best first, lower index first among equals)

Integer models (``arithmetic`` is not "real") have, besides these, operators on codes. Every value of theirs has a
TensorQuant in ``quants``; in real numbers they compute the same, without rounding but within the codes' range:

conv, dense  weight and bias as real numbers, weight_quant, bias_codes (N,) or None (in units of the input's scale
             times the weight's), low and high: the codes that the fused activation clamps to
add, sub, mul  low, high; two inputs that broadcast
maxpool, avgpool  low, high
mean         kernel (y, x): the average of a whole map, one rounding by a multiplier
requantize   - (the same numbers on another TensorQuant)
table        function ("relu", "relu6", "leaky_relu", "hard_swish", "logistic", "tanh"), alpha
softmax      beta (over the last axis)
reshape      - (raster order; the shape is the output's)
concat       axis; any number of inputs
pad          before, after (one an axis), code
constant     codes (no input)
read         state, reset (codes): what ``write`` of the same state was given in the frame before (no input)
write        state

``rounding`` is a name of qonnx's: ROUND (half to even), CEIL, FLOOR, UP (away from zero), DOWN (towards zero),
HALF_UP (half away from zero), HALF_DOWN (half towards zero). quant: y = (clip(rounding(x/scale + zero_point)) -
zero_point)·scale; trunc: y = (rounding(round(x/scale + zero_point) / 2**(in_bits - out_bits)) - zero_point)·scale.
Several affine nodes may follow each other; together they are exact where one rounded affine would not be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from lutloom.formats import Format


@dataclass(frozen=True, eq=False)
class WeightQuant:
    """How the source itself quantises a weight tensor: real = scale · (code - zero_point).

    Parameters
    ----------
    kind : "int" or "bipolar"
        bipolar: codes are -1 and +1.
    codes : integer array of the weight's shape
    scale : float64, () or (N,)
    zero_point : int64, () or (N,)
    bits : int
    signed, narrow : bool
    """

    kind: str
    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int
    signed: bool = True
    narrow: bool = False


@dataclass(frozen=True, eq=False)
class Norm:
    """What a batch norm's affine is made of: y = (x - mean)·gamma / sqrt(variance + epsilon) + beta.

    Parameters
    ----------
    gamma, beta, mean, variance : float64 arrays, () or (C,)
        The affine with this Norm takes in what the mean was subtracted from.
    epsilon : float
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def affine(self):
        """Scale and offset of the affine behind the subtraction."""
        return {"scale": self.gamma / np.sqrt(self.variance + self.epsilon), "offset": self.beta}


@dataclass(frozen=True)
class TensorQuant:
    """What the codes of an integer model's value stand for: real = scale · (code - zero_point).

    Parameters
    ----------
    scale : numpy.float32 or float
        As the file has it, in the file's own type: multipliers are computed from it with the source's rounding.
    zero_point : int
    format : Format
        int:8, uint:8 ...
    """

    scale: float
    zero_point: int
    format: Format

    def real(self, codes):
        """float64 reals of codes."""
        return (np.asarray(codes, np.float64) - self.zero_point) * float(self.scale)


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: its inputs and its output are names of values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    params: dict

    def __post_init__(self):
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def __reduce__(self):  # mapping proxies cannot be pickled
        return Node, (self.op, self.name, self.inputs, self.output, dict(self.params))

    def with_params(self, **changes):
        """The same node with some parameters changed."""
        return replace(self, params={**self.params, **changes})


@dataclass(frozen=True, eq=False)
class Graph:
    """A model as its source means it.

    Parameters
    ----------
    name : str
    input : str
        Name of the input value.
    output : str
        Name of the output value.
    nodes : tuple of Node
        In topological order.
    shapes : mapping of str to tuple of int
        Of every value, without the batch, in NHWC.
    input_shape : tuple of int
        The model's own input shape without the batch, e.g. (1, 28, 28) for an NCHW model.
    input_layout : "NCHW", "NHWC" or "NC"
        With (H, W, C) = shapes[input]: NCHW means x.reshape(-1, C, H, W).transpose(0, 2, 3, 1) gives NHWC (also where
        input_shape has fewer dimensions, as of 1-D models); NHWC and NC mean a plain reshape.
    output_shape : tuple of int
        The model's own output shape without the batch.
    output_layout : "NCHW", "NHWC" or "NC"
        The same for the output: NCHW means y.transpose(0, 3, 1, 2).reshape(-1, *output_shape) gives the model's own.
    arithmetic : "real" or "tflm"
        Whose integer arithmetic an integer model is meant in: "tflm" is TensorFlow Lite Micro's; "real" is none.
    quants : mapping of str to TensorQuant
        Of every value of an integer model.
    """

    name: str
    input: str
    output: str
    nodes: tuple[Node, ...]
    shapes: dict
    input_shape: tuple[int, ...]
    input_layout: str
    output_shape: tuple[int, ...]
    output_layout: str = "NC"
    arithmetic: str = "real"
    quants: Mapping[str, TensorQuant] = field(default_factory=dict)

    def consumers(self, value):
        """Nodes that read a value."""
        return [node for node in self.nodes if value in node.inputs]

    def producer(self, value):
        """The node that writes a value; None for the input."""
        return next((node for node in self.nodes if node.output == value), None)
