"""The float way of TFLM's requantiser against the integers, at halves and around them above all."""

import numpy as np
import pytest

from lutloom.golden import requantise
from lutloom.golden.multiply import doubling_high_multiply, multiply, rounding_divide_by_pot
from lutloom.network import Multiply


def c_divide(a, b):
    """C's division of Python's integers: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def scalar(x, multiplier, shift):
    """TFLM's MultiplyByQuantizedMultiplier as its C says, in Python's integers."""
    left, right = max(31 - shift, 0), max(shift - 31, 0)
    product = (x << left) * multiplier
    high = c_divide(product + (1 << 30 if product >= 0 else 1 - (1 << 30)), 1 << 31)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def test_the_integers_do_what_the_c_code_says():
    random = np.random.default_rng(1)
    for shift in (20, 29, 31, 32, 33, 38, 45, 62):
        x = random.integers(-1 << 19, 1 << 19, 300)
        x[:6] = 0, 1, -1, 5, -(1 << 19), (1 << 19) - 1
        multiplier = random.integers(1 << 30, 1 << 31, 300)
        multiplier[::3] = 1 << 30  # halves are frequent
        left, right = max(31 - shift, 0), max(shift - 31, 0)
        found = rounding_divide_by_pot(doubling_high_multiply(x << left, multiplier), right)
        assert found.tolist() == [scalar(int(a), int(m), shift) for a, m in zip(x, multiplier, strict=True)]


def test_two_least_numbers_saturate():
    assert doubling_high_multiply(np.array([-1 << 31]), np.array([-1 << 31])).tolist() == [(1 << 31) - 1]


@pytest.mark.parametrize("reach", [1 << 16, 1 << 22, 1 << 27])
@pytest.mark.parametrize("shifts", [(33, 44), (31, 33), (28, 36), (36, 37)])
def test_floats_give_what_integers_give(reach, shifts):
    random = np.random.default_rng(reach + shifts[0])
    channels = 24
    reach = min(reach, 1 << 30 - max(31 - shifts[0], 0))
    multiplier = random.integers(1 << 30, 1 << 31, channels)
    multiplier[::3] = 1 << 30
    multiplier[1::6] = 3 << 29
    offset = random.integers(-reach // 4, reach // 4, channels)
    layer = Multiply("m", "x", "y", multiplier, random.integers(*shifts, channels), offset,
                     np.zeros(channels, np.int64), -7, -128, 127, "tflm")
    acc = random.integers(-reach // 2, reach // 2, (30, 5, 7, channels))
    centre = (random.uniform(-140, 140, acc.shape) * 2.0**layer.shift / multiplier - offset).astype(np.int64)
    acc = np.clip(np.where(random.integers(2, size=acc.shape), acc, centre), -reach // 2, reach // 2)
    run = requantise.prepare(layer, (5, 7, channels), -reach // 2, reach // 2, np.int8)
    exact = multiply(acc, multiplier, layer.shift, offset, layer.fraction, -7, -128, 127, "tflm")
    for dtype in (np.int64, np.float64) + ((np.float32,) if reach < 1 << 24 else ()):
        assert np.array_equal(run(acc.astype(dtype)), exact)
