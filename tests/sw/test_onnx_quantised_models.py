"""Trained models as onnxruntime's own quantiser writes them: every byte of the output, and of every tensor of codes."""

import os
import runpy
from pathlib import Path

import pytest
from onnx_quantised import all_codes, codes_of

from lutloom import quantize

pytest.importorskip("onnxruntime.quantization")
DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
VARIANTS = [  # activations, weights, per channel, reduced range
    ("uint8", "int8", False, False), ("uint8", "uint8", False, False), ("int8", "int8", True, False),
    ("uint8", "int8", True, True),
]


SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "quantise_onnx"))
images = SCRIPT["images"]


def quantised(model, style, kinds, folder):
    """Path of the model as onnxruntime.quantization writes it."""
    path = folder / f"{model}_{style}.onnx"
    SCRIPT["quantised"](model, style, path, *kinds)
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
