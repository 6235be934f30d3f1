"""Width adapters and the FIFO: what goes in comes out, when the schedule says."""

import numpy as np
import pytest
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.hw.adapter import Gather, Scatter
from lutloom.hw.fifo import ShiftFifo
from lutloom.rom import pack


def pixels(channels, width, count, seed=1):
    """Beats of pixels with ``channels`` 4-bit values, ``width`` a beat."""
    values = np.random.default_rng(seed).integers(0, 16, (count, channels))
    padded = np.zeros((count, -(-channels // width) * width), int)
    padded[:, :channels] = values
    return pack(padded.reshape(-1, width), 4)


CASES = [(1, 1, 2), (3, 1, 2), (4, 1, 4), (5, 2, 2), (7, 1, 3), (8, 2, 4), (9, 2, 3)]


@pytest.mark.parametrize("channels,width,ratio", CASES)
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.4, 1.0), (1.0, 0.4), (0.6, 0.6)])
@pytest.mark.parametrize("kind", [Gather, Scatter])
def test_values_and_schedule(kind, channels, width, ratio, rates):
    count = 9
    narrow, wide = pixels(channels, width, count), pixels(channels, width * ratio, count)
    unit = kind(bits=4, width=width, ratio=ratio, pixel_beats=-(-channels // width))
    beats, expected = (narrow, wide) if kind is Gather else (wide, narrow)
    outputs, came, left = drive(unit, beats, len(expected), in_rate=rates[0], out_rate=rates[1], seed=3)
    assert outputs == expected
    if rates == (1.0, 1.0):
        links = run(in_a_row([unit.schedule]), len(beats), len(expected), 1)
        assert (links[0], links[1]) == (came, left)


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.7, 0.7)])
def test_fifo(depth, rates):
    beats = pixels(8, 2, 20)
    outputs, came, left = drive(
        ShiftFifo(bits=4, width=2, depth=depth), beats, len(beats), in_rate=rates[0], out_rate=rates[1], seed=depth
    )
    assert outputs == beats
    assert all(0 < b - a for a, b in zip(came, left, strict=True))
    if rates == (1.0, 1.0) and depth > 1:
        assert left == [cycle + 1 for cycle in range(len(beats))]


@pytest.mark.parametrize("kind", [Gather, Scatter])
def test_ratio_is_checked(kind):
    with pytest.raises(ValueError, match="ratio must be at least 2, not 1"):
        kind(bits=4, width=1, ratio=1, pixel_beats=4)


def test_fifo_depth_is_checked():
    with pytest.raises(ValueError, match="FIFO depth must be at least 1, not 0"):
        ShiftFifo(bits=4, width=1, depth=0)
