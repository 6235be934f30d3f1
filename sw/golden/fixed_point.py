"""gemmlowp's fixed-point exponential, reciprocal, logistic and tanh on 32-bit integers, bit for bit.

A number in Qm.n is an integer that stands for integer / 2**n, m + n = 31. All functions take and give int64 arrays that
hold 32-bit integers.
"""

# Ref: gemmlowp/fixedpoint/fixedpoint.h (exp_on_negative_values, one_over_one_plus_x_for_x_in_0_1, logistic, tanh)

import numpy as np

from lutloom.golden.multiply import INT32_MAX, INT32_MIN, doubling_high_multiply, rounding_divide_by_pot

EXP_OF_MINUS_EIGHTH = 1895147668  # Q0.31
THIRD = 715827883  # Q0.31
EXP_FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2**k) in Q0.31 for k = -2 ... 4."""
TWO_48_17, TWO_NEG_32_17 = 1515870810, -1010580540  # 48/17 and -32/17 in Q2.29


def exp_on_negative_values(x, integer_bits):
    """exp(x) in Q0.31, of x <= 0 in Q(integer_bits)."""
    x = np.asarray(x, np.int64)
    fraction_bits = 31 - integer_bits
    quarter = 1 << fraction_bits - 2
    fraction = (x & (quarter - 1)) - quarter
    result = _exp_near_zero(saturating_left_shift(fraction, integer_bits))
    rest = fraction - x
    for exponent, factor in enumerate(EXP_FACTORS, -2):
        if integer_bits > exponent:
            set_ = (rest >> fraction_bits + exponent) & 1
            result = np.where(set_ != 0, doubling_high_multiply(result, factor), result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_near_zero(x):
    """exp(x) in Q0.31 of x from -1/4 to 0 in Q0.31: a Taylor series around -1/8."""
    x = x + (1 << 28)
    x2 = doubling_high_multiply(x, x)
    x3 = doubling_high_multiply(x2, x)
    x4 = doubling_high_multiply(x2, x2)
    tail = doubling_high_multiply(rounding_divide_by_pot(x4, 2) + x3, THIRD) + x2
    return EXP_OF_MINUS_EIGHTH + doubling_high_multiply(x + rounding_divide_by_pot(tail, 1), EXP_OF_MINUS_EIGHTH)


def saturating_left_shift(x, bits):
    """x · 2**bits, within 32 bits."""
    return np.clip(x << bits, INT32_MIN, INT32_MAX)


def _newton(x):
    """2 / (1 + x) in Q2.29, of x from 0 to 1 in Q0.31: three steps of Newton and Raphson."""
    half = (x + INT32_MAX + 1) >> 1
    y = TWO_48_17 + doubling_high_multiply(half, TWO_NEG_32_17)
    for _ in range(3):
        rest = (1 << 29) - doubling_high_multiply(half, y)
        y = y + saturating_left_shift(doubling_high_multiply(y, rest), 2)
    return y


def one_over_one_plus(x):
    """1 / (1 + x) in Q0.31, of x from 0 to 1 in Q0.31."""
    return saturating_left_shift(_newton(np.asarray(x, np.int64)), 1)


def logistic(x, integer_bits):
    """1 / (1 + exp(-x)) in Q0.31, of x in Q(integer_bits)."""
    x = np.asarray(x, np.int64)
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(x), integer_bits))
    return np.where(x > 0, positive, np.where(x == 0, 1 << 30, INT32_MAX - positive))


def tanh(x, integer_bits):
    """tanh(x) in Q0.31, of x in Q(integer_bits)."""
    x = np.asarray(x, np.int64)
    exponential = exp_on_negative_values(-np.abs(x), integer_bits + 1)  # of 2x
    positive = saturating_left_shift(_newton(exponential) - (1 << 29), 2)
    return np.where(x == 0, 0, np.where(x < 0, -positive, positive))


def reciprocal(x, integer_bits):
    """(1/x in Q0.31, exponent) of x > 0 in Q(integer_bits): 1/x = value / 2**(31 + exponent)."""
    x = np.asarray(x, np.int64)
    zeros = 31 - np.floor(np.log2(x.astype(np.float64))).astype(np.int64)  # exact: doubles hold 32 bits
    return one_over_one_plus((x << zeros) - (1 << 31)), integer_bits - zeros
