"""Quantised ONNX operators against onnxruntime, byte for byte, over random and corner values."""

import numpy as np
import onnx
import pytest
from onnx_quantised import Model, all_codes, codes_of, session

from lutloom import quantize
from lutloom.errors import ModelError
from lutloom.floating import model_layout, run
from lutloom.frontend import load_graph

STYLES = ("QOperator", "QDQ")


def quant(scale, zero_point, kind="uint8"):
    return np.float32(scale), np.dtype(kind).type(zero_point)


def frames(shape, given, count=60, seed=2):
    """Real numbers of corner codes, then of random ones."""
    scale, zero_point = given
    info = np.iinfo(zero_point.dtype)
    codes = np.random.default_rng(seed).integers(info.min, info.max + 1, (count, *shape))
    for index, value in enumerate((info.min, info.max, int(zero_point))):
        codes[index] = value
    return ((codes - int(zero_point)) * np.float64(scale)).astype(np.float32)


def equal(model, value, given, shape, folder, *, count=60, optimised=True, varied=True, most=0, real=True):
    """The network's codes equal onnxruntime's, and the real numbers of the graph lie near; gives the network."""
    path = model.write(folder / "model.onnx", value)
    x = frames(shape, given, count)
    network = quantize(path)
    codes = network(network.encode(x))
    found = own(network, codes)
    expected = codes_of(path, x, optimised)
    assert found.shape == expected.shape
    different = np.abs(found - expected)
    assert different.max() <= most, f"{(different > most).sum()} of {found.size} differ, by up to {different.max()}"
    assert len(np.unique(found)) > 3 or not varied
    network.save(folder / "network.npz")
    assert np.array_equal(type(network).load(folder / "network.npz")(network.encode(x)), codes)
    if real:
        graph = load_graph(path)
        floats = model_layout(graph, run(graph, x)) / float(value[1][0]) + int(value[1][1])
        assert np.abs(floats - found).max() <= 1.5
    return network


