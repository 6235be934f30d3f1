"""Binarised parameters: the rules of source 000 at their edges, batch norms measured anew, exact networks, refusals."""

import exact_graph as exact
import keras_models as keras
import numpy as np
import onnx
import pytest
import residual_models as models
from onnx import TensorProto, helper, numpy_helper

from lutloom.cli import main
from lutloom.errors import DataError, ModelError
from lutloom.floating import run, trace
from lutloom.frontend import load_graph
from lutloom.passes.binarize import binarize, gates, norms, parse, signs
from lutloom.passes.two_levels import two_levels
from lutloom.quantize import fake_quantised, prepared, quantize
from lutloom.search import search

ALL = "kernel,bias,gamma,beta"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return keras.save(tmp_path_factory.mktemp("binarize") / "residual.keras", models.residual())


@pytest.fixture(scope="module")
def graph(path):
    return load_graph(path)


def test_the_rules_at_their_edges():
    below = np.nextafter(1.0, 0.0)
    np.testing.assert_array_equal(signs([0.0, -0.0, 1e-300, -1e-300, 5, -5]), [1, 1, 1, -1, 1, -1])
    np.testing.assert_array_equal(gates([1.0, below, 1.5, 0.0, -3.0]), [2, 0, 2, 0, 0])


def test_words_are_put_in_order_and_others_refused():
    assert parse("beta, kernel") == ("kernel", "beta") == parse(["beta", "kernel", "beta"])
    for text in ("gama", "", "kernel,"):
        with pytest.raises(ModelError, match="--binarize must be a comma list of kernel, bias, gamma, beta, not"):
            parse(text)


def binarised(graph, words, **choices):
    return binarize(graph, prepared(graph, binarize=words, **choices)[1])


def test_only_what_was_named_changes(graph):
    made = binarised(graph, "bias,gamma")
    for old, new in zip(graph.nodes, made.nodes, strict=True):
        if old.op in ("conv", "dense"):
            np.testing.assert_array_equal(old.params["weight"], new.params["weight"])
            np.testing.assert_array_equal(signs(old.params["bias"]), new.params["bias"])
    for old, new in zip(norms(graph), norms(made), strict=True):
        np.testing.assert_array_equal(new.params["norm"].gamma, gates(old.params["norm"].gamma))
        np.testing.assert_array_equal(new.params["norm"].beta, old.params["norm"].beta)
        root = np.sqrt(old.params["norm"].variance + old.params["norm"].epsilon)
        np.testing.assert_array_equal(new.params["scale"], new.params["norm"].gamma / root)
        assert (new.params["scale"] == 0).any() and (new.params["scale"] > 0).any()


def test_kernels_of_binary_layers_follow_the_rule_too(graph):
    made = binarised(graph, "bias", weights="b1_*=binary,*=int:8")
    for old, new in zip(graph.nodes, made.nodes, strict=True):
        if old.op in ("conv", "dense"):
            wanted = signs(old.params["weight"]) if old.name.startswith("b1_") else old.params["weight"]
            np.testing.assert_array_equal(new.params["weight"], wanted)


def test_stored_kernels_are_the_signs_and_nothing_rounds_them_again(graph):
    for choices in (dict(binarize="kernel"), dict(binarize="bias,gamma,beta", weights="binary")):
        network = quantize(graph, calibrate=models.frames(40), **choices)
        for layer in network.layers:
            if not hasattr(layer, "weights"):
                continue
            node = next(node for node in graph.nodes if node.name == layer.name)
            assert str(layer.weights.format) == "binary"
            same = (layer.weights.integers == signs(node.params["weight"])).reshape(len(layer.weights.codes), -1)
            assert same.all() if "gamma" not in choices["binarize"] else same.all(axis=1).any()  # others are off


