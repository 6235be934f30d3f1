"""Ternary weights out of bytes."""

import numpy as np
import pytest
from bench import differences, packed, play

from lutloom.hw.trits import Trits
from lutloom.stored import BYTES, Stored
from lutloom.weights import WeightFormat

TERNARY = WeightFormat("ternary", 2)


def wrong(count, change=lambda numbers: numbers):
    """Differences between weights and what comes out of their bytes."""
    codes = np.random.default_rng(count).choice([0, 1, 3], (60, count))
    codes[0], codes[1], codes[2] = 0, 1, 3
    stored, unit = Stored.of(TERNARY, count, 1, True), Trits(count=count)
    numbers = change(stored.numbers_of(codes))
    assert unit.model(stored.numbers_of(codes)[5]) == codes[5].tolist()
    got = play(unit, {"i": packed(np.concatenate([numbers, numbers[:1]]), 8)}, ["o"])["o"]
    return differences(got, packed(codes, 2), unit.delay)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 10, 11])
def test_counts(count):
    assert wrong(count) == []


def test_every_byte():
    numbers, stored = BYTES[:, None], Stored.of(TERNARY, 5, 1, True)
    assert np.array_equal(stored.numbers_of(stored.codes_of(numbers)), numbers)
    assert len(np.unique(stored.codes_of(numbers), axis=0)) == 243


def test_bench_notices_a_flipped_bit():
    assert len(wrong(7, lambda numbers: numbers ^ [[1, 0]])) > 20


def test_errors():
    with pytest.raises(ValueError, match="weights a word must be at least 1, not 0"):
        Trits(count=0)
    with pytest.raises(ValueError, match="only ternary weights can be packed, not int:4"):
        Stored.of(WeightFormat("int", 4), 5, 1, True)
