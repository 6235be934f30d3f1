"""Channels that do nothing leave the network, and its outputs stay what they were."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import requantise, weights

from lutloom.board import load_board
from lutloom.emit import write_rtl
from lutloom.errors import ModelError
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, SumPool, Thresholds, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.passes.trim import trim
from lutloom.passes.verify import verify
from lutloom.planner import plan_network
from lutloom.sim.random_network import random_inputs, random_network
from lutloom.simulate import simulate
from lutloom.weight_format import WeightFormat
from lutloom.weight_groups import codes_of

INT4 = "int:4"


def without(array, rows=(), columns=()):
    """Weights with some rows and some input channels zero."""
    codes = array.codes.copy()
    codes[list(rows)] = 0
    codes[..., list(columns)] = 0
    return replace(array, codes=codes)


def network(rows=(), columns=(), pads=(0, 0, 0, 0), pool=MaxPool, multiply=False, sparse=False):
    """conv, requantiser, pool, depthwise, conv, flatten, dense; the first conv's channels are what is looked at."""
    rng = np.random.default_rng(5)
    builder = NetworkBuilder((9, 9, 2), "uint:4")
    builder.add(Conv, "a", replace(without(weights(rng, (6, 3, 3, 2), INT4), rows=rows), sparse=sparse))
    requantise(builder, rng, "qa", 7, "uint:3", falling=True)
    if pool is MaxPool:
        builder.add(MaxPool, "pool", (2, 2), (2, 2))
    else:
        builder.add(SumPool, "pool", (2, 2), (2, 2), (0, 0, 0, 0), np.ones((3, 3), np.int64), 0)
        requantise(builder, rng, "qp", 7, "uint:3")
    builder.add(Conv, "b", without(weights(rng, (5, 2, 2, 6), INT4), columns=columns), pads=pads)
    if multiply:
        count = builder.last.shape[-1]
        builder.add(Multiply, "qb", np.full(count, 9), np.full(count, 8), np.arange(count) * 3, np.zeros(count, int),
                    0, 0, 15, format="uint:4")
    else:
        requantise(builder, rng, "qb", 15, "uint:4", falling=True)
    builder.add(Flatten, "flatten")
    builder.add(Dense, "c", weights(rng, (7, builder.last.shape[0]), INT4))
    builder.add(Offset, "oc", rng.integers(-9, 9, 7))
    return builder.network()


def same(before, after):
    x = random_inputs(before, 20, 3)
    return np.array_equal(before(x), verify(after)(x))


def shapes(network):
    return {layer.name: layer.weights.codes.shape for layer in network.layers if hasattr(layer, "weights")}


def test_nothing_to_do():
    given = network()
    assert trim(given) is given or shapes(trim(given)) == shapes(given)
    assert "removed" not in trim(given).info


@pytest.mark.parametrize("pool", [MaxPool, SumPool])
def test_what_nobody_reads_goes(pool):
    given = network(columns=(0, 4), pool=pool)
    found = trim(given)
    assert shapes(found)["a"] == (4, 3, 3, 2) and shapes(found)["b"] == (5, 2, 2, 4)
    assert found.info["removed"] == "a 2" and same(given, found)


@pytest.mark.parametrize("multiply", [False, True])
@pytest.mark.parametrize("pool", [MaxPool, SumPool])
def test_constants_go_into_the_requantiser(multiply, pool):
    given = network(rows=(1, 2), multiply=multiply, pool=pool)
    found = trim(given)
    assert shapes(found)["a"] == (4, 3, 3, 2) and same(given, found)


def test_constants_behind_a_pad_stay():
    """At the rim a window reads padding in their place."""
    given = network(rows=(1, 2), pads=(1, 1, 0, 0))
    found = trim(given)
    code = given.run(random_inputs(given, 1, 0), ("pool",))["pool"][0, 0, 0, 1:3]
    gone = sum(int(one == given.tensors["pool"].zero_point) for one in code) if (code == 0).all() else 0
    assert len(found.layers[0].weights.codes) == 6 - gone and same(given, found)


def test_all_that_is_dead_leaves_one_channel():
    given = network(columns=range(6))
    found = trim(given)
    assert shapes(found)["a"][0] == 1 and same(given, found)


def test_through_a_flattening():
    rng = np.random.default_rng(2)
    builder = NetworkBuilder((4, 4, 3), "uint:4")
    builder.add(Conv, "a", weights(rng, (5, 2, 2, 3), INT4))
    requantise(builder, rng, "qa", 15, "uint:4")
    builder.add(Flatten, "flatten")
    unread = [place * 5 + 3 for place in range(9)]
    builder.add(Dense, "b", without(weights(rng, (4, 45), INT4), columns=unread))
    given = builder.network()
    found = trim(given)
    assert shapes(found) == {"a": (4, 2, 2, 3), "b": (4, 36)} and same(given, found)


def test_through_a_depthwise_convolution():
    rng = np.random.default_rng(2)
    builder = NetworkBuilder((6, 6, 3), "uint:4")
    builder.add(Conv, "a", weights(rng, (5, 1, 1, 3), INT4))
    requantise(builder, rng, "qa", 15, "uint:4")
    builder.add(Conv, "depthwise", weights(rng, (5, 3, 3, 1), INT4), groups=5)
    requantise(builder, rng, "qd", 15, "uint:4")
    builder.add(Conv, "b", without(weights(rng, (4, 1, 1, 5), INT4), columns=[2]))
    given = builder.network()
    found = trim(given)
    assert shapes(found) == {"a": (4, 1, 1, 3), "depthwise": (4, 3, 3, 1), "b": (4, 1, 1, 4)} and same(given, found)
    assert next(layer for layer in found.layers if layer.name == "depthwise").groups == 4