def own(network, codes):
    """Codes in the model's own layout."""
    if codes.ndim == 4 and len(network.output_shape) == 3 and network.input_layout == "NCHW":
        codes = codes.transpose(0, 3, 1, 2)
    return codes.reshape(len(codes), *network.output_shape).astype(int)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind, weights, channels", [
    ("uint8", "uint8", False), ("uint8", "int8", True), ("int8", "int8", True), ("uint8", "int8", False),
])
@pytest.mark.parametrize("attributes, groups", [
    ({}, 1), ({"pads": [1, 1, 1, 1], "strides": [2, 1]}, 1), ({"dilations": [2, 1], "pads": [0, 1, 2, 0]}, 2),
    ({"pads": [1, 1, 1, 1]}, 4),
])
def test_conv(tmp_path, style, kind, weights, channels, attributes, groups):
    random, model, outputs = np.random.default_rng(1), Model(style), 8
    given = quant(0.037, 113 if kind == "uint8" else -15, kind)
    x = model.input((4, 9, 8), *given)
    info = np.iinfo(weights)
    reach = 64 if weights == "int8" else 255  # beyond, AVX2 kernels saturate where the weights are signed
    codes = random.integers(max(info.min, -reach), min(info.max, reach) + 1, (outputs, 4 // groups, 3, 3))
    scale = np.float32(random.uniform(0.001, 0.02, outputs if channels else ()))
    zero = np.zeros(scale.shape, weights) if weights == "int8" else np.full(scale.shape, 131, weights)
    bias = random.integers(-9000, 9000, outputs).astype(np.int32)
    made = quant(0.09, 97 if kind == "uint8" else 3, kind)
    y = model.linear("Conv", x, codes.astype(weights), scale, zero, bias, made, group=groups, **attributes)
    equal(model, y, given, (4, 9, 8), tmp_path)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("operator, channels, bias", [
    ("Gemm", True, True), ("Gemm", False, False), ("MatMul", False, None), ("MatMul", True, None),
])
def test_dense(tmp_path, style, kind, operator, channels, bias):
    random, model = np.random.default_rng(3), Model(style)
    given = quant(0.037, 113 if kind == "uint8" else -15, kind)
    x = model.input((40,), *given)
    codes = random.integers(-64, 65, (7, 40) if operator == "Gemm" else (40, 7)).astype(np.int8)
    scale = np.float32(random.uniform(0.001, 0.02, 7 if channels else ()))
    biases = random.integers(-9000, 9000, 7).astype(np.int32) if bias else None
    attributes = {"transB": 1} if operator == "Gemm" else {}
    y = model.linear(operator, x, codes, scale, np.zeros(scale.shape, np.int8), biases,
                     quant(0.2, 120 if kind == "uint8" else -3, kind), axis=0 if operator == "Gemm" else 1,
                     **attributes)
    equal(model, y, given, (40,), tmp_path)


@pytest.mark.parametrize("made", [0.5, 0.25, 2.0])
def test_halves_are_rounded_to_even(tmp_path, made):
    """Powers of two make ties, which no multiplier that rounds halves up gives; float32 or thresholds do."""
    model, given = Model("QOperator"), quant(0.5, 100)
    x = model.input((16,), *given)
    codes = np.eye(16, dtype=np.uint8)
    codes[0] = 1
    y = model.linear("MatMul", x, codes, np.float32(0.25), np.uint8(0), None, quant(made, 100))
    network = equal(model, y, given, (16,), tmp_path)
    kinds = {getattr(layer, "rounding", type(layer).__name__) for layer in network.layers}
    assert kinds & {"Thresholds", "float32"}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_all_pairs_of_codes(tmp_path, style, kind, operator):
    """All 65,536: in each of 256 frames one input is one code, the other all of them."""
    random = np.random.default_rng(7)
    for number in range(6):
        zeros = random.integers(0, 256, 3) - (128 if kind == "int8" else 0)
        first, second, made = (quant(scale, zero, kind) for scale, zero
                               in zip(random.uniform(0.004, 0.1, 3), zeros, strict=True))
        if number == 0:
            second = made = first
        if number == 1:
            first, second, made = (quant(scale, 0, kind) for scale in (0.5, 0.25, 0.5))
        model = Model(style)
        x = model.input((2, 16, 16), *first)
        codes = np.arange(256).reshape(16, 16) + np.iinfo(kind).min
        a = sliced(model, x, 0)
        b = renamed(model, sliced(model, x, 1), second)
        y = model.join(operator, [a, b], made)
        path = model.write(tmp_path / "model.onnx", y)
        left = np.arange(256)[:, None, None, None] + np.iinfo(kind).min + np.zeros((1, 1, 16, 16), int)
        right = np.broadcast_to(codes, (256, 1, 16, 16))
        x = ((np.concatenate([left, right], axis=1) - int(first[1])) * np.float64(first[0])).astype(np.float32)
        network = quantize(path)
        assert np.array_equal(own(network, network(network.encode(x))), codes_of(path, x))


def sliced(model, value, channel):
    """One channel of a value."""
    bounds = [model.constant(np.array([part], np.int64)) for part in (channel, channel + 1, 1)]
    if model.style == "QDQ":
        return model.quantize(model.node("Slice", [model.real(value), *bounds]), value[1])
    return model.node("Slice", [value[0], *bounds]), value[1]


def renamed(model, value, made):
    """The same codes with another meaning: a convolution that multiplies by 1."""
    scale = np.float32(made[0] / value[1][0])
    bias = np.array([int(value[1][1]) - int(made[1])], np.int32)
    return model.linear("Conv", value, np.ones((1, 1, 1, 1), np.int8), scale, np.int8(0), bias, made)


def requantised(model, value, made):
    """What codes stand for, in codes of another scale."""
    return model.quantize(model.real(value), made)


@pytest.mark.parametrize("style", STYLES)
def test_concat(tmp_path, style):
    given, other, made = quant(0.037, 113), quant(0.05, 90), quant(0.061, 100)
    model = Model(style)
    x = model.input((3, 5, 6), *given)
    parts = [x, requantised(model, x, other), x]
    equal(model, model.join("Concat", parts, made), given, (3, 5, 6), tmp_path)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 3], "strides": [2, 2]}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
])
def test_average_pool(tmp_path, style, kind, attributes):
    given, made = (quant(scale, zero - (128 if kind == "int8" else 0), kind) for scale, zero in ((0.037, 113),
                                                                                                (0.029847, 97)))
    model = Model(style)
    x = model.input((3, 8, 9), *given)
    y = model.unary("AveragePool", x, made, **attributes)
    network = equal(model, y, given, (3, 8, 9), tmp_path, real="ceil_mode" not in attributes)
    assert "within one step" not in network.info


