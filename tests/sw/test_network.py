"""Networks: running and tracing."""

from dataclasses import replace

import numpy as np
import pytest
from small_networks import inputs, lenet, mixed, weights

from lutloom.errors import DataError
from lutloom.formats import Format
from lutloom.golden import execute
from lutloom.golden.conv import conv, dense
from lutloom.golden.multiply import multiply
from lutloom.golden.pool import max_pool, sum_pool
from lutloom.golden.thresholds import thresholds
from lutloom.network import Dense, TopK
from lutloom.network_builder import NetworkBuilder


def test_a_network_is_its_layers_one_by_one():
    network = mixed().network()
    codes = inputs(network, 9)
    layers = {layer.name: layer for layer in network.layers}
    w = {name: layer.weights.integers for name, layer in layers.items() if hasattr(layer, "weights")}
    held = {"input": codes.astype(np.int64)}
    held["conv"] = conv(held["input"], w["conv"], pads=(1, 1, 1, 1), pad_value=128)
    held["signed"] = _thresholds(held["conv"], layers["signed"])
    held["rising"] = max_pool(held["signed"], (2, 2), (1, 1), (0, 0, 1, 1))
    held["depthwise"] = conv(held["rising"], w["depthwise"], pads=(1, 1, 1, 1), groups=4)
    held["sign"] = _thresholds(held["depthwise"], layers["sign"])
    held["falling"] = max_pool(held["sign"], (2, 2), (1, 1))
    held["bipolar"] = conv(2 * held["falling"].astype(int) - 1, w["bipolar"], pads=(1, 1, 0, 0), pad_value=0)
    m = layers["scaled"]
    held["scaled"] = multiply(held["bipolar"], m.multiplier, m.shift, m.offset, m.fraction, -2, -32, 31)
    held["average"] = sum_pool(held["scaled"], (2, 2), (2, 2), (0, 0, 1, 1), layers["average"].factors, -2)
    held["wide"] = _thresholds(held["average"], layers["wide"])
    held["flat"] = held["wide"].reshape(9, -1)
    held["dense"] = dense(held["flat"], w["dense"])
    held["bias"] = held["dense"].astype(np.int64) + layers["bias"].values
    trace = network.trace(codes)
    assert set(trace) == set(held)
    for name, array in held.items():
        tensor = network.tensors[name]
        assert trace[name].dtype == tensor.format.dtype() and trace[name].shape[1:] == tensor.shape, name
        assert np.array_equal(trace[name], array), name
        assert tensor.low <= trace[name].min() and trace[name].max() <= tensor.high, name
    assert np.array_equal(network(codes), trace["bias"]) and network(codes).dtype == trace["bias"].dtype


def _thresholds(acc, layer):
    return thresholds(acc.astype(np.int64), layer.values, layer.falling, layer.base)


@pytest.mark.parametrize("seed", range(6))
def test_calling_equals_tracing(seed):
    network = mixed(seed).network()
    codes = inputs(network, 20, seed)
    assert np.array_equal(network(codes), network.trace(codes)["bias"])


@pytest.mark.parametrize("steps", [15, 255])
def test_lenet_calling_equals_tracing_and_does_something(steps):
    network = lenet(steps)
    codes = inputs(network, 70)
    trace = network.trace(codes)
    assert np.array_equal(network(codes), trace["fc2"])
    for name in ("quant0", "quant1", "quant2"):
        assert len(np.unique(trace[name])) > 7
    assert len(np.unique(trace["fc2"])) > 100


def test_pooling_moves_only_in_front_of_rising_requantisers_that_nobody_else_reads():
    network = lenet()
    assert [name for name, _, _ in execute._pool_first(network.layers, {network.output})][:6] == [
        "conv0", "pool0", "quant0", "conv1", "pool1", "quant1",
    ]
    other = mixed().network()
    names = [name for name, _, _ in execute._pool_first(other.layers, {other.output})]
    assert names.index("rising") < names.index("signed") and names.index("sign") < names.index("falling")


def test_a_flipped_weight_bit_shows():
    network = mixed().network()
    codes, layer, wide = inputs(network, 30), network.layers[0], Format("int", 21)
    flipped = layer.weights.codes.copy()
    flipped[2, 1, 1, 0] ^= 1
    changed = replace(layer, weights=replace(layer.weights, codes=flipped))
    roomy = replace(network.tensors["conv"], low=wide.code_low, high=wide.code_high, format=wide)
    wrong = replace(network, tensors={**network.tensors, "conv": roomy}, layers=(changed, *network.layers[1:]))
    assert not np.array_equal(network.trace(codes)["conv"], wrong.trace(codes)["conv"])


def test_a_threshold_off_by_one_shows():
    network = mixed().network()
    codes, quant = inputs(network, 30), network.layers[1]
    occurring = np.sort(network.trace(codes)["conv"][..., 0], axis=None)
    traces = []
    for step in (0, 1):
        values = quant.values.copy()
        values[0] = np.minimum(values[0], occurring[len(occurring) // 2])
        values[0, -1] = occurring[len(occurring) // 2] + step
        layers = network.layers[0], replace(quant, values=values), *network.layers[2:]
        traces.append(replace(network, layers=layers).trace(codes)["signed"])
    assert not np.array_equal(*traces) and (traces[0] - traces[1]).max() == 1


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65])
def test_batches_of_any_size(count):
    network = mixed().network()
    all_at_once = network(inputs(network, 80))
    assert np.array_equal(network(inputs(network, 80)[:count]), all_at_once[:count])
    assert network.trace(inputs(network, 80)[:count])["flat"].shape[0] == count


def test_top_k_at_the_end():
    builder = mixed()
    builder.add(TopK, "best", 2)
    network = builder.network()
    codes = inputs(network, 40)
    logits = network.trace(codes)["bias"]
    wanted = [sorted(range(5), key=lambda index: (-row[index], index))[:2] for row in logits.astype(int)]
    assert network(codes).tolist() == wanted
    assert network.tensors["best"].format.bits == 3


def test_accumulators_that_need_64_bits():
    rng = np.random.default_rng(20)
    builder = NetworkBuilder((300,), "uint:16")
    builder.add(Dense, "first", weights(rng, (40, 300), "int:16"))
    builder.add(Dense, "second", weights(rng, (5, 40), "int:16"))
    network = builder.network()
    codes = inputs(network, 5)
    first, second = (layer.weights.integers.astype(object) for layer in network.layers)
    assert np.array_equal(network(codes).astype(object), codes.astype(object) @ first.T @ second.T)
    assert network.tensors["second"].high >= 1 << 53


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.zeros((1, 7, 6, 3), np.float32), "a network takes integer codes, not float32; encode()"),
        (np.zeros((1, 3, 7, 6), np.uint8), r"takes codes of shape ('batch', 7, 6, 3), not (1, 3, 7, 6)"),
        (np.zeros((7, 6, 3), np.uint8), r"takes codes of shape ('batch', 7, 6, 3), not (7, 6, 3)"),
        (np.full((1, 7, 6, 3), 256), "takes codes from 0 to 255, not 256 to 256"),
    ],
)
def test_wrong_codes(codes, message):
    with pytest.raises(DataError) as caught:
        mixed().network()(codes)
    assert message in str(caught.value)
