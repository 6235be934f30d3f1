"""Every TFLite operator against TensorFlow Lite Micro, byte for byte, over random and corner values."""

import numpy as np
import pytest
from tflite_models import Model, Number, int8, int32, run_tflm

from lutloom import quantize
from lutloom.errors import ModelError
from lutloom.frontend import load_graph

pytest.importorskip("tflite_micro")
SAME, VALID = 0, 1


def rng(seed=1):
    return np.random.default_rng(seed)


def frames(shape, count=40, seed=2):
    """Corner frames, then random ones."""
    random = rng(seed).integers(-128, 128, (count, *shape))
    for index, value in enumerate((-128, 127, 0)):
        random[index] = value
    return random.astype(np.int8)


def equal(model, inputs, outputs, shape, folder, count=40, varied=True):
    """The network's output equals TFLM's for random frames; gives the network."""
    data, x = model.write(inputs, outputs), frames(shape, count)
    expected = run_tflm(data, x, folder)
    network = quantize(folder / "model.tflite")
    found = network(network.encode(x)).reshape(len(x), -1)
    different = np.argwhere(found != expected.reshape(len(x), -1))
    assert not len(different), f"{len(different)} of {found.size} differ, first at {different[0]}"
    assert len(np.unique(found)) > 1 or not varied
    restored = folder / "network.npz"
    network.save(restored)
    assert np.array_equal(type(network).load(restored)(network.encode(x)).reshape(len(x), -1), found)
    return network


