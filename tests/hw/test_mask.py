"""Bit mask weights."""

import pytest
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.mask import MaskDot

PATTERNS = ["X0.X", "X0.0XX", "X0.X00X", "XX.X", "XX.0", "X0.XXXX", "X0.X0000X"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("x", ["uint:4", "int:3", "uint:1"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, x, pattern):
    assert wrong(make(MaskDot, lanes, x, f"bitmask:{pattern}"), count=20) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(MaskDot, lanes, "uint:8", "bitmask:X0.0XX")) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(MaskDot, 5, "uint:4", "bitmask:X0.0XX"))


def test_errors():
    with pytest.raises(ValueError, match="MaskDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(MaskDot, 2, "bipolar", "bitmask:X0.0XX")
    with pytest.raises(ValueError, match="MaskDot weights must be bitmask or ternary, not binary"):
        make(MaskDot, 2, "uint:4", "binary")