@pytest.mark.parametrize("choices", [
    dict(binarize=ALL), dict(binarize="bias,gamma,beta", weights="binary"), dict(binarize="gamma,beta"),
    dict(binarize=ALL, statistics="measured"), dict(statistics="measured", weights="int:4"),
    dict(binarize=ALL, activations="binary"), dict(binarize=ALL, activations="binary", statistics="measured"),
], ids=str)
def test_the_network_is_the_quantised_graph(graph, choices):
    given = dict(calibrate=models.frames(30), **choices)
    network = quantize(graph, **given)
    wanted, options = fake_quantised(graph, **given)
    codes = models.frames(2, seed=5)
    output = network.tensors[network.output]
    for frame, got in zip(codes, network(codes), strict=True):
        real = (exact.rationals(output.format.values(got).astype(float)) - output.zero_point) * output.scale
        close = exact.run(wanted, frame, options.input)
        assert max(abs(real - close)) <= (output.scale if "output" in network.info else 0)


def test_measured_norms_have_mean_beta_and_deviation_gamma(graph):
    x = models.frames(50)
    made, options = fake_quantised(graph, calibrate=x, binarize="kernel,bias", statistics="measured",
                                   weights="float", activations="float")
    values = trace(made, options.frames)
    for node in norms(graph):
        got = values[node.output].reshape(-1, values[node.output].shape[-1])
        norm = node.params["norm"]
        np.testing.assert_allclose(got.mean(axis=0), norm.beta, atol=1e-4)
        np.testing.assert_allclose(got.std(axis=0), abs(norm.gamma), rtol=1e-2)
    stored, _ = fake_quantised(graph, calibrate=x, binarize="kernel,bias", weights="float", activations="float")
    values = trace(stored, options.frames)
    norm = next(node for node in norms(graph) if node.name == "b2_bn1")
    assert abs(values[norm.output].std(axis=(0, 1, 2)) - abs(norm.params["norm"].gamma)).max() > 0.1


def test_signs_are_nearest_by_squares():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 3)) + [0, 5, -5]).astype(np.float32)
    thresholds, scale = two_levels(x, x)
    assert abs(scale - np.sqrt(2 / np.pi)) < 0.03 and np.abs(thresholds - [0, 5, -5]).max() < 0.2
    thresholds, _ = two_levels(x[:, :1], np.maximum(x[:, :1], 0))
    assert 0.2 < thresholds[0] < 1.5  # a relu's two numbers are told apart above 0
    thresholds, scale = two_levels(np.ones((10, 2), np.float32), np.zeros((10, 2), np.float32))
    assert scale == 1 and not thresholds.any()


def test_both_codes_of_binary_activations_occur(graph):
    x = models.frames(60)
    network = quantize(graph, calibrate=x, binarize="kernel,bias", activations="binary", statistics="measured")
    values = network.trace(network.encode(x))
    bipolar = [name for name, tensor in network.tensors.items() if tensor.format.kind == "bipolar"]
    assert len(bipolar) >= 6
    for name in bipolar:
        assert 0.05 < np.mean(values[name]) < 0.95, name


def batch_norm_model(tmp_path):
    rng = np.random.default_rng(3)
    given = {"w": rng.normal(size=(4, 1, 3, 3)), "g": [0.5, 1.0, 1.2, 0.99], "b": [0.0, -0.1, 0.2, -0.3],
             "m": [0.1, 0.2, 0.3, 0.4], "v": [1.0, 2.0, 0.5, 0.7]}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
             helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], name="bn"),
             helper.make_node("Relu", ["n"], ["y"], name="relu")]
    made = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])],
                             [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 4, 4])],
                             [numpy_helper.from_array(np.asarray(array, np.float32), name)
                              for name, array in given.items()])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "bn.onnx")
    return tmp_path / "bn.onnx"


def test_batch_norms_of_onnx(tmp_path):
    made = binarised(load_graph(batch_norm_model(tmp_path)), "gamma,beta")
    norm, = (node.params["norm"] for node in norms(made))
    assert norm.gamma.tolist() == [0, 2, 2, 0] and norm.beta.tolist() == [1, -1, 1, -1]


