"""XNOR and popcount."""

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned
from amaranth.sim import Simulator
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.formats import Format
from lutloom.hw.xnor import XnorDot, count_ones
from lutloom.weights import WeightFormat


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lanes", [*LANES, 31, 32, 63, 64, 65])
def test_against_model(lanes, masked):
    assert wrong(make(XnorDot, lanes, "bipolar", "binary", masked)) == []


@pytest.mark.parametrize("masked", [False, True])
def test_bench_notices(masked):
    assert notices_a_flipped_weight(make(XnorDot, 9, "bipolar", "binary", masked))


def test_results():
    assert make(XnorDot, 63, "bipolar", "binary").acc_shape == unsigned(6)
    assert make(XnorDot, 64, "bipolar", "binary").acc_shape == unsigned(7)
    assert make(XnorDot, 8, "bipolar", "binary", True).acc_shape == signed(5)
    assert make(XnorDot, 64, "bipolar", "binary").delay == 5


@pytest.mark.parametrize("count", range(1, 8))
def test_count_ones(count):
    from amaranth.hdl import Module, Signal

    m, bits, ones = Module(), Signal(count), Signal(4)
    m.d.comb += ones.eq(count_ones(list(bits)))

    async def bench(ctx):
        for code in range(1 << count):
            ctx.set(bits, code)
            assert ctx.get(ones) == code.bit_count()

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_errors():
    binary, bipolar = WeightFormat.parse("binary"), Format("bipolar", 1)
    with pytest.raises(ValueError, match="lanes must be a positive integer, not 0"):
        XnorDot(lanes=0, x_format=bipolar, w_format=binary)
    with pytest.raises(ValueError, match="XnorDot activations must be bipolar of at most 16 bits, not uint:1"):
        XnorDot(lanes=1, x_format=Format("uint", 1), w_format=binary)
    with pytest.raises(ValueError, match="XnorDot weights must be binary, not int:1"):
        XnorDot(lanes=1, x_format=bipolar, w_format=WeightFormat.parse("int:1"))


def test_model():
    unit = make(XnorDot, 4, "bipolar", "binary")
    x, w = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])
    assert unit.model(x, w) == 2
    assert make(XnorDot, 4, "bipolar", "binary", True).model(x, w, [True, True, True, False]) == 1
