from fractions import Fraction

import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import DataError
from lutloom.floating import run
from lutloom.passes.calibrate import calibrate
from lutloom.passes.compensate import as_it_was
from lutloom.passes.grids import code_grid
from lutloom.passes.ranges import Histogram, find_range
from lutloom.passes.rewire import with_nodes
from lutloom.quantize import prepared


def squared_error(values, found, bits):
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if found.signed else (0, (1 << bits) - 1)
    codes = np.clip(np.floor(values / found.scale + found.zero_point + 0.5), low, high)
    return np.mean(np.square((codes - found.zero_point) * found.scale - values))


def test_least_squares_is_near_the_best_of_all_scales():
    values = np.maximum(np.random.default_rng(0).laplace(size=50000), 0)
    for bits in (2, 4, 8):
        found = find_range(Histogram.of(values), bits, "mse")
        tried = [type(found)(scale, 0, False) for scale in np.linspace(0.01, values.max(), 400) / ((1 << bits) - 1)]
        assert (found.zero_point, found.signed) == (0, False)
        best = min(squared_error(values, one, bits) for one in tried)
        assert squared_error(values, found, bits) <= 1.03 * best


def test_min_max_reaches_the_ends():
    values = np.array([0.0, 1.0, 7.5])
    assert find_range(Histogram.of(values), 4, "minmax").scale == pytest.approx(0.5)
    found = find_range(Histogram.of(np.array([-1.0, 0.0, 14.0])), 4, "minmax")
    assert (found.signed, found.zero_point, found.scale) == (False, 1, pytest.approx(1.0))
    assert find_range(Histogram.of(np.array([-8.0, 0.0, 7.0])), 4, "minmax").scale == pytest.approx(1.0)


def test_percentile_leaves_outliers_out():
    values = np.append(np.random.default_rng(1).uniform(0, 1, 100000), 1000.0)
    assert find_range(Histogram.of(values), 8, "percentile").scale == pytest.approx(1 / 255, rel=0.01)


def test_symmetric_values_are_signed_and_lopsided_ones_take_a_zero_point():
    rng = np.random.default_rng(2)
    normal = rng.normal(size=50000)
    assert find_range(Histogram.of(np.append(normal, -normal)), 8, "mse").signed
    lopsided = rng.normal(size=50000) + 1.5
    found = find_range(Histogram.of(lopsided), 4, "mse")
    assert not found.signed and 0 < found.zero_point < 6
    assert squared_error(lopsided, found, 4) < 0.8 * squared_error(
        lopsided, find_range(Histogram.of(lopsided), 4, "mse", may_shift=False), 4
    )


@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 3.0), np.full(10, -3.0)])
@pytest.mark.parametrize("method", ["mse", "minmax", "percentile"])
def test_constants(values, method):
    found = find_range(Histogram.of(values), 4, method)
    assert found.scale > 0 and squared_error(values, found, 4) < 0.1


def test_a_histogram_keeps_zero_apart():
    values = np.array([0.0] * 100 + [1.0, 2.0, 3.0])
    histogram = Histogram.of(values)
    assert histogram.counts[histogram.centres == 0].sum() == 100 and histogram.counts.sum() == 103


def network(rng, *extra):
    return exact.chain(
        "net",
        (8, 8, 1),
        exact.conv(rng, "c1", 4, 1),
        exact.maxpool("p"),
        exact.relu("r"),
        *extra,
        exact.conv(rng, "c2", 4, 4),
        ("flatten", "f", {}),
        exact.dense(rng, "d", 3, 4),
    )


def calibrated(graph, frames=20, **choices):
    x = np.random.default_rng(3).integers(0, 256, (frames, *graph.shapes["input"])).astype(np.uint8)
    graph, options = prepared(graph, calibrate=x, **choices)
    from lutloom.passes.weigh import weigh

    return calibrate(weigh(graph, options), options), options


def test_quantisers_stand_in_front_of_every_layer():
    graph, options = calibrated(network(np.random.default_rng(4)), activations=4)
    quants = [node for node in graph.nodes if node.op == "quant"]
    assert [graph.consumers(node.output)[0].name for node in quants] == ["c2", "d"]
    assert [node.params["bits"] for node in quants] == [4, 4]
    assert not quants[0].params["signed"] and quants[0].params["zero_point"] == 0  # behind a relu
    assert code_grid(graph, quants[0].output, options.input) == (Fraction(float(quants[0].params["scale"])), 0)


