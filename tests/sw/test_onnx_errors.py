"""Models that cannot be taken: each is refused in one sentence that names the thing and the way out."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import build, floats, graph_of, node, saved

from lutloom.errors import ModelError
from lutloom.frontend import load_graph


def refused(path):
    """The sentence with which a file is refused, after checking its form."""
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    sentence = str(caught.value)
    assert "\n" not in sentence and 20 < len(sentence) < 700, sentence
    return sentence


def refused_model(model, folder):
    return refused(saved(model, folder))


def conv(weight, shape=("N", 3, 6, 6), **attributes):
    return build([node("Conv", "x conv1.weight", "y", "/conv1/Conv", **attributes)], {"conv1.weight": weight}, shape)


# --- files ------------------------------------------------------------------------------------------------------------

def test_missing_and_folder_and_kind(tmp_path):
    assert "does not exist" in refused(tmp_path / "no.onnx")
    assert "must be a file, not a folder" in refused(tmp_path)
    (tmp_path / "net.pth").write_bytes(b"PK")
    assert "must be an .onnx, .tflite, .keras or .h5 file, not '.pth'" in refused(tmp_path / "net.pth")
    (tmp_path / "net").write_bytes(b"PK")
    assert "not one without a suffix" in refused(tmp_path / "net")


def test_empty(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"")
    assert refused(tmp_path / "net.onnx") == "model 'net.onnx' is empty; export or copy it again"


@pytest.mark.parametrize("content", [b"Dear all,\nthis is not a model.", b"\x00" * 100, bytes(range(256)), b"PK"])
def test_not_onnx(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    assert "net.onnx" in refused(tmp_path / "net.onnx")


def test_truncated_anywhere(tmp_path):
    data = conv(floats(4, 3, 3, 3)).SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert "net.onnx" in refused(path)


def test_damaged_anywhere_never_raises_anything_else(tmp_path):
    data = bytearray(conv(floats(2, 3, 3, 3)).SerializeToString())
    rng = np.random.default_rng(0)
    path = tmp_path / "net.onnx"
    for _ in range(200):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_graph(path)
        except ModelError as error:
            assert len(str(error)) > 20


def test_text_that_is_none(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(conv(floats(2, 3, 3, 3)).SerializeToString().replace(b"/conv1/Conv", b"/conv1\xff\xfe\xfdnv"))
    assert "model 'net.onnx' is not a whole ONNX file" in refused(path)


@pytest.mark.parametrize("opset", [1, 6, 999])
def test_unknown_opset(tmp_path, opset):
    sentence = refused_model(build([node("Relu", "x", "y")], opset=opset), tmp_path)
    assert f"must be of opset 7 to {onnx.defs.onnx_opset_version()}, not of opset {opset}" in sentence


def test_rules_of_onnx(tmp_path):
    assert "breaks a rule of ONNX" in refused_model(build([node("Relu", "x nothing", "y")]), tmp_path)
    assert "breaks a rule of ONNX" in refused_model(build([node("Relu", "x", "y", sideways=1)]), tmp_path)


@pytest.mark.parametrize("location", ["missing.bin", "../outside.bin", "{tmp}/outside.bin", "", "link.bin"])
def test_external_data(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    os.symlink(tmp_path / "outside.bin", folder / "link.bin")
    model = conv(floats(4, 3, 3, 3))
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location.replace("{tmp}", str(tmp_path)))
    tensor.ClearField("raw_data")
    sentence = refused_model(model, folder)
    assert "tensor 'conv1.weight' keeps its data in" in sentence
    assert ("which is not there" if location == "missing.bin" else "outside the model's folder") in sentence


def test_external_data_that_is_there_and_that_is_too_short(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(conv(floats(4, 3, 3, 3)), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (load_graph(path).nodes[0].params["weight"] == floats(4, 3, 3, 3).transpose(0, 2, 3, 1)).all()
    (tmp_path / "net.bin").write_bytes(bytes(100))
    assert "needs bytes 0 to 432 of 'net.bin', which has 100" in refused(path)


def test_huge_tensors(tmp_path):
    model = conv(floats(4, 3, 3, 3))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 20, 1 << 20, 3, 3])
    assert "tensor 'conv1.weight' has 9895604649984 elements, more than" in refused_model(model, tmp_path)
    nodes = [node("ConstantOfShape", "k", "c"), node("Add", "x c", "y")]
    assert "makes a constant of 1e" in refused_model(build(nodes, {"k": np.array([10**6, 10**6])}), tmp_path).replace(
        "1000000000000", "1e12")
    assert "more than 16777216 values" in refused_model(build([node("Relu", "x", "y")], {}, ("N", 3, 9999, 9999)),
                                                        tmp_path)
    assert "more than 16777216 values" in refused_model(conv(floats(900, 3, 1, 1), ("N", 3, 999, 999)), tmp_path)


def test_tensor_whose_data_do_not_fill_it(tmp_path):
    model = conv(floats(4, 3, 3, 3))
    model.graph.initializer[0].raw_data = bytes(10)
    assert "conv1.weight" in refused_model(model, tmp_path)


# --- inputs and outputs -----------------------------------------------------------------------------------------------

def test_open_dimensions(tmp_path):
    sentence = refused_model(build([node("Relu", "x", "y")], {}, ("N", 3, "height", 6)), tmp_path)
    assert "input 'x' has an open dimension 'height' at position 2; only the batch may be open" in sentence


def test_shapes_that_are_none(tmp_path):
    assert "must have a shape of a batch" in refused_model(build([node("Relu", "x", "y")], {}, (5,)), tmp_path)
    assert "must have a shape of a batch" in refused_model(build([node("Relu", "x", "y")], {}, None), tmp_path)
    assert "must have 2 to 4 dimensions" in refused_model(build([node("Relu", "x", "y")], {}, ("N", 2, 2, 2, 2)),
                                                          tmp_path)


def test_several_inputs_or_outputs(tmp_path):
    model = build([node("Relu", "x", "y"), node("Sign", "x", "z")])
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    assert "must have one output, not 2 (y, z)" in refused_model(model, tmp_path)
    model = build([node("Relu", "x", "y")])
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, (1, 3)))
    assert "must have one input, not 2 (x, other)" in refused_model(model, tmp_path)


def test_output_without_a_layer(tmp_path):
    assert "does not depend on its input through any layer" in refused_model(build([node("Identity", "x", "y")]),
                                                                             tmp_path)


def test_flattened_map_as_output(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "y")]
    sentence = refused_model(build(nodes, {"w": floats(2, 3, 3, 3)}), tmp_path)
    assert "output 'y' is a map of shape (4, 4, 2) (NHWC) flattened or transposed into (32,)" in sentence
    assert graph_of(build(nodes, {"w": floats(1, 3, 3, 3)}), tmp_path).shapes  # one channel: the order is the same
    assert graph_of(build(nodes, {"w": floats(4, 3, 6, 6)}), tmp_path).output_shape == (4,)


# --- operators --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path, value):
    weight = floats(4, 3, 3, 3)
    weight[1, 2, 0, 1] = value
    assert refused_model(conv(weight), tmp_path) == (
        "Conv 'conv1' has weights that are NaN or infinite (1 of 108, first at [1, 2, 0, 1] in tensor 'conv1.weight'); "
        "train or export the model again")


@pytest.mark.parametrize("nodes, text", [
    ([node("Sin", "x", "y", "odd")], "Sin 'odd' is an operator that is not supported; supported are Add, ArgMax, "),
    ([node("Relu", "x", "r"), node("Div", "x r", "y", "ratio")], "Div 'ratio' divides by a computed tensor"),
    ([node("MaxPool", "x", "p", kernel_shape=[2, 2]), node("Add", "x p", "y", "skip")],
     "Add 'skip' joins tensors of shapes (3, 6, 6) and (3, 5, 5) without the batch, which do not fit"),
    ([node("Concat", "x g3", "y", "cat", axis=1)], "Concat 'cat' joins a constant to a computed tensor"),
    ([node("Concat", "x x", "y", "cat", axis=0)], "Concat 'cat' joins tensors of shapes (3, 6, 6), (3, 6, 6) along"),
    ([node("Pad", "x p8 k", "y", "rim")], "Pad 'rim' pads with 2, but only 0 is supported in a model of real numbers"),
    ([node("Resize", "x - r4", "y", "up", mode="linear")], "Resize 'up' has mode 'linear', which is not supported"),
    ([node("Resize", "x - q4", "y", "up", mode="nearest")],
     "Resize 'up' makes 9 pixels of 6 by coordinates that do not repeat each of them as often"),
    ([node("Resize", "x - s4", "y", "up", coordinate_transformation_mode="align_corners")],
     "Resize 'up' makes 18 pixels of 6 by coordinates that do not repeat each of them as often"),
    ([node("MatMul", "x x", "y")], "MatMul 'dense_0' multiplies two computed tensors"),
    ([node("MatMul", "w x", "y")], "multiplies by constants on the left"),
    ([node("Conv", "x x", "y")], "Conv 'conv_0' computes its weights, which must be constant"),
    ([node("Div", "k x", "y")], "Div 'affine_0' divides by a computed tensor"),
    ([node("Div", "x zero", "y")], "divides by zero"),
    ([node("Pow", "x k", "y")], "Pow 'pow_0' raises a computed tensor to a power"),
    ([node("Add", "x plane", "y")], "has a constant that differs within a channel (shape (6, 6))"),
    ([node("Add", "x big", "y")], "has a constant of shape (2, 3, 6, 6), which does not fit its input"),
    ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])], "has dilations [2, 2], which are not"),
    ([node("MaxPool", "x", "p i", kernel_shape=[2, 2]), node("Cast", "i", "y", to=1)], "has its indices used"),
    ([node("MaxPool", "x", "y", kernel_shape=[7, 7])], "has a window of 7 on 6 padded pixels"),
    ([node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[2, 2, 2, 2])], "padding [2, 2, 2, 2] that is not"),
    ([node("Conv", "x w4", "y", "c")], "Conv 'c' takes 4 channels in 1 groups for 2 outputs, but its input has 3"),
    ([node("Conv", "x w3", "y", kernel_shape=[5, 5])], "says kernel_shape [5, 5], but its weights are (3, 3)"),
    ([node("Conv", "x w3 b5", "y")], "has a bias of shape (5,), but 2 outputs"),
    ([node("Conv", "x w3", "y", auto_pad="MAYBE")], "has auto_pad 'MAYBE'"),
    ([node("Conv", "x w3", "y", strides=[0, 1])], "has strides [0, 1]"),
    ([node("BatchNormalization", "x g3 g3 g3 n3", "y", "bn")], "'bn' has a variance that is not above zero"),
    ([node("BatchNormalization", "x g3 g3 g3 g5", "y", "bn")], "'bn' has parameters of shape"),
    ([node("Transpose", "x", "y", perm=[1, 0, 2, 3])], "has perm [1, 0, 2, 3], which must keep the batch first"),
    ([node("Reshape", "x k2", "y")], "makes shape [3, 36] out of [1, 3, 6, 6], which does not keep the batch first"),
    ([node("Reshape", "x k3", "y")], "Reshape 'reshape_0' "),
    ([node("Conv", "x w3", "c"), node("Reshape", "c k4", "r"),
      node("MaxPool", "r", "y", "p", kernel_shape=[2, 2])],
     "MaxPool 'p' reads a tensor of shape (4, 2, 4) that was reshaped or transposed"),
    ([node("Cast", "x", "y", "c", to=TensorProto.INT8)], "Cast 'c' casts to INT8, which changes numbers"),
    ([node("Clip", "x k zero", "y")], "has a lower bound 2 above its upper bound 0"),
    ([node("Clip", "x nan", "y")], "has a lower bound that is NaN"),
    ([node("Softmax", "x", "y")], "works along axis -1 of a tensor of shape (3, 6, 6)"),
    ([node("ReduceMean", "x", "y", axes=[3])], "over something other than a map's whole height and width"),
    ([node("ReduceMean", "x", "y", axes=[0, 2, 3])], "must not hold the batch"),
    ([node("ReduceMean", "x", "y")], "averages over every dimension"),
    ([node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("Softmax", "f", "s"),
      node("Relu", "s", "y")],
     "softmax 'softmax_0' must be at the end of the model, but relu 'relu_0' reads it"),
    ([node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("TopK", "f one", "y i", "t")],
     "TopK 't' has its values used"),
    ([node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("TopK", "f nine", "v y", "t")],
     "takes the best 9 of 3"),
    ([node("Flatten", "x", "f"), node("ArgMax", "f", "y", axis=1)], "numbers the elements of a flattened map"),
    ([node("Flatten", "x", "f"), node("Gemm", "f w4", "y", "fc")], "Gemm 'fc' has weights of shape (2, 4, 3, 3)"),
    ([node("Flatten", "x", "f"), node("Gemm", "f m", "y", "fc")], "Gemm 'fc' takes 7 inputs, but its input has 108"),
    ([node("Flatten", "x", "f"), node("Gemm", "f m", "y", "fc", transA=1)], "has transA"),
    ([node("Dropout", "x - yes", "y", "d")], "Dropout 'd' is in training mode"),
    ([node("Sin", "k", "s"), node("Add", "x s", "y")], "Sin 'sin_0' works on constants alone and cannot be folded"),
    ([node("Concat", "g3 w3", "s", axis=0), node("Add", "x s", "y")], "Concat 'concat_0' cannot be evaluated ("),
])
def test_operators(tmp_path, nodes, text):
    weights = {
        "w": floats(6, 6), "k": np.float32(2), "zero": np.float32(0), "plane": floats(6, 6), "big": floats(2, 3, 6, 6),
        "w4": floats(2, 4, 3, 3), "w3": floats(2, 3, 3, 3), "b5": floats(5), "g3": np.ones(3, np.float32),
        "n3": -np.ones(3, np.float32), "g5": np.ones(5, np.float32), "k2": np.array([3, 36]), "k3": np.array([1, 7]),
        "k4": np.array([1, 4, 2, 4]), "nan": np.float32(np.nan), "one": np.array([1]), "nine": np.array([9]),
        "m": floats(7, 2), "yes": np.array(True),
        "p8": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "r4": np.array([1, 1, 2, 2], np.float32),
        "s4": np.array([1, 1, 3, 3], np.float32), "q4": np.array([1, 1, 1.5, 1.5], np.float32),
    }
    used = {name for item in nodes for name in item.input}
    sentence = refused_model(build(nodes, {name: weights[name] for name in weights if name in used}), tmp_path)
    assert text in sentence and ";" in sentence


def test_training_mode(tmp_path):
    nodes = [node("BatchNormalization", "x g g g g", "y m v", "bn", training_mode=1)]
    model = build(nodes, {"g": np.ones(3, np.float32)}, opset=15)
    assert "BatchNormalization 'bn' is in training mode; export" in refused_model(model, tmp_path)


def test_names_are_made_printable(tmp_path):
    sentence = refused_model(build([node("Sin", "x", "y", "a\x1b[31m\nb")]), tmp_path)
    assert "'a_[31m_b'" in sentence
