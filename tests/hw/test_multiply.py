"""Multiply, round, shift, clamp: both roundings, with shifts that are equal and that differ by channel."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, ResetInserter, Signal, signed
from amaranth.sim import Simulator
from bench import check_beats

from lutloom.formats import Format
from lutloom.hw.memory import Target
from lutloom.hw.multiply import Multiply
from lutloom.hw.multiply_steps import SteppedMultiply
from lutloom.toolchain.tools import yosys_for_amaranth

# rounding, range of shifts, lanes, beats, format, dsp, latency
CASES = [
    ("up", (8, 12), 2, 3, "uint:8", False, 1),
    ("up", (0, 0), 1, 1, "int:4", False, 2),
    ("up", (10, 10), 3, 1, "uint:4", True, 2),
    ("tflm", (31, 40), 2, 3, "int:8", False, 1),
    ("tflm", (28, 31), 2, 2, "int:8", True, 1),
    ("tflm", (36, 36), 1, 2, "int:8", False, 2),
    ("tflm", (33, 38), 3, 2, "int:8", True, 1),
    ("float32", (32, 36), 2, 3, "int:8", False, 1),
    ("float32", (33, 33), 1, 1, "uint:8", True, 2),
    ("float32", (25, 33), 1, 2, "int:4", False, 1),
]


def parameters(case, seed=1):
    rounding, (low, high), lanes, beats, out, dsp, latency = case
    rng = np.random.default_rng(seed)
    size, form = (beats, lanes), Format.parse(out)
    least, most = {"tflm": (1 << 30, 1 << 31), "float32": (1 << 23, 1 << 24), "up": (-500, 500)}[rounding]
    return dict(
        name="q", acc_shape=signed(16), lanes=lanes, multiplier=rng.integers(least, most, size),
        shift=rng.integers(low, high + 1, size), offset=rng.integers(-3000, 3000, size),
        fraction=rng.integers(-100, 100, size) if rounding == "up" else np.zeros(size, int),
        zero_point=3, low=form.code_low, high=form.code_high - 1, out_format=form, rounding=rounding, dsp=dsp,
        latency=latency,
    )


def beats_of(case, count=200):
    """Accumulators of every size, so that small ones meet the roundings and large ones the clamp."""
    _, _, lanes, beats, *_ = case
    rng = np.random.default_rng(2)
    acc = rng.integers(-32768, 32768, (count, lanes)) >> rng.integers(0, 12, (count, lanes))
    acc[:2] = [[-32768], [32767]]
    return acc, rng.integers(0, beats, count)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_against_model(case, gaps):
    assert check_beats(Multiply(**parameters(case)), *beats_of(case), gaps) == []


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("steps", [2, 3, 8, 32])
def test_steps_against_model(case, steps):
    for gaps in (0.0, 0.4):
        assert check_beats(SteppedMultiply(**parameters(case), steps=steps), *beats_of(case, 60), gaps) == []


@pytest.mark.parametrize("place", ["ebr", "lut"])
def test_steps_read_narrow_words(place):
    unit = SteppedMultiply(**parameters(CASES[3]) | {"place": place}, steps=8)
    (spec,) = unit.memories
    assert (spec.width <= 36) == (place == "ebr")
    assert check_beats(unit, *beats_of(CASES[3], 60)) == []


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[7]], ids=str)
@pytest.mark.parametrize("what", ["multiplier", "shift", "offset"])
def test_steps_bench_notices(what, case):
    changed = parameters(case)
    changed[what] = changed[what].copy()
    # A multiplier of 31 or 24 bits needs more than its lowest bit changed to move a code.
    multiplier = {"up": 1, "tflm": -(1 << 27), "float32": -(1 << 20)}[case[0]]
    changed[what][0, 0] += {"multiplier": multiplier, "shift": 1, "offset": 400}[what]
    unit, other = (SteppedMultiply(**numbers, steps=4) for numbers in (parameters(case), changed))
    assert check_beats(unit, *beats_of(case)) == []
    unit.model = other.model
    assert check_beats(unit, *beats_of(case)) != []


def test_steps_errors():
    with pytest.raises(ValueError, match="multiply steps must be 2 to 32, not 33"):
        SteppedMultiply(**parameters(CASES[0]), steps=33)


@pytest.mark.parametrize("shift", [32, 33])
def test_halves_of_both_signs(shift):
    # A multiplier of 2**30 makes the second rounding see exact halves, below zero and above.
    sizes = (1, 1)
    unit = Multiply(
        name="q", acc_shape=signed(8), lanes=1, multiplier=np.full(sizes, 1 << 30), shift=np.full(sizes, shift),
        offset=np.zeros(sizes, int), fraction=np.zeros(sizes, int), zero_point=0, low=-128, high=127,
        out_format=Format("int", 8), rounding="tflm",
    )
    assert check_beats(unit, np.arange(-128, 128)[:, None], [0] * 256) == []


@pytest.mark.parametrize("steps", [1, 4])
def test_products_that_float32_rounds_to_halves(steps):
    """Multipliers that bring an accumulator as near to a half as their 24 bits can, and one step beside that."""
    rng = np.random.default_rng(7)
    pairs = []
    for k in [*range(-9, 9), *rng.integers(-128, 128, 60)]:
        acc = int(rng.integers(1 << 6, 1 << 15)) * (1 if k >= 0 else -1)
        mantissa, exponent = np.frexp((k + 0.5) / acc)
        for step in (0, 1, -1):
            m, shift = int(round(mantissa * 2**24)) + step, 24 - int(exponent)
            if 1 << 23 <= m < 1 << 24 and 24 < shift < 40:
                pairs.append((acc, m, shift))
    acc, m, shift = (np.array(numbers)[:, None] for numbers in zip(*pairs, strict=True))
    sides = np.zeros_like(m)
    numbers = dict(
        name="q", acc_shape=signed(16), lanes=1, multiplier=m, shift=shift, offset=sides, fraction=sides, zero_point=3,
        low=-128, high=127, out_format=Format("int", 8), rounding="float32",
    )
    unit = Multiply(**numbers) if steps == 1 else SteppedMultiply(**numbers, steps=steps)
    beats = np.arange(len(acc))
    assert check_beats(unit, acc, beats) == []
    exact = [round(Fraction(a * b, 1 << c)) + 3 for a, b, c in pairs]
    float32 = np.concatenate([unit.model(acc[beat], beat) for beat in beats])
    assert 10 < (np.clip(exact, -128, 127) != float32).sum() < len(acc) - 10


def test_products_in_float32_that_are_all_tiny():
    """A bug: the half lay beyond the register of the sum."""
    sizes = (1, 1)
    unit = Multiply(
        name="q", acc_shape=signed(8), lanes=1, multiplier=np.full(sizes, 10307922), shift=np.full(sizes, 35),
        offset=np.zeros(sizes, int), fraction=np.zeros(sizes, int), zero_point=4, low=-128, high=127,
        out_format=Format("int", 8), rounding="float32",
    )
    assert check_beats(unit, np.arange(-128, 128)[:, None], [0] * 256) == []


def test_steps_after_a_clear():
    """A bug: a beat under way at a clear made a digit of the next one negative."""
    sizes = (1, 1)
    unit = SteppedMultiply(
        name="q", acc_shape=signed(8), lanes=1, multiplier=np.full(sizes, -23456), shift=np.full(sizes, 16),
        offset=np.zeros(sizes, int), fraction=np.zeros(sizes, int), zero_point=0, low=-128, high=127,
        out_format=Format("int", 8), steps=16,
    )
    top, clear, found = Module(), Signal(), []
    top.submodules.unit = ResetInserter(clear)(unit)

    async def bench(ctx):
        for cycle in range(60):
            ctx.set(unit.i_valid, cycle in (2, 5))
            ctx.set(unit.i_acc[0], -100)
            ctx.set(clear, cycle == 3)
            if ctx.get(unit.o_valid):
                found.append(ctx.get(unit.o[0]))
            await ctx.tick()

    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == [int(unit.model(np.array([-100]), 0)[0])]


@pytest.mark.parametrize("what", ["multiplier", "shift", "offset"])
def test_bench_notices(what):
    changed = parameters(CASES[0])
    changed[what] = changed[what].copy()
    changed[what][0, 0] += 1 if what != "offset" else 40
    unit, other = Multiply(**parameters(CASES[0])), Multiply(**changed)
    unit.model = other.model
    assert check_beats(unit, *beats_of(CASES[0])) != []


def test_verilog():
    unit, target = Multiply(**parameters(CASES[6])), Target("ecp5")
    with yosys_for_amaranth():
        text = verilog.convert(unit, name="lutloom_multiply", platform=target, emit_src=False)
    assert text.count("MULT18X18D ") == 2 * 3  # three lanes, a factor of 31 bits in two pieces
    assert list(target.specs.values()) == unit.memories


def test_errors():
    good = parameters(CASES[0])
    for changes, message in [
        (dict(rounding="down"), "rounding must be up, tflm or float32, not 'down'"),
        (dict(high=256), "multiply codes 0 to 256 must ascend and fit uint:8; take more bits"),
        (dict(low=9, high=8), "multiply codes 9 to 8 must ascend"),
        (dict(shift=np.full((3, 2), 63)), "multiply shift must be 0 to 62, not 63 to 63"),
        (dict(shift=np.full((3, 1), 3)), r"multiply shift must be of shape \(beats, 2\), not \(3, 1\)"),
        (dict(rounding="tflm"), "multiply fraction must be 0 with tflm rounding; take up"),
        (dict(rounding="float32", fraction=np.zeros((3, 2), int)), "multiply shift must be above 24 with float32"),
        (dict(multiplier=np.full((3, 2), -(1 << 31))), "multiply multiplier must be above"),
        (dict(lanes=0), "lanes must be a positive integer, not 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            Multiply(**good | changes)
