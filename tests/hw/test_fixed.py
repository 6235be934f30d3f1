"""Two's complement weights in LUTs."""

import pytest
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.fixed import FixedDot


@pytest.mark.parametrize("w", ["int:1", "int:2", "int:3", "int:4", "int:8"])
@pytest.mark.parametrize("x", ["uint:1", "uint:4", "int:1", "int:3"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, x, w):
    assert wrong(make(FixedDot, lanes, x, w), count=20) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(FixedDot, lanes, "uint:4", "int:4")) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(FixedDot, 5, "uint:4", "int:4"))


def test_errors():
    with pytest.raises(ValueError, match="FixedDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(FixedDot, 2, "bipolar", "int:4")
    with pytest.raises(ValueError, match="FixedDot weights must be int, not bitmask:X0.0XX"):
        make(FixedDot, 2, "uint:4", "bitmask:X0.0XX")
