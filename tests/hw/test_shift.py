"""Powers of two as weights."""

import pytest
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.shift import ShiftDot


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("x", ["uint:4", "int:3", "uint:1", "int:8"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, x, bits):
    assert wrong(make(ShiftDot, lanes, x, f"pow2:{bits}"), count=30) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(ShiftDot, lanes, "uint:8", "pow2:4")) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(ShiftDot, 5, "uint:4", "pow2:3"))


def test_errors():
    with pytest.raises(ValueError, match="ShiftDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(ShiftDot, 2, "bipolar", "pow2:3")
