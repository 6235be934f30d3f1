"""Thresholds against their formula."""

import numpy as np
import pytest

from lutloom.golden import thresholds as module
from lutloom.golden.thresholds import look_up, threshold_table, thresholds


def by_formula(acc, values, falling, base):
    """The docstring's sum."""
    reached = acc[..., None] >= values
    return base + np.where(falling[:, None], ~reached, reached).sum(axis=-1)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 15, 24, 25, 31, 255, 300])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (7, 6), (6,)])
@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64, object])
def test_thresholds(steps, shape, dtype):
    rng = np.random.default_rng(11)
    acc = rng.integers(-500, 501, shape)
    values = np.sort(rng.integers(-500, 502, (6, steps)), axis=1)
    values[0], values[1] = -500, 501  # always, never
    falling = np.array([False, False, True, False, True, False])
    for base, turned in ((0, falling), (-8, falling), (0, np.zeros(6, bool))):
        got = thresholds(acc.astype(dtype), values, turned, base)
        assert got.dtype.kind in "ui"
        assert np.array_equal(got.astype(np.int64), by_formula(acc, values, turned, base))


@pytest.mark.parametrize("steps", [8, 25, 255])
def test_tables_are_the_thresholds(steps):
    rng = np.random.default_rng(12)
    low, high = -37, 400
    values = np.sort(rng.integers(low, high + 2, (5, steps)), axis=1)
    falling = np.array([True, False, False, True, False])
    table = threshold_table(values, falling, -4, low, high)
    acc = rng.integers(low, high + 1, (30, 5))
    acc[0], acc[1] = low, high
    for held in (acc, acc.astype(np.float32)):
        assert np.array_equal(look_up(held, table, low, high), by_formula(acc, values, falling, -4))


def test_no_table_where_it_would_be_large_or_slower():
    falling = np.zeros(2, bool)
    assert threshold_table(np.zeros((2, 7), np.int64), falling, 0, 0, 10) is None
    assert threshold_table(np.zeros((2, 15), np.int64), falling, 0, 0, module.SMALL_TABLE // 2) is None
    assert threshold_table(np.zeros((2, 255), np.int64), falling, 0, 0, module.LARGE_TABLE // 2) is None


@pytest.mark.parametrize("dtype, most", [(np.float32, 1 << 24), (np.float64, 1 << 53)])
def test_thresholds_beyond_what_a_floating_type_holds(dtype, most):
    values = np.array([[-(1 << 62), 1 - most, most - 1, 1 << 62]])
    acc = np.array([[1 - most], [2 - most], [most - 2], [most - 1]])
    got = thresholds(acc.astype(dtype), values, np.zeros(1, bool), 0)
    assert got.ravel().tolist() == [2, 2, 2, 3]


def test_a_threshold_off_by_one_shows():
    acc = np.arange(-3, 4)[:, None]
    right = thresholds(acc, np.array([[0]]), np.zeros(1, bool), 0)
    wrong = thresholds(acc, np.array([[1]]), np.zeros(1, bool), 0)
    assert (right != wrong).sum() == 1


def test_output_types_hold_the_codes():
    acc, none = np.zeros((1, 1)), np.zeros(1, bool)
    assert thresholds(acc, np.zeros((1, 255), np.int64), none, 0).dtype == np.uint8
    assert thresholds(acc, np.zeros((1, 256), np.int64), none, 0).dtype == np.uint16
    assert thresholds(acc, np.zeros((1, 255), np.int64), none, -128)[0, 0] == 127
