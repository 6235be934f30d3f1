"""Wide products, in LUTs and in pieces."""

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned
from bench import differences, play

from lutloom.hw.product import Product
from lutloom.hw.tree import range_of

SHAPES = [
    (unsigned(1), unsigned(1)), (signed(1), signed(3)), (signed(5), signed(5)), (unsigned(4), signed(9)),
    (signed(16), unsigned(16)), (signed(17), unsigned(15)), (signed(20), unsigned(18)), (signed(33), signed(17)),
]


@pytest.mark.parametrize("dsp", [False, True])
@pytest.mark.parametrize("a_shape,b_shape", SHAPES, ids=str)
def test_against_model(a_shape, b_shape, dsp):
    rng = np.random.default_rng(1)
    (a_low, a_high), (b_low, b_high) = range_of(a_shape), range_of(b_shape)
    a = np.concatenate([[a_low, a_low, a_high, a_high], rng.integers(a_low, a_high + 1, 60)])
    b = np.concatenate([[b_low, b_high, b_low, b_high], rng.integers(b_low, b_high + 1, 60)])
    unit = Product(a_shape=a_shape, b_shape=b_shape, dsp=dsp)
    drive = {
        name: [number & ((1 << shape.width) - 1) for number in numbers.tolist()] + [0] * (unit.delay + 1)
        for name, numbers, shape in (("i_a", a, a_shape), ("i_b", b, b_shape))
    }
    got = play(unit, drive, ["o"])["o"]
    assert differences(got, unit.model(a, b).tolist(), unit.delay) == []


def test_errors():
    with pytest.raises(ValueError, match="a number must have at least one bit"):
        Product(a_shape=unsigned(0), b_shape=signed(3))
