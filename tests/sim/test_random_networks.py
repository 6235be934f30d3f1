"""Random small networks: RTL equals golden, with stalls and without; predicted cycles equal counted ones."""

import pytest

from lutloom.network import Network
from lutloom.sim.random_check import check
from lutloom.sim.random_network import random_inputs
from lutloom.simulate import simulate

# One each of: grouped and padded convolutions, pools with factors, top k, TFLM rounding, bipolar input, vectors.
# 223: pooled in front of a TFLM requantiser; 257: a sum of bipolar values with padding, as ±1 and nothing.
SEEDS = [3, 5, 6, 7, 11, 13, 20, 33, 36, 42, 223, 257]

# Of networks with branches: sums and products of ways, unions, parts, pads, tables, softmax, state, other shapes.
BRANCHING = [2, 5, 31, 33, 37, 49, 119]
QUICK = [2, 33, 49]


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


def test_inputs_that_no_output_needs_are_taken_all_the_same(tmp_path):
    # A pool of stride 2 leaves the last rows: its outputs end before its inputs.
    folder = tmp_path / "build"
    assert not check(14, folder, branches=True).problem
    network = Network.load(folder / "network.npz")
    assert network.tensors[network.input].shape[0] > 2 * network.tensors[network.output].shape[0] - 1
    found = simulate(folder, random_inputs(network, 3, 1), engine="cocotb")
    assert (found.frames, found.differ) == (3, 0)
