"""Convolution and dense layers against their formula, tap by tap."""

import numpy as np
import pytest

from lutloom.golden.conv import conv, dense

CASES = [
    # height, width, channels, outputs, kernel, stride, dilation, pads, groups
    (1, 1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1),
    (5, 7, 1, 3, (5, 5), (1, 1), (1, 1), (0, 0, 0, 0), 1),
    (6, 5, 3, 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1),
    (7, 8, 2, 5, (3, 2), (2, 3), (1, 1), (0, 1, 2, 0), 1),
    (9, 9, 2, 2, (3, 3), (1, 2), (2, 3), (2, 3, 1, 3), 1),
    (5, 4, 6, 6, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 6),
    (5, 4, 3, 6, (3, 1), (2, 1), (1, 1), (1, 0, 0, 0), 3),
    (5, 4, 6, 4, (2, 2), (1, 1), (1, 1), (0, 0, 0, 0), 2),
    (3, 3, 4, 2, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0), 1),
]


def by_formula(values, weights, stride, dilation, pads, groups, pad_value):
    """The docstring's sum in Python's integers."""
    batch, height, width, channels = values.shape
    outputs, kh, kw, depth = weights.shape
    out_height = (height + pads[0] + pads[2] - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    out_width = (width + pads[1] + pads[3] - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    acc = np.zeros((batch, out_height, out_width, outputs), dtype=object)
    for b, y, x, n in np.ndindex(acc.shape):
        for ky, kx, c in np.ndindex(kh, kw, depth):
            row, column = y * stride[0] + ky * dilation[0] - pads[0], x * stride[1] + kx * dilation[1] - pads[1]
            inside = 0 <= row < height and 0 <= column < width
            source = n // (outputs // groups) * depth + c
            value = int(values[b, row, column, source]) if inside else pad_value
            acc[b, y, x, n] += int(weights[n, ky, kx, c]) * value
    return acc


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reach", [3, 1 << 14, 1 << 30, 1 << 61])
def test_conv(case, reach):
    height, width, channels, outputs, kernel, stride, dilation, pads, groups = case
    rng = np.random.default_rng(7)
    values = rng.integers(-200, 256, (2, height, width, channels))
    weights = rng.integers(-reach, reach + 1, (outputs, *kernel, channels // groups))
    got = conv(values, weights, stride=stride, dilation=dilation, pads=pads, groups=groups, pad_value=-7)
    assert np.array_equal(got.astype(object), by_formula(values, weights, stride, dilation, pads, groups, -7))


def test_conv_type_is_the_cheapest_that_is_exact():
    values = np.full((1, 2, 2, 1), 255)
    small, large = np.full((1, 2, 2, 1), 127), np.full((1, 2, 2, 1), 1 << 15)
    assert conv(values, small).dtype == np.float32
    assert conv(values, large).dtype == np.float64
    assert conv(values, small, pads=(1, 0, 0, 0), pad_value=1 << 20).dtype == np.float64


def test_dense_is_a_conv_of_one_pixel():
    rng = np.random.default_rng(8)
    values, weights = rng.integers(0, 256, (5, 33)), rng.integers(-128, 128, (7, 33))
    assert np.array_equal(dense(values, weights), conv(values[:, None, None], weights[:, None, None])[:, 0, 0])
