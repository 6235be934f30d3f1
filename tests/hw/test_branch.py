"""Forks, buffers, unions, parts, constants and state: what comes out, and in the cycles that the schedule says."""

import random

import pytest
from stream_bench import drive, drive_ports, transfers

from lutloom.executor import in_a_row, run
from lutloom.hw.branch import Buffer, Fork, Insert, Select, Turns

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


@pytest.mark.parametrize("make,message", [
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
