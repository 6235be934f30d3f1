import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.graph import WeightQuant
from lutloom.network import Thresholds
from lutloom.passes.snap import snap
from lutloom.passes.weigh import source_weights, weigh
from lutloom.quantize import fake_quantised, prepared, quantize


def weighed(graph, **choices):
    graph, options = prepared(graph, **choices)
    return {node.name: node.params["quantised"] for node in weigh(graph, options).nodes if "quantised" in node.params}


def two_layers(rng, **last):
    return exact.chain(
        "net", (6,), exact.dense(rng, "fc1", 5, 6), exact.relu("r"), exact.dense(rng, "fc2", 4, 5, **last)
    )


def source(codes, scale=0.5, zero=0, bits=4, kind="int", signed=True):
    quant = WeightQuant(kind, np.asarray(codes), np.asarray(scale, float), np.asarray(zero), bits, signed)
    real = (quant.codes - quant.zero_point.reshape(-1, 1)) * quant.scale.reshape(-1, 1)
    graph = exact.chain("own", (3,), ("dense", "fc", {"weight": real, "bias": None, "weight_quant": quant}))
    return graph.nodes[0], real


def test_formats_by_layer_and_what_they_stand_for():
    rng = np.random.default_rng(1)
    graph = two_layers(rng)
    weights = weighed(graph, weights="fc1=bitmask:X0.0XX,*=int:4@layer")
    assert {name: str(one.format) for name, one in weights.items()} == {"fc1": "bitmask:X0.0XX", "fc2": "int:4"}
    prepared_graph, options = prepared(graph, weights="fc1=int:3")
    for node in weigh(prepared_graph, options).nodes:
        if "quantised" in node.params:
            real = (
                node.params["quantised"].integers
                * np.array([float(s) for s in node.params["quantised"].scale])[:, None]
            )
            np.testing.assert_allclose(node.params["weight"], real)
            assert np.abs(real - graph.producer(node.output).params["weight"]).max() < 0.5


def test_rounding_of_masked_bits():
    rng = np.random.default_rng(2)
    nearest, mask = (
        weighed(two_layers(rng_), weights="bitmask:X0.X0X", rounding=rounding)["fc1"].integers
        for rng_, rounding in ((np.random.default_rng(2), "nearest"), (np.random.default_rng(2), "mask"))
    )
    assert rng is not None and (nearest != mask).any()


def test_last_layer_shares_a_scale_unless_a_quantiser_stands_behind_it():
    rng = np.random.default_rng(3)
    assert [len(one.scale) for one in weighed(two_layers(rng)).values()] == [5, 1]
    ended = exact.chain("net", (6,), exact.dense(rng, "fc1", 5, 6), exact.quant("q", 0.5, 4))
    assert len(weighed(ended)["fc1"].scale) == 5
    assert len(weighed(two_layers(rng), weights="fc1=int:4,fc2=int:4@channel")["fc2"].scale) == 4
    assert len(weighed(two_layers(rng), weights="fc1=int:4@channel,fc2=int:4")["fc2"].scale) == 1


@pytest.mark.parametrize("codes, zero, bits, signed, stored", [
    ([[1, -8, 7]], 0, 4, True, 4),
    ([[1, 0, 15]], 0, 4, False, 5),
    ([[1, 0, 15]], 8, 4, False, 4),
    ([[-8, 7, 0], [7, -8, 1]], [3, -2], 4, True, 5),
])
def test_integer_weights_of_the_source(codes, zero, bits, signed, stored):
    node, real = source(codes, zero=zero, bits=bits, signed=signed)
    weights = source_weights(node)
    assert str(weights.format) == f"int:{stored}"
    np.testing.assert_array_equal(weights.integers * 0.5, real)


def test_bipolar_weights_of_the_source():
    node, _ = source([[1, -1, 1]], kind="bipolar", bits=1)
    weights = source_weights(node)
    assert str(weights.format) == "binary" and weights.integers.tolist() == [[1, -1, 1]]


@pytest.mark.parametrize("change, text", [
    ({"scale": -0.5}, "layer 'fc' has a weight scale of -0.5, but scales must be positive"),
    ({"zero": 0.5}, "layer 'fc' has a weight zero point that is not an integer"),
    ({"codes": [[1 << 17, 0, 0]], "bits": 18}, "layer 'fc' has weights of 19 bits, but at most 16"),
])
def test_bad_weights_of_the_source(change, text):
    node, _ = source(**{"codes": [[1, 2, 3]], **change})
    with pytest.raises(ModelError, match=text):
        source_weights(node)


def test_layers_of_zeros():
    rng = np.random.default_rng(4)
    graph = two_layers(rng)
    graph.nodes[0].params["weight"][...] = 0
    x = rng.integers(0, 256, (20, 6)).astype(np.uint8)
    for bits in (4, 8):
        network = quantize(graph, calibrate=x, activations=bits)
        assert (network(x) == network(x)[:1]).all()


def test_weights_of_the_source_are_not_snapped():
    """Where the source's own scales leave no exact multiplier, thresholds are used."""
    rng = np.random.default_rng(5)
    graph = exact.chain(
        "mixed", (6,), exact.dense(rng, "fc1", 5, 6, quant=4), exact.relu("r"), exact.dense(rng, "fc2", 4, 5)
    )
    quant = graph.nodes[0].params["weight_quant"]
    object.__setattr__(quant, "scale", np.array([0.1, 0.3, 0.7, 0.11, 0.13]))
    graph.nodes[0].params["weight"][...] = quant.codes * quant.scale[:, None]
    x = rng.integers(0, 256, (20, 6)).astype(np.uint8)
    fake, options = fake_quantised(graph, calibrate=x)
    assert [float(s) for s in fake.nodes[0].params["quantised"].scale] == quant.scale.tolist()
    network = quantize(graph, calibrate=x)
    assert isinstance(network.layers[1], Thresholds) and network.layers[1].values.shape == (5, 255)
    tensor = network.tensors[network.output]
    for frame, codes in zip(x[:3], network(x[:3]), strict=True):
        wanted = exact.run(fake, frame, options.input)
        np.testing.assert_array_equal((exact.rationals(codes) - tensor.zero_point) * tensor.scale, wanted)


def test_snapping_again_changes_nothing():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (20, 6)).astype(np.uint8)
    fake, options = fake_quantised(two_layers(rng), calibrate=x)
    again = snap(fake, options)
    for node, other in zip(fake.nodes, again.nodes, strict=True):
        if "quantised" in node.params:
            assert node.params["quantised"].scale == other.params["quantised"].scale
