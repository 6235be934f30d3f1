"""Random small networks: RTL equals golden, with stalls and without; predicted cycles equal counted ones."""

import pytest

from lutloom.sim.random_check import check

# One each of: grouped and padded convolutions, pools with factors, top k, TFLM rounding, bipolar input, vectors.
SEEDS = [3, 5, 6, 7, 11, 13, 20, 33, 36, 42]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_network(seed, tmp_path):
    result = check(seed, tmp_path / "build")
    assert not result.problem, f"seed {seed}: {result.layers}: {result.problem}"
    assert result.frames == 12
