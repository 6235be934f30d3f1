"""Pooling of whole feature maps: against numpy, and beat by beat against the schedule."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import signed
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.formats import Format
from lutloom.hw.multiply_steps import SteppedMultiply
from lutloom.hw.whole_pool import WholePool, in_registers
from lutloom.rom import pack

# pixels, channels, width, latency, credits
CASES = [(2, 1, 1, 1, 1), (9, 3, 2, 1, 3), (4, 7, 1, 2, 2), (5, 40, 1, 2, 4), (6, 33, 1, 1, 9), (3, 64, 2, 2, 5)]


def pool(kind, case, requantise=None, form="int:4"):
    pixels, channels, width, latency, credits = case
    return WholePool(
        name="pool", kind=kind, pixels=pixels, x_format=Format.parse(form), shape=signed(9), width=width,
        channels=channels, requantise=requantise, out_bits=9, credits=credits, latency=latency,
    )


def beats(x, width, bits):
    """A batch (frames, pixels, channels) as beats."""
    padded = np.zeros((*x.shape[:2], -(-x.shape[2] // width) * width), int)
    padded[..., : x.shape[2]] = x
    return pack(padded.reshape(-1, width), bits)


def check(stage, x, expected, width, out_bits, rates):
    given = beats(x, width, 4)
    wanted = beats(expected[:, None], width, out_bits)
    outputs, came, left = drive(stage, given, len(wanted), in_rate=rates[0], out_rate=rates[1], seed=len(given))
    assert outputs == wanted
    if rates == (1.0, 1.0):
        links = run(in_a_row([stage.schedule]), len(given) // len(x), len(wanted) // len(x), len(x))
        assert links[1] == left and links[0][: len(came)] == came


@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.5, 1.0), (1.0, 0.4)])
@pytest.mark.parametrize("kind", ["max", "sum"])
@pytest.mark.parametrize("case", CASES)
def test_pooling(case, kind, rates):
    pixels, channels, width, *_ = case
    x = np.random.default_rng(pixels).integers(-8, 8, (3, pixels, channels))
    check(pool(kind, case), x, x.max(1) if kind == "max" else x.sum(1), width, 9, rates)


@pytest.mark.parametrize("rates", [(1.0, 1.0), (0.7, 0.3)])
@pytest.mark.parametrize("case", [(4, 3, 1, 1, 4), (3, 40, 2, 2, 6)])
def test_with_a_requantiser_of_several_steps(case, rates):
    pixels, channels, width, latency, _ = case
    words = -(-channels // width)
    size = words, width
    rng = np.random.default_rng(1)
    multiply = SteppedMultiply(
        name="q", acc_shape=signed(9), lanes=width, multiplier=rng.integers(1 << 30, 1 << 31, size),
        shift=np.full(size, 33), offset=np.zeros(size, int), fraction=np.zeros(size, int), zero_point=1, low=-128,
        high=127, out_format=Format("int", 8), rounding="tflm", latency=latency, steps=5,
    )
    x = rng.integers(-8, 8, (3, pixels, channels))
    sums = np.zeros((3, words * width), int)
    sums[:, :channels] = x.sum(1)
    expected = np.stack([[multiply.model(row[k * width : (k + 1) * width], k) for k in range(words)] for row in sums])
    check(pool("sum", case, multiply), x, expected.reshape(3, -1)[:, :channels] & 0xFF, width, 9, rates)


@pytest.mark.parametrize("case", [CASES[1], CASES[3]])
def test_bench_notices_one_value(case):
    pixels, channels, width, *_ = case
    x = np.random.default_rng(pixels).integers(-8, 7, (3, pixels, channels))
    wrong = x.copy()
    wrong[1, -1, 0] += 1
    with pytest.raises(AssertionError):
        check(pool("sum", case), x, wrong.sum(1), width, 9, (1.0, 1.0))


def test_bench_notices_a_wrong_schedule():
    stage = pool("sum", CASES[3])
    wrong = replace(stage.schedule, delay=stage.schedule.delay + 1)
    x = np.random.default_rng(1).integers(-8, 8, (2, 5, 40))
    _, _, left = drive(stage, beats(x, 1, 4), 80)
    assert run(in_a_row([stage.schedule]), 200, 40, 2)[1] == left != run(in_a_row([wrong]), 200, 40, 2)[1]


def test_both_kinds_of_memory_are_tried():
    kinds = {in_registers(-(-channels // width), 9 * width, latency) for _, channels, width, latency, _ in CASES}
    assert kinds == {False, True}


def test_bipolar_values_are_summed():
    x = np.random.default_rng(2).integers(0, 2, (2, 5, 3))
    stage = pool("sum", (5, 3, 1, 1, 2), form="bipolar")
    outputs, _, _ = drive(stage, beats(x, 1, 1), 6)
    assert outputs == (((2 * x - 1).sum(1)) & 0x1FF).ravel().tolist()


def test_errors():
    with pytest.raises(ValueError, match="pool kind must be max or sum, not 'mean'"):
        pool("mean", CASES[0])
    with pytest.raises(ValueError, match="whole pool pixels must be at least 2, not 1"):
        pool("sum", (1, 3, 1, 1, 2))
