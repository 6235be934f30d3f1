"""The order of weights in a ROM: there and back."""

import numpy as np
import pytest

from lutloom.hw.geometry import Geometry
from lutloom.manifest import words_to_weights
from lutloom.rom import (
    codes_of_depthwise_words,
    depthwise_words,
    pack,
    unpack,
    weight_words,
    weights_of_words,
)

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


@pytest.mark.parametrize("shape,units", [((1, 1, 1, 1), 1), ((6, 3, 2, 1), 2), ((6, 2, 3, 1), 6), ((12, 3, 3, 1), 4)])
def test_depthwise_there_and_back(shape, units):
    codes = np.random.default_rng(1).integers(0, 16, shape).astype(np.uint16)
    laid = depthwise_words(codes, units)
    assert laid.shape == (shape[0] // units * shape[2], units * shape[1])
    assert (codes_of_depthwise_words(laid, units, shape) == codes).all()


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_weights_are_read_by_the_manifest(multiplier):
    codes = np.random.default_rng(1).integers(0, 16, (4 * multiplier, 3, 2, 1)).astype(np.uint16)
    record = {
        "shape": list(codes.shape), "kernel": [3, 2], "groups": 4, "units": 2 * multiplier, "lanes": 2, "code_bits": 4,
        "format": "int:4", "values": [],
    }
    assert (words_to_weights(record, pack(depthwise_words(codes, 2 * multiplier), 4)) == codes).all()


def test_the_order_of_depthwise_words_is_that_of_the_window():
    codes = np.arange(2 * 2 * 2).reshape(2, 2, 2, 1)  # n, ky, kx
    # kernel column 0: of each output both kernel rows side by side
    assert depthwise_words(codes, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert depthwise_words(codes, 1).tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]