# --- what is refused --------------------------------------------------------------------------------------------------


def plain():
    return exact.chain("net", (6, 6, 1), exact.conv(np.random.default_rng(0), "c", 2, 1, bias=False))


@pytest.mark.parametrize("word, sentence", [
    ("gamma", "has no batch norm, so that there is no gamma to binarise; leave gamma out of --binarize"),
    ("beta", "has no batch norm, so that there is no beta to binarise; leave beta out of --binarize"),
    ("bias", "has no bias that could be binarised; leave bias out of --binarize"),
])
def test_models_that_have_nothing_of_it(word, sentence):
    with pytest.raises(ModelError, match=sentence):
        quantize(plain(), binarize=word)


def test_statistics_need_batch_norms_and_data(graph):
    with pytest.raises(ModelError, match="has no batch norm whose statistics could be measured"):
        quantize(plain(), statistics="measured")
    with pytest.raises(DataError, match="can only be measured on calibration data; give them with --calibrate"):
        quantize(graph, statistics="measured")


def test_binarised_kernels_are_not_compensated(graph):
    with pytest.raises(ModelError, match="neither binarised nor become float16"):
        quantize(graph, binarize="kernel", rounding="compensated", calibrate=models.frames(20))


def test_a_search_refuses(graph):
    with pytest.raises(ModelError, match="leave out --binarize"):
        search(graph, data="mnist", binarize="kernel")


def test_command_lines(path, tmp_path, capsys):
    def fails(*arguments):
        assert main([str(each) for each in arguments]) == 1
        return capsys.readouterr().err

    sentence = "--binarize must be a comma list of kernel, bias, gamma, beta, not 'kernels'"
    assert sentence in fails("quantize", path, "-o", tmp_path / "n.npz", "--binarize", "kernels")
    assert "leave --binarize out" in fails("quantize", tmp_path / "n.npz", "-o", tmp_path / "m.npz", "--binarize",
                                           "bias")
    assert "--statistics means nothing" in fails("evaluate", tmp_path / "n.tflite", "--data", "mnist", "--statistics",
                                                 "measured")
    data = tmp_path / "d.npz"
    np.savez(data, x=models.frames(40), y=np.arange(40) % 3)
    for mode in ("integer", "simulated"):
        assert main(["evaluate", str(path), "--data", str(data), "--calibrate", str(data), "--binarize", ALL,
                     "--statistics", "measured", "--mode", mode]) == 0
        main_one = "golden" if mode == "integer" else "simulated"
        text = capsys.readouterr().out
        assert "accuracy float" in text and f"accuracy {main_one}" in text
        assert "float: true \\ found" in text and f"{main_one}: true \\ found" in text


def test_a_last_layer_in_front_of_a_batch_norm_stays_signs():
    """Its sizes differ by output, though logits share a scale else."""
    rng = np.random.default_rng(3)
    gamma = np.array([0.5, 2.0, 1.0])
    given = exact.chain("net", (6,), exact.dense(rng, "fc1", 5, 6), exact.relu("r"), exact.dense(rng, "fc2", 3, 5),
                        exact.affine("bn", gamma, [0.1, 0.2, 0.3]))
    x = rng.random((40, 6))
    fake, _ = fake_quantised(given, binarize="kernel", activations="float", calibrate=x)
    layer = [node for node in fake.nodes if node.op == "dense"][-1].params
    expected = signs(given.nodes[2].params["weight"]) * gamma[:, None]
    np.testing.assert_allclose(layer["weight"], expected)
    network = quantize(given, binarize="kernel", calibrate=x)
    wanted = run(fake, x.astype(np.float32))
    assert np.abs(network.decode(network(network.encode(x))) - wanted).max() < 0.03 * np.ptp(wanted)
