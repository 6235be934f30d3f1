"""The order of weights in a ROM: there and back."""

import numpy as np
import pytest

from lutloom.hw.geometry import Geometry
from lutloom.rom import pack, unpack, weight_words, weights_of_words

CASES = [
    # shape, groups, width, units
    ((1, 1, 1, 1), 1, 1, 1),
    ((6, 3, 3, 4), 1, 2, 3),
    ((6, 3, 2, 5), 1, 2, 4),
    ((6, 2, 3, 2), 3, 1, 2),
    ((10, 1, 1, 17), 1, 5, 5),
]


@pytest.mark.parametrize("shape,groups,width,units", CASES)
def test_there_and_back(shape, groups, width, units):
    outputs, kh, kw, channels = shape
    codes = np.random.default_rng(1).integers(0, 16, shape).astype(np.uint16)
    words = -(-channels // width)
    geometry = Geometry(kh, kw, groups * words, (kh, kw), blocks=groups, reps=-(-(outputs // groups) // units))
    laid = weight_words(codes, geometry, width, units, fill=9)
    assert laid.shape == (groups * geometry.reps * kw * words, units * kh * width)
    assert (weights_of_words(laid, geometry, width, units, shape) == codes).all()
    packed = pack(laid, 4)
    assert (unpack(packed, 4, laid.shape[1]) == laid).all()
    if channels % width:
        assert (laid == 9).any()


def test_the_first_code_lies_lowest_and_negative_codes_wrap():
    assert pack(np.array([[1, 2, -1]]), 4) == [0xF21]
    assert unpack([0xF21], 4, 3).tolist() == [[1, 2, 15]]


def test_the_order_is_that_of_the_window():
    codes = np.arange(2 * 2 * 2 * 2).reshape(2, 2, 2, 2)  # n, ky, kx, c
    geometry = Geometry(2, 2, 2, (2, 2), reps=2)
    laid = weight_words(codes, geometry, 1, 1, 0)
    # output 0: kernel column 0, word 0: both kernel rows side by side
    assert laid.tolist()[:4] == [[0, 4], [1, 5], [2, 6], [3, 7]]
