"""Intervals are attained, and nothing leaves them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lutloom.formats import Format
from lutloom.golden.conv import conv
from lutloom.intervals import accumulator_range, channel_ranges, output_range, pad_value
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, SumPool, Tensor, Thresholds, TopK, Weights
from lutloom.weights import WeightFormat


def tensor(shape, format, low=None, high=None, zero=0):
    format = Format.parse(format)
    low, high = (format.code_low if low is None else low), (format.code_high if high is None else high)
    return Tensor("x", shape, format, Fraction(1), Fraction(zero), low, high)


def weights(shape, format="int:4", seed=0):
    format = WeightFormat.parse(format)
    codes = np.random.default_rng(seed).integers(0, 1 << format.bits, shape).astype(np.uint16)
    return Weights(codes, format, (format.unit,))


INPUTS = [
    tensor((4, 5, 2), "uint:4"),
    tensor((4, 5, 2), "uint:4", 3, 9),  # zero is no code that occurs, but padding brings it
    tensor((4, 5, 2), "int:8", -100, -20, -3),
    tensor((4, 5, 2), "uint:8", 0, 255, 128),
    tensor((4, 5, 2), "bipolar"),
    tensor((1, 1, 2), "uint:4", 5, 15),
    tensor((2, 1, 2), "bipolar"),
]


def attained(layer, source):
    """Least and greatest accumulator, by running the input that is worst for each position and output."""
    w, values = layer.weights.integers, [int(source.format.values(code)) for code in (source.low, source.high)]
    geometry = {"stride": layer.stride, "dilation": layer.dilation, "pads": layer.pads, "pad_value": pad_value(source)}
    still = conv(np.zeros((1, *source.shape), int), w, **{**geometry, "pad_value": 0})
    lows, highs = [], []
    for place in np.ndindex(still.shape):
        gradient = np.zeros(source.shape)
        for pixel in np.ndindex(source.shape):
            one = np.zeros((1, *source.shape), int)
            one[(0, *pixel)] = 1
            gradient[pixel] = conv(one, w, **{**geometry, "pad_value": 0})[place]
        for sign, kept in ((-1, lows), (1, highs)):
            x = np.where(sign * gradient >= 0, values[1], values[0])[None]
            kept.append(int(conv(x, w, **geometry)[place]))
    return min(lows), max(highs)


@pytest.mark.parametrize("source", INPUTS, ids=str)
@pytest.mark.parametrize("pads, stride, dilation", [((0, 0, 0, 0), (1, 1), (1, 1)), ((1, 1, 1, 1), (2, 1), (1, 2))])
def test_conv_ranges_are_attained(source, pads, stride, dilation):
    if source.shape[0] < 3:
        pads = (1, 1, 1, 1)  # every window of a tiny input holds padding
    dilation = dilation if source.shape[1] > 3 else (1, 1)
    layer = Conv("c", "x", "y", weights((2, 3, 3, 2) if source.shape[0] > 1 else (2, 3, 3, 2)), stride, dilation, pads)
    if source.shape == (2, 1, 2):
        layer = replace(layer, weights=weights((2, 2, 3, 2)))
    assert accumulator_range(layer, source) == attained(layer, source)


def test_grouped_conv_ranges():
    layer = Conv("c", "x", "y", weights((4, 3, 3, 1)), groups=4)
    source = tensor((5, 5, 4), "uint:8")
    lows, highs = channel_ranges(layer, source)
    w = layer.weights.integers.reshape(4, -1)
    assert lows.tolist() == (np.minimum(w, 0).sum(axis=1) * 255).tolist()
    assert highs.tolist() == (np.maximum(w, 0).sum(axis=1) * 255).tolist()


def test_dense_ranges():
    layer = Dense("d", "x", "y", weights((3, 40), "bitmask:X0.X0XX"))
    for source in (tensor((40,), "int:3"), tensor((40,), "bipolar")):
        values = source.format.value_low, source.format.value_high
        ends = np.stack([layer.weights.integers * value for value in values])
        assert accumulator_range(layer, source) == (
            ends.min(axis=0).sum(axis=1).min(),
            ends.max(axis=0).sum(axis=1).max(),
        )


def test_ranges_beyond_64_bits():
    format = WeightFormat("int", 16)
    layer = Dense("d", "x", "y", Weights(np.full((1, 4), 0x8000, np.uint16), format, (format.unit,)))
    source = tensor((4,), "uint:64")
    assert accumulator_range(layer, source) == (-4 * (1 << 15) * ((1 << 64) - 1), 0)


@pytest.mark.parametrize("text", ["int:4", "bitmask:X0.0XX", "binary"])
@pytest.mark.parametrize("source", INPUTS[:5], ids=str)
def test_ranges_by_format_hold_whatever_the_weights(text, source):
    made = [Conv("c", "x", "y", weights((3, 3, 3, 2), text, seed), pads=(1, 0, 1, 0)) for seed in range(5)]
    format = made[0].weights.format
    for code in range(1 << format.bits):
        made.append(replace(made[0], weights=Weights(np.full((3, 3, 3, 2), code, np.uint16), format, (format.unit,))))
    (bounds,) = {accumulator_range(layer, source, by_format=True) for layer in made}
    full = replace(source, low=source.format.code_low, high=source.format.code_high)
    for layer in made:
        low, high = accumulator_range(layer, full)
        assert bounds[0] <= low and high <= bounds[1]
    taps = 18
    corners = [w * x for w in (format.low, format.high) for x in (full.format.value_low, full.format.value_high)]
    assert bounds == (taps * min(corners), taps * max(corners))


def test_sum_pool_range():
    source = tensor((3, 3, 2), "uint:4", 2, 15)
    layer = SumPool("p", "x", "y", (2, 2), (2, 2), (0, 0, 1, 1), np.array([[1, 2], [2, 4]]))
    assert output_range(layer, source) == (8, 60)
    assert output_range(replace(layer, pad_code=-40), source) == (-472, 60)


def test_requantiser_ranges():
    source = tensor((2,), "int:10", -100, 90)
    values = np.array([[-101 + 1, 0, 91], [-50, 20, 30]])
    assert output_range(Thresholds("t", "x", "y", values, np.array([False, True]), 4), source) == (4, 7)
    assert output_range(Thresholds("t", "x", "y", values[:, :1], np.array([False, False]), 0), source) == (0, 1)
    assert output_range(Thresholds("t", "x", "y", values, np.array([False, True]), 4), source, by_format=True) == (4, 7)
    arrays = [np.array(row) for row in ([1, -3], [2, 3], [0, 5], [0, 0])]
    layer = Multiply("m", "x", "y", *arrays, 2, -128, 127)
    exact = [(-100 + 2 >> 2) + 2, (90 + 2 >> 2) + 2, (-95 * -3 + 4 >> 3) + 2, (95 * -3 + 4 >> 3) + 2]
    assert output_range(layer, source) == (min(exact), max(exact))
    assert output_range(layer, source, by_format=True) == (-128, 127)


def test_other_ranges():
    source = tensor((2, 2, 3), "int:8", -5, 7)
    assert output_range(MaxPool("p", "x", "y", (2, 2), (1, 1)), source) == (-5, 7)
    assert output_range(Flatten("f", "x", "y"), source) == (-5, 7)
    assert output_range(Offset("o", "x", "y", np.array([-3, 0, 9])), source) == (-8, 16)
    assert output_range(TopK("k", "x", "y", 2), tensor((10,), "int:8")) == (0, 9)
