"""Trained models as onnxruntime's own quantiser writes them: every byte of the output, and of every tensor of codes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx_quantised import all_codes, codes_of

from lutloom import quantize

quantization = pytest.importorskip("onnxruntime.quantization")
DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
TYPES = {"uint8": quantization.QuantType.QUInt8, "int8": quantization.QuantType.QInt8}
VARIANTS = [  # activations, weights, per channel, reduced range
    ("uint8", "int8", False, False), ("uint8", "uint8", False, False), ("int8", "int8", True, False),
    ("uint8", "int8", True, True),
]


def images(model, part, count):
    """Images as the model takes them, from what trains or what tests."""
    if model == "lenet_caffe_mnist":
        with np.load(DATA / "mnist" / "mnist.npz") as file:
            return file[f"x_{part}"][:count, None].astype(np.float32) / 256
    with np.load(DATA / "cifar10" / "cifar10_test1000.npz") as file:
        x = file["x"][:count] if part == "test" else file["x"][-count:]
    return (x.transpose(0, 3, 1, 2).astype(np.float32) - 128) / 128


def quantised(model, style, kinds, folder):
    """Path of the model as onnxruntime.quantization writes it."""
    batches = np.split(images(model, "train", 200), 4)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._batches = iter([{"data": batch} for batch in batches])

        def get_next(self):
            return next(self._batches, None)

    activations, weights, per_channel, reduced = kinds
    path = folder / f"{model}_{style}.onnx"
    source = shutil.copy(DATA / "models" / f"{model}.onnx", folder)  # the quantiser writes beside it
    quantization.quantize_static(
        source, path, Reader(), quant_format=quantization.QuantFormat[style],
        activation_type=TYPES[activations], weight_type=TYPES[weights], per_channel=per_channel, reduce_range=reduced)
    return path


def differences(path, x, kinds, style):
    """(frames whose output differs from onnxruntime's, optimised; tensors of codes that differ, of how many)."""
    precise = style == "QDQ" or kinds[0] == "uint8"  # else onnxruntime makes weights that its own QGemm refuses
    network = quantize(path)
    codes = network.encode(x)
    found = network(codes).reshape(len(x), -1)
    frames = (found != codes_of(path, x, precise=precise).reshape(len(x), -1)).any(axis=1).sum()
    if style == "QDQ":
        return frames, 0, 0
    few = x[:20]
    traced, differ, seen = network.trace(network.encode(few)), 0, 0
    for name, expected in all_codes(path, few, precise).items():
        known = traced.get(f"{name}:quant", traced.get(name))
        if known is not None and known.size == expected.size:
            known = known.transpose(0, 3, 1, 2) if known.ndim == expected.ndim == 4 else known
            seen, differ = seen + 1, differ + (known.reshape(expected.shape) != expected).any()
    return frames, differ, seen


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="the shared models are not here")
@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("style", ["QDQ", "QOperator"])
@pytest.mark.parametrize("kinds", VARIANTS)
@pytest.mark.parametrize("model", ["lenet_caffe_mnist", "cifar10_quick"])
def test_every_byte(tmp_path, model, style, kinds, count):
    path = quantised(model, style, kinds, tmp_path)
    frames, differ, seen = differences(path, images(model, "test", count), kinds, style)
    assert (frames, differ) == (0, 0)
    assert style == "QDQ" or seen >= 6
