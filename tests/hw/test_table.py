"""Weights out of tables."""

import pytest
from dot_checks import LANES, notices_a_flipped_weight, wrong

from lutloom.formats import Format
from lutloom.hw.table import TableDot
from lutloom.weights import WeightFormat

TABLES = {"codebook:4": (-100, -7, 3, 90), "codebook:5": (-128, -3, 0, 5, 127), "codebook:2": (1, 3),
          "codebook:3": (-9, -2, -1)}


def make(lanes, x, w, **others):
    return TableDot(lanes=lanes, x_format=Format.parse(x), w_format=WeightFormat.parse(w, TABLES.get(w, ())), **others)


@pytest.mark.parametrize("w", [*TABLES, "pow2:3", "ternary"])
@pytest.mark.parametrize("x", ["uint:4", "int:3", "bipolar"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, x, w):
    assert wrong(make(lanes, x, w), count=20) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(lanes, "uint:8", "codebook:4")) == []


@pytest.mark.parametrize("others", [{"dsp": True}, {"paired": True}])
def test_within(others):
    assert wrong(make(5, "uint:8", "codebook:4", **others)) == []


@pytest.mark.parametrize("w", ["codebook:4", "pow2:4"])
def test_masked(w):
    assert wrong(make(5, "bipolar", w, masked=True)) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(5, "uint:4", "codebook:4"))


def test_errors():
    with pytest.raises(ValueError, match="TableDot weights must be codebook or pow2 or ternary, not int:4"):
        make(2, "uint:4", "int:4")
