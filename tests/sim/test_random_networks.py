"""Random small networks: RTL equals golden, with stalls and without; predicted cycles equal counted ones."""

import pytest

from lutloom.sim.random_check import check

# One each of: grouped and padded convolutions, pools with factors, top k, TFLM rounding, bipolar input, vectors.
SEEDS = [3, 5, 6, 7, 11, 13, 20, 33, 36, 42]

# Of networks with branches: sums and products of ways, unions, parts, pads, tables, softmax, state, other shapes.
BRANCHING = [5, 14, 31, 33, 37, 49, 119]
QUICK = [33, 49]


def seeds(numbers):
    """The seeds as parameters; all but the quick ones are slow."""
    return [number if number in QUICK else pytest.param(number, marks=pytest.mark.slow) for number in numbers]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_network(seed, tmp_path):
    result = check(seed, tmp_path / "build")
    assert not result.problem, f"seed {seed}: {result.layers}: {result.problem}"
    assert result.frames == 12


@pytest.mark.parametrize("seed", seeds(BRANCHING))
def test_random_network_with_branches(seed, tmp_path):
    result = check(seed, tmp_path / "build", branches=True)
    assert not result.problem, f"seed {seed}: {result.layers}: {result.problem}"
    assert result.frames == 12
