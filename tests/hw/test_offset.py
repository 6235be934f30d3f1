"""A constant per channel."""

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned
from bench import check_beats

from lutloom.hw.offset import Offset


def make(shape, lanes=3, beats=4, **options):
    values = np.random.default_rng(1).integers(-50, 40, (beats, lanes))
    return Offset(name="o", acc_shape=shape, lanes=lanes, values=values, **options)


@pytest.mark.parametrize("shape", [unsigned(6), signed(6)], ids=str)
@pytest.mark.parametrize("lanes,beats", [(1, 1), (2, 2), (3, 4)])
@pytest.mark.parametrize("options", [{}, {"latency": 2, "value_shape": signed(12)}, {"place": "lut"}], ids=str)
def test_against_model(shape, lanes, beats, options):
    unit = make(shape, lanes, beats, **options)
    rng = np.random.default_rng(2)
    acc = rng.integers(-32, 32, (60, lanes)) if shape.signed else rng.integers(0, 64, (60, lanes))
    assert check_beats(unit, acc, rng.integers(0, beats, 60), 0.3) == []


def test_bench_notices():
    unit = make(unsigned(6))
    unit._values = unit._values.copy()
    unit._values[2, 1] += 1
    assert check_beats(unit, np.zeros((8, 3), int), [0, 1, 2, 3] * 2) != []


def test_errors():
    with pytest.raises(ValueError, match=r"offset values must be of shape \(beats, 2\), not \(1, 1\)"):
        Offset(name="o", acc_shape=signed(4), lanes=2, values=[[1]])
    with pytest.raises(ValueError, match=r"offset values 9 to 9 must fit signed\(4\); take it wider"):
        Offset(name="o", acc_shape=signed(4), lanes=1, values=[[9]], value_shape=signed(4))
    with pytest.raises(ValueError, match="lanes must be a positive integer, not 0"):
        Offset(name="o", acc_shape=signed(4), lanes=0, values=[[9]])