@pytest.mark.parametrize("style", STYLES)
def test_average_pool_of_ties_is_named(tmp_path, style):
    given = quant(0.037, 113)
    model = Model(style)
    x = model.input((3, 8, 8), *given)
    y = model.unary("AveragePool", x, given, kernel_shape=[2, 2], strides=[2, 2])
    network = equal(model, y, given, (3, 8, 8), tmp_path, most=1)
    assert network.info["within one step"] in [layer.name for layer in network.layers]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("size", [(7, 7), (8, 4), (1, 5)])
def test_global_average_pool(tmp_path, style, kind, size):
    given, made = (quant(scale, zero - (128 if kind == "int8" else 0), kind) for scale, zero in ((0.037, 113),
                                                                                                (0.0291, 97)))
    model = Model(style)
    x = model.input((4, *size), *given)
    equal(model, model.unary("GlobalAveragePool", x, made), given, (4, *size), tmp_path, count=200)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("operator, attributes", [("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.13})])
def test_functions(tmp_path, style, kind, operator, attributes):
    random = np.random.default_rng(9)
    for _ in range(8):
        zeros = random.integers(0, 256, 2) - (128 if kind == "int8" else 0)
        given, made = (quant(scale, zero, kind) for scale, zero in zip(random.uniform(0.004, 0.1, 2), zeros,
                                                                       strict=True))
        model = Model(style)
        x = model.input((256,), *given)
        y = model.unary(operator, x, made, **attributes)
        equal(model, y, given, (256,), tmp_path, count=8, varied=False, real=False)


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("operator, attributes", [
    ("Tanh", {}), ("Relu", {}), ("HardSwish", {}), ("HardSigmoid", {"alpha": 0.17, "beta": 0.4}), ("Elu", {}),
    ("Softplus", {}), ("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.2}),
])
def test_functions_between_quantisers(tmp_path, optimised, operator, attributes):
    given, made = quant(0.041, 120), quant(0.029, 101)
    model = Model("QDQ")
    x = model.input((256,), *given)
    y = model.unary(operator, x, made, **attributes)
    equal(model, y, given, (256,), tmp_path, optimised=optimised)


@pytest.mark.parametrize("style", STYLES)
def test_max_pool_and_views(tmp_path, style):
    given = quant(0.041, 120)
    model = Model(style)
    x = model.input((3, 8, 6), *given)
    if style == "QDQ":
        y = model.unary("MaxPool", x, given, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        y = model.unary("Flatten", y, given)
    else:
        name = model.node("MaxPool", [x[0]], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        y = model.node("Flatten", [name]), given
    codes = np.random.default_rng(5).integers(-64, 65, (3 * 4 * 3, 5)).astype(np.int8)
    y = model.linear("MatMul", y, codes, np.float32(0.01), np.int8(0), None, quant(0.2, 120))
    equal(model, y, given, (3, 8, 6), tmp_path)


@pytest.mark.parametrize("number", range(6))
def test_residual_network(tmp_path, number):
    """Branches, a join in front of a Relu, a gate by channel, padding, splits: every tensor of codes, unoptimised."""
    random, style = np.random.default_rng(number), STYLES[number % 2]
    kind = ("uint8", "int8")[number // 2 % 2]
    low = np.iinfo(kind).min

    def any_quant():
        return quant(random.uniform(0.02, 0.06), int(random.integers(40, 216)) + low, kind)

    def conv(value, channels, outputs, size, stride=1):
        codes = random.integers(-60, 61, (outputs, channels, size, size)).astype(np.int8)
        scale = np.float32(random.uniform(0.001, 0.006, outputs))
        bias = random.integers(-900, 900, outputs).astype(np.int32)
        return model.linear("Conv", value, codes, scale, np.zeros(outputs, np.int8), bias, any_quant(),
                            pads=[size // 2] * 4, strides=[stride, stride])

    model, given = Model(style), any_quant()
    x = model.input((3, 9, 10), *given)
    a = conv(x, 3, 6, 3)
    b = conv(a, 6, 6, 3)
    a = model.join("Add", [a, b], any_quant())
    gate = model.unary("Sigmoid", model.unary("GlobalAveragePool", a, any_quant()), quant(1 / 256, low, kind))
    a = model.join("Mul", [a, gate], any_quant())
    c = model.unary("LeakyRelu", conv(a, 6, 4, 1, 2), any_quant(), alpha=0.1)
    d = model.unary("AveragePool", conv(a, 6, 3, 3), any_quant(), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    e = model.join("Concat", [c, d], any_quant())
    path = model.write(tmp_path / "model.onnx", e)
    x = frames((3, 9, 10), given)
    network = quantize(path)
    assert np.array_equal(own(network, network(network.encode(x))), codes_of(path, x, precise=style == "QDQ"))
    if style == "QDQ":
        return
    traced, seen = network.trace(network.encode(x)), 0
    for name, expected in all_codes(path, x, precise=False).items():
        found = traced.get(name, traced.get(f"{name}:quant"))
        if found is not None:
            found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
            seen += 1
            assert np.array_equal(found.reshape(expected.shape), expected), name
    assert seen >= 8


def test_biases_in_real_numbers_and_fused_activations(tmp_path):
    """As PyTorch exports: real weights and biases, quantisers in the graph, Relu between a layer and its quantiser."""
    random, given = np.random.default_rng(11), quant(0.037, 113)
    model = Model("QDQ")
    x = model.input((3, 8, 8), *given)
    real = model.constant(random.normal(0, 0.2, (5, 3, 3, 3)).astype(np.float32), "conv1.weight")
    scale, zero = (model.constant(part) for part in (np.full(5, 0.011, np.float32), np.zeros(5, np.int8)))
    codes = model.node("QuantizeLinear", [real, scale, zero], axis=0)
    weights = model.node("DequantizeLinear", [codes, scale, zero], axis=0)
    bias = model.constant(random.normal(0, 0.5, 5).astype(np.float32))
    y = model.node("Relu", [model.node("Conv", [model.real(x), weights, bias])])
    y = model.quantize(model.node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2]), quant(0.05, 20))
    network = equal(model, y, given, (3, 8, 8), tmp_path, most=1)
    assert network.layers[0].name == "conv1"


def test_float_ends(tmp_path):
    """A softmax behind the last codes is the host's; argmax picks a code."""
    given, made = quant(0.037, 113), quant(0.1, 100)
    for kind, attributes in (("Softmax", {"axis": 1}), ("ArgMax", {"axis": 1})):
        model = Model("QDQ")
        x = model.input((20,), *given)
        codes = np.random.default_rng(5).integers(-64, 65, (20, 5)).astype(np.int8)
        y = model.linear("MatMul", x, codes, np.float32(0.01), np.int8(0), None, made)
        end = model.node(kind, [model.real(y)], **attributes)
        path = model.write(tmp_path / "model.onnx", y)
        graph = onnx.load(path)
        graph.graph.output[0].name = end
        graph.graph.output[0].type.tensor_type.elem_type = 1 if kind == "Softmax" else 7
        onnx.save(graph, path)
        network, x = quantize(path), frames((20,), given)
        expected = session(path).run(None, {"x": x})[0]
        found = network.decode(network(network.encode(x)))
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(run(load_graph(path), x)).max() <= 5


def test_weights_in_other_formats(tmp_path):
    given = quant(0.037, 113)
    model = Model("QDQ")
    x = model.input((3, 8, 8), *given)
    codes = np.random.default_rng(5).integers(-64, 65, (5, 3, 3, 3)).astype(np.int8)
    y = model.linear("Conv", x, codes, np.float32(0.01), np.int8(0), np.arange(5, dtype=np.int32) * 100,
                     quant(0.2, 120))
    path = model.write(tmp_path / "model.onnx", y)
    network = quantize(path, weights="int:4")
    assert str(network.layers[0].weights.format) == "int:4"
    x = frames((3, 8, 8), given)
    assert 0 < np.abs(network(network.encode(x)).astype(int) - quantize(path)(network.encode(x))).max() < 30
    for option in ({"activations": 4}, {"calibrate": "mnist"}, {"input_scale": "1/255"}, {"input_format": "int:8"}):
        with pytest.raises(ModelError, match="brings its own integer arithmetic, so that --.* means nothing"):
            quantize(path, **option)


@pytest.mark.parametrize("scale, sentence", [
    (0.0, "has a scale of 0, which must be a positive number"), (np.nan, "has a scale of nan, which must be"),
    (-0.1, "has a scale of -0.1, which must be"), (np.inf, "has a scale of inf, which must be"),
])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("where", ["input", "weights", "output"])
def test_scales_that_make_no_sense(tmp_path, scale, sentence, style, where):
    model = Model(style)
    x = model.input((4,), scale if where == "input" else 0.1, np.uint8(3))
    y = model.linear("MatMul", x, np.ones((4, 3), np.int8), np.float32(scale if where == "weights" else 0.1),
                     np.int8(0), None, quant(scale if where == "output" else 0.1, 3), axis=1)
    with pytest.raises(ModelError, match=sentence):
        load_graph(model.write(tmp_path / "model.onnx", y))


def broken(case):
    """(a model's bytes are written by it, the sentence that it ends in)."""
    model, given = Model("QDQ"), quant(0.1, 3)
    if case == "zero point of another type":
        x = model.input((4,), np.float32(0.1), np.int16(3))
        return model, model.unary("Relu", x, given), "codes of int16, which is not supported"
    x = model.input((4,), *given)
    if case == "several scales":
        scales = np.full(4, 0.1, np.float32), np.zeros(4, np.uint8)
        return model, (model.quantize(model.real(x), scales)[0], given), "4 scales for an activation, which must have"
    if case == "read otherwise":
        return model, model.unary("Relu", (x[0], quant(0.2, 3)), given), "reads codes with scale 0.2 .*were made with"
    if case == "real layer":
        y = model.node("MatMul", [model.real(x), model.constant(np.ones((4, 3), np.float32))])
        return model, model.quantize(y, given), "weights of real numbers between quantisers"
    if case == "no quantiser between":
        weights = model.weights(np.ones((4, 4), np.int8), np.float32(0.1), np.int8(0), 1)
        y = model.node("Tanh", [model.node("MatMul", [model.real(x), weights])])
        return model, model.quantize(y, given), "follows layer .* with no quantiser between"
    if case == "dynamic":
        names = [model.constant(np.ones((4, 3), np.int8)), model.constant(np.uint8(3)), model.constant(np.int8(0))]
        y = model.node("Cast", [model.node("MatMulInteger", [x[0], *names])], to=1)
        return model, model.quantize(y, given), "dynamic quantisation"
    if case == "softmax of codes":
        y = model.node("QLinearSoftmax", [x[0], *map(model.constant, (*given, *given))], domain="com.microsoft",
                       axis=1, opset=13)
        return model, (y, given), "QLinearSoftmax .* is an operator on codes that is not supported"
    raise AssertionError(case)


@pytest.mark.parametrize("case", [
    "zero point of another type", "several scales", "read otherwise", "real layer", "no quantiser between", "dynamic",
    "softmax of codes",
])
def test_what_is_refused(tmp_path, case):
    model, value, sentence = broken(case)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_graph(model.write(tmp_path / "model.onnx", value))
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)
