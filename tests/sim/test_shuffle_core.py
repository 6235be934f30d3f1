"""Units of ShuffleNet, quantised, in hardware: against the golden model."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from lutloom.build import verilog
from lutloom.quantize import quantize
from lutloom.simulate import simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "sw"))

from test_onnx_branches import Model  # noqa: E402
from test_onnx_shuffle import first, second, shuffle  # noqa: E402


def version_1(model, x):
    """Shuffles in front of grouped 1 x 1 convolutions."""
    return shuffle(model, first(model, x, 4), (12, 4, 4), 4), 12


def version_2(model, x):
    """Shuffles behind unions, in front of a split."""
    return second(model, second(model, x, 4), 4), 8


@pytest.mark.parametrize("units", [version_1, version_2])
def test_units(tmp_path, units):
    model = Model(("N", 2, 4, 4))
    y, channels = units(model, model.put("Relu", model.conv("x", 2, 12 if units is version_1 else 8)))
    y = model.put("Relu", model.conv(y, channels, 4, 1, groups=2))
    path = tmp_path / "net.onnx"
    onnx.save(model.proto(model.classes(y, 4)), path)
    x = np.random.default_rng(5).integers(0, 256, (8, 2, 4, 4)).astype(np.uint8)
    network = quantize(path, calibrate=x)
    assert [type(layer).__name__ for layer in network.layers].count("Transpose") == 2
    verilog(path, board="ulx3s-85f", output=tmp_path / "build", top="stream", fps=2000, calibrate=x)
    found = simulate(tmp_path / "build", x, count=8, stalls=0.3)
    assert (found.frames, found.differ) == (8, 0)
