"""What ``check`` says of models, layer by layer."""

import json

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import QONNX, build, floats, node, real_model, saved

from lutloom.check import check
from lutloom.errors import ModelError
from lutloom.network import Conv, Flatten, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.weights import WeightFormat


@pytest.mark.parametrize("name", ["TFC_1W1A", "TFC_2W2A", "qkeras_jettagging", "CNV_1W1A_gtsrb_bnnpynq", "mnist-8",
                                  "lenet_caffe_mnist", "cifar10_quick"])
def test_real_models_are_supported(name):
    found = check(real_model(name)[0])
    assert found.supported and found.sentence == "" and len(found) > 5


def test_rows(tmp_path):
    nodes = [node("Conv", "x conv1.weight", "c"), node("Relu", "c", "r", "/relu"), node("Flatten", "r", "f"),
             node("Gemm", "f fc.weight", "y")]
    found = check(saved(build(nodes, {"conv1.weight": floats(4, 3, 3, 3), "fc.weight": floats(64, 5)}), tmp_path))
    assert [(row.layer, row.op, row.becomes, row.shape, row.weights) for row in found] == [
        ("conv1", "Conv", "conv", (4, 4, 4), 108), ("/relu", "Relu", "relu", (4, 4, 4), 0),
        ("fc", "Gemm", "dense", (5,), 320)]
    assert found.supported and found[0].supported is True
    assert json.loads(json.dumps(found.data))["layers"][0]["layer"] == "conv1"
    assert "conv1  Conv" in found.text and found.text.count("yes") == 3


def test_everything_that_is_not_supported_is_named(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Sin", "c", "l", "wave"), node("Div", "l c", "a", "skip"),
             node("Cos", "a", "h", "swish"), node("MaxPool", "h", "p", kernel_shape=[2, 2]),
             node("Flatten", "p", "f"), node("Gemm", "f d", "y", "fc")]
    found = check(saved(build(nodes, {"w": floats(4, 3, 3, 3), "d": floats(36, 2)}, opset=14), tmp_path))
    assert [(row.op, row.supported) for row in found] == [
        ("Conv", True), ("Sin", False), ("Div", False), ("Cos", False), ("MaxPool", True), ("Gemm", True)]
    assert found[1].shape == (4, 4, 4) and found[4].shape == (3, 3, 4)
    assert found[2].note.startswith("divides by a computed tensor, which is not supported")
    assert not found.supported
    assert found.sentence.startswith("model 'net.onnx' has 3 unsupported layers (Div 'skip', Cos 'swish' besides "
                                     "this): Sin 'wave' is an operator that is not supported")
    assert found.text.count("\n") == len(found) + 1 + 3  # header, empty line, the notes of the other two
    assert "Sin 'wave'" not in found.text and "Cos 'swish'" in found.text


def test_layers_behind_an_unknown_shape(tmp_path):
    nodes = [node("Mystery", "x", "m", "who", "elsewhere"), node("Relu", "m", "y", "behind")]
    found = check(saved(build(nodes, domains=("elsewhere",)), tmp_path))
    assert [(row.layer, row.supported) for row in found] == [("who", False), ("behind", None)]
    assert found[0].shape is None and "of domain 'elsewhere'" in found[0].note
    assert found.sentence.startswith("model 'net.onnx' cannot be built: Mystery 'who' is an operator of domain")


def test_custom_operators_keep_their_shape(tmp_path):
    nodes = [node("Quant", "x s z b", "q", "odd", QONNX, signed=1), node("Relu", "q", "y", "behind")]
    weights = {"s": np.float32(1), "z": np.float32(0), "b": np.float32(2.5)}
    found = check(saved(build(nodes, weights), tmp_path))
    assert [(row.supported, row.shape) for row in found] == [(False, (6, 6, 3)), (True, (6, 6, 3))]


def test_output_that_cannot_be_had(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Flatten", "c", "y")]
    found = check(saved(build(nodes, {"w": floats(2, 3, 3, 3)}), tmp_path))
    assert [row.supported for row in found] == [True, False] and "flattened" in found.sentence


def test_bad_files_are_errors(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        check(tmp_path / "no.onnx")
    (tmp_path / "letter.onnx").write_text("Dear all")
    with pytest.raises(ModelError, match="letter.onnx"):
        check(tmp_path / "letter.onnx")


def test_input_layout_is_settled_here_too(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "c"),
             node("Cast", "c", "y", to=TensorProto.DOUBLE)]
    found = check(saved(build(nodes, {"w": floats(2, 5, 3, 3)}, ("N", 6, 7, 5)), tmp_path))
    assert found.supported and found[0].shape == (4, 5, 2)


def test_a_network_lists_its_layers(tmp_path):
    builder = NetworkBuilder((4, 4, 1))
    weights = Weights(np.ones((2, 4, 4, 1), np.uint16), WeightFormat.parse("int:4"), (1,))
    builder.add(Conv, "conv", weights)
    builder.add(Flatten, "flat")
    builder.network("net").save(tmp_path / "net.npz")
    found = check(tmp_path / "net.npz")
    assert found.supported and found.sentence == ""
    assert [(row.layer, row.op, row.becomes, row.shape, row.weights) for row in found] == [
        ("conv", "conv", "int:4", (1, 1, 2), 32), ("flat", "flatten", found[1].becomes, (2,), 0)]
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 4)))
    with pytest.raises(ModelError, match="data.npz is not a network of lutloom; give a model file or what lutloom qu"):
        check(tmp_path / "data.npz")
