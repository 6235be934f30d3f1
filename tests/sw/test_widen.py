"""Networks for patchable builds: hardware that does not depend on the numbers of weights, thresholds and biases."""


import numpy as np
import pytest
import small_networks

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.network import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Network,
    Offset,
    Pad,
    Reshape,
    Slice,
    TopK,
    Weights,
)
from lutloom.network_builder import NetworkBuilder
from lutloom.passes.verify import verify
from lutloom.passes.widen import biased, widen
from lutloom.sim.random_branches import BranchBuilder
from lutloom.weights import WeightFormat


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


def branching(seed=1):
    """Ways that meet, their parts, and a state, of activations of few bits."""
    b = BranchBuilder(seed)
    b.start((4, 4, 2), Format("uint", 3))
    image = b.last
    before = b.state((1, 4, 2), Format("uint", 3))
    b.unite([before, image], 0)
    united = b.last
    b.moved(Slice, begin=(4, 0, 0), sizes=(1, 4, 2), steps=(1, 1, 1))
    b.close(before)
    b.last = united
    b.moved(Pad, before=(0, 1, 0), after=(0, 0, 0), code=1)
    b.moved(Reshape, shape=(5, 2, 5))
    b.add(Conv(**b.names("conv"), weights=b.weights((3, 1, 1, 5))))
    b.moved(Reshape, shape=(30,))
    return b


def test_layers_that_move_codes_are_widened_with_what_they_move():
    b = branching()
    small = Network("b", b.tensors, tuple(b.layers), "x", b.last.name, (4, 4, 2), "NHWC", b.last.shape)
    wide = verify(widen(verify(small)))
    x = np.random.default_rng(7).integers(0, 8, (6, 4, 4, 2), dtype=np.uint8)
    assert (small(x) == wide(x)).all()
    assert wide.tensors[b.last.name].format == wide.tensors[b.layers[-2].output].format
    assert wide.tensors[b.last.name].format.bits > small.tensors[b.last.name].format.bits


def test_sums_of_codes_are_refused():
    b = branching()
    b.last = b.tensors["x"]
    b.meet([b.last, b.last])
    kind = type(b.layers[-1]).__name__
    network = Network("b", b.tensors, tuple(b.layers), "x", b.last.name, (4, 4, 2), "NHWC", b.last.shape)
    with pytest.raises(ModelError, match=rf"layer 'join.*' \({kind}\) has hardware that depends on its numbers; build "
                                         "without --patchable"):
        widen(network)


@pytest.mark.parametrize("format", [WeightFormat("codebook", 2, None, (-3, 0, 7)),
                                    WeightFormat("float16", 16, None, (9, 12))])
def test_weights_whose_table_stands_in_logic_are_refused(format):
    builder = NetworkBuilder((6,), "uint:4")
    codes = format.encode(np.random.default_rng(1).choice(format.levels, (4, 6)))
    builder.add(Dense, "fc", Weights(codes, format, (format.unit,)))
    with pytest.raises(ModelError, match="layer 'fc' has .* weights, whose table stands in logic .*--patchable"):
        widen(builder.network())
