"""Multiplying requantisers against plain Python transcriptions of the definitions."""

import numpy as np
import pytest

from lutloom.golden.multiply import doubling_high_multiply, multiply, rounding_divide_by_pot

INT32 = (-(1 << 31), (1 << 31) - 1)
CORNERS = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    -3,
    (1 << 30) - 1,
    1 << 30,
    (1 << 30) + 1,
    -(1 << 30),
    -(1 << 30) - 1,
    *INT32,
    INT32[1] - 1,
]


def c_division(a, b):
    """C's integer division: towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def c_high_multiply(a, b):
    """SaturatingRoundingDoublingHighMul, as gemmlowp defines it."""
    if a == b == INT32[0]:
        return INT32[1]
    ab = a * b
    nudge = (1 << 30) if ab >= 0 else (1 - (1 << 30))
    return c_division(ab + nudge, 1 << 31)


def c_divide_by_pot(x, exponent):
    """RoundingDivideByPOT, as gemmlowp defines it."""
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if remainder > threshold else 0)


def c_requantise(acc, multiplier, shift, offset, zero_point, low, high):
    """What TFLM's reference kernels do with an accumulator (offset: its bias); shift here is 31 minus theirs."""
    x = (acc + offset) << max(31 - shift, 0)
    y = c_divide_by_pot(c_high_multiply(x, multiplier), max(shift - 31, 0))
    return min(max(y + zero_point, low), high)


def test_high_multiply_at_corners():
    a, b = (axis.ravel() for axis in np.meshgrid(CORNERS, CORNERS))
    wanted = [c_high_multiply(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    assert doubling_high_multiply(a, b).tolist() == wanted
    assert doubling_high_multiply(np.array(INT32[0]), np.array(INT32[0])) == INT32[1]


def test_high_multiply_halves():
    b = np.array(1 << 30)  # a / 2: halves round up for positive, towards zero for negative products
    assert doubling_high_multiply(np.array([1, 3, -1, -3]), b).tolist() == [1, 2, 0, -1]


@pytest.mark.parametrize("exponent", [0, 1, 2, 15, 30, 31])
def test_divide_by_pot(exponent):
    x = np.array(CORNERS + [1 << 14, -(1 << 14), (1 << 14) + 1, 6, -6, 10, -10])
    wanted = [c_divide_by_pot(int(value), exponent) for value in x]
    assert rounding_divide_by_pot(x, np.array(exponent)).tolist() == wanted


def test_divide_by_pot_halves_away_from_zero():
    x = np.array([2, -2, 6, -6, 5, -5])
    assert rounding_divide_by_pot(x, np.array(2)).tolist() == [1, -1, 2, -2, 1, -1]


def test_tflm_rounding():
    rng = np.random.default_rng(13)
    shift = np.array([20, 28, 31, 32, 36, 40, 45, 61])
    multiplier = np.array([1 << 30, INT32[1], (1 << 30) + 1, *rng.integers(1 << 30, 1 << 31, 5)])
    offset = rng.integers(-1000, 1000, 8)
    room = (1 << np.minimum(shift, 31)) - 2000
    acc = np.concatenate(
        [rng.integers(-room, room, (200, 8)), room[None], -room[None], -offset[None], 1 - offset[None]]
    )
    zero = np.zeros(8, dtype=np.int64)
    for zero_point, low, high in ((-3, -128, 127), (0, *INT32)):
        got = multiply(acc, multiplier, shift, offset, zero, zero_point, low, high, "tflm")
        for row, wanted_row in zip(got, acc, strict=True):
            parameters = zip(wanted_row.tolist(), multiplier.tolist(), shift.tolist(), offset.tolist(), strict=True)
            assert row.tolist() == [c_requantise(*four, zero_point, low, high) for four in parameters]


def test_double_rounding_differs_from_single():
    half = dict(multiplier=np.array([1 << 30]), shift=np.array([33]), offset=np.array([0]), fraction=np.array([0]))
    acc = np.arange(-40, 40)[:, None]
    once = multiply(acc, *half.values(), 0, -128, 127, "up")
    twice = multiply(acc, *half.values(), 0, -128, 127, "tflm")
    assert (once != twice).any()
    assert np.abs(once - twice).max() == 1


@pytest.mark.parametrize("dtype", [np.int64, np.float64, object])
def test_up_rounding(dtype):
    rng = np.random.default_rng(14)
    acc = rng.integers(-(1 << 20), 1 << 20, (50, 5))
    multiplier, shift = np.array([1, -7, 12345, 0, 1 << 17]), np.array([0, 1, 18, 5, 40])
    offset, fraction = rng.integers(-99, 99, 5), np.array([0, 1, -(1 << 16), 3, 1 << 39])
    got = multiply(acc.astype(dtype), multiplier, shift, offset, fraction, 4, -100, 100)
    for index in np.ndindex(acc.shape):
        m, s, o, f = (int(array[index[1]]) for array in (multiplier, shift, offset, fraction))
        exact = (int(acc[index]) + o) * m + f + ((1 << s) >> 1) >> s
        assert got[index] == min(max(4 + exact, -100), 100)


def test_products_beyond_64_bits():
    one = np.array([1])
    got = multiply(np.array([[1 << 40], [-(1 << 40)]]), one << 40, one * 62, one * 0, one * 0, 0, -(1 << 30), 1 << 30)
    assert got.ravel().tolist() == [1 << 18, -(1 << 18)]


def test_up_rounds_halves_up():
    one = np.array([1])
    got = multiply(np.array([[1], [3], [-1], [-3]]), one, one, one * 0, one * 0, 0, -9, 9)
    assert got.ravel().tolist() == [1, 2, 0, -1]
