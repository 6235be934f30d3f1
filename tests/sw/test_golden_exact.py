"""The proof of which type computes exactly."""

import numpy as np
import pytest

from lutloom.golden.conv import dense
from lutloom.golden.exact import exact_dtype, magnitude, sum_bound


@pytest.mark.parametrize(
    "bound, dtype",
    [
        (0, np.float32),
        ((1 << 24) - 1, np.float32),
        (1 << 24, np.float64),
        ((1 << 53) - 1, np.float64),
        (1 << 53, np.int64),
        ((1 << 63) - 1, np.int64),
        (1 << 63, object),
    ],
)
def test_types_at_their_limits(bound, dtype):
    assert exact_dtype(bound) == np.dtype(dtype)


def test_magnitude_of_extremes():
    assert magnitude(np.array([-(1 << 63), 5])) == 1 << 63
    assert magnitude(np.array([-3, 7], dtype=np.int8)) == 7
    assert magnitude(np.array([], dtype=np.int64)) == 0


def test_sum_bound_is_exact_beyond_64_bits():
    weights = np.array([[1 << 62, -(1 << 62), 1 << 62], [1, 2, 3]])
    assert sum_bound(weights, 10) == 30 << 62
    assert sum_bound(np.array([[1, -2], [4, 0]]), 255) == 4 * 255


@pytest.mark.parametrize("scale, wrong", [(1 << 20, np.float32), (1 << 49, np.float64)])
def test_sums_that_the_next_smaller_type_gets_wrong(scale, wrong):
    weights = np.array([[scale, 1, -scale], [scale, -1, -scale]], dtype=np.int64)
    values = np.array([[31, 1, 31], [17, 3, 17], [31, 31, 31]])
    exact = np.array([[1, -1], [3, -3], [31, -31]])
    assert exact_dtype(sum_bound(weights, 31)) != np.dtype(wrong)
    assert np.array_equal(dense(values, weights).astype(np.int64), exact)
    assert not np.array_equal(dense(values, weights, dtype=wrong).astype(np.int64), exact)


def test_sums_that_need_pythons_integers():
    weights = np.array([[1 << 62, 1 << 62, -(1 << 62), -(1 << 62), 1]])
    assert dense(np.array([[4, 4, 4, 4, 4]]), weights).tolist() == [[4]]
    assert dense(np.array([[1, 1, 0, 0, 0]]), weights).tolist() == [[1 << 63]]
