"""Forks, buffers, unions, parts, constants and state: what comes out, and in the cycles that the schedule says."""

import random

import numpy as np
import pytest
from stream_bench import drive, drive_ports, transfers

from lutloom.executor import in_a_row, run
from lutloom.hw.branch import Buffer, Fork, Insert, Select, Turns
from lutloom.hw.reorder import Constants, Reorder

RATES = [(1.0, 1.0), (0.4, 1.0), (1.0, 0.4), (0.6, 0.6)]


def words(count, bits=8, seed=1):
    chance = random.Random(seed)
    return [chance.getrandbits(bits) for _ in range(count)]


def steady(unit, beats, expected, rates):
    """A unit of one input and one output at these rates; at full rate its cycles are those of its schedule."""
    outputs, came, left = drive(unit, beats, len(expected), in_rate=rates[0], out_rate=rates[1], seed=5)
    assert outputs == expected
    if rates == (1.0, 1.0):
        links = run(in_a_row([unit.schedule]), len(beats), len(expected), 1)
        assert left == links[1]
        assert came == links[0][: len(came)]


@pytest.mark.parametrize("rates", [(1.0, {}), (0.5, {}), (1.0, {"o1": 0.3}), (1.0, {"o0": 0.5, "o2": 0.6})])
def test_fork(rates):
    unit, beats = Fork(bits=4, width=2, ways=3), words(40)
    names = ("o0", "o1", "o2")
    outputs, cycles = drive_ports(unit, {"i": beats}, dict.fromkeys(names, 40), in_rates={"i": rates[0]},
                                  out_rates=rates[1])
    assert all(outputs[name] == beats for name in names)
    if rates == (1.0, {}):
        assert cycles["i"] == list(range(40))
        assert all(cycles[name] == list(range(1, 41)) for name in names)
        assert cycles == transfers(unit, {"i": 40}, dict.fromkeys(names, 40))


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 9, 40])
@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("rates", RATES)
def test_buffer(depth, latency, rates):
    beats = words(60)
    steady(Buffer(name="b", bits=4, width=2, depth=depth, latency=latency), beats, beats, rates)


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("constants", [[7, 7, 7, 7], [1, 2, 3, 4, 5]])
def test_buffer_with_a_first_frame(latency, rates, constants):
    beats = words(20)
    unit = Buffer(name="b", bits=4, width=2, depth=6, latency=latency, initial=len(constants), words=constants)
    steady(unit, beats, constants + beats, rates)


@pytest.mark.parametrize("counts", [(1, 1), (2, 3), (1, 4, 2)])
@pytest.mark.parametrize("slow", [None, "i0", "i1", "o"])
def test_turns(counts, slow):
    unit = Turns(bits=4, width=2, beats=counts)
    frames = 9
    beats = {f"i{port}": words(frames * count, seed=port) for port, count in enumerate(counts)}
    expected = [
        beats[f"i{port}"][frame * count + k]
        for frame in range(frames) for port, count in enumerate(counts) for k in range(count)
    ]
    rates = {slow: 0.3} if slow else {}
    outputs, cycles = drive_ports(unit, beats, {"o": len(expected)}, in_rates=rates, out_rates=rates)
    assert outputs["o"] == expected
    if slow is None:
        assert cycles["o"] == list(range(1, len(expected) + 1))
        assert cycles == transfers(unit, {name: len(sent) for name, sent in beats.items()}, {"o": len(expected)})


@pytest.mark.parametrize("kept,beats", [((0,), 1), ((1, 2), 5), ((0, 3, 4), 6)])
@pytest.mark.parametrize("rates", RATES)
def test_select(kept, beats, rates):
    frames = words(beats * 8)
    steady(Select(bits=4, width=2, kept=kept, beats=beats), frames,
           [word for place, word in enumerate(frames) if place % beats in kept], rates)


@pytest.mark.parametrize("own,beats", [((0,), 1), ((1, 2), 5), ((0, 3, 4), 6)])
@pytest.mark.parametrize("rates", RATES)
def test_insert(own, beats, rates):
    source = words(len(own) * 6)
    rest = iter(source)
    expected = [next(rest) if place in own else 9 for _ in range(6) for place in range(beats)]
    steady(Insert(bits=4, width=2, own=own, beats=beats, word=9), source, expected, rates)


REORDERED = [  # beats, sizes, strides, base
    (12, (3, 2, 2), (4, 2, 1), 0), (24, (4, 2, 3), (1, 12, 4), 0), (6, (1, 1, 6), (0, 0, -1), 5),
    (3, (2, 2, 3), (0, 0, 1), 0), (8, (1, 2, 1), (0, -4, 0), 6), (1, (1, 1, 1), (0, 0, 0), 0),
    (1, (2, 3, 1), (0, 0, 0), 0), (12, (2, 3, 2), (-6, 2, -1), 7),
]


def reordered(frame, sizes, strides, base):
    return [frame[base + int(np.dot(strides, at))] for at in np.ndindex(sizes)]


@pytest.mark.parametrize("beats,sizes,strides,base", REORDERED)
@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("rates", RATES)
def test_reorder(beats, sizes, strides, base, latency, rates):
    source = words(5 * beats)
    expected = [beat for start in range(0, len(source), beats)
                for beat in reordered(source[start:start + beats], sizes, strides, base)]
    unit = Reorder(name="r", bits=4, width=2, beats=beats, sizes=sizes, strides=strides, base=base, latency=latency)
    steady(unit, source, expected, rates)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 20])
@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_constants(count, latency, rate):
    beats = words(count)
    unit = Constants(name="c", bits=4, width=2, words=beats, latency=latency)
    outputs, cycles = drive_ports(unit, {}, {"o": 5 * count + 9}, out_rates={"o": rate}, seed=3)
    assert outputs["o"] == [beats[place % count] for place in range(5 * count + 9)]
    if rate == 1.0:
        assert cycles["o"] == list(range(5 * count + 9))


@pytest.mark.parametrize("make,message", [
    (lambda: Reorder(name="r", bits=1, width=1, beats=4, sizes=(1, 1, 3), strides=(0, 0, 2)), "must lie among the 4"),
    (lambda: Constants(name="c", bits=1, width=1, words=[]), "constants must be one word or more"),
    (lambda: Fork(bits=4, width=1, ways=1), "fork ways must be at least 2"),
    (lambda: Buffer(name="b", bits=4, width=1, depth=0), "buffer depth must be at least 1"),
    (lambda: Buffer(name="b", bits=4, width=1, depth=2, initial=2, words=[1]), "must be the 2 initial beats, not 1"),
    (lambda: Turns(bits=4, width=1, beats=(2, 0)), "turns must be of two inputs or more"),
    (lambda: Select(bits=4, width=1, kept=(2, 1), beats=4), "selected places must ascend"),
    (lambda: Insert(bits=4, width=1, own=(4,), beats=4, word=0), "places must ascend"),
])
def test_parameters_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
