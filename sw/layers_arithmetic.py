"""Layers of integer models: sums and products of two tensors, tables and softmax.

``Sum`` and ``Times`` give exact accumulators; the others round as TFLite Micro does. In the formulas
``mbqm(x, m, s)`` is TFLM's MultiplyByQuantizedMultiplier, x · m / 2**s in two roundings: see
``lutloom.golden.multiply.by_quantized_multiplier``.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Add:
    """y = clamp(zero_point + mbqm(a ± b, multiplier, shift), low, high), of two tensors that broadcast.

    a = mbqm((code + offsets[0]) · 2**left, multipliers[0], shifts[0]), b the same of the second input; they are
    subtracted where ``subtract``. Shapes are equal, or sides of 1 in either stand for all.

    Parameters
    ----------
    inputs : (str, str)
    left : int
        20 for codes of 8 bits.
    offsets, multipliers, shifts : (int, int)
    """

    name: str
    inputs: tuple[str, str]
    output: str
    left: int
    offsets: tuple[int, int]
    multipliers: tuple[int, int]
    shifts: tuple[int, int]
    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int
    subtract: int = 0


@dataclass(frozen=True, eq=False)
class Product:
    """y = clamp(zero_point + mbqm((a + offsets[0]) · (b + offsets[1]), multiplier, shift), low, high).

    Of two tensors that broadcast: shapes are equal, or sides of 1 in either stand for all.
    """

    name: str
    inputs: tuple[str, str]
    output: str
    offsets: tuple[int, int]
    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Sum:
    """acc = first[a - code_low] + second[b - code_low]: what the codes of two tensors that broadcast stand for, added.

    Parameters
    ----------
    first, second : int64 arrays (2**bits of the input,)
        code_low is the least code of the input's format.
    """

    name: str
    inputs: tuple[str, str]
    output: str
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True, eq=False)
class Times:
    """acc = (a + offsets[0]) · (b + offsets[1]), of two tensors that broadcast."""

    name: str
    inputs: tuple[str, str]
    output: str
    offsets: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Table:
    """y = codes[x - code_low of the input's format]: any function of one code.

    Parameters
    ----------
    codes : int64 array (2**bits of the input,)
    function : str
        What it computes, for people and reports: "logistic", "tanh" ...
    """

    name: str
    input: str
    output: str
    codes: np.ndarray
    function: str = ""


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis in gemmlowp's fixed point, as TFLM computes it for codes of 8 bits.

    With d = code - greatest code of the row, e(d) = exp_on_negative_values(high_mul(d · 2**left, multiplier)) in Q0.31
    for d >= least and 0 below, total = Σ round(e / 2**12), and 1/total as (reciprocal in Q0.31, exponent):
    y = min(low + round(high_mul(reciprocal, e) / 2**(exponent + 31 - bits)), high), where 2**bits = high - low + 1.

    Parameters
    ----------
    multiplier : int
    left : int
        Of the input's differences, before they are multiplied.
    least : int
        Smaller differences count as nothing; not above 0.
    low, high : int
        The output's least and greatest code: of 8 or 16 bits.
    """

    name: str
    input: str
    output: str
    multiplier: int
    left: int
    least: int
    low: int
    high: int
