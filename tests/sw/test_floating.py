"""The float executor on real models, against onnxruntime and QONNX's own outputs."""

import time

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_models import build, floats, graph_of, node, real_model

from lutloom.errors import DataError
from lutloom.floating import inputs, model_layout, run, trace
from lutloom.frontend import load_graph


@pytest.mark.parametrize("name", ["TFC_1W1A", "TFC_2W2A", "qkeras_jettagging"])
def test_qonnx_models(name):
    path, expected, _ = real_model(name)
    graph = load_graph(path)
    y = run(graph, expected["x"])
    np.testing.assert_allclose(y, expected["y_qonnx"], rtol=1e-5, atol=1e-5)


def test_cnv():
    path, expected, _ = real_model("CNV_1W1A_gtsrb_bnnpynq")
    graph = load_graph(path)
    assert (run(graph, expected["x"][:8]) == expected["y"][:8]).all()
    nhwc = expected["x_int8_nhwc"][8:10] / 128
    assert (run(graph, nhwc) == expected["y"][8:10]).all()
    assert [item.name for item in graph.nodes if item.op in ("conv", "dense")] == [
        *(f"conv_{i}" for i in range(6)), *(f"dense_{i}" for i in range(3))]


def test_mnist_8():
    path, expected, _ = real_model("mnist-8")
    y = run(load_graph(path), expected["x"])
    np.testing.assert_allclose(y, expected["y_ort"], rtol=1e-5, atol=1e-2)


def test_cifar10_quick():
    path, expected, data = real_model("cifar10_quick")
    images = np.load(data / "cifar10" / "cifar10_test1000.npz")["x"][:200]
    y = run(load_graph(path), (images.astype(float) - 128) / 128)
    np.testing.assert_allclose(y, expected["logits_float"][:200], atol=1e-4)


def test_lenet_is_right_and_fast():
    path, expected, data = real_model("lenet_caffe_mnist")
    mnist = np.load(data / "mnist" / "mnist.npz")
    graph = load_graph(path)
    y = run(graph, mnist["x_test"][expected["index"]][:, None] / 256)
    np.testing.assert_allclose(y, expected["logits_float"], atol=1e-4)
    count = 2000
    start = time.process_time()
    y = run(graph, mnist["x_test"][:count, :, :, None] / 256)
    assert time.process_time() - start < 20 * count / 10000 * 2  # two threads may count
    assert (y.argmax(1) == mnist["y_test"][:count]).mean() > 0.985


@pytest.mark.parametrize("name", ["lenet_caffe_mnist", "cifar10_quick", "mnist-8"])
def test_every_value_equals_onnxruntime(name, tmp_path):
    path, _, _ = real_model(name)
    graph, model = load_graph(path), onnx.load(path)
    names = [value for value in graph.shapes if ":" not in value and value != graph.input]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(value, 1, None) for value in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = floats(1, *graph.input_shape)
    found = trace(graph, x)
    for value, expected in zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True):
        got = found[value].transpose(0, 3, 1, 2) if found[value].ndim == 4 else found[value]
        np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=1e-3, atol=1e-3, err_msg=value)


def small(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "y")]
    return graph_of(build(nodes, {"w": floats(4, 3, 3, 3)}, ("N", 3, 6, 5)), tmp_path)


def test_trace_and_chunks(tmp_path, monkeypatch):
    graph, x = small(tmp_path), floats(7, 3, 6, 5)
    whole = trace(graph, x)
    assert set(whole) == {"x", "c", "r", "y"} and whole["c"].shape == (7, 4, 3, 4)
    monkeypatch.setattr("lutloom.floating.CHUNK_VALUES", 1)
    parts = trace(graph, x)
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-12)
    np.testing.assert_allclose(run(graph, x), whole["y"], rtol=1e-12)
    assert model_layout(graph, run(graph, x)).shape == (7, 4, 1, 1)


def test_an_empty_batch(tmp_path):
    assert run(small(tmp_path), np.zeros((0, 3, 6, 5))).shape == (0, 4)


def test_both_layouts_give_the_same(tmp_path):
    graph, x = small(tmp_path), floats(2, 3, 6, 5)
    assert (run(graph, x) == run(graph, x.transpose(0, 2, 3, 1))).all()
    assert inputs(graph, x).shape == (2, 6, 5, 3)


def test_wrong_inputs(tmp_path):
    graph = small(tmp_path)
    with pytest.raises(DataError, match=r"must have shape \(3, 6, 5\) or \(6, 5, 3\) \(NHWC\) behind the batch, not "
                       r"\(5, 6, 3\)"):
        run(graph, np.zeros((2, 5, 6, 3)))
    with pytest.raises(DataError, match="must be numbers, not of type <U1"):
        run(graph, np.array(["a"]))
