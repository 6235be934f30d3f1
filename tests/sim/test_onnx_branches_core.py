"""A float ONNX model with branches, quantised, in hardware: against the golden model."""

import sys
from pathlib import Path

import numpy as np
import onnx

from lutloom.build import verilog
from lutloom.quantize import quantize
from lutloom.simulate import simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "sw"))

from test_onnx_branches import Model  # noqa: E402


def test_a_gated_residual_network(tmp_path):
    """Batch norm, sum, union, squeeze and excite, nearest upsampling and a crop."""
    model = Model(("N", 2, 6, 6))
    x = model.put("Relu", model.norm(model.conv("x", 2, 4, stride=2, bias=False), 4))
    y = model.put("Add", f"{model.norm(model.conv(x, 4, 4), 4)} {x}")
    gate = model.put("HardSigmoid", model.conv(model.put("GlobalAveragePool", y), 4, 4, 1))
    y = model.put("Mul", f"{y} {gate}")
    up = model.put("Resize", f"{y} -", [np.array([1, 1, 2, 2], np.float32)], mode="nearest", nearest_mode="floor",
                   coordinate_transformation_mode="asymmetric")
    y = model.put("Concat", f"{up} {model.conv('x', 2, 2)}", axis=1)
    y = model.put("Slice", y, [np.array([1, 1]), np.array([6, 6]), np.array([2, 3])])
    path = tmp_path / "net.onnx"
    onnx.save(model.proto(model.classes(model.put("HardSwish", model.conv(y, 6, 3)), 3)), path)
    x = np.random.default_rng(5).integers(0, 256, (8, 2, 6, 6)).astype(np.uint8)
    verilog(path, board="ulx3s-85f", output=tmp_path / "build", top="stream", fps=2000, calibrate=x)
    found = simulate(tmp_path / "build", x, count=8, stalls=0.3)
    assert (found.frames, found.differ) == (8, 0)
    kinds = {type(layer).__name__ for layer in quantize(path, calibrate=x).layers}
    assert {"Sum", "Times", "Concat", "Broadcast", "Slice", "Table"} <= kinds
