"""Tilings are counted without being made: as many tiles as are cut, and in no order of asking another number."""

import random

import pytest

from lutloom.hw.memory import MemorySpec
from lutloom.tiles import SHAPES, _tilings_of_rows, count, cut


@pytest.mark.parametrize("family", SHAPES)
def test_as_many_as_are_cut(family):
    rng = random.Random(1)
    edges = [depth + more for depth, _ in SHAPES[family] for more in (-1, 0, 1)]
    sizes = [(rng.choice(edges), rng.randint(1, 200)) for _ in range(200)]
    sizes += [(rng.randint(1, 40_000), rng.randint(1, 100)) for _ in range(100)]
    counts = {}
    for order in (sizes, sizes[::-1]):
        _tilings_of_rows.cache_clear()
        for depth, width in order:
            spec = MemorySpec("rom", "rom", width, depth)
            found = count(spec, family)
            assert found == counts.setdefault((depth, width), found), f"{depth} words of {width} bits"
            assert found == len(cut(spec, family)), f"{depth} words of {width} bits"


def test_logic_takes_none():
    assert count(MemorySpec("rom", "rom", 8, 600, place="lut"), "ecp5") == 0
