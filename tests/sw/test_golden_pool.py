"""Pooling against its formula, window by window."""

import numpy as np
import pytest

from lutloom.golden.pool import max_pool, sum_pool

CASES = [
    # height, width, channels, kernel, stride, pads
    (1, 1, 1, (1, 1), (1, 1), (0, 0, 0, 0)),
    (4, 4, 3, (2, 2), (2, 2), (0, 0, 0, 0)),
    (5, 7, 2, (3, 3), (2, 2), (0, 0, 1, 1)),
    (5, 6, 1, (3, 2), (1, 3), (1, 1, 2, 0)),
    (3, 5, 4, (3, 5), (1, 1), (0, 0, 0, 0)),
]


def by_window(codes, kernel, stride, pads, reduce):
    """reduce(list of codes inside, number of padded taps) of each window."""
    batch, height, width, channels = codes.shape
    rows = (height + pads[0] + pads[2] - kernel[0]) // stride[0] + 1
    columns = (width + pads[1] + pads[3] - kernel[1]) // stride[1] + 1
    out = np.zeros((batch, rows, columns, channels), dtype=np.int64)
    for b, y, x, c in np.ndindex(out.shape):
        top, left = y * stride[0] - pads[0], x * stride[1] - pads[1]
        taps = [(top + ky, left + kx) for ky in range(kernel[0]) for kx in range(kernel[1])]
        inside = [int(codes[b, r, s, c]) for r, s in taps if 0 <= r < height and 0 <= s < width]
        out[b, y, x, c] = reduce(inside, len(taps) - len(inside))
    return out


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float32])
def test_max_pool(case, dtype):
    height, width, channels, kernel, stride, pads = case
    low = 0 if dtype == np.uint8 else -128
    codes = np.random.default_rng(9).integers(low, 127, (2, height, width, channels)).astype(dtype)
    got = max_pool(codes, kernel, stride, pads)
    assert got.dtype == dtype
    assert np.array_equal(got, by_window(codes, kernel, stride, pads, lambda inside, _: max(inside)))


def test_max_pool_of_negative_codes_ignores_padding():
    assert max_pool(np.full((1, 1, 1, 1), -5, dtype=np.int8), (2, 2), (1, 1), (1, 1, 0, 0)).tolist() == [[[[-5]]]]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_sum_pool(case, dtype):
    height, width, channels, kernel, stride, pads = case
    rng = np.random.default_rng(10)
    values = rng.integers(-128, 128, (2, height, width, channels))
    wanted = by_window(values, kernel, stride, pads, lambda inside, padded: sum(inside) - 3 * padded)
    factors = rng.integers(1, 10, wanted.shape[1:3])
    got = sum_pool(values, kernel, stride, pads, factors, -3, dtype)
    assert got.dtype == dtype and np.array_equal(got, wanted * factors[:, :, None])
