"""Random TFLite models, with branches, depthwise layers and pools, against TensorFlow Lite Micro."""

import numpy as np
import pytest
from tflite_models import Model, Number, int8, int32, run_tflm

from lutloom import quantize

pytest.importorskip("tflite_micro")
SAME, VALID = 0, 1


class Growing:
    """A model that grows by random operators over tensors that are there already."""

    def __init__(self, seed):
        self.random, self.model = np.random.default_rng(seed), Model()
        shape = (1, *self.random.integers(4, 9, 2), int(self.random.integers(1, 5)))
        self.input = self.new(shape)
        self.open = [self.input]

    def new(self, shape, like=None):
        """A new tensor, with the quantisation of another where given."""
        if like is not None:
            scale, zero = self.quants[like]
        else:
            scale, zero = float(np.float32(self.random.uniform(0.01, 0.2))), int(self.random.integers(-128, 128))
        index = self.model.tensor(tuple(int(side) for side in shape), scale=scale, zero_point=zero)
        self.__dict__.setdefault("shapes", {})[index] = tuple(int(side) for side in shape)
        self.__dict__.setdefault("quants", {})[index] = scale, zero
        return index

    def pick(self):
        return self.open[int(self.random.integers(len(self.open)))]

    def give(self, made):
        self.open.append(made)
        return made

    def conv(self):
        x = self.pick()
        _, height, width, channels = self.shapes[x]
        depthwise = bool(self.random.integers(2))
        kernel = [int(self.random.integers(1, min(4, side + 1))) for side in (height, width)]
        stride = int(self.random.integers(1, 3))
        outputs = channels * int(self.random.integers(1, 3)) if depthwise else int(self.random.integers(1, 7))
        padding = int(self.random.integers(2))
        sides = [-(-side // stride) if padding == SAME else (side - k) // stride + 1
                 for side, k in zip((height, width), kernel, strict=True)]
        shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels)
        w = self.model.tensor(shape, scale=self.random.uniform(0.002, 0.03, outputs), axis=3 if depthwise else 0,
                              data=self.random.integers(-127, 128, shape).astype(np.int8))
        b = self.model.tensor((outputs,), "INT32", data=self.random.integers(-2000, 2000, outputs).astype(np.int32))
        y = self.new((1, *sides, outputs))
        activation = int(self.random.integers(3)) % 2
        options = {0: int8(padding), 1: int32(stride), 2: int32(stride), 3: int8(activation)}
        if depthwise:
            options = {0: int8(padding), 1: int32(stride), 2: int32(stride), 3: int32(outputs // channels),
                       4: int8(activation)}
        self.model.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, w, b], [y], options)
        return self.give(y)

    def pool(self):
        x = self.pick()
        _, height, width, channels = self.shapes[x]
        kernel = [int(self.random.integers(1, side + 1)) for side in (height, width)]
        stride = [int(self.random.integers(1, 4)) for _ in range(2)]
        padding = int(self.random.integers(2))
        sides = [-(-side // s) if padding == SAME else (side - k) // s + 1
                 for side, k, s in zip((height, width), kernel, stride, strict=True)]
        y = self.new((1, *sides, channels), like=x)
        options = {0: int8(padding), 1: int32(stride[1]), 2: int32(stride[0]), 3: int32(kernel[1]),
                   4: int32(kernel[0])}
        self.model.operator(["MAX_POOL_2D", "AVERAGE_POOL_2D"][self.random.integers(2)], [x], [y], options)
        return self.give(y)

    def join(self):
        x = self.pick()
        same = [other for other in self.open if self.shapes[other] == self.shapes[x]]
        z = same[int(self.random.integers(len(same)))]
        y = self.new(self.shapes[x])
        type = ["ADD", "SUB", "MUL"][self.random.integers(3)]
        self.model.operator(type, [x, z], [y], {0: int8(int(self.random.integers(2)))})
        return self.give(y)

    def concat(self):
        x = self.pick()
        axis = int(self.random.integers(1, 4))
        parts = [other for other in self.open if all(
            a == b for i, (a, b) in enumerate(zip(self.shapes[other], self.shapes[x], strict=True)) if i != axis)]
        parts = [x, *(parts[int(self.random.integers(len(parts)))] for _ in range(2))]
        shape = list(self.shapes[x])
        shape[axis] = sum(self.shapes[part][axis] for part in parts)
        y = self.new(shape)
        moved = []
        for part in parts:  # TFLM joins tensors of one scale alone
            moved.append(self.new(self.shapes[part], like=y))
            self.model.operator("QUANTIZE", [part], [moved[-1]])
        self.model.operator("CONCATENATION", moved, [y], {0: int32(axis)})
        return self.give(y)

    def function(self):
        x = self.pick()
        type = ["LEAKY_RELU", "HARD_SWISH", "QUANTIZE", "RELU"][self.random.integers(4)]
        y = self.new(self.shapes[x])
        self.model.operator(type, [x], [y], {0: Number("Float32", 0.3)} if type == "LEAKY_RELU" else {})
        return self.give(y)


@pytest.mark.parametrize("seed", range(40))
def test_random_model(seed, tmp_path):
    growing = Growing(seed)
    steps = [growing.conv, growing.pool, growing.join, growing.concat, growing.function]
    last = growing.conv()
    for _ in range(int(growing.random.integers(3, 12))):
        last = steps[growing.random.integers(len(steps))]()
    shape = growing.shapes[growing.input][1:]
    x = growing.random.integers(-128, 128, (12, *shape)).astype(np.int8)
    expected = run_tflm(growing.model.write([growing.input], [last]), x, tmp_path)
    network = quantize(tmp_path / "model.tflite")
    assert np.array_equal(network(x).reshape(12, -1), expected.reshape(12, -1))
