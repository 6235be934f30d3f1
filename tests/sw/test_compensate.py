"""Rounding by what layers give for data: less error than nearest rounding, and never more."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutloom.errors import DataError
from lutloom.floating import run, trace
from lutloom.passes.compensate import _Data
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
    data = _Data(x, x)
    nearest = format.decode(format.quantise(real, scale[:, None])) * scale[:, None]
    chosen = format.decode(data.choose(data.target(real), format, scale)) * scale[:, None]
    errors = [np.var(x @ (real - other).T, axis=0).sum() for other in (nearest, chosen)]
    assert np.allclose([data.error(real, nearest), data.error(real, chosen)], errors, rtol=1e-2)
    assert errors[1] < 0.6 * errors[0]


def test_uncorrelated_inputs_are_rounded_to_the_nearest():
    x = np.concatenate([np.eye(8), -np.eye(8)]).astype(np.float32)
    format, real = WeightFormat.parse("int:3"), np.random.default_rng(5).normal(size=(3, 8))
    data = _Data(x, x)
    codes = data.choose(data.target(real), format, np.full(3, 0.5))
    assert np.array_equal(codes, format.quantise(real, 0.5))


def test_what_the_layers_in_front_change_is_made_good():
    """The target of inputs that are half of what they were is twice the weights."""
    x, real = correlated(3000, 12), np.random.default_rng(5).normal(size=(3, 12))
    given, wanted = x / 2 @ _Data(x, x / 2).target(real).T, x @ real.T
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
