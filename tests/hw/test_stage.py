"""A stage around pooling: every geometry of the window, against numpy and beat by beat against the schedule."""

import random

import numpy as np
import pytest
from amaranth.hdl import signed, unsigned
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.formats import Format
from lutloom.hw.geometry import Geometry
from lutloom.hw.pool import Pool
from lutloom.hw.stage import Stage
from lutloom.hw.window import Window
from lutloom.rom import pack


def pool_stage(kind, height, width, channels, kernel, stride, pads, word, out_width, latency, credits, bits=4):
    """A pooling stage and its numpy model."""
    format = Format("uint", bits)
    geometry = Geometry(height, width, -(-channels // word), kernel, stride, (1, 1), pads, blocks=-(-channels // word))
    shape = unsigned(bits) if kind == "max" else signed(bits + 8)
    stage = Stage(
        name="pool",
        window=Window(name="pool", geometry=geometry, bits=bits, lanes=word, pad_code=0, latency=latency, lead=latency),
        work=Pool(kind=kind, rows=kernel[0], units=word, x_format=format, acc_shape=shape),
        weights=None, shape=shape, units=word, out_width=out_width, channels=channels, requantise=None,
        out_bits=shape.width, credits=credits, masked=False,
    )

    def model(x):
        padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
        views = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))[:, :: stride[0], :: stride[1]]
        return views.max((4, 5)) if kind == "max" else views.sum((4, 5))

    return stage, model


def beats_of(x, width, bits):
    """A batch as beats."""
    channels = x.shape[-1]
    padded = np.zeros((*x.shape[:-1], -(-channels // width) * width), int)
    padded[..., :channels] = x
    return pack(padded.reshape(-1, width), bits)


CASES = [
    # height, width, channels, kernel, stride, pads, word, out width, latency
    (1, 1, 1, (1, 1), (1, 1), (0, 0, 0, 0), 1, 1, 1),
    (4, 4, 1, (2, 2), (2, 2), (0, 0, 0, 0), 1, 1, 1),
    (5, 7, 3, (2, 2), (2, 2), (0, 0, 0, 0), 1, 1, 2),
    (6, 5, 4, (3, 3), (1, 1), (1, 1, 1, 1), 2, 1, 1),
    (7, 6, 4, (3, 3), (2, 2), (0, 0, 1, 1), 4, 2, 2),
    (5, 5, 2, (5, 5), (1, 1), (2, 2, 2, 2), 2, 2, 1),
    (1, 9, 3, (1, 3), (1, 2), (0, 1, 0, 1), 3, 3, 1),
    (9, 1, 2, (3, 1), (2, 1), (1, 0, 0, 0), 1, 1, 2),
    (6, 6, 1, (1, 1), (3, 2), (0, 0, 0, 0), 1, 1, 1),
    (8, 8, 5, (2, 3), (3, 4), (1, 0, 0, 2), 2, 2, 1),
    (3, 3, 2, (3, 3), (3, 3), (0, 0, 0, 0), 2, 1, 1),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("kind", ["max", "sum"])
def test_pooling(case, rates, kind):
    height, width, channels, kernel, stride, pads, word, out_width, latency = case
    seed = random.Random(str(case)).randrange(1000)
    stage, model = pool_stage(kind, height, width, channels, kernel, stride, pads, word, out_width, latency, 3 * word)
    x = np.random.default_rng(seed).integers(0, 16, (3, height, width, channels))
    expected = beats_of(model(x), out_width, stage._out_bits)
    beats = beats_of(x, word, 4)
    outputs, came, left = drive(stage, beats, len(expected), in_rate=rates[0], out_rate=rates[1], seed=seed)
    assert outputs == expected
    if rates == (1.0, 1.0):
        links = run(in_a_row([stage.schedule]), len(beats) // 3, len(expected) // 3, 3)
        assert links[1] == left
        assert links[0][: len(came)] == came


def test_a_stage_needs_credits_for_a_group():
    with pytest.raises(ValueError, match="credits must be at least a group's 2, not 1"):
        pool_stage("max", 4, 4, 2, (2, 2), (2, 2), (0, 0, 0, 0), 2, 1, 1, 1)


def test_the_kernel_must_fit():
    with pytest.raises(ValueError, match="must fit the padded 2x2 map"):
        Geometry(2, 2, 1, (3, 3))
