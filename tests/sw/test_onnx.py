"""The ONNX front end against onnxruntime, operator by operator and in the shapes that exporters give them."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import build, floats, graph_of, node, ops, same

from lutloom.errors import ModelError


@pytest.mark.parametrize("attributes", [
    {}, {"strides": [2, 2]}, {"pads": [1, 0, 2, 1]}, {"pads": [1, 1, 1, 1], "strides": [2, 3]}, {"dilations": [2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"}, {"pads": [2, 2, 2, 2], "dilations": [2, 2], "strides": [2, 1]},
])
def test_conv(tmp_path, attributes):
    model = build([node("Conv", "x conv1.weight conv1.bias", "y", "odd", **attributes)],
                  {"conv1.weight": floats(4, 3, 3, 2), "conv1.bias": floats(4)}, ("N", 3, 7, 8))
    graph = same(model, tmp_path)
    assert ops(graph) == ["conv"] and graph.nodes[0].name == "conv1"
    assert graph.nodes[0].params["weight"].shape == (4, 3, 2, 3)
    assert (graph.input_layout, graph.output_layout) == ("NCHW", "NCHW")


@pytest.mark.parametrize("groups, outputs", [(3, 3), (3, 6), (2, 4), (6, 6)])
def test_conv_groups(tmp_path, groups, outputs):
    channels = 6 if groups != 3 else 3
    model = build([node("Conv", "x w", "y", group=groups, pads=[1, 1, 1, 1])],
                  {"w": floats(outputs, channels // groups, 3, 3)}, (2, channels, 5, 4))
    assert same(model, tmp_path).nodes[0].name == "conv_0"


def test_conv_1d(tmp_path):
    nodes = [node("Conv", "x w b", "a", pads=[2, 1], strides=[2]), node("MaxPool", "a", "p", kernel_shape=[2]),
             node("Flatten", "p", "f"), node("Gemm", "f d", "y", transB=1)]
    graph = same(build(nodes, {"w": floats(5, 3, 4), "b": floats(5), "d": floats(2, 35)}, ("N", 3, 16)), tmp_path)
    assert graph.shapes[graph.input] == (1, 16, 3) and graph.input_shape == (3, 16) and graph.input_layout == "NCHW"


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [2, 2]}, {"kernel_shape": [3, 3], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
])
@pytest.mark.parametrize("size", [(6, 7), (5, 8)])
def test_pool(tmp_path, op, attributes, size):
    graph = same(build([node(op, "x", "y", **attributes)], {}, ("N", 2, *size)), tmp_path)
    params, (height, width, _) = graph.nodes[0].params, graph.shapes[graph.output]
    top, left, bottom, right = params["pads"]
    assert (size[0] + top + bottom - params["kernel"][0]) // params["stride"][0] + 1 == height
    assert (size[1] + left + right - params["kernel"][1]) // params["stride"][1] + 1 == width


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [2, 1, 1, 1]},
])
def test_average_pool_that_counts_padding(tmp_path, attributes):
    same(build([node("AveragePool", "x", "y", count_include_pad=1, **attributes)], {}, ("N", 2, 6, 7)), tmp_path)


def test_average_of_a_window_beyond_the_map_divides_by_the_pixels_there(tmp_path):
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}
    model = build([node("AveragePool", "x", "y", **attributes)], {}, ("N", 1, 4, 4))
    assert graph_of(model, tmp_path).nodes[0].params["divisor"].tolist() == [[9, 6], [6, 4]]


@pytest.mark.parametrize("nodes, opset", [
    ([node("GlobalAveragePool", "x", "y")], 13), ([node("GlobalMaxPool", "x", "y")], 13),
    ([node("ReduceMean", "x", "y", axes=[2, 3])], 13), ([node("ReduceMean", "x", "y", axes=[-1, -2], keepdims=0)], 13),
    ([node("ReduceMean", "x axes", "y", keepdims=0)], 18),
    ([node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", "y", axes=[1, 2], keepdims=0)], 13),
    ([node("Reshape", "x flat", "r"), node("ReduceMean", "r", "y", axes=[2])], 13),
])
def test_global_pool(tmp_path, nodes, opset):
    weights = {"axes": np.array([2, 3]), "flat": np.array([0, 3, -1])}
    graph = same(build(nodes, weights, opset=opset), tmp_path)
    assert ops(graph) == ["maxpool" if nodes[0].op_type == "GlobalMaxPool" else "globalpool"]


@pytest.mark.parametrize("gemm", [{"transB": 1}, {}, {"alpha": 0.5}, {"alpha": -2.0, "beta": 0.25}, {"beta": 0.0}])
def test_gemm(tmp_path, gemm):
    shape = (4, 5) if "transB" in gemm else (5, 4)
    same(build([node("Gemm", "x fc.weight b", "y", **gemm)], {"fc.weight": floats(*shape), "b": floats(4)}, ("N", 5)),
         tmp_path)


@pytest.mark.parametrize("bias", [(), (1,), (1, 4), (4,)])
def test_gemm_bias_shapes(tmp_path, bias):
    same(build([node("Gemm", "x w b", "y")], {"w": floats(5, 4), "b": floats(*bias)}, ("N", 5)), tmp_path)


def test_matmul_and_flatten_permutes_the_columns(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("MatMul", "f m", "d"), node("Add", "d b", "y")]
    weights = {"w": floats(4, 3, 3, 3), "m": floats(64, 5), "b": floats(5)}
    graph = same(build(nodes, weights), tmp_path)
    assert ops(graph) == ["conv", "flatten", "dense", "affine"]
    assert graph.shapes[graph.nodes[1].output] == (64,)


def test_dense_over_the_channels_of_a_map_is_a_pointwise_convolution(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t m", "d"), node("Add", "d b", "y")]
    graph = same(build(nodes, {"m": floats(3, 5), "b": floats(5)}), tmp_path)
    assert ops(graph) == ["conv", "affine"] and graph.output_layout == "NHWC"


def test_pointwise_convolution_of_a_pooled_map_is_dense(tmp_path):
    nodes = [node("GlobalAveragePool", "x", "g"), node("Conv", "g w b", "c"), node("Flatten", "c", "y")]
    graph = same(build(nodes, {"w": floats(5, 3, 1, 1), "b": floats(5)}), tmp_path)
    assert ops(graph) == ["globalpool", "dense"]


def test_batch_normalization(tmp_path):
    weights = {"bn.weight": floats(3), "bn.bias": floats(3, seed=1), "m": floats(3, seed=2), "v": floats(3) ** 2}
    bn = "bn.weight bn.bias m v"
    graph = same(build([node("BatchNormalization", f"x {bn}", "y", epsilon=1e-3)], weights), tmp_path)
    assert [item.name for item in graph.nodes] == ["bn_mean", "bn"]
    weights["m"] *= 0
    assert ops(same(build([node("BatchNormalization", f"x {bn}", "y")], weights), tmp_path)) == ["affine"]


def test_batch_normalization_behind_flatten(tmp_path):
    weights = {"w": floats(2, 3, 5, 5), **{name: np.abs(floats(8, seed=i)) for i, name in enumerate("gbmv")},
               "d": floats(3, 8)}
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "f"), node("BatchNormalization", "f g b m v", "n"),
             node("Gemm", "n d", "y", transB=1)]
    assert ops(same(build(nodes, weights), tmp_path)) == ["conv", "flatten", "affine", "affine", "dense"]


@pytest.mark.parametrize("op, constant", [
    ("Add", 0.5), ("Sub", [1.5]), ("Mul", -2.0), ("Div", 0.25), ("Add", "channel"), ("Sub", "channel"),
    ("Mul", "channel"), ("Div", "channel"), ("Max", 0.25), ("Min", 0.5),
])
@pytest.mark.parametrize("swapped", [False, True])
def test_affine_steps(tmp_path, op, constant, swapped):
    value = floats(1, 3, 1, 1) + 2 if constant == "channel" else np.array(constant, np.float32)
    model = build([node(op, "k x" if swapped else "x k", "y")], {"k": value})
    if op == "Div" and swapped:
        with pytest.raises(ModelError, match="divides by a computed tensor"):
            graph_of(model, tmp_path)
        return
    graph = same(model, tmp_path)
    assert ops(graph) == ["clip" if op in ("Min", "Max") else "affine"]


@pytest.mark.parametrize("op", ["Relu", "Sign", "Neg", "Identity"])
def test_elementwise(tmp_path, op):
    graph = same(build([node("Mul", "x two", "a"), node(op, "a", "y")], {"two": np.float32(2)}), tmp_path)
    assert ops(graph)[1:] == {"Relu": ["relu"], "Sign": ["sign"], "Neg": ["affine"], "Identity": []}[op]


@pytest.mark.parametrize("inputs, attributes, opset", [
    ("x", {"min": -0.5, "max": 0.5}, 7), ("x", {"max": 0.5}, 7), ("x low high", {}, 13), ("x - high", {}, 13),
    ("x low", {}, 13),
])
def test_clip(tmp_path, inputs, attributes, opset):
    model = build([node("Clip", inputs, "y", **attributes)], {"low": np.float32(-0.25), "high": np.float32(1)},
                  opset=opset)
    assert ops(same(model, tmp_path)) == ["clip"]


@pytest.mark.parametrize("opset", [9, 13])
def test_softmax(tmp_path, opset):
    nodes = [node("MatMul", "x w", "g"), node("Softmax", "g", "y", axis=1)]
    assert ops(same(build(nodes, {"w": floats(5, 4)}, ("N", 5), opset=opset), tmp_path)) == ["dense", "softmax"]


@pytest.mark.parametrize("keep", [0, 1])
def test_argmax(tmp_path, keep):
    nodes = [node("Gemm", "x w", "g"), node("Softmax", "g", "s"), node("ArgMax", "s", "y", axis=1, keepdims=keep)]
    graph = same(build(nodes, {"w": floats(5, 4)}, ("N", 5), output_type=TensorProto.INT64), tmp_path)
    assert graph.output_shape == ((1,) if keep else ()) and graph.shapes[graph.output] == (1,)


def test_topk_gives_the_lower_index_first(tmp_path):
    nodes = [node("TopK", "x k", "v i"), node("Cast", "i", "y", to=TensorProto.INT32)]
    model = build(nodes, {"k": np.array([3])}, ("N", 6), output_type=TensorProto.INT32)
    same(model, tmp_path, np.array([[1, 5, 5, 2, 5, 0], [0, 0, 0, 0, 0, 0], [6, 5, 4, 3, 2, 1]], np.float32))


def test_shape_chain_as_pytorch_exports_view(tmp_path):
    nodes = [
        node("Conv", "x w", "c"), node("Shape", "c", "s"), node("Constant", "", "zero", value=numpy_helper.from_array(
            np.array(0), "zero")), node("Gather", "s zero", "b", axis=0), node("Unsqueeze", "b", "b1", axes=[0]),
        node("Concat", "b1 minus", "target", axis=0), node("Reshape", "c target", "r"),
        node("Gemm", "r d", "y", transB=1),
    ]
    weights = {"w": floats(2, 3, 5, 5), "minus": np.array([-1]), "d": floats(4, 8)}
    graph = same(build(nodes, weights, opset=11), tmp_path)
    assert ops(graph) == ["conv", "flatten", "dense"]


def test_squeeze_unsqueeze_and_transposes_fold_away(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"), node("Relu", "c", "r"),
             node("Transpose", "r", "u", perm=[0, 2, 3, 1]), node("MaxPool", "v", "p", kernel_shape=[2, 2]),
             node("Transpose", "p", "q", perm=[0, 2, 3, 1]), node("Unsqueeze", "q five", "z"),
             node("Squeeze", "z five", "sq"), node("Flatten", "sq", "f"), node("MatMul", "f d", "y")]
    nodes.insert(4, node("Transpose", "u", "v", perm=[0, 3, 1, 2]))
    weights = {"w": floats(4, 3, 3, 3), "five": np.array([4]), "d": floats(36, 3)}
    graph = same(build(nodes, weights, ("N", 6, 6, 3)), tmp_path)
    assert ops(graph) == ["conv", "relu", "maxpool", "flatten", "dense"]
    assert graph.input_layout == "NHWC" and graph.input_shape == (6, 6, 3)


@pytest.mark.parametrize("shape, steps", [
    (("N", 48), [node("Reshape", "x nchw", "m")]), (("N", 4, 12), [node("Reshape", "x nchw", "m")]),
    (("N", 4, 4, 3), [node("Sub", "x mean", "s"), node("Transpose", "s", "m", perm=[0, 3, 1, 2])]),
    (("N", 3, 4, 4), [node("Sub", "x plane", "m")]), (("N", 4, 4), [node("Unsqueeze", "x one", "t"),
                                                                   node("Conv", "t triple", "m")]),
])
def test_input_that_becomes_a_map_first(tmp_path, shape, steps):
    weights = {"nchw": np.array([-1, 3, 4, 4]), "w": floats(2, 3, 3, 3), "mean": floats(3), "plane": floats(3, 1, 1),
               "one": np.array([1]), "triple": floats(3, 1, 1, 1)}
    same(build([*steps, node("Conv", "m w", "y")], weights, shape), tmp_path)


def test_initialisers_listed_as_inputs_and_unnamed_nodes(tmp_path):
    nodes = [node("Conv", "x a", "c1"), node("Conv", "c1 b", "c2"), node("Relu", "c2", "y")]
    weights = {"a": floats(3, 3, 3, 3), "b": floats(2, 3, 1, 1)}
    graph = same(build(nodes, weights, also_inputs=True), tmp_path)
    assert [item.name for item in graph.nodes] == ["conv_0", "conv_1", "relu_0"]


def test_layer_names_are_unique_and_follow_the_weight(tmp_path):
    nodes = [node("Conv", "x net.0.weight", "a", "/net/0/Conv"), node("Conv", "a net.0.weight", "b", "/again"),
             node("Conv", "b plain", "c", "/named"), node("Relu", "c", "y", "net.0")]
    weights = {"net.0.weight": floats(3, 3, 1, 1), "plain": floats(3, 3, 1, 1)}
    graph = same(build(nodes, weights), tmp_path)
    assert [item.name for item in graph.nodes] == ["net.0", "net.0_1", "/named", "net.0_2"]


def test_weights_through_constants_are_folded(tmp_path):
    nodes = [node("Constant", "", "two", value_float=2.0), node("Mul", "fc.weight two", "w2"),
             node("Transpose", "w2", "wt", perm=[1, 0]), node("Pow", "base half", "root"), node("Gemm", "x wt", "g"),
             node("Div", "g root", "y")]
    graph = same(build(nodes, {"fc.weight": floats(4, 5), "base": np.float32(9), "half": np.float32(0.5)}, ("N", 5)),
                 tmp_path)
    assert graph.nodes[0].name == "fc" and graph.nodes[1].params["scale"] == 1 / 3


def test_unused_operators_do_not_matter(tmp_path):
    nodes = [node("Relu", "x", "y"), node("Sin", "x", "unused"), node("Dropout", "x", "d mask")]
    assert ops(same(build(nodes), tmp_path)) == ["relu"]


def test_the_standard_domain_by_its_long_name(tmp_path):
    nodes = [node("Shape", "x", "s"), node("Reshape", "x s", "r"), node("Relu", "r", "y", domain="ai.onnx")]
    model = build(nodes)
    assert ops(graph_of(model, tmp_path)) == ["relu"]
    model.opset_import[0].domain = "ai.onnx"
    assert ops(graph_of(model, tmp_path)) == ["relu"]


def test_fixed_batch(tmp_path):
    nodes = [node("Reshape", "x k", "f"), node("Gemm", "f w", "y")]
    same(build(nodes, {"k": np.array([4, 108]), "w": floats(108, 2)}, (4, 3, 6, 6)), tmp_path)


def test_uint8_input_with_a_cast(tmp_path):
    nodes = [node("Cast", "x", "c", to=TensorProto.FLOAT), node("Div", "c k", "y")]
    model = build(nodes, {"k": np.float32(255)}, ("N", 4), input_type=TensorProto.UINT8)
    same(model, tmp_path, np.arange(8, dtype=np.uint8).reshape(2, 4))


def test_local_functions_are_inlined(tmp_path):
    model = build([node("Twice", "x", "y", domain="mine")], domains=("mine",))
    model.functions.append(helper.make_function("mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "c"], [
        "b"]), ], [helper.make_opsetid("", 13)]))
    body = model.functions[0].node
    body.insert(0, helper.make_node("Constant", [], ["c"], value_float=1.5))
    assert ops(same(model, tmp_path)) == ["affine"]
