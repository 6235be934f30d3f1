"""Dot products of one beat."""

import numpy as np

from lutloom.golden.dot import dot, matches


def test_dot_and_its_mask():
    values, weights = np.array([[3, -4, 5], [1, 1, 1]], dtype=np.int8), np.array([7, 8, -9])
    assert dot(values, weights).tolist() == [21 - 32 - 45, 6]
    assert dot(values, weights, [True, False, True]).tolist() == [21 - 45, -2]
    assert dot(np.array([255], np.uint8), np.array([-128], np.int8)) == -32640


def test_matches_are_the_dot_of_plus_and_minus_one():
    rng = np.random.default_rng(16)
    codes, weights, valid = (rng.integers(0, 2, (50, 17)) for _ in range(3))
    assert np.array_equal(2 * matches(codes, weights) - 17, dot(2 * codes - 1, 2 * weights - 1))
    masked = 2 * matches(codes, weights, valid) - valid.sum(axis=1)
    assert np.array_equal(masked, dot(2 * codes - 1, 2 * weights - 1, valid))
