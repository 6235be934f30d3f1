"""Networks of onnxruntime's arithmetic in hardware: sums and products, against onnxruntime itself."""

import numpy as np
import pytest
from onnx_quantised import Model, codes_of

from lutloom.build import verilog
from lutloom.quantize import quantize
from lutloom.simulate import simulate

SHAPE = (3, 6, 6)


def residual(style, kind, folder, seed=1):
    """A convolution, a sum and a product with what it took, and a second convolution."""
    random, model = np.random.default_rng(seed), Model(style)

    def quant(scale):
        return np.float32(scale), (np.uint8 if kind == "uint8" else np.int8)(random.integers(0, 90))

    def conv(x, outputs, made):
        codes = random.integers(-127, 128, (outputs, SHAPE[0], 3, 3)).astype(np.int8)
        scale = random.uniform(0.001, 0.004, outputs).astype(np.float32)
        bias = random.integers(-3000, 3000, outputs).astype(np.int32)
        return model.linear("Conv", x, codes, scale, np.zeros(outputs, np.int8), bias, made, pads=[1, 1, 1, 1])

    x = model.input(SHAPE, *quant(0.02))
    y = conv(x, SHAPE[0], quant(0.03))
    y = model.join("Add", [y, x], quant(0.04))
    y = model.join("Mul", [y, x], quant(0.05))
    y = conv(y, 4, quant(0.06))
    return model.write(folder / f"{style}.onnx", y)


@pytest.mark.parametrize("style, kind, board", [
    ("QDQ", "uint8", "ulx3s-85f"), ("QOperator", "uint8", "ice40-hx8k-b-evn"),
])
def test_residual(tmp_path, style, kind, board):
    path = residual(style, kind, tmp_path)
    x = np.random.default_rng(5).uniform(-0.8, 1.6, (12, *SHAPE)).astype(np.float32)
    network = quantize(path)
    codes = network(network.encode(x))
    assert np.array_equal(codes.transpose(0, 3, 1, 2), codes_of(path, x))
    verilog(path, board=board, output=tmp_path / "build", top="stream", fps=1000)
    found = simulate(tmp_path / "build", x, count=12, stalls=0.3)
    assert (found.frames, found.differ) == (12, 0)

    # A bench that cannot fail proves nothing: one bit of the sum's table, in every word.
    table = next((tmp_path / "build" / "rom").glob("*Add*_a0.hex"), None) or next(
        path for path in sorted((tmp_path / "build" / "rom").glob("*_a0.hex")))
    words = table.read_text().split()
    table.write_text("\n".join(f"{int(word, 16) ^ 4:0{len(word)}x}" for word in words) + "\n")
    assert simulate(tmp_path / "build", x, count=12).differ > 0
