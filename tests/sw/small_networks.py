"""Networks that tests run: LeNet-shaped, and small with every kind of layer."""

import numpy as np

from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, SumPool, Thresholds, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.weights import WeightFormat


def weights(rng, shape, text):
    format = WeightFormat.parse(text)
    return Weights(rng.integers(0, 1 << format.bits, shape).astype(np.uint16), format, (format.unit,))


def requantise(builder, rng, name, steps, format, base=0, falling=False):
    """Add thresholds spread over the middle of the accumulator's range."""
    low, high, channels = builder.last.low, builder.last.high, builder.last.shape[-1]
    middle, reach = (low + high) // 2, max((high - low) // 6, 2)
    values = np.sort(rng.integers(middle - reach, middle + reach, (channels, steps)), axis=1)
    directions = rng.integers(0, 2, channels).astype(bool) if falling else np.zeros(channels, bool)
    builder.add(Thresholds, name, np.clip(values, low, high + 1), directions, base, format=format)


def lenet(steps=15):
    """A LeNet-shaped network with 4-bit activations."""
    rng = np.random.default_rng(17)
    builder = NetworkBuilder((28, 28, 1))
    for index, (outputs, text) in enumerate([(20, "bitmask:X0.0XX"), (50, "bitmask:X0.00XX")]):
        builder.add(Conv, f"conv{index}", weights(rng, (outputs, 5, 5, builder.last.shape[-1]), text))
        requantise(builder, rng, f"quant{index}", steps, f"uint:{steps.bit_length()}")
        builder.add(MaxPool, f"pool{index}", (2, 2), (2, 2))
    builder.add(Flatten, "flatten")
    builder.add(Dense, "fc1", weights(rng, (500, 800), "bitmask:X0.00XXX"))
    requantise(builder, rng, "quant2", steps, f"uint:{steps.bit_length()}")
    builder.add(Dense, "fc2", weights(rng, (10, 500), "bitmask:XX.XX"))
    return builder.network("lenet", input_shape=(1, 28, 28), input_layout="NCHW")


def mixed(seed=18):
    """A small network with every kind of layer, signed, bipolar and padded tensors."""
    rng = np.random.default_rng(seed)
    builder = NetworkBuilder((7, 6, 3), "uint:8", zero_point=128)
    builder.add(Conv, "conv", weights(rng, (4, 3, 3, 3), "int:5"), (1, 1), (1, 1), (1, 1, 1, 1))
    requantise(builder, rng, "signed", 15, "int:4", base=-8)
    builder.add(MaxPool, "rising", (2, 2), (1, 1), (0, 0, 1, 1))
    builder.add(Conv, "depthwise", weights(rng, (4, 3, 3, 1), "binary"), (1, 1), (1, 1), (1, 1, 1, 1), 4)
    requantise(builder, rng, "sign", 1, "bipolar", falling=True)
    builder.add(MaxPool, "falling", (2, 2), (1, 1))
    builder.add(Conv, "bipolar", weights(rng, (6, 2, 2, 4), "binary"), (1, 1), (1, 1), (1, 1, 0, 0))
    channels = [
        np.array(row) for row in ([3, 5, 1, 2, 9, 4], [2, 3, 1, 0, 4, 2], [0, 1, 2, 3, -4, 5], [1, 0, 1, 0, 2, 0])
    ]
    builder.add(Multiply, "scaled", *channels, -2, -32, 31, format="int:6", zero_point=-2)
    builder.add(SumPool, "average", (2, 2), (2, 2), (0, 0, 1, 1), _factors(builder, (2, 2)), -2)
    requantise(builder, rng, "wide", 40, "uint:6")
    builder.add(Flatten, "flat")
    builder.add(Dense, "dense", weights(rng, (5, builder.last.shape[0]), "bitmask:X0.X0XX"))
    builder.add(Offset, "bias", rng.integers(-50, 50, 5))
    return builder


def _factors(builder, stride):
    """Factors that differ by position, for windows of 2x2 with one padded row and column at the end."""
    height, width, _ = builder.last.shape
    return np.arange(1, (height // stride[0] + height % 2) * (width // stride[1] + width % 2) + 1).reshape(
        height // stride[0] + height % 2, -1
    )


def inputs(network, count, seed=19):
    tensor = network.tensors[network.input]
    codes = np.random.default_rng(seed).integers(tensor.low, tensor.high + 1, (count, *tensor.shape))
    codes[0], codes[-1] = tensor.low, tensor.high
    return codes.astype(tensor.format.dtype())
