"""Rounding by what layers give for data: less error than nearest rounding, and never more."""

from dataclasses import replace
from pathlib import Path

import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import DataError, ModelError
from lutloom.floating import run, trace
from lutloom.graph import Node
from lutloom.passes.compensate_outputs import Outputs
from lutloom.quantize import fake_quantised, quantize
from lutloom.weights import WeightFormat

MODEL = Path(__file__).resolve().parents[2] / "sw" / "examples" / "digits.onnx"


def correlated(rows, inputs, seed=0):
    """Inputs as layers have them: not centred, and much alike."""
    chance = np.random.default_rng(seed)
    return (np.maximum(chance.normal(size=(rows, 4)) @ chance.normal(size=(4, inputs)), 0)
            + 0.1 * chance.normal(size=(rows, inputs))).astype(np.float32)


@pytest.mark.parametrize("text", ["int:2", "bitmask:X0.X", "ternary", "pow2:3", "binary"])
def test_codes_leave_less_error_than_the_nearest(text):
    format, x = WeightFormat.parse(text), correlated(2000, 90)
    real = np.random.default_rng(2).normal(size=(7, 90))
    scale = np.full(7, 1.0 if text in ("ternary", "binary") else 0.8)
    part = Outputs(slice(7), x, x, real)
    nearest = format.decode(format.quantise(real, scale[:, None])) * scale[:, None]
    chosen = format.decode(part.choose(format, scale)) * scale[:, None]
    errors = [np.var(x @ (real - other).T, axis=0).sum() for other in (nearest, chosen)]
    assert np.allclose([part.error(nearest), part.error(chosen)], errors, rtol=1e-2)
    assert errors[1] < 0.6 * errors[0]


def test_uncorrelated_inputs_are_rounded_to_the_nearest():
    x = np.concatenate([np.eye(8), -np.eye(8)]).astype(np.float32)
    format, real = WeightFormat.parse("int:3"), np.random.default_rng(5).normal(size=(3, 8))
    codes = Outputs(slice(3), x, x, real).choose(format, np.full(3, 0.5))
    assert np.array_equal(codes, format.quantise(real, 0.5))


def test_what_the_layers_in_front_change_is_made_good():
    """The target of inputs that are half of what they were is twice the weights."""
    x, real = correlated(3000, 12), np.random.default_rng(5).normal(size=(3, 12))
    given, wanted = x / 2 @ Outputs(slice(3), x, x / 2, real).target.T, x @ real.T
    assert np.var(given - wanted) < 0.01 * np.var(wanted)


def errors(weights, **choices):
    """Mean square by which the quantised model's logits differ from the model's."""
    graph, options = fake_quantised(MODEL, weights=weights, calibrate="digits", activations="float", **choices)
    plain = replace(graph, nodes=tuple(
        node.with_params(weight=node.params["real_weight"], bias=node.params["real_bias"])
        if "real_weight" in node.params else node for node in graph.nodes))
    x = options.frames[:200]
    logits = graph.nodes[-1].inputs[0] if graph.nodes[-1].op == "argmax" else graph.output
    found, wanted = trace(graph, x)[logits], trace(plain, x)[logits]
    return np.square(found - wanted - (found - wanted).mean(axis=0)).mean()


@pytest.mark.parametrize("weights", ["bitmask:2", "int:3", "codebook:4", "ternary@layer"])
def test_a_model_gains(weights):
    assert errors(weights) < 0.7 * errors(weights, rounding="nearest")


def test_wide_weights_stay_as_they_are():
    by_default, nearest = (quantize(MODEL, weights="int:8", calibrate="digits", rounding=rounding)
                           for rounding in (None, "nearest"))
    x = np.random.default_rng(0).integers(0, 256, (5, *nearest.input_shape)).astype(np.uint8)
    assert np.array_equal(by_default(by_default.encode(x)), nearest(nearest.encode(x)))


def test_scales_of_one_are_kept():
    network = quantize(MODEL, weights="bitmask:X0.0XX", calibrate="digits")
    for layer in network.layers:
        if hasattr(layer, "weights"):
            assert len(layer.weights.scale) == 1


def test_data_are_needed():
    with pytest.raises(DataError, match="weights can only be compensated with calibration data; give them with --cal"):
        fake_quantised(MODEL, weights="int:3", activations="float", rounding="compensated")


def test_nothing_is_changed_without_data():
    graph, _ = fake_quantised(MODEL, weights="int:3", activations="float")
    other, _ = fake_quantised(MODEL, weights="int:3", activations="float", rounding="nearest")
    x = np.random.default_rng(1).random((3, *graph.shapes[graph.input]))
    assert np.array_equal(run(graph, x), run(other, x))


def behind_a_reshape():
    """A vector that becomes an image, a convolution, a dense layer."""
    rng = np.random.default_rng(7)
    graph = exact.chain("model", (4, 4, 1), exact.conv(rng, "c", 6, 1, pads=(1, 1, 1, 1)), exact.relu("r"),
                        ("flatten", "f", {}), exact.dense(rng, "d", 5, 96))
    nodes = [replace(node, inputs=tuple("image" if name == "input" else name for name in node.inputs))
             for node in graph.nodes]
    return replace(graph, nodes=(Node("reshape", "view", ("input",), "image", {}), *nodes), input_shape=(16,),
                   input_layout="NC", shapes={**graph.shapes, "input": (16,), "image": (4, 4, 1)})


def test_reshapes_are_followed():
    """A bug: values were not brought into a reshape's shape."""
    frames = np.random.default_rng(1).random((64, 16))
    network = quantize(behind_a_reshape(), weights="int:4", calibrate=frames)
    assert network(network.encode(frames[:3])).shape == (3, 5)


@pytest.mark.parametrize("weights", ["int:4@1", "ternary@1", "pow2:3@1", "codebook:4@1"])
def test_spelled_out_scales_are_kept(weights):
    """A bug: only those of bit masks were."""
    graph, _ = fake_quantised(MODEL, weights=weights, calibrate="digits", activations="float")
    for node in graph.nodes:
        if "real_weight" in node.params:
            made = node.params["quantised"]
            assert made.scale == (made.format.unit,)


def test_nothing_to_compensate():
    with pytest.raises(ModelError, match="has no layer whose weights can be compensated"):
        quantize(MODEL, weights="float16", rounding="compensated", calibrate="digits")


def test_halves_need_integers():
    """A bug: a dot product refused what the planner gave it, with a traceback."""
    with pytest.raises(ModelError, match="has float16 weights and binary activations, for which there is no"):
        quantize(MODEL, weights="float16", activations="binary", calibrate="digits")


def test_halves_of_all_sizes_move_no_scale():
    """A bug: a multiplier of few bits, or none, moved the scale of activations by percents."""
    weights = np.full((4, 64), 0.01)
    weights[0, :2] = 60000, 6e-8
    graph = exact.chain("wide", (64,), ("dense", "a", {"weight": weights, "bias": np.zeros(4)}), exact.relu("r"),
                        ("dense", "b", {"weight": np.eye(4), "bias": np.zeros(4)}))
    frames = np.random.default_rng(1).random((50, 64))
    by_format = [quantize(graph, weights=text, calibrate=frames) for text in ("float16", "int:8")]
    scales = [float(network.tensors[network.layers[1].output].scale) for network in by_format]
    assert abs(scales[0] / scales[1] - 1) < 0.01