def test_layers_see_what_quantised_layers_before_them_give():
    rng = np.random.default_rng(5)
    graph, _ = calibrated(network(rng), activations=1)
    first, second = (node for node in graph.nodes if node.op == "quant")
    assert first.params["bits"] == 1
    again, _ = calibrated(network(np.random.default_rng(5)), activations=8)
    assert second.params["scale"] != next(n for n in again.nodes if n.name == second.name).params["scale"]


def test_pools_that_average_get_codes_and_uneven_ones_no_zero_point():
    rng = np.random.default_rng(6)
    graph = exact.chain(
        "net",
        (6, 6, 1),
        exact.conv(rng, "c1", 2, 1),
        exact.avgpool("p", 3, 2, (0, 0, 1, 1), [[9, 6], [6, 4]]),
        exact.conv(rng, "c2", 2, 2, 2),
    )
    graph, _ = calibrated(graph)
    quants = [node for node in graph.nodes if node.op == "quant"]
    assert len(quants) == 2 and quants[0].params["zero_point"] == 0


@pytest.mark.parametrize(("most", "end"), [(4096, ["flatten", "affine", "bipolarquant"]),
                                           (0, ["affine", "bipolarquant", "flatten"])])
def test_binary_activations_are_signs_and_drop_the_relu(monkeypatch, most, end):
    """Behind a flatten each value has a threshold of its own, of large maps each channel."""
    monkeypatch.setattr("lutloom.passes.calibrate.MOST_FEATURES", most)
    graph, _ = calibrated(network(np.random.default_rng(7)), activations="binary")
    threshold = ["affine", "bipolarquant"]  # minus a threshold
    assert [node.op for node in graph.nodes] == ["conv", "maxpool", *threshold, "conv", *end, "dense"]
    assert all(node.params["scale"] > 0 for node in graph.nodes if node.op == "bipolarquant")


def test_an_input_normalised_by_channel_in_front_of_padding_gets_eight_bits():
    rng = np.random.default_rng(8)
    graph = exact.chain(
        "net", (4, 4, 2), exact.affine("norm", [2.0, 3.0], [-0.7, 0.2]), exact.conv(rng, "c", 2, 2, pads=(1, 1, 1, 1))
    )
    graph, _ = calibrated(graph, activations=2)
    assert [node.op for node in graph.nodes] == ["affine", "quant", "conv"] and graph.nodes[1].params["bits"] == 8


def test_a_model_with_its_own_quantisers_needs_no_data():
    rng = np.random.default_rng(9)
    graph, options = prepared(
        exact.chain(
            "own",
            (4, 4, 1),
            exact.conv(rng, "c", 2, 1, quant=4),
            exact.quant("q", 0.5, 4),
            exact.conv(rng, "c2", 2, 2, 2, quant=4),
        )
    )
    assert calibrate(graph, options) is graph


def test_missing_data_are_asked_for():
    graph, options = prepared(network(np.random.default_rng(10)))
    with pytest.raises(DataError, match="layer 'c2' takes real numbers, .* give data for it with --calibrate"):
        calibrate(graph, options)


def first_scale(weights, rounding=None, frames=200):
    graph, _ = calibrated(network(np.random.default_rng(4)), frames=frames, weights=weights, rounding=rounding)
    return float(next(node for node in graph.nodes if node.op == "quant").params["scale"])


def test_what_will_be_compensated_gives_what_its_real_weights_give():
    real = first_scale("int:16", "nearest")
    assert first_scale("binary") == pytest.approx(real, rel=1e-3)
    for scale in (first_scale("binary", "nearest"), first_scale("binary", frames=50)):  # too few to compensate
        assert abs(scale / real - 1) > 0.02


def test_biases_make_good_what_signs_lose_on_average():
    """In front of compensation both the quantised layer and the real one that it is held against."""
    graph, options = calibrated(network(np.random.default_rng(7)), frames=200, weights="binary", activations="binary")
    given = network(np.random.default_rng(7))
    wanted = run(given, options.frames).mean(axis=0)
    found = run(with_nodes(graph, {node.output: as_it_was(node) for node in graph.nodes}), options.frames).mean(axis=0)
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
