"""Thresholds: every code, direction, base, fewer steps than codes, steps that never or always happen."""

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import signed, unsigned
from bench import check_beats

from lutloom.formats import Format
from lutloom.hw.memory import Target
from lutloom.hw.thresholds import Thresholds
from lutloom.toolchain.tools import yosys_for_amaranth

# lanes, beats, steps, format, base, latency, falling, acc_shape, range that occurs
CASES = [
    (1, 1, 1, "bipolar", 0, 1, False, unsigned(4), (0, 15)),
    (2, 3, 1, "bipolar", 0, 2, True, unsigned(7), (0, 64)),
    (2, 3, 15, "uint:4", 0, 1, True, signed(9), (-256, 255)),
    (3, 2, 13, "int:4", -7, 2, True, signed(9), (-200, 190)),
    (1, 5, 3, "int:2", -2, 2, False, signed(6), (-32, 31)),
    (2, 2, 3, "uint:3", 2, 1, True, signed(6), (-32, 31)),
    (1, 2, 0, "uint:2", 1, 1, True, signed(4), (-8, 7)),
    (1, 3, 200, "uint:8", 0, 1, True, signed(12), (-2048, 2047)),
]


def unit_of(case, seed=1):
    lanes, beats, steps, out, base, latency, falling, shape, (low, high) = case
    rng = np.random.default_rng(seed)
    values = np.sort(rng.integers(low, high + 2, (beats, lanes, steps)), axis=-1)
    if steps > 2:
        values[0, 0, 0], values[0, 0, -1] = low, high + 1
    direction = rng.integers(0, 2, (beats, lanes)).astype(bool) if falling else None
    return Thresholds(
        name="t", acc_shape=shape, lanes=lanes, values=values, falling=direction, base=base,
        out_format=Format.parse(out), acc_low=low, acc_high=high, latency=latency,
    )


def beats_of(unit, case, count=60):
    """Accumulators at both sides of every threshold of some channels, the ends, and random ones."""
    lanes, beats, _, _, _, _, _, _, (low, high) = case
    rng = np.random.default_rng(2)
    beat = rng.integers(0, beats, count)
    acc = rng.integers(low, high + 1, (count, lanes))
    near = unit._values[..., :40].swapaxes(1, 2)
    near = np.clip(np.concatenate([near - 1, near, [[[low] * lanes, [high] * lanes]] * beats], axis=1), low, high)
    place = np.repeat(np.arange(beats), near.shape[1])
    return np.concatenate([near.reshape(-1, lanes), acc]), np.concatenate([place, beat])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("gaps", [0.0, 0.4])
def test_against_model(case, gaps):
    unit = unit_of(case)
    assert check_beats(unit, *beats_of(unit, case), gaps) == []


def test_bench_notices_a_threshold_off_by_one():
    case = CASES[2]
    unit, other = unit_of(case), unit_of(case)
    other._values = other._values.copy()
    other._values[0, 0, 7] += 1
    unit.model = other.model
    assert check_beats(unit, *beats_of(unit, case)) != []


def test_bench_notices_a_late_result():
    class Later(Thresholds):
        delay = 2

    unit = unit_of(CASES[0])
    assert unit.delay == 2
    unit.__class__ = Later
    Later.delay = 3
    assert check_beats(unit, *beats_of(unit, CASES[0])) != []


@pytest.mark.parametrize("family", ["generic", "ecp5"])
def test_memories_and_verilog(family):
    unit, target = unit_of(CASES[3]), Target(family)
    with yosys_for_amaranth():
        text = verilog.convert(unit, name="lutloom_thresholds", platform=target, emit_src=False)
    assert "module lutloom_thresholds(" in text
    assert list(target.specs.values()) == unit.memories
    assert [(spec.name, spec.width, spec.depth) for spec in unit.memories[:4]] == [
        ("t_level0", 30, 2), ("t_level1_lane0", 9, 4), ("t_level1_lane1", 9, 4), ("t_level1_lane2", 9, 4)
    ]
    assert unit.delay == 12


def make(**changes):
    arguments = dict(name="t", acc_shape=signed(6), lanes=1, values=[[[1, 2, 3]]], out_format=Format("uint", 2))
    return Thresholds(**arguments | changes)


def test_errors():
    with pytest.raises(ValueError, match=r"threshold values must be of shape \(beats, 2, steps\), not \(1, 1, 3\)"):
        make(lanes=2)
    with pytest.raises(ValueError, match="threshold values must ascend within a channel; sort them"):
        make(values=[[[2, 1]]])
    with pytest.raises(ValueError, match="threshold codes 1 to 4 must fit uint:2; take more bits"):
        make(base=1)
    with pytest.raises(ValueError, match=r"threshold directions must be of shape \(1, 1\), not \(2, 1\)"):
        make(falling=[[True], [False]])
    with pytest.raises(ValueError, match="threshold places must be one a level, 2, not 3"):
        make(place=["ebr"] * 3)
    with pytest.raises(ValueError, match=r"accumulators of -40 to 31 must fit signed\(6\); take it wider"):
        make(acc_low=-40)
    with pytest.raises(ValueError, match="lanes must be a positive integer, not 0"):
        make(lanes=0)
    with pytest.raises(ValueError, match="memory latency must be 1, 2 or 3 cycles, not 4"):
        make(latency=4)