def test_one_goes_after_the_other():
    """What only a dead channel reads is dead too."""
    rng = np.random.default_rng(9)
    builder = NetworkBuilder((8,), "uint:4")
    builder.add(Dense, "a", weights(rng, (6, 8), INT4))
    requantise(builder, rng, "qa", 15, "uint:4")
    second = weights(rng, (5, 6), INT4)
    codes = np.where(second.codes == 0, 1, second.codes)
    codes[:4, 2] = 0  # channel 2 is read by output 4 alone
    builder.add(Dense, "b", replace(second, codes=codes))
    requantise(builder, rng, "qb", 15, "uint:4")
    third = weights(rng, (3, 5), INT4)
    codes = np.where(third.codes == 0, 1, third.codes)
    codes[:, 4] = 0
    builder.add(Dense, "c", replace(third, codes=codes))
    given = builder.network()
    found = trim(given)
    assert shapes(found) == {"a": (5, 8), "b": (4, 5), "c": (3, 4)} and same(given, found)


def test_outputs_are_sorted_where_zeros_are_skipped():
    rng = np.random.default_rng(11)
    given = network(sparse=True)
    codes = given.layers[0].weights.codes * (rng.random((6, 3, 3, 2)) < rng.random(6)[:, None, None, None])
    given = replace(given, layers=(replace(given.layers[0], weights=replace(given.layers[0].weights, codes=codes)),
                                   *given.layers[1:]))
    found = trim(given)
    counts = np.count_nonzero(found.layers[0].weights.integers.reshape(len(found.layers[0].weights.codes), -1), axis=1)
    assert (np.diff(counts) >= 0).all() and same(given, found)


def test_hardware_of_what_is_left_gives_what_all_of_it_gave(tmp_path):
    given = network(columns=(0, 4), rows=(1,))
    found = trim(given)
    write_rtl(found, plan_network(found, load_board("icebreaker").chip, clock_mhz=24), tmp_path)
    found.save(tmp_path / "network.npz")
    x = random_inputs(given, 4, 1)
    assert simulate(tmp_path, x, count=4, jobs=1).differ == 0 and np.array_equal(given(x), found(x))


def pruned_at_random(seed):
    """A random network with rows and columns of zeros where weights can be zero; None where its ranges break."""
    rng, given, layers = np.random.default_rng(seed), random_network(seed), []
    for layer in given.layers:
        if hasattr(layer, "weights") and 0 in layer.weights.format.levels and layer.weights.format.group == 1:
            codes, zero = layer.weights.codes.copy(), layer.weights.format.encode([0])[0]
            codes[rng.random(len(codes)) < 0.4] = zero
            codes[..., rng.random(codes.shape[-1]) < 0.4] = zero
            layer = replace(layer, weights=replace(layer.weights, codes=codes, sparse=bool(rng.random() < 0.3)))
        layers.append(layer)
    try:
        return verify(replace(given, layers=tuple(layers)))
    except ModelError:
        return None


def test_random_networks():
    """Readers of every format, thresholds, multipliers and offsets behind them."""
    removed = 0
    for given in filter(None, map(pruned_at_random, range(300))):
        found = trim(given)
        removed += "removed" in found.info
        assert same(given, found), given.name
    assert removed > 80


def test_a_constant_in_front_of_the_last_bias_widens_the_output():
    """The network's last sums have a range for all channels together, which one bias alone may leave."""
    builder = NetworkBuilder((2,), "uint:4")
    format = WeightFormat.parse("int:4")
    builder.add(Dense, "a", Weights(format.encode(np.array([[1, 1], [0, 0]])), format, (1,)))
    builder.add(Thresholds, "qa", np.array([[5, 9, 12], [0, 0, 0]]), np.zeros(2, bool), 0, format="uint:2")
    builder.add(Dense, "b", Weights(format.encode(np.array([[7, -7], [-7, 7]])), format, (1,)))
    builder.add(Offset, "ob", np.array([-50, 50]))
    given = builder.network()
    found = trim(given)
    assert shapes(found) == {"a": (1, 2), "b": (2, 1)} and same(given, found)


@pytest.mark.parametrize("text", ["binary", "codebook:2", "codebook:3x2"])
def test_readers_that_hold_no_single_zero_keep_constants(text):
    values = {"codebook:2": (-3, 5), "codebook:3x2": (1, 2, 3, 4, 5, 6)}.get(text, ())
    format, rng = WeightFormat.parse(text, values), np.random.default_rng(4)
    builder = NetworkBuilder((4,), "uint:4")
    first = without(weights(rng, (6, 4), INT4), rows=[2])
    builder.add(Dense, "a", replace(first, sparse=True))
    requantise(builder, rng, "qa", 15, "uint:4")
    if format.group > 1:
        codes = codes_of(rng.integers(0, 3, (5, 3)), (5, 6), 2)
    else:
        codes = rng.integers(0, 2, (5, 6)).astype(np.uint16)
    builder.add(Dense, "b", Weights(codes, format, (1,)))
    requantise(builder, rng, "qb", 15, "uint:4")
    builder.add(Dense, "c", weights(rng, (3, 5), INT4))
    given = builder.network()
    found = trim(given)
    assert shapes(found)["b"] == (5, 6) and same(given, found)
