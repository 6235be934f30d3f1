"""Requantisation by multiplying, rounding, shifting and clamping, in two roundings."""

# Ref: tensorflow/lite/kernels/internal/common.cc (MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING off)
# Ref: gemmlowp/fixedpoint/fixedpoint.h (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT)

import numpy as np

from lutloom.golden.exact import magnitude

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def multiply(acc, multiplier, shift, offset, fraction, zero_point, low, high, rounding="up"):
    """y = clamp(zero_point + round((acc + offset) · multiplier / 2**shift), low, high).

    rounding "up": ((acc + offset)·multiplier + fraction + 2**(shift-1)) >> shift: half towards +inf.
    rounding "tflm": a left shift by max(31 - shift, 0), saturating rounding doubling high multiply, rounding divide by
    2**max(shift - 31, 0); the left-shifted accumulator must fit 32 bits (C's behaviour is undefined else, and
    ``verify`` refuses it); ``fraction`` is not used.

    Parameters
    ----------
    acc : array (..., C) of whole numbers
    multiplier, shift, offset, fraction : integer arrays (C,)
    zero_point, low, high : int

    Returns
    -------
    int64 array of the shape of ``acc``
    """
    multiplier, shift, offset, fraction = (np.asarray(a) for a in (multiplier, shift, offset, fraction))
    acc = np.asarray(acc)
    most = (magnitude(acc) + magnitude(offset) << max(31 - int(shift.min()), 0)) * max(magnitude(multiplier), 1)
    most += magnitude(fraction) + (1 << max(int(shift.max()), 31))
    dtype = np.dtype(np.int64) if most < 1 << 63 else np.dtype(object)
    acc = acc.astype(np.int64).astype(dtype) if acc.dtype.kind == "f" else acc.astype(dtype)
    multiplier, shift, offset, fraction = (a.astype(dtype) for a in (multiplier, shift, offset, fraction))
    if rounding == "up":
        one = np.ones_like(shift)
        rounded = (acc + offset) * multiplier + (fraction + ((one << shift) >> 1)) >> shift
    else:
        left, right = np.maximum(31 - shift, 0), np.maximum(shift - 31, 0)
        rounded = rounding_divide_by_pot(doubling_high_multiply((acc + offset) << left, multiplier), right)
    return np.clip(rounded + zero_point, low, high).astype(np.int64)


def doubling_high_multiply(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul of 32-bit integers: a·b / 2**31, rounded, halves away from zero
    for positive and towards zero for negative products; -2**31 · -2**31 saturates."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    quotient = np.where(nudged >= 0, nudged >> 31, -(-nudged >> 31))  # C divides towards zero
    return np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, quotient)


def rounding_divide_by_pot(x, exponent):
    """gemmlowp's RoundingDivideByPOT: x / 2**exponent, rounded to nearest, halves away from zero."""
    mask = (np.ones_like(exponent) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)
