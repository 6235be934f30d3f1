"""Softmax of codes of 8 bits, in TFLite Micro's fixed-point arithmetic."""

# Ref: tensorflow/lite/kernels/internal/reference/softmax.h (Softmax)

import numpy as np

from lutloom.golden.fixed_point import exp_on_negative_values, reciprocal
from lutloom.golden.multiply import by_quantized_multiplier, doubling_high_multiply, rounding_divide_by_pot

DIFFERENCE_BITS, SUM_BITS = 5, 12
"""Integer bits of the differences and of the sum."""


def exponentials(multiplier, left, least):
    """int64 array (256,): exp of difference -i in Q0.31, and 0 where the difference is below ``least``."""
    differences = -np.arange(256, dtype=np.int64)
    taken = differences >= least
    scaled = by_quantized_multiplier(np.where(taken, differences, 0), multiplier, 31 - left)
    return np.where(taken, exp_on_negative_values(scaled, DIFFERENCE_BITS), 0)


def softmax(codes, table, low, high):
    """Output codes over the last axis.

    Parameters
    ----------
    codes : integer array (..., C)
    table : int64 array (256,)
        Of ``exponentials``.
    low, high : int
        The output's least and greatest code.
    """
    codes = np.asarray(codes).astype(np.int64)
    differences = codes.max(axis=-1, keepdims=True) - codes
    exps = table[differences]
    total = rounding_divide_by_pot(table, SUM_BITS)[differences].sum(axis=-1, keepdims=True)
    scale, exponent = reciprocal(total, SUM_BITS)
    share = rounding_divide_by_pot(doubling_high_multiply(exps, scale), exponent + 31 - (high - low).bit_length())
    return np.minimum(share + low, high)
