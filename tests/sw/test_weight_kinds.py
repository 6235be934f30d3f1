"""Ternary weights, powers of two, codebooks and halves: codes, rounding, fits, and networks of them."""

from pathlib import Path

import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.network import Network
from lutloom.quantize import quantize
from lutloom.weights import FormatChoice, WeightFormat, fit

REAL = np.random.default_rng(4).normal(0, 0.1, (12, 40))


def fitted(text, real=REAL):
    choice = FormatChoice.parse(text)
    format, scale, codes = fit(choice.format, real, choice)
    return format, np.array([float(unit) for unit in scale]).reshape(-1, 1), codes


@pytest.mark.parametrize("format", [
    WeightFormat.parse("ternary"), WeightFormat.parse("pow2:2"), WeightFormat.parse("pow2:5"),
    WeightFormat.parse("codebook:5", (-9, -2, 1, 4, 100)), WeightFormat.parse("float16", (9, 13)),
    WeightFormat.parse("float16", (1, 30)),
])
def test_codes_and_levels(format):
    codes = format.encode(format.levels)
    assert codes.dtype == np.uint16 and codes.max() < 1 << format.bits
    assert np.array_equal(format.decode(codes), format.levels)
    assert np.array_equal(format.quantise(format.levels * 0.25, 0.25), codes)
    assert format == WeightFormat.parse(str(format), format.values)


def test_what_codes_stand_for():
    assert WeightFormat.parse("ternary").decode([0, 1, 2, 3]).tolist() == [0, 1, 0, -1]
    assert WeightFormat.parse("pow2:3").decode(range(8)).tolist() == [0, 1, 2, 4, 0, -1, -2, -4]
    assert WeightFormat.parse("codebook:3", (-5, 0, 7)).decode(range(3)).tolist() == [-5, 0, 7]


def test_rounding_is_to_the_nearest_level_and_ties_go_away_from_zero():
    format = WeightFormat.parse("pow2:4")
    real = np.array([0.49, 0.5, 1.5, 3.0, -3.0, 2.9, 48.0, 1e9, -0.1])
    assert format.decode(format.quantise(real, 1)).tolist() == [0, 1, 2, 4, -4, 2, 64, 64, 0]
    book = WeightFormat.parse("codebook:2", (-5, 3))
    assert book.decode(book.quantise(np.array([-0.5, -1.1, 9.0]), 1)).tolist() == [3, -5, 3]


FITTED = "ternary", "ternary@layer", "pow2:3", "codebook:4", "codebook:4@layer", "codebook:8@1"


@pytest.mark.parametrize("text", FITTED)
def test_a_fit_is_better_than_its_neighbours(text):
    format, scale, codes = fitted(text)
    levels = scale * format.decode(codes)
    assert format.bits <= 3 and np.isin(codes, np.arange(1 << format.bits)).all()
    error = np.square(levels - REAL).sum()
    if not text.endswith("@1"):
        for factor in (0.8, 1.25):
            other = format.decode(format.quantise(REAL, scale * factor)) * scale * factor
            assert error < np.square(other - REAL).sum()
    assert error < 0.3 * np.square(REAL).sum()


def test_ternary_of_normal_weights_is_the_known_optimum():
    """Of a normal distribution: levels ±1.2240 beyond ±0.6120, and 0.19017 of its variance is left (Max, 1960)."""
    real = np.random.default_rng(1).normal(size=(1, 200_000))
    format, scale, codes = fitted("ternary@layer", real)
    left = np.square(scale * format.decode(codes) - real).mean()
    assert abs(scale[0, 0] - 1.2240) < 0.01 and abs(left - 0.19017) < 0.002


def test_halves_are_those_of_numpy():
    real = np.array([[1.0, -0.3333, 6.1e-5, 3e-8, 0.0, -0.0, 1e-9, 2.5]])
    format, scale, codes = fitted("float16", real)
    assert np.array_equal(format.decode(codes) * scale, real.astype(np.float16).astype(np.float64))
    assert format.values == (1, 16)
    with pytest.raises(ValueError, match="float16 holds numbers up to 65504, not 70000"):
        fitted("float16", np.array([[7e4]]))


@pytest.mark.parametrize("real", [np.zeros((3, 4)), np.full((3, 4), 0.7), -np.ones((1, 2))])
@pytest.mark.parametrize("text", ["ternary", "pow2:4", "codebook:16", "codebook:2@layer", "float16"])
def test_weights_that_are_all_alike(real, text):
    format, scale, codes = fitted(text, real)
    assert np.allclose(format.decode(codes) * scale, real, atol=0.01 * np.abs(real).max() + 1e-12)


def test_formats_check_their_values():
    with pytest.raises(ValueError, match="codebook entries must ascend within 8 bits, not "):
        WeightFormat("codebook", 2, None, (3, 1))
    with pytest.raises(ValueError, match="float16 values must be a least and a greatest exponent of 1 to 30"):
        WeightFormat("float16", 16, None, (0, 3))
    with pytest.raises(ValueError, match="weight format ternary has no values"):
        WeightFormat("ternary", 2, None, (1,))
    with pytest.raises(ValueError, match="has a format, search_bits, entries or real, and one of them alone"):
        FormatChoice(WeightFormat("int", 4), entries=3)


MODEL = Path(__file__).resolve().parents[2] / "sw" / "examples" / "digits.onnx"


def test_a_network_keeps_its_formats(tmp_path):
    network = quantize(MODEL, weights="codebook:5", calibrate="digits")
    network.save(tmp_path / "n.npz")
    again = Network.load(tmp_path / "n.npz")
    x = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape))
    codes = network.encode(x.astype(np.uint8))
    assert np.array_equal(network(codes), again(codes))
    formats = [layer.weights.format for layer in again.layers if hasattr(layer, "weights")]
    assert all(format.kind == "codebook" and len(format.values) == 5 for format in formats)


def test_float_weights_are_for_simulation_alone():
    with pytest.raises(ModelError, match="cannot have float weights in an integer network; take float16"):
        quantize(MODEL, weights="float", calibrate="digits")


def test_the_last_layer_keeps_what_was_asked_for():
    network = quantize(MODEL, weights="codebook:7", calibrate="digits")
    last = [layer for layer in network.layers if hasattr(layer, "weights")][-1]
    assert len(last.weights.scale) == 1 and len(last.weights.format.values) == 7
