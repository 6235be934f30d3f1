"""Networks for patchable builds: hardware that does not depend on the numbers of weights, thresholds and biases."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import small_networks  # noqa: E402

from lutloom.errors import ModelError  # noqa: E402
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, TopK  # noqa: E402
from lutloom.network_builder import NetworkBuilder  # noqa: E402
from lutloom.passes.verify import verify  # noqa: E402
from lutloom.passes.widen import biased, widen  # noqa: E402


def network(*ends, seed=1):
    """A convolution and a dense layer, and what stands behind them."""
    rng = np.random.default_rng(seed)
    builder = NetworkBuilder((6, 6, 1))
    builder.add(Conv, "conv", small_networks.weights(rng, (4, 3, 3, 1), "int:3"))
    small_networks.requantise(builder, rng, "quant", 3, "uint:2")
    builder.add(MaxPool, "pool", (2, 2), (2, 2))
    builder.add(Flatten, "flat")
    builder.add(Dense, "fc", small_networks.weights(rng, (3, 16), "int:3"))
    for kind, name, *values in ends:
        builder.add(kind, name, *values)
    return builder.network("small")


def described(network):
    """All that hardware and plan depend on, numbers aside."""
    return [(type(layer), network.tensors[layer.output].format) for layer in network.layers]


def outputs(network):
    return network(np.random.default_rng(7).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8))


@pytest.mark.parametrize("end", [(), ((TopK, "best", 1),)], ids=["logits", "top k"])
def test_logits_without_a_bias_get_the_hardware_of_one(end):
    """A bug: biases that all rounded to one number left it out, and the next weights found no place for theirs."""
    plain, other = network(*end), network((Offset, "fc.offset", np.array([3, -20, 9])), *end)
    wide = verify(widen(biased(plain)))
    assert described(wide) == described(widen(other)) != described(widen(plain))
    assert (outputs(wide) == outputs(plain)).all()
    assert wide.tensors[wide.output].scale == plain.tensors[plain.output].scale


def test_networks_that_have_a_bias_or_end_in_codes_stay():
    rng = np.random.default_rng(2)
    for ended in (network((Offset, "bias", np.array([3, -20, 9]))), network((Offset, "b", np.zeros(3, int)))):
        assert biased(ended) is ended
    builder = NetworkBuilder((6, 6, 1))
    builder.add(Conv, "conv", small_networks.weights(rng, (4, 3, 3, 1), "int:3"))
    small_networks.requantise(builder, rng, "quant", 3, "uint:2")
    builder.add(Flatten, "flat")
    codes = builder.network("codes")
    assert biased(codes) is codes


def test_a_bias_beyond_its_accumulators_is_refused():
    with pytest.raises(ModelError, match="layer 'bias' has a bias beyond the range of its accumulators"):
        widen(network((Offset, "bias", np.array([0, 0, 10_000]))))


def multiply(count):
    numbers = (np.full(count, value, np.int64) for value in (3, 4, 0, 0))
    return (*numbers, 0, -8, 7)


def test_multipliers_are_refused_with_the_way_out_of_each():
    with pytest.raises(ModelError, match="'scale' brings logits to one scale .*ask for them with @layer"):
        widen(network((Multiply, "scale", *multiply(3))))
    with pytest.raises(ModelError, match="'mid' requantises by multiplying.*at most 4 bits with --activations"):
        rng = np.random.default_rng(3)
        behind = (Dense, "last", small_networks.weights(rng, (2, 3), "int:3"))
        widen(network((Multiply, "mid", *multiply(3)), behind))
