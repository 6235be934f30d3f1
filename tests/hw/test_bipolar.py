"""Bipolar activations times weights of several bits."""

import pytest
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.bipolar import BipolarDot


@pytest.mark.parametrize("w", ["int:1", "int:2", "int:8", "bitmask:X0.X", "bitmask:X0.X0XX", "bitmask:XX.0"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, masked, w):
    assert wrong(make(BipolarDot, lanes, "bipolar", w, masked), count=20) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(BipolarDot, lanes, "bipolar", "int:4", lanes % 2 == 0)) == []


@pytest.mark.parametrize("masked", [False, True])
def test_bench_notices(masked):
    assert notices_a_flipped_weight(make(BipolarDot, 5, "bipolar", "int:4", masked))


def test_errors():
    with pytest.raises(ValueError, match="BipolarDot activations must be bipolar of at most 16 bits, not uint:4"):
        make(BipolarDot, 2, "uint:4", "int:4")
    with pytest.raises(ValueError, match="BipolarDot weights must be int or bitmask or ternary, not binary"):
        make(BipolarDot, 2, "bipolar", "binary")
