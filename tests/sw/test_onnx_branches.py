"""Float ONNX models with branches: against onnxruntime, and as integers against the quantised graph in rationals."""

import numpy as np
import pytest
from lower_checks import compared, kinds
from onnx_models import build, floats, graph_of, node, ops, same

from lutloom.floating import model_layout, run


class Model:
    """Operators one after the other, with seeded weights."""

    def __init__(self, shape=("N", 3, 6, 6), opset=14, seed=1):
        self.shape, self.opset, self.nodes, self.weights = shape, opset, [], {}
        self.random = np.random.default_rng(seed)

    def put(self, op, inputs, weights=(), **attributes):
        """Append an operator; gives the name of its output."""
        output = f"t{len(self.nodes)}"
        names = [f"{output}.w{i}" for i in range(len(weights))]
        self.weights |= dict(zip(names, weights, strict=True))
        self.nodes.append(node(op, " ".join([inputs, *names]), output, **attributes))
        return output

    def drawn(self, *shape):
        return (self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)

    def conv(self, x, channels, outputs, kernel=3, groups=1, stride=1, bias=True):
        weights = [self.drawn(outputs, channels // groups, kernel, kernel)]
        weights += [self.drawn(outputs) / 4] * bias
        return self.put("Conv", x, weights, pads=[kernel // 2] * 4, group=groups, strides=[stride] * 2)

    def norm(self, x, channels):
        spread = self.random.uniform(0.5, 1.5, (2, channels)).astype(np.float32)
        return self.put("BatchNormalization", x, [spread[0], self.drawn(channels), self.drawn(channels), spread[1]])

    def dense(self, x, inputs, outputs):
        return self.put("Gemm", x, [self.drawn(outputs, inputs), self.drawn(outputs)], transB=1)

    def classes(self, x, channels, outputs=4):
        return self.dense(self.put("Flatten", self.put("GlobalAveragePool", x)), channels, outputs)

    def proto(self, output):
        self.nodes[-1].output[0] = "y"
        assert output == f"t{len(self.nodes) - 1}"
        return build(self.nodes, self.weights, self.shape, opset=self.opset)


def residual(model):
    """Two blocks with batch norms, the second with a projection."""
    x = model.put("Relu", model.norm(model.conv("x", 3, 4, bias=False), 4))
    for channels, stride in ((4, 1), (6, 2)):
        y = model.put("Relu", model.norm(model.conv(x, 4, channels, stride=stride, bias=False), channels))
        y = model.norm(model.conv(y, channels, channels, bias=False), channels)
        if stride > 1:
            x = model.norm(model.conv(x, 4, channels, 1, stride=stride, bias=False), channels)
        x = model.put("Relu", model.put("Add", f"{y} {x}"))
    return model.classes(x, 6)


def inception(model):
    """1 x 1, 3 x 3 behind 1 x 1, a pool behind which stands a 1 x 1; then a fire module."""
    relu = lambda x: model.put("Relu", x)  # noqa: E731
    pool = model.put("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4)
    parts = [relu(model.conv("x", 3, 2, 1)), relu(model.conv(relu(model.conv("x", 3, 2, 1)), 2, 3)),
             relu(model.conv(pool, 3, 2, 1))]
    squeezed = relu(model.conv(model.put("Concat", " ".join(parts), axis=1), 7, 3, 1))
    x = model.put("Concat", f"{relu(model.conv(squeezed, 3, 2, 1))} {relu(model.conv(squeezed, 3, 2))}", axis=-3)
    return model.classes(x, 4)


def inverted(model):
    """MobileNetV2's: expansion, depthwise, projection, each with batch norm, Clip(0, 6) and the sum."""
    x = model.norm(model.conv("x", 3, 4, stride=2), 4)
    y = model.conv(x, 4, 8, 1)
    for step in range(2):
        y = model.put("Clip", model.norm(y, 8), [np.float32(0), np.float32(6)])
        y = model.conv(y, 8, 8, groups=8) if not step else model.conv(y, 8, 4, 1)
    return model.classes(model.put("Add", f"{x} {model.norm(y, 4)}"), 4)


def excited(gate, shape="conv"):
    """Squeeze and excite with a gate; h-swish in front."""
    def make(model):
        x = model.put("HardSwish", model.conv("x", 3, 4))
        y = model.put("GlobalAveragePool", x)
        if shape == "conv":
            y = model.conv(model.put("Relu", model.conv(y, 4, 2, 1)), 2, 4, 1)
        else:
            y = model.dense(model.put("Relu", model.dense(model.put("Flatten", y), 4, 2)), 2, 4)
        y = model.put(gate, y)
        if shape != "conv":
            y = model.put("Reshape", y, [np.array([-1, 4, 1, 1])])
        return model.classes(model.put("Mul", f"{x} {y}"), 4)
    return make


def shuffled(model):
    """Parts along channels, one of them convolved, and together again; a crop and a difference."""
    x = model.put("Relu", model.conv("x", 3, 4))
    name = f"t{len(model.nodes)}"
    model.nodes.append(node("Split", x, f"{name} {name}b", axis=1))
    y = model.put("Concat", f"{name}b {model.conv(name, 2, 3)}", axis=1)
    bounds = [np.array(side) for side in ([1, 1], [6, 5], [2, 3])]
    y = model.put("Sub", " ".join([model.put("Slice", y, bounds), model.put("Slice", model.conv(x, 4, 5), bounds)]))
    return model.classes(model.put("Pad", y, [np.array([0, 0, 1, 0, 0, 0, 2, 1])]), 5)


def upsampled(model):
    x = model.put("Relu", model.conv("x", 3, 4, stride=2))
    y = model.put("Resize", f"{x} -", [np.array([1, 1, 2, 2], np.float32)], mode="nearest", nearest_mode="floor",
                  coordinate_transformation_mode="asymmetric")
    return model.classes(model.put("Concat", f"{model.conv(y, 4, 3)} {model.conv('x', 3, 2)}", axis=1), 5)


def several(model):
    """Sum and Mean of three, a product of two dense layers, and a union of vectors."""
    x = [model.put("Relu", model.conv("x", 3, 3)) for _ in range(2)]
    y = model.put("Mean", f"{model.put('Sum', ' '.join(['x', *x]))} {x[0]} {x[1]}")
    flat = model.put("Flatten", model.put("GlobalAveragePool", y))
    a, b = model.put("Tanh", model.dense(flat, 3, 4)), model.put("Sigmoid", model.dense(flat, 3, 4))
    return model.dense(model.put("Concat", " ".join([a, model.put("Mul", f"{a} {b}")]), axis=1), 8, 3)


MODELS = {"resnet": residual, "inception": inception, "mobilenet": inverted, "sigmoid gate": excited("Sigmoid"),
          "hard sigmoid gate": excited("HardSigmoid", "dense"), "shuffle": shuffled, "upsample": upsampled,
          "several": several}


@pytest.mark.parametrize("name", MODELS)
def test_floats_equal_onnxruntime_and_integers_the_quantised_graph(tmp_path, name):
    model = Model()
    graph = same(model.proto(MODELS[name](model)), tmp_path, tolerance=1e-5)
    compared(graph, frames=1)
    compared(graph, frames=1, activations=4, weights="bitmask:3")


def test_what_layers_become(tmp_path):
    graph = graph_of((model := Model()).proto(residual(model)), tmp_path)
    assert ops(graph).count("add") == 2
    assert kinds(compared(graph, frames=1)).count("Sum") == 2
    graph = graph_of((model := Model()).proto(upsampled(model)), tmp_path)
    assert kinds(compared(graph, frames=1)).count("Broadcast") == 2
    names = [layer.name for layer in graph.nodes if layer.op == "upsample"]
    assert names == ["resize_0"]


@pytest.mark.parametrize("function", ["Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "HardSigmoid", "Elu", "Softplus"])
def test_functions(tmp_path, function):
    model = Model()
    x = model.put(function, model.conv("x", 3, 4), **({"alpha": 0.3} if function in ("LeakyRelu", "Elu") else {}))
    graph = same(model.proto(model.classes(x, 4)), tmp_path, tolerance=1e-5)
    assert "Table" in kinds(compared(graph, frames=1))


@pytest.mark.parametrize("function", ["LeakyRelu", "HardSigmoid", "Elu"])
def test_functions_without_their_attributes(tmp_path, function):
    """ONNX's own slopes stand in."""
    model = Model()
    same(model.proto(model.put(function, model.conv("x", 3, 4))), tmp_path, tolerance=1e-6)


def test_prelu_of_one_slope(tmp_path):
    model = Model()
    same(model.proto(model.put("PRelu", model.conv("x", 3, 4), [np.full((1, 1, 1), 0.3, np.float32)])), tmp_path)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(tmp_path, approximate):
    model = Model(opset=20)
    y = model.put("Gelu", model.conv("x", 3, 4), approximate=approximate)
    graph = same(model.proto(model.classes(y, 4)), tmp_path, tolerance=1e-5)
    compared(graph, frames=1)


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("how", ["floor", "round_prefer_floor", "round_prefer_ceil"])
def test_resize_by_whole_numbers(tmp_path, mode, how):
    model = Model(("N", 2, 3, 4))
    y = model.put("Resize", "x - -", [np.array([1, 2, 9, 8])], mode="nearest", nearest_mode=how,
                  coordinate_transformation_mode=mode)
    proto = model.proto(y)
    plain = {"half_pixel": how != "floor", "pytorch_half_pixel": how != "floor", "asymmetric": how == "floor"}[mode]
    if plain:
        graph = same(proto, tmp_path, x=floats(1, 2, 3, 4))
        assert graph.nodes[-1].params == {"factor": (3, 2)}
    else:
        with pytest.raises(Exception, match="by coordinates that do not repeat each of them as often"):
            graph_of(proto, tmp_path)


def test_channels_last_inputs_and_rows(tmp_path):
    """What is joined has channels last, as exported from TensorFlow, or one dimension."""
    model = Model(("N", 5, 6, 3))
    x = model.put("Transpose", "x", perm=[0, 3, 1, 2])
    parts = [model.put("Transpose", model.conv(x, 3, size), perm=[0, 2, 3, 1]) for size in (2, 3)]
    y = model.put("Relu", model.put("Concat", " ".join(parts), axis=3))
    y = model.put("Add", f"{y} {model.put('Transpose', model.conv(x, 3, 5), perm=[0, 2, 3, 1])}")
    graph = same(model.proto(model.put("ReduceMean", y, axes=[1, 2], keepdims=0)), tmp_path, tolerance=1e-5)
    compared(graph, frames=1)
    for axis in (1, 2):
        model = Model(("N", 3, 8))
        parts = [model.put("Conv", "x", [model.drawn(2, 3, 3)]) for _ in range(2)]
        y = model.put("Relu", model.put("Concat", " ".join(parts), axis=axis))
        graph = same(model.proto(model.put("Conv", y, [model.drawn(2, 4 if axis == 1 else 2, 1)])), tmp_path)
        compared(graph, frames=1)


def test_a_corrupted_branch_is_seen(tmp_path):
    """The comparison with onnxruntime fails where a sum takes another branch."""
    model = Model()
    proto = model.proto(residual(model))
    graph = graph_of(proto, tmp_path)
    next(item for item in proto.graph.node if item.op_type == "Add").input[1] = "t0"
    other = graph_of(proto, tmp_path)
    x = floats(2, 3, 6, 6)
    assert np.abs(model_layout(graph, run(graph, x)) - model_layout(other, run(other, x))).max() > 1e-3
