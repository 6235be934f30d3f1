from fractions import Fraction

import numpy as np
import pytest

from lutloom.golden.multiply import multiply
from lutloom.golden.thresholds import thresholds
from lutloom.passes.multiplier import multipliers_of, multiply_directly, multiply_for, shift_for
from lutloom.passes.requantise import Grid, Linear, Maximum, Round, chained, run_chain, threshold_table

LOW, HIGH = -3000, 2500


def levels(grid):
    return [grid.scale * (k - grid.zero) for k in range(grid.low + 1, grid.high + 1)]


def chains_of(slopes, offsets, grid, mode="HALF_UP", relu=False):
    closing = (
        Linear(1 / grid.scale, grid.zero),
        Round(mode, grid.low, grid.high),
        Linear(grid.scale, -grid.scale * grid.zero),
    )
    clamp = (Maximum(Fraction(0)),) if relu else ()
    return [
        chained((Linear(Fraction(a), Fraction(o)),), *clamp, *closing) for a, o in zip(slopes, offsets, strict=True)
    ]


def codes_of(found):
    acc = np.arange(LOW, HIGH + 1)[:, None].repeat(len(found["multiplier"]), axis=1)
    names = ("multiplier", "shift", "offset", "fraction", "zero_point", "low", "high")
    return multiply(acc, *(found[name] for name in names))


def assert_exact(found, chains, grid):
    """Every seventh accumulator's code is the chain's."""
    wanted = [
        [int(run_chain(chain, acc) / grid.scale + grid.zero) for chain in chains] for acc in range(LOW, HIGH + 1, 7)
    ]
    np.testing.assert_array_equal(codes_of(found)[::7], wanted)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "grid",
    [
        Grid(Fraction(1, 3), Fraction(0), 0, 255),
        Grid(Fraction(1, 3), Fraction(77), 0, 255),
        Grid(Fraction(3, 7), Fraction(0), -128, 127),
        Grid(Fraction(1), Fraction(0), 0, 7),
    ],
)
def test_directly_where_slopes_are_exact(grid, relu):
    slopes = [grid.scale * Fraction(m, 1 << 17) for m in (9001, -12345, 77, 0, 65537)]
    chains = chains_of(slopes, [0.3, -11.7, 2.9, 5.1, 100.123], grid, relu=relu)
    found = multiply_directly(chains, grid, LOW, HIGH)
    assert_exact(found, chains, grid)
    assert found["low"] == (max(grid.low, int(grid.zero)) if relu else grid.low)


@pytest.mark.parametrize("mode", ["ROUND", "HALF_UP", "HALF_DOWN"])
def test_ties_are_seen(mode):
    grid = Grid(Fraction(1), Fraction(0), -128, 127)
    chains = chains_of([Fraction(1, 4)], [0], grid, mode)
    assert multiply_directly(chains, grid, LOW, HIGH) is None  # acc = 2 is half-way
    assert multiply_directly(chains, grid, 3, 5) is not None
    off = chains_of([Fraction(1, 4)], [Fraction(1, 100)], grid, mode)
    assert_exact(multiply_directly(off, grid, LOW, HIGH), off, grid)


@pytest.mark.parametrize("mode", ["CEIL", "FLOOR", "UP", "DOWN"])
def test_modes_that_do_not_round_to_nearest_are_left_to_thresholds(mode):
    grid = Grid(Fraction(1), Fraction(0), 0, 15)
    assert multiply_directly(chains_of([Fraction(1, 4)], [0.1], grid, mode), grid, LOW, HIGH) is None


def test_slopes_that_no_multiplier_holds_are_left_to_thresholds():
    grid = Grid(Fraction(1), Fraction(0), 0, 255)
    assert multiply_directly(chains_of([Fraction(1, 3)], [0.1], grid), grid, LOW, HIGH) is None


@pytest.mark.parametrize("mode", ["ROUND", "HALF_UP", "FLOOR", "CEIL", "DOWN"])
def test_for_thresholds_is_exact_or_nothing(mode):
    """Whatever is found equals the thresholds on every accumulator; coarse outputs are found."""
    grid = Grid(Fraction(50), Fraction(0), 0, 31)
    rng = np.random.default_rng(0)
    found_any = 0
    for _ in range(20):
        chains = chains_of(rng.normal(size=4), rng.normal(size=4) * 30, grid, mode)
        values, falling = threshold_table(chains, levels(grid), LOW, HIGH)
        found = multiply_for(chains, grid, values, falling, grid.low, LOW, HIGH)
        if found is None:
            continue
        found_any += 1
        acc = np.arange(LOW, HIGH + 1)[:, None].repeat(4, axis=1)
        np.testing.assert_array_equal(codes_of(found), thresholds(acc, values, falling, grid.low))
    assert found_any >= 10


def test_an_impossible_multiplier_is_refused():
    """A step of thresholds off the line: no multiplier may be given for it."""
    grid = Grid(Fraction(50), Fraction(0), 0, 31)
    chains = chains_of([1.0], [0.2], grid)
    values, falling = threshold_table(chains, levels(grid), LOW, HIGH)
    assert multiply_for(chains, grid, values, falling, 0, LOW, HIGH) is not None
    values[0, 7] += 1
    assert multiply_for(chains, grid, values, falling, 0, LOW, HIGH) is None


def test_shift_is_the_greatest_that_fits_eighteen_bits():
    for slope in (Fraction(1, 1000), Fraction(1), Fraction(1, 3), Fraction(99999, 7)):
        shift = shift_for([slope, -slope / 3])
        assert round(slope * 2**shift) < 1 << 17 and (
            shift in (0, 40) or round(slope * 2 ** (shift + 1)) > (1 << 17) - 1
        )
    assert shift_for([Fraction(0)]) == 0
    assert multipliers_of([Fraction(1, 4), Fraction(1, 2)], 10) == ([1, 2], 2)
