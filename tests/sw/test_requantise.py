from fractions import Fraction

import numpy as np
import pytest

from lutloom.passes.requantise import (
    Count,
    Grid,
    Linear,
    Maximum,
    Minimum,
    Round,
    chained,
    grid_of,
    is_rising,
    run_chain,
    threshold_table,
    thresholds_of,
)
from lutloom.rounding import MODES


def levels_of(grid):
    return [grid.scale * (k - grid.zero) for k in range(grid.low + 1, grid.high + 1)]


def counted(code, values, falling, base):
    return base + (sum(code < t for t in values) if falling else sum(code >= t for t in values))


def check(chain, low, high):
    """Thresholds give, for every code, exactly what the chain gives in rationals."""
    grid = grid_of(chain, low, high)
    values, falling = thresholds_of(chain, levels_of(grid), low, high)
    assert values == sorted(values) and all(low <= value <= high + 1 for value in values)
    for code in range(low, high + 1):
        expected = run_chain(chain, code) / grid.scale + grid.zero
        assert expected.denominator == 1
        assert counted(code, values, falling, grid.low) == expected, code


def fraction(rng, span=5, denominators=16):
    return Fraction(int(rng.integers(-span * 16, span * 16 + 1)), int(rng.integers(1, denominators + 1)))


def random_step(rng):
    kind = rng.integers(5)
    if kind == 0:
        return Linear(fraction(rng) or Fraction(1), fraction(rng))
    if kind == 1:
        return Maximum(fraction(rng))
    if kind == 2:
        return Minimum(fraction(rng))
    if kind == 3:
        low = int(rng.integers(-9, 3))
        bounds = (low, low + int(rng.integers(1, 16))) if rng.integers(4) else (None, None)
        return Round(str(rng.choice(list(MODES))), *bounds)
    ends = sorted({fraction(rng, 20) for _ in range(rng.integers(1, 6))})
    return Count(tuple((end, bool(rng.integers(2))) for end in ends))


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    rng = np.random.default_rng(seed)
    chain = chained(
        (Linear(fraction(rng) or Fraction(1, 3), fraction(rng)),),
        *(random_step(rng) for _ in range(rng.integers(0, 5))),
    )
    low = int(rng.integers(1, 9))
    s = Fraction(int(rng.integers(1, 40)), 8)
    closing = (Linear(1 / s, Fraction(0)), Round(str(rng.choice(list(MODES))), -low, 9), Linear(s, Fraction(0)))
    check(chained(chain, *closing), -60, 60)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slope", [Fraction(1, 4), Fraction(-1, 4)])
def test_ties_in_every_mode_and_direction(mode, slope):
    check((Linear(slope, Fraction(0)), Round(mode, -3, 3)), -40, 40)
    check((Linear(slope, Fraction(0)), Maximum(Fraction(0)), Round(mode, 0, 7)), -40, 40)


def test_constant_channels():
    grid = Grid(Fraction(1), Fraction(0), 0, 3)
    for offset, code in ((Fraction(-5), 0), (Fraction(2), 2), (Fraction(99), 3)):
        values, falling = thresholds_of((Linear(Fraction(0), offset), Round("ROUND", 0, 3)), levels_of(grid), -8, 8)
        assert all(counted(acc, values, falling, 0) == code for acc in range(-8, 9))


def test_never_and_always_stand_at_the_ends_of_the_interval():
    values, falling = thresholds_of(
        (Linear(Fraction(1), Fraction(0)), Round("ROUND", 0, 3)), [Fraction(k) for k in (1, 2, 3)], 2, 2
    )
    assert (values, falling) == ([2, 2, 3], False)
    values, falling = thresholds_of(
        (Linear(Fraction(-1), Fraction(0)), Round("ROUND", -3, 0)), [Fraction(k) for k in (-2, -1, 0)], 2, 2
    )
    assert (values, falling) == ([2, 2, 3], True)


def test_a_grid_turns_round_with_a_negative_scale():
    chain = (Linear(Fraction(1), Fraction(0)), Round("FLOOR", 0, 3), Linear(Fraction(-2), Fraction(1)))
    assert grid_of(chain, -9, 9) == Grid(Fraction(2), Fraction(-1, 2), -3, 0)
    check(chain, -9, 9)


def test_clamps_in_front_of_a_quantiser_may_lie_anywhere():
    chain = (Linear(Fraction(1, 3), Fraction(1, 7)), Maximum(Fraction(2, 9)), Round("HALF_UP", 0, 7))
    assert grid_of(chain, -30, 30) == Grid(Fraction(1), Fraction(0), 0, 7)
    check(chain, -30, 30)


def test_no_grid_where_a_clamp_lies_between_its_points():
    assert grid_of((Linear(Fraction(1), Fraction(0)), Maximum(Fraction(1, 2))), 0, 3) is None


def test_linear_neighbours_become_one():
    chain = chained((Linear(Fraction(2), Fraction(1)),), Linear(Fraction(-3), Fraction(5)))
    assert chain == (Linear(Fraction(-6), Fraction(2)),)
    assert not is_rising(chain) and is_rising(chained(chain, Maximum(Fraction(0)), Linear(Fraction(-1), Fraction(0))))


def test_table_of_many_channels_is_fast_enough():
    import time

    rng = np.random.default_rng(0)
    quant = (
        Linear(1 / Fraction(0.21), Fraction(6)),
        Round("HALF_UP", 0, 15),
        Linear(Fraction(0.21), Fraction(-6 * 0.21)),
    )
    chains = [
        chained((Linear(Fraction(float(a)), Fraction(float(b))),), *quant)
        for a, b in zip(rng.normal(size=600), rng.normal(size=600), strict=True)
    ]
    start = time.process_time()
    values, falling = threshold_table(chains, [Fraction(0.21) * (k - 6) for k in range(1, 16)], -30000, 30000)
    assert time.process_time() - start < 1.0
    assert values.shape == (600, 15) and values.dtype == np.int64 and 200 < falling.sum() < 400
    assert (np.diff(values, axis=1) >= 0).all()
