"""IEEE halves as weights."""

import numpy as np
import pytest
from bench import check_dot, dot_vectors
from dot_checks import LANES

from lutloom.formats import Format
from lutloom.hw.half import HalfDot
from lutloom.weights import WeightFormat


def make(lanes, x, span, **others):
    return HalfDot(lanes=lanes, x_format=Format.parse(x), w_format=WeightFormat.parse("float16", span), **others)


def vectors(unit, count=30):
    """Codes of which every weight has an exponent of the span; corners first."""
    x, w = dot_vectors(unit, 0, count)
    least, greatest = unit.w_format.values
    chance = np.random.default_rng(3)
    exponents = chance.integers(least - (least == 1), greatest + 1, w.shape)  # exponent 0 has the places of 1
    exponents[:2] = [[least], [greatest]]
    fractions = chance.integers(0, 1024, w.shape)
    fractions[:3] = [[0], [1023], [1023]]
    return x, (chance.integers(0, 2, w.shape) << 15 | exponents << 10 | fractions).astype(np.uint16)


@pytest.mark.parametrize("span", [(1, 30), (1, 1), (5, 5), (3, 9), (12, 15)])
@pytest.mark.parametrize("x", ["uint:4", "int:3", "uint:1"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_formats(lanes, x, span):
    unit = make(lanes, x, span)
    assert check_dot(unit, *vectors(unit), None) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    unit = make(lanes, "uint:8", (4, 14))
    assert check_dot(unit, *vectors(unit), None) == []


@pytest.mark.parametrize("others", [{"dsp": True}, {"paired": True}])
def test_products(others):
    unit = make(3, "int:8", (1, 15), **others)
    assert check_dot(unit, *vectors(unit), None) == []


def test_halves_are_exact():
    unit = make(1, "uint:1", (1, 30))
    real = np.array([1.0, -0.5, 65504, 6e-8, -6.1e-5, 0.333], np.float16)
    assert np.array_equal(unit.w_format.decode(real.view(np.uint16)), real.astype(np.float64) * 2.0**24)


def test_bench_notices():
    unit = make(3, "uint:4", (4, 14))
    x, w = vectors(unit)
    model, flipped = unit.model, w.copy()
    flipped[:, 1] ^= 1
    unit.model = lambda x, w, valid=None: model(x, flipped, valid)
    assert check_dot(unit, x, w, None)


def test_errors():
    with pytest.raises(ValueError, match="HalfDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(2, "bipolar", (1, 30))
