"""Indices of the greatest values: order, equal values, offcuts, and every beat where the schedule says."""

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import signed, unsigned
from bench import packed
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.hw.topk import TopK
from lutloom.hw.tree import range_of
from lutloom.toolchain.tools import yosys_for_amaranth

# count, width, k
CASES = [(1, 1, 1), (2, 1, 1), (10, 1, 1), (10, 4, 1), (7, 3, 1), (9, 8, 1), (5, 8, 1), (10, 1, 3), (8, 1, 8)]


def frames_of(shape, count, frames=12):
    """Frames of few different values, so that many are equal, the least and the greatest among them."""
    low, high = range_of(shape)
    rng = np.random.default_rng(count)
    values = rng.choice([low, low + 1, high, (low + high) // 2], (frames, count))
    values[0], values[1] = low, high
    values[2:4] = rng.integers(low, high + 1, (2, count))
    return values


def beats_of(values, bits, width):
    """Input beats; what is beyond the last value is junk that must not win."""
    spare = -values.shape[1] % width
    junk = np.full((len(values), spare), (1 << (bits - 1)) - 1)
    return packed(np.concatenate([values, junk], axis=1).reshape(-1, width), bits)


@pytest.mark.parametrize("count,width,k", CASES)
@pytest.mark.parametrize("shape", [unsigned(3), signed(5)], ids=str)
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.4, 1.0), (1.0, 0.4), (0.6, 0.6)])
def test_results(count, width, k, shape, rates):
    unit, values = TopK(shape=shape, count=count, width=width, k=k), frames_of(shape, count)
    expected = unit.model(values).ravel().tolist()
    beats = beats_of(values, shape.width, width)
    got, taken, given = drive(unit, beats, len(expected), in_rate=rates[0], out_rate=rates[1], seed=3)
    assert got == expected
    if rates == (1.0, 1.0):
        predicted = run(in_a_row([unit.schedule]), unit.beats, k, len(values))
        assert [taken, given] == [list(cycles) for cycles in predicted[:2]]


def test_bench_notices():
    unit, values = TopK(shape=unsigned(3), count=4), np.array([[1, 5, 5, 2]])
    assert drive(unit, beats_of(values, 3, 1), 1)[0] == [1]
    swapped = TopK(shape=unsigned(3), count=4)
    assert drive(swapped, beats_of(values[:, [0, 3, 2, 1]], 3, 1), 1)[0] != [1]


def test_verilog():
    with yosys_for_amaranth():
        text = verilog.convert(TopK(shape=signed(8), count=10, width=2), name="lutloom_topk", emit_src=False)
    assert "module lutloom_topk(" in text


def test_errors():
    with pytest.raises(ValueError, match="k must be at most the 4 values of a frame, not 5"):
        TopK(shape=unsigned(3), count=4, k=5)
    with pytest.raises(ValueError, match="width must be 1 for the 2 greatest values, not 2; put a scatter in front"):
        TopK(shape=unsigned(3), count=4, width=2, k=2)
    with pytest.raises(ValueError, match="count must be a positive integer, not 0"):
        TopK(shape=unsigned(3), count=0)
    with pytest.raises(ValueError, match="a number must have at least one bit"):
        TopK(shape=unsigned(0), count=2)
