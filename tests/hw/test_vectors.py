"""Codebooks of groups: tables between indices and multipliers."""

import numpy as np
import pytest
from bench import differences, packed, play

from lutloom.hw.vectors import VectorTables
from lutloom.weights import WeightFormat


def book(entries, group, seed=0):
    """A random codebook whose first entries are the corners."""
    table = np.random.default_rng(seed).integers(-128, 128, (entries, group))
    table[0], table[-1] = -128, 127
    return WeightFormat.parse(f"codebook:{entries}x{group}", tuple(map(int, table.ravel())))


def make(entries=16, group=4, lanes=8, units=2, **others):
    return VectorTables(name="t", format=book(entries, group), entry_bits=8, lanes=lanes, units=units, **others)


def indices(unit, entries, count=40, seed=1):
    """Words of indices, corners first."""
    found = np.random.default_rng(seed).integers(0, entries, (count, unit.count))
    found[0], found[1] = 0, entries - 1
    return found


def wrong(unit, entries, expected=None):
    """Differences between a unit and its model."""
    given = indices(unit, entries)
    bits = (entries - 1).bit_length()
    drive = packed(np.concatenate([given, np.zeros((unit.delay, unit.count), int)]), bits)
    got = play(unit, {"i": drive}, ["o"])["o"]
    expected = [packed([unit.model(row)], 8)[0] for row in given] if expected is None else expected
    return differences(got, expected, unit.delay)


@pytest.mark.parametrize("entries", [2, 3, 15, 16, 17, 255, 256])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_entries(entries, group):
    assert wrong(make(entries, group, 2 * group, 2), entries) == []


@pytest.mark.parametrize("lanes", [1, 3, 4, 5, 7, 8, 9])
@pytest.mark.parametrize("units", [1, 3])
@pytest.mark.parametrize("others", [{}, {"latency": 3}, {"place": "lut"}])
def test_lanes_and_places(lanes, units, others):
    unit = make(5, 4, lanes, units, **others)
    assert unit.count == units * -(-lanes // 4) and unit.delay == others.get("latency", 1)
    assert wrong(unit, 5) == []


def test_bench_notices_a_wrong_entry_and_a_wrong_index():
    unit = make()
    given, entries = indices(unit, 16), np.reshape(unit.words, -1)
    assert len(entries) == 16
    one = [packed([unit.model((row + (np.arange(unit.count) == 1)) % 16)], 8)[0] for row in given]
    assert len(wrong(unit, 16, one)) > 30
    table = make()
    values = list(table._format.values)
    values[7 * 4 + 3] ^= 1
    table._format = WeightFormat.parse("codebook:16x4", tuple(values))
    assert wrong(unit, 16, [packed([table.model(row)], 8)[0] for row in given])


def test_errors():
    with pytest.raises(ValueError, match="tables of vectors are of codebooks of groups, not of int:4"):
        VectorTables(name="t", format=WeightFormat("int", 4), entry_bits=4, lanes=4, units=1)
