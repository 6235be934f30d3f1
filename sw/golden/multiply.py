"""Requantisation by multiplying, rounding, shifting and clamping, with the roundings of several sources."""

# Ref: tensorflow/lite/kernels/internal/common.cc (MultiplyByQuantizedMultiplier, TFLITE_SINGLE_ROUNDING off)
# Ref: gemmlowp/fixedpoint/fixedpoint.h (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT)

import numpy as np

from lutloom.golden.exact import magnitude

FLOAT32_BITS = 24  # of a mantissa
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def multiply(acc, multiplier, shift, offset, fraction, zero_point, low, high, rounding="up"):
    """y = clamp(zero_point + round((acc + offset) · multiplier / 2**shift), low, high).

    rounding "up": ((acc + offset)·multiplier + fraction + 2**(shift-1)) >> shift: half towards +inf.
    rounding "tflm": a left shift by max(31 - shift, 0), saturating rounding doubling high multiply, rounding divide by
    2**max(shift - 31, 0); the left-shifted accumulator must fit 32 bits (C's behaviour is undefined else, and
    ``verify`` refuses it); ``fraction`` is not used.
    rounding "float32": as onnxruntime's integer kernels: (acc + offset) and multiplier / 2**shift, both exact in
    float32, are multiplied in float32, and the product is rounded to an integer, halves to even; ``fraction`` is not
    used.

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
    if rounding == "float32":
        return in_float32(acc, multiplier, shift, offset, zero_point, low, high)
    most = (magnitude(acc) + magnitude(offset) << max(31 - int(shift.min()), 0)) * max(magnitude(multiplier), 1)
    most += magnitude(fraction) + (1 << max(int(shift.max()), 31))
    dtype = np.dtype(np.int64) if most < 1 << 63 else np.dtype(object)
    acc = acc.astype(np.int64).astype(dtype, copy=False) if acc.dtype.kind == "f" else acc.astype(dtype)
    multiplier, shift, offset, fraction = (a.astype(dtype) for a in (multiplier, shift, offset, fraction))
    if rounding == "up":
        one = np.ones_like(shift)
        rounded = (acc + offset) * multiplier + (fraction + ((one << shift) >> 1)) >> shift
    else:
        rounded = by_quantized_multiplier(acc + offset, multiplier, shift)
    return np.clip(rounded + zero_point, low, high).astype(np.int64, copy=False)


def in_float32(acc, multiplier, shift, offset, zero_point, low, high):
    """``multiply`` with rounding "float32", of accumulators that with their offset are below 2**24."""
    scale = np.ldexp(multiplier.astype(np.float32), -shift.astype(np.int32))
    product = (acc.astype(np.int64) + offset).astype(np.float32) * scale
    return np.clip(np.rint(product) + zero_point, low, high).astype(np.int64)


def by_quantized_multiplier(x, multiplier, shift):
    """TFLM's MultiplyByQuantizedMultiplier of 32-bit integers, x · multiplier / 2**shift in two roundings.

    Parameters
    ----------
    x : int64 (or object) array (..., C)
    multiplier, shift : integer arrays (C,), or one integer for all
        TFLM's own exponent is 31 - shift: a left shift before the multiplication, or a right shift behind it.
    """
    left, right = np.maximum(31 - np.asarray(shift), 0), np.maximum(np.asarray(shift) - 31, 0)
    high = doubling_high_multiply(x << left if left.any() else x, multiplier)
    return rounding_divide_by_pot(high, right) if right.any() else high


def doubling_high_multiply(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul of 32-bit integers: a·b / 2**31, rounded, halves up;
    -2**31 · -2**31 saturates."""
    product = a * b
    product += 1 << 30  # C adds 2**30, or 1 - 2**30 below zero, and divides towards zero: the same
    product >>= 31
    if np.min(b) == INT32_MIN:
        product = np.where((a == INT32_MIN) & (b == INT32_MIN), INT32_MAX, product)
    return product


def rounding_divide_by_pot(x, exponent):
    """gemmlowp's RoundingDivideByPOT: x / 2**exponent, rounded to nearest, halves away from zero."""
    exponent = np.asarray(exponent)
    half = (np.ones_like(exponent) << exponent) >> 1
    return x + (half - ((x < 0) & (exponent > 0))) >> exponent