@pytest.mark.parametrize("padding, stride, dilation, kernel, groups, activation, scales", [
    (SAME, (1, 1), (1, 1), (3, 3), 1, 0, 1), (VALID, (2, 1), (1, 1), (3, 2), 1, 1, 6),
    (SAME, (2, 2), (1, 1), (4, 3), 1, 3, 6), (VALID, (1, 1), (2, 3), (2, 2), 1, 2, 6),
    (SAME, (1, 1), (2, 2), (3, 3), 1, 0, 6), (SAME, (1, 2), (1, 1), (1, 1), 1, 0, 6),
])
def test_conv_2d(tmp_path, padding, stride, dilation, kernel, groups, activation, scales):
    model, random = Model(), rng()
    x = model.tensor((1, 7, 8, 4), scale=0.043, zero_point=-17)
    weights = random.integers(-127, 128, (6, *kernel, 4)).astype(np.int8)
    scale = random.uniform(0.001, 0.02, scales)
    w = model.tensor(weights.shape, scale=scale, data=weights)
    b = model.tensor((6,), "INT32", data=random.integers(-9000, 9000, 6).astype(np.int32))
    height, width = (-(-side // s) if padding == SAME else (side - (k - 1) * d - 1) // s + 1
                     for side, s, k, d in zip((7, 8), stride, kernel, dilation, strict=True))
    y = model.tensor((1, height, width, 6), scale=0.09, zero_point=5)
    model.operator("CONV_2D", [x, w, b], [y], {0: int8(padding), 1: int32(stride[1]), 2: int32(stride[0]),
                                               3: int8(activation), 4: int32(dilation[1]), 5: int32(dilation[0])})
    equal(model, [x], [y], (7, 8, 4), tmp_path)


@pytest.mark.parametrize("multiplier, stride, dilation, padding", [
    (1, 1, 1, SAME), (3, 1, 1, VALID), (2, 2, 1, SAME), (1, 1, 2, SAME), (2, 1, 2, VALID),
])
def test_depthwise_conv_2d(tmp_path, multiplier, stride, dilation, padding):
    model, random = Model(), rng()
    x = model.tensor((1, 9, 8, 5), scale=0.03, zero_point=3)
    weights = random.integers(-127, 128, (1, 3, 3, 5 * multiplier)).astype(np.int8)
    w = model.tensor(weights.shape, scale=random.uniform(0.001, 0.02, 5 * multiplier), data=weights, axis=3)
    b = model.tensor((5 * multiplier,), "INT32", data=random.integers(-900, 900, 5 * multiplier).astype(np.int32))
    height, width = (-(-side // stride) if padding == SAME else (side - 2 * dilation - 1) // stride + 1
                     for side in (9, 8))
    y = model.tensor((1, height, width, 5 * multiplier), scale=0.05, zero_point=-128)
    model.operator("DEPTHWISE_CONV_2D", [x, w, b], [y], {
        0: int8(padding), 1: int32(stride), 2: int32(stride), 3: int32(multiplier), 4: int8(1), 5: int32(dilation),
        6: int32(dilation)})
    equal(model, [x], [y], (9, 8, 5), tmp_path)


@pytest.mark.parametrize("shape, bias, scales", [((1, 30), True, 1), ((1, 2, 3, 5), False, 1), ((1, 30), True, 7),
                                                 ((1, 4, 30), True, 1)])
def test_fully_connected(tmp_path, shape, bias, scales):
    model, random = Model(), rng()
    x = model.tensor(shape, scale=0.0371, zero_point=-9)
    weights = random.integers(-127, 128, (7, 30)).astype(np.int8)
    w = model.tensor(weights.shape, scale=random.uniform(0.003, 0.02, scales), data=weights)
    b = model.tensor((7,), "INT32", data=random.integers(-9000, 9000, 7).astype(np.int32)) if bias else -1
    rows = int(np.prod(shape)) // 30
    y = model.tensor((rows, 7), scale=0.2, zero_point=12)
    model.operator("FULLY_CONNECTED", [x, w, b], [y], {0: int8(0)})
    equal(model, [x], [y], shape[1:], tmp_path)


def test_factors_are_computed_in_double(tmp_path):
    """These move by one code where the factor is rounded to float32 on the way."""
    codes = np.arange(-128, 128).astype(np.int8)
    for type, given, made, options in (("RELU", 0.19, 0.04, {}),
                                       ("LEAKY_RELU", 0.19, 0.04, {0: Number("Float32", 0.1)}),
                                       ("LEAKY_RELU", 0.19, 0.07, {0: Number("Float32", -0.3)})):
        model = Model()
        x, y = model.tensor((1, 256), scale=given, zero_point=30), model.tensor((1, 256), scale=made, zero_point=-50)
        model.operator(type, [x], [y], options)
        expected = run_tflm(model.write([x], [y]), codes[None], tmp_path)
        assert np.array_equal(quantize(tmp_path / "model.tflite")(codes[None]), expected.reshape(1, 256))
    random = rng(5)
    for _ in range(12):  # about half of these, for SUB
        scales = np.float32(random.integers(1, 400, 3) / 1000)
        model = Model()
        x = model.tensor((1, 256, 1, 1), scale=scales[0])
        c = model.tensor((1, 1, 256, 1), scale=scales[1], data=codes)
        y = model.tensor((1, 256, 256, 1), scale=scales[2])
        model.operator("SUB", [x, c], [y], {})
        expected = run_tflm(model.write([x], [y]), codes.reshape(1, 256, 1, 1), tmp_path)
        found = quantize(tmp_path / "model.tflite")(codes.reshape(1, 256, 1, 1))
        assert np.array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("scale, made", [(1e-4, 0.9), (2.0, 0.01), (0.5, 0.5)])
def test_extreme_multipliers(tmp_path, scale, made):
    model, random = Model(), rng()
    x = model.tensor((1, 3), scale=scale, zero_point=1)
    weights = random.integers(-127, 128, (5, 3)).astype(np.int8)
    w = model.tensor(weights.shape, scale=0.5, data=weights)
    y = model.tensor((1, 5), scale=made)
    model.operator("FULLY_CONNECTED", [x, w, -1], [y], {0: int8(0)})
    if scale == 1e-4:
        data = model.write([x], [y])
        x = frames((3,))
        expected = run_tflm(data, x, tmp_path)
        assert np.array_equal(quantize(tmp_path / "model.tflite")(x), expected.reshape(len(x), 5))
    else:
        equal(model, [x], [y], (3,), tmp_path)


@pytest.mark.parametrize("type", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
@pytest.mark.parametrize("padding, kernel, stride, activation", [
    (VALID, (2, 2), (2, 2), 0), (SAME, (3, 3), (2, 2), 0), (SAME, (2, 3), (1, 1), 3), (VALID, (7, 8), (1, 1), 0),
    (SAME, (5, 4), (3, 2), 1),
])
def test_pools(tmp_path, type, padding, kernel, stride, activation):
    model = Model()
    x = model.tensor((1, 7, 8, 3), scale=0.06, zero_point=-20)
    height, width = (-(-side // s) if padding == SAME else (side - k) // s + 1
                     for side, s, k in zip((7, 8), stride, kernel, strict=True))
    y = model.tensor((1, height, width, 3), scale=0.06, zero_point=-20)
    model.operator(type, [x], [y], {0: int8(padding), 1: int32(stride[1]), 2: int32(stride[0]), 3: int32(kernel[1]),
                                    4: int32(kernel[0]), 5: int8(activation)})
    equal(model, [x], [y], (7, 8, 3), tmp_path)


@pytest.mark.parametrize("axes, keep, shape", [((1, 2), False, (1, 4)), ((2, 1), True, (1, 1, 1, 4)),
                                               ((1,), True, (1, 1, 6, 4)), ((-2,), False, (1, 5, 4))])
@pytest.mark.parametrize("given, made", [((0.05, 3), (0.05, 3)), ((0.05, -128), (0.031, 7))])
def test_mean(tmp_path, axes, keep, shape, given, made):
    model = Model()
    x = model.tensor((1, 5, 6, 4), scale=given[0], zero_point=given[1])
    y = model.tensor(shape, scale=made[0], zero_point=made[1])
    model.operator("MEAN", [x, model.numbers(axes)], [y], {0: Number("Bool", keep)})
    equal(model, [x], [y], (5, 6, 4), tmp_path)


@pytest.mark.parametrize("type", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("first, second, made, activation, other", [
    ((0.05, 3), (0.02, -60), (0.07, -11), 0, (1, 4, 5, 3)), ((0.02, -128), (0.3, 127), (0.31, -128), 1, (1, 4, 5, 3)),
    ((0.9, 0), (0.0001, 5), (0.4, 3), 3, (1, 1, 1, 3)), ((0.05, 3), (0.05, 3), (0.05, 3), 2, (3,)),
    ((0.05, -8), (0.013, 9), (0.02, 3), 0, (1,)), ((0.7, 1), (0.71, 2), (1.41, 3), 0, (1, 4, 1, 3)),
])
def test_add_sub_mul(tmp_path, type, first, second, made, activation, other):
    model = Model()
    x = model.tensor((1, 4, 5, 3), scale=first[0], zero_point=first[1])
    constant = rng().integers(-128, 128, other).astype(np.int8)
    c = model.tensor(other, scale=second[0], zero_point=second[1], data=constant)
    y = model.tensor((1, 4, 5, 3), scale=made[0], zero_point=made[1])
    model.operator(type, [x, c] if len(other) != 1 else [c, x], [y], {0: int8(activation)})
    equal(model, [x], [y], (4, 5, 3), tmp_path, varied=type != "MUL")


@pytest.mark.parametrize("type", ["ADD", "SUB", "MUL"])
def test_two_branches(tmp_path, type):
    model = Model()
    x = model.tensor((1, 6, 6, 2), scale=0.05, zero_point=3)
    p = model.tensor((1, 6, 6, 2), scale=0.05, zero_point=3)
    q = model.tensor((1, 6, 6, 2), scale=0.013, zero_point=-40)
    y = model.tensor((1, 6, 6, 2), scale=0.06, zero_point=9)
    pool = {0: int8(SAME), 1: int32(1), 2: int32(1), 3: int32(3), 4: int32(3)}
    model.operator("MAX_POOL_2D", [x], [p], pool)
    model.operator("QUANTIZE", [x], [q])
    model.operator(type, [p, q], [y], {})
    equal(model, [x], [y], (6, 6, 2), tmp_path)


@pytest.mark.parametrize("type, made, options", [
    ("RELU", (0.05, 3), {}), ("RELU", (0.021, -100), {}), ("RELU6", (0.05, 3), {}), ("LOGISTIC", (1 / 256, -128), {}),
    ("TANH", (1 / 128, 0), {}), ("LEAKY_RELU", (0.04, -50), {0: Number("Float32", 0.1)}),
    ("LEAKY_RELU", (0.07, 50), {0: Number("Float32", -0.3)}), ("HARD_SWISH", (0.03, -110), {}),
    ("QUANTIZE", (0.011, 7), {}), ("QUANTIZE", (0.4, -128), {}),
])
@pytest.mark.parametrize("given", [(0.05, 3), (0.0031, -128), (0.02357, 100), (0.19, 30)])
def test_functions_of_one_code(tmp_path, type, made, options, given):
    if type == "HARD_SWISH" and given[0] / 128 > made[0]:
        pytest.skip("TFLM refuses it")
    model = Model()
    x = model.tensor((1, 256), scale=given[0], zero_point=given[1])
    y = model.tensor((1, 256), scale=given[0] if type == "RELU6" else made[0],
                     zero_point=given[1] if type == "RELU6" else made[1])
    model.operator(type, [x], [y], options)
    data, codes = model.write([x], [y]), np.arange(-128, 128).astype(np.int8)[None]
    expected = run_tflm(data, codes, tmp_path)
    assert np.array_equal(quantize(tmp_path / "model.tflite")(codes), expected.reshape(1, 256))


@pytest.mark.parametrize("scale", [0.0005, 0.01, 0.0917, 0.1718, 0.5, 3.0])
@pytest.mark.parametrize("classes, beta", [(2, 1.0), (10, 1.0), (100, 0.5)])
def test_softmax(tmp_path, scale, classes, beta):
    model = Model()
    x = model.tensor((1, classes), scale=scale, zero_point=24)
    y = model.tensor((1, classes), scale=1 / 256, zero_point=-128)
    model.operator("SOFTMAX", [x], [y], {0: Number("Float32", beta)})
    data, codes = model.write([x], [y]), frames((classes,), 300)
    codes[100:] = np.clip(codes[100:] // 4, -128, 127)
    expected = run_tflm(data, codes, tmp_path)
    assert np.array_equal(quantize(tmp_path / "model.tflite")(codes), expected.reshape(len(codes), classes))


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concatenation(tmp_path, axis):
    model = Model()
    x = model.tensor((1, 4, 5, 3), scale=0.05, zero_point=3)
    shape = [1, 4, 5, 3]
    constant = rng().integers(-128, 128, shape).astype(np.int8)
    c = model.tensor(shape, scale=0.05, zero_point=3, data=constant)
    made = list(shape)
    made[axis] *= 3
    y = model.tensor(made, scale=0.05, zero_point=3)
    model.operator("CONCATENATION", [x, c, x], [y], {0: int32(axis)})
    equal(model, [x], [y], (4, 5, 3), tmp_path)


@pytest.mark.parametrize("widths, value", [
    ([[0, 0], [1, 2], [3, 0], [0, 0]], None), ([[0, 0], [0, 0], [0, 1], [2, 3]], None),
    ([[0, 0], [1, 1], [1, 1], [0, 0]], 77),
])
def test_pad(tmp_path, widths, value):
    model = Model()
    x = model.tensor((1, 4, 5, 3), scale=0.05, zero_point=-11)
    inputs = [x, model.numbers(widths)]
    if value is not None:
        inputs.append(model.tensor((1,), scale=0.05, zero_point=-11, data=np.array([value], np.int8)))
    y = model.tensor(np.add((1, 4, 5, 3), np.sum(widths, axis=1)), scale=0.05, zero_point=-11)
    model.operator("PADV2" if value is not None else "PAD", inputs, [y])
    equal(model, [x], [y], (4, 5, 3), tmp_path)


@pytest.mark.parametrize("value, layers", [(None, 0), (77, 1)])
@pytest.mark.parametrize("padding, size", [(VALID, 6), (SAME, 8)])
def test_pad_in_front_of_a_convolution_becomes_its_own(tmp_path, value, layers, padding, size):
    model, random = Model(), rng()
    x = model.tensor((1, 6, 6, 2), scale=0.05, zero_point=-11)
    inputs = [x, model.numbers([[0, 0], [1, 1], [0, 2], [0, 0]])]
    if value is not None:
        inputs.append(model.tensor((1,), scale=0.05, zero_point=-11, data=np.array([value], np.int8)))
    p = model.tensor((1, 8, 8, 2), scale=0.05, zero_point=-11)
    w = model.tensor((1, 3, 3, 2), scale=[0.02, 0.013], axis=3, data=random.integers(-99, 99, (1, 3, 3, 2), np.int8))
    b = model.tensor((2,), "INT32", data=np.array([50, -700], np.int32))
    y = model.tensor((1, size, size, 2), scale=0.07)
    model.operator("PADV2" if value is not None else "PAD", inputs, [p])
    model.operator("DEPTHWISE_CONV_2D", [p, w, b], [y], {0: int8(padding), 1: int32(1), 2: int32(1), 3: int32(1)})
    network = equal(model, [x], [y], (6, 6, 2), tmp_path)
    assert sum(type(layer).__name__ == "Pad" for layer in network.layers) == layers


@pytest.mark.parametrize("begin, end, step, masks, made", [
    ((0, 1, 0, 0), (1, 4, 5, 3), (1, 1, 2, 1), (0, 0, 0), (1, 3, 3, 3)),
    ((0, -2, 1, 0), (0, 0, -1, 2), (1, 1, 1, 1), (0, 0b0011, 0), (1, 2, 3, 2)),
    ((0, 3, 0, 0), (0, 0, 0, 0), (1, -1, 1, 1), (0b1101, 0b1111, 0), (1, 4, 5, 3)),
    ((0, 2, 0, 0), (0, 3, 0, 0), (1, 1, 1, 1), (0b1101, 0b1101, 0b0010), (1, 5, 3)),
])
def test_strided_slice(tmp_path, begin, end, step, masks, made):
    model = Model()
    x = model.tensor((1, 4, 5, 3), scale=0.05, zero_point=-11)
    y = model.tensor(made, scale=0.05, zero_point=-11)
    inputs = [x, *(model.numbers(numbers) for numbers in (begin, end, step))]
    model.operator("STRIDED_SLICE", inputs, [y], {0: int32(masks[0]), 1: int32(masks[1]), 4: int32(masks[2])})
    equal(model, [x], [y], (4, 5, 3), tmp_path)


@pytest.mark.parametrize("type", ["SPLIT", "SPLIT_V"])
@pytest.mark.parametrize("axis", [1, 3])
def test_split(tmp_path, type, axis):
    model = Model()
    x = model.tensor((1, 6, 2, 6), scale=0.05, zero_point=-11)
    sizes = [2, 2, 2] if type == "SPLIT" else [1, 4, 1]
    parts = []
    for size in sizes:
        shape = [1, 6, 2, 6]
        shape[axis] = size
        parts.append(model.tensor(shape, scale=0.05, zero_point=-11))
    if type == "SPLIT":
        model.operator(type, [model.numbers(axis), x], parts, {0: int32(3)})
    else:
        model.operator(type, [x, model.numbers(sizes), model.numbers(axis)], parts, {0: int32(3)})
    shape = [1, 6, 2, 6]
    shape[axis] = sizes[0] + sizes[2]
    y = model.tensor(shape, scale=0.05, zero_point=-11)
    model.operator("CONCATENATION", [parts[2], parts[0]], [y], {0: int32(axis)})
    equal(model, [x], [y], (6, 2, 6), tmp_path)


@pytest.mark.parametrize("shape, order, layers", [
    ((1, 4, 5, 3), (0, 3, 1, 2), 1), ((1, 4, 5, 3), (0, 2, 1, 3), 1), ((1, 4, 1, 3), (0, 2, 1, 3), 0),
    ((1, 5, 3), (0, 2, 1), 1),
])
def test_transpose(tmp_path, shape, order, layers):
    model = Model()
    x = model.tensor(shape, scale=0.05, zero_point=-11)
    y = model.tensor([shape[axis] for axis in order], scale=0.05, zero_point=-11)
    z = model.tensor([shape[axis] for axis in order], scale=0.02, zero_point=-1)
    model.operator("TRANSPOSE", [x, model.numbers(order)], [y])
    model.operator("QUANTIZE", [y], [z])
    network = equal(model, [x], [z], shape[1:], tmp_path)
    assert sum(type(layer).__name__ == "Transpose" for layer in network.layers) == layers


@pytest.mark.parametrize("order", [(0, 1, 2, 4, 3), (0, 3, 1, 2, 4), (0, 4, 3, 1, 2)])
def test_five_sides_change_places(tmp_path, order):
    """A channel shuffle, and others whose sides that stay together move as one."""
    model, shape = Model(), (1, 4, 5, 2, 3)
    turned = [shape[axis] for axis in order]
    x, y, z = (model.tensor(sides, scale=0.05, zero_point=-11) for sides in ((1, 4, 5, 6), shape, turned))
    u, v = (model.tensor((1, 4, 5, 6), scale=scale, zero_point=-11) for scale in (0.05, 0.02))
    model.operator("RESHAPE", [x], [y])
    model.operator("TRANSPOSE", [y, model.numbers(order)], [z])
    model.operator("RESHAPE", [z], [u])
    model.operator("QUANTIZE", [u], [v])
    network = equal(model, [x], [v], (4, 5, 6), tmp_path)
    assert sum(type(layer).__name__ == "Transpose" for layer in network.layers) == 1


def test_what_five_sides_cannot_do(tmp_path):
    shape = (1, 2, 3, 4, 5)
    for kind, order, text in (("TRANSPOSE", (0, 4, 2, 1, 3), "moves more than 3 sides of"),
                              ("TRANSPOSE", (0, 4, 3, 2, 1), "moves more than 3 sides of"),
                              ("QUANTIZE", (), "which has a batch or more than three sides")):
        model = Model()
        x, y, z = (model.tensor(sides, scale=0.05, zero_point=1) for sides in ((1, 6, 4, 5), shape, shape))
        model.operator("RESHAPE", [x], [y])
        model.operator(kind, [y, model.numbers(order)] if order else [y], [z])
        (tmp_path / "model.tflite").write_bytes(model.write([x], [z]))
        with pytest.raises(ModelError, match=text):
            load_graph(tmp_path / "model.tflite")


def test_views(tmp_path):
    model = Model()
    x = model.tensor((1, 4, 6), scale=0.05, zero_point=-11)
    a = model.tensor((1, 4, 1, 6), scale=0.05, zero_point=-11)
    b = model.tensor((1, 4, 6), scale=0.05, zero_point=-11)
    c = model.tensor((1, 2, 3, 4), scale=0.05, zero_point=-11)
    d = model.tensor((1, 2, 3, 4), scale=0.025, zero_point=-11)
    model.operator("EXPAND_DIMS", [x, model.numbers(2)], [a])
    model.operator("SQUEEZE", [a], [b], {0: np.array([2], np.int32)})
    model.operator("RESHAPE", [b, model.numbers((1, 2, 3, 4))], [c])
    model.operator("QUANTIZE", [c], [d])
    equal(model, [x], [d], (4, 6), tmp_path)


def test_int4_weights(tmp_path):
    model, random = Model(), rng()
    x = model.tensor((1, 5, 5, 3), scale=0.043, zero_point=-17)
    weights = random.integers(-8, 8, (6, 3, 3, 3)).astype(np.int8)
    w = model.tensor(weights.shape, "INT4", scale=random.uniform(0.01, 0.2, 6), data=weights)
    y = model.tensor((1, 3, 3, 6), scale=0.09, zero_point=5)
    b = model.tensor((6,), "INT32", data=random.integers(-900, 900, 6).astype(np.int32))
    model.operator("CONV_2D", [x, w, b], [y], {0: int8(VALID), 1: int32(1), 2: int32(1)})
    network = equal(model, [x], [y], (5, 5, 3), tmp_path)
    assert str(network.layers[0].weights.format) == "int:4"
    assert load_graph(tmp_path / "model.tflite").nodes[0].params["weight_quant"].bits == 4
