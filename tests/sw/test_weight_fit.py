"""Fitting real weights: scales, searched patterns, and the accuracy that DESIGN.md section 4 measured."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lutloom.golden.conv import windows
from lutloom.weight_fit import candidates
from lutloom.weights import FormatChoice, WeightFormat, fit

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


@pytest.mark.parametrize("text", ["int:4", "int:8", "binary", "bitmask:X0.0XX", "bitmask:X0.X0XX"])
@pytest.mark.parametrize("scale", ["1", "layer", "channel"])
@pytest.mark.parametrize("rounding", ["nearest", "mask"])
def test_fitted_scales_leave_no_more_error_than_a_fine_grid(text, scale, rounding):
    real = (
        np.random.default_rng(3).normal(scale=0.07, size=(4, 3, 3, 8)) * np.array([1, 2, 4, 0.1])[:, None, None, None]
    )
    choice = FormatChoice.parse(f"{text}@{scale}", rounding)
    format, scales, codes = fit(choice.format, real, choice)
    assert format == choice.format and codes.shape == real.shape and codes.dtype == np.uint16
    assert all(isinstance(s, Fraction) and s > 0 for s in scales)
    assert len(scales) == (4 if scale == "channel" else 1)
    if scale == "1":
        assert scales == (format.unit,)
        return
    rows = real.reshape(4 if scale == "channel" else 1, -1)
    for row, fitted in zip(rows, scales, strict=True):
        top = np.abs(row).max() / max(format.high, 1)
        tried = [_error(format, row, top * part, rounding) for part in np.linspace(0.03, 1.2, 300)]
        assert _error(format, row, float(fitted), rounding) <= 1.05 * min(tried)


def _error(format, row, scale, rounding):
    """Squared error of a row at a scale."""
    return np.square(format.decode(format.quantise(row, scale, rounding)) * scale - row).sum()


@pytest.mark.parametrize("scale", ["1", "layer", "channel"])
def test_search_finds_the_best_pattern(scale):
    real = np.random.default_rng(4).normal(scale=0.06, size=(3, 200))
    choice = FormatChoice.parse(f"bitmask:3@{scale}")
    found, scales, codes = fit(choice.format, real, choice)
    assert found.bits == 3 and len(found.pattern.replace(".", "")) <= 8
    by_hand = {}
    for candidate in candidates(choice):
        one = FormatChoice(candidate, choice.scale)
        _, units, tried = fit(candidate, real, one)
        step = np.array([float(unit) for unit in units])[:, None]
        by_hand[str(candidate)] = np.square(candidate.decode(tried) * step - real).sum()
    assert by_hand[str(found)] <= 1.001 * min(by_hand.values())


def test_search_at_scale_one_takes_the_pattern_whose_range_fits():
    real = np.random.default_rng(5).uniform(-3 / 32, 3 / 32, size=(5, 100))
    found, scale, _ = fit(None, real, FormatChoice.parse("bitmask:3@1"))
    assert (str(found), scale) == ("bitmask:X0.000XX", (Fraction(1, 32),))


def test_candidates_differ():
    free = candidates(FormatChoice.parse("bitmask:4"))
    fixed = candidates(FormatChoice.parse("bitmask:4@1"))
    assert len({format.pattern for format in fixed}) == len(fixed) == 35  # 3 of 7 digits
    assert len(free) == 15 and all(format.pattern[1] == "X" for format in free)  # up to a shift


def test_fit_of_zeros_wide_formats_and_nan():
    choice = FormatChoice.parse("int:4")
    _, scales, codes = fit(choice.format, np.zeros((2, 3)), choice)
    assert not codes.any() and all(scale > 0 for scale in scales)
    wide = FormatChoice.parse("int:16@layer")
    real = np.array([[-1.0, 0.5], [1.0, 0.25]])
    format, (scale,), codes = fit(wide.format, real, wide)
    assert np.abs(format.decode(codes) * float(scale) - real).max() <= float(scale) / 2
    with pytest.raises(ValueError, match="weights must be finite"):
        fit(choice.format, np.array([[np.nan]]), choice)


MEASURED = [
    ("XX.X", "XX.X", "nearest", 0.220),
    ("X0.0XX", "X0.0XX", "mask", 0.980),
    ("X0.0XX", "X0.0XX", "nearest", 0.9885),
    ("X0.X0000X", "X0.X0000X", "mask", 0.114),
    ("X0.0XX", "X0.00XX", "mask", 0.9929),
    ("X0.0XX", "X0.00XX", "nearest", 0.9935),
    ("X0.0X", "X0.0000X", "nearest", 0.9896),
]


def test_accuracy_of_lenet_is_what_design_4_says():
    model, digits = DATA / "models" / "lenet_caffe_mnist.npz", DATA / "mnist" / "mnist.npz"
    if not (model.exists() and digits.exists()):
        pytest.skip(f"no {model} or {digits}: set LUTLOOM_DATA")
    with np.load(model) as file:
        weights = dict(file)
    with np.load(digits) as file:
        images, labels = file["x_test"][::10], file["y_test"][::10]
    for first, second, rounding, full in MEASURED:
        right = _accuracy(weights, first, second, rounding, images, labels)
        assert right == pytest.approx(full, abs=0.025), (first, second, rounding)


def _accuracy(weights, first, second, rounding, images, labels):
    """Of float LeNet with both convolutions in bitmask formats at scale 1."""
    x = (images[..., None] / np.float32(256)).astype(np.float32)
    for name, pattern in (("conv1", first), ("conv2", second)):
        format, real = WeightFormat.bitmask(pattern), weights[f"{name}_weight"]
        w = (format.decode(format.quantise(real, format.unit, rounding)) * float(format.unit)).astype(np.float32)
        patches = windows(x, (5, 5), (1, 1))
        batch, height, width = patches.shape[:3]
        x = patches.reshape(batch * height * width, -1) @ w.transpose(2, 3, 1, 0).reshape(-1, len(w))
        x = (x + weights[f"{name}_bias"]).reshape(batch, height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
    x = x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ weights["ip1_weight"].T + weights["ip1_bias"]
    x = np.maximum(x, 0) @ weights["ip2_weight"].T + weights["ip2_bias"]
    return (x.argmax(axis=1) == labels).mean()
