import json

import exact_graph as exact
import numpy as np
import pytest

from lutloom.data import Data
from lutloom.errors import BuildError, DataError, ModelError
from lutloom.evaluate import evaluate
from lutloom.floating import run
from lutloom.quantize import quantize


def model(*closing, seed=1):
    rng = np.random.default_rng(seed)
    return exact.chain(
        "net",
        (6, 6, 1),
        exact.conv(rng, "c1", 4, 1),
        exact.relu("r"),
        exact.maxpool("p"),
        ("flatten", "f", {}),
        exact.dense(rng, "d", 5, 16),
        *closing,
    )


def frames(graph, count=40, labels=True):
    """Frames whose labels are mostly what the float model says."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8)
    y = run(graph, x / 255)
    y = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
    y[::8] = (y[::8] + 1) % 5
    return Data(x, y if labels else None, "frames")


def test_scores_side_by_side():
    graph = model()
    data = frames(graph)
    result = evaluate(graph, data=data, calibrate=data, count=32)
    assert result["count"] == 32 and result["accuracy"]["float"] == 28 / 32
    assert abs(result["accuracy"]["golden"] - 28 / 32) <= 2 / 32
    confusion = np.array(result["confusion"])
    assert confusion.shape == (5, 5) and confusion.sum() == 32
    assert np.trace(confusion) == 32 * result["accuracy"]["golden"]
    assert sum(row["count"] for row in result["classes"]) == 32
    assert [row["count"] for row in result["classes"]] == confusion.sum(axis=1).tolist()
    assert list(result["per_class"]) == list(result["confusions"]) == ["float", "golden"]
    for name, matrix in result["confusions"].items():
        assert np.trace(matrix) == 32 * result["accuracy"][name]
        assert [row[name] for row in result["classes"]] == result["per_class"][name]
    assert result["confusions"]["golden"] == result["confusion"]


def test_a_corrupted_network_scores_worse():
    graph = model()
    data = frames(graph)
    network = quantize(graph, calibrate=data.x)
    codes = next(layer for layer in network.layers if layer.name == "d").weights.codes
    codes[...] = codes[[1, 2, 3, 4, 0]]
    assert (
        evaluate(network, data=data)["accuracy"]["golden"]
        < evaluate(graph, data=data, calibrate=data)["accuracy"]["golden"]
    )


@pytest.mark.parametrize("closing", [(), (("softmax", "s", {}),), (("argmax", "a", {}),), (("topk", "t", {"k": 3}),)])
def test_outputs(tmp_path, closing):
    graph = model(*closing)
    data = frames(graph)
    network = quantize(graph, calibrate=data.x)
    evaluate(network, graph=graph, data=data, outputs=tmp_path / "o.npz")
    codes = network(network.encode(data.x))
    with np.load(tmp_path / "o.npz") as kept:
        np.testing.assert_array_equal(kept["golden"], codes)
        assert kept["scale"] == float(network.tensors[network.output].scale)
        np.testing.assert_allclose(kept["float"], run(graph, data.x / 255))
        assert ("logits" in kept.files) == bool(closing)
        if closing:
            assert kept["logits"].shape == (40, 5)
            np.testing.assert_array_equal(
                kept["logits"].argmax(axis=1), codes[:, 0] if codes.shape[1] != 5 else codes.argmax(axis=1)
            )
    assert list(tmp_path.iterdir()) == [tmp_path / "o.npz"]


def test_outputs_in_the_models_own_layout(tmp_path):
    rng = np.random.default_rng(3)
    graph = exact.chain("map", (6, 6, 2), exact.conv(rng, "c", 3, 2))
    graph = type(graph)(
        **{
            **graph.__dict__,
            "input_shape": (2, 6, 6),
            "input_layout": "NCHW",
            "output_shape": (3, 4, 4),
            "output_layout": "NCHW",
        }
    )
    x = rng.integers(0, 256, (4, 2, 6, 6)).astype(np.uint8)
    evaluate(graph, data=Data(x, None, "d"), outputs=tmp_path / "o.npz", weights="int:12")
    with np.load(tmp_path / "o.npz") as kept:
        assert kept["golden"].shape == kept["float"].shape == (4, 3, 4, 4)
        reals = (kept["golden"] - kept["zero_point"]) * kept["scale"]
        assert np.abs(reals - kept["float"]).max() < 0.02


def test_float_data_and_codes_give_the_same():
    graph = model()
    data = frames(graph)
    network = quantize(graph, calibrate=data.x)
    reals = Data((data.x / 255).astype(np.float32), data.y, "reals")
    assert (
        evaluate(network, graph=graph, data=data)["accuracy"] == evaluate(network, graph=graph, data=reals)["accuracy"]
    )


def test_simulated_equals_integer_and_floats_stay_floats():
    graph = model()
    data = frames(graph)
    choices = {"data": data, "calibrate": data, "activations": 6, "weights": "int:5"}
    golden = evaluate(graph, **choices)["accuracy"]
    result = evaluate(graph, mode="simulated", **choices)
    simulated = result["accuracy"]
    assert simulated["simulated"] == simulated["golden"] == golden["golden"]
    assert simulated["float"] == golden["float"] and np.trace(result["confusion"]) == 40 * simulated["simulated"]
    assert result["difference"]["frames"] == 0 and result["difference"]["largest"] < 0.6
    result = evaluate(graph, mode="simulated", data=data, activations="float", weights="int:12")
    only_weights = result["accuracy"]
    assert abs(only_weights["simulated"] - only_weights["float"]) <= 0.05 and only_weights["golden"] is None
    assert result["difference"] is None and result["no_golden"] == "activations stay real numbers"


@pytest.mark.parametrize("closing", [(), (("softmax", "s", {}),), (("argmax", "a", {}),), (("topk", "t", {"k": 2}),)])
def test_difference_of_simulated_and_golden(tmp_path, closing):
    graph = model(*closing)
    data = frames(graph)
    result = evaluate(graph, mode="simulated", data=data, calibrate=data, weights="int:8@layer",
                      outputs=tmp_path / "o.npz")
    found = result["difference"]
    assert found["frames"] == 0 and found["mean"] <= found["largest"] < 1e-6 < found["scale"]
    with np.load(tmp_path / "o.npz") as kept:
        assert {"golden", "simulated", "scale", "float"} <= {*kept.files}
    unlabelled = evaluate(graph, mode="simulated", data=Data(data.x, None, "frames"), calibrate=data,
                          weights="int:8@layer", outputs=tmp_path / "o.npz")
    assert unlabelled["difference"] == found and unlabelled["confusion"] is None


def test_simulated_and_golden_differ_where_floats_round_a_tie():
    """Of the doubles 0.09 and 0.54, 3 · 0.09 / 0.54 is less than a half in rationals, and a half in floats."""
    quant = {"bits": 4, "signed": False, "narrow": False, "rounding": "HALF_UP", "zero_point": np.array(0.0)}
    weight = np.array([[1.0], [0.0]])
    graph = exact.chain(
        "tie", (1,), ("quant", "q", {"scale": np.array(0.09), **quant}),
        ("quant", "q2", {"scale": np.array(0.54), **quant}),
        ("dense", "d", {"weight": weight, "bias": np.array([0.0, 0.3]), "weight_quant": None}),
    )
    x = np.arange(8, dtype=np.uint8)[:, None]
    choices = {"data": Data(x, np.zeros(8, int), "codes"), "weights": "int:8@layer"}
    result = evaluate(graph, mode="simulated", **choices)
    golden = evaluate(graph, **choices)
    assert result["accuracy"]["golden"] == golden["accuracy"]["golden"] == 4 / 8
    assert result["accuracy"]["simulated"] == 5 / 8
    assert result["difference"]["frames"] == 1
    assert result["difference"]["largest"] * result["difference"]["scale"] == pytest.approx(0.54)


def test_a_model_that_has_no_integers_is_simulated_all_the_same():
    graph = model()
    data = frames(graph)
    result = evaluate(graph, mode="simulated", data=data, calibrate=data, activations="binary", weights="float16")
    assert result["accuracy"]["golden"] is None and result["accuracy"]["simulated"] > 0
    assert "layer 'd' has float16 weights and binary activations" in result["no_golden"]


@pytest.mark.parametrize("mode", ["integer", "simulated"])
def test_one_sigmoid_output_tells_two_classes_apart(tmp_path, mode):
    rng = np.random.default_rng(4)
    graph = exact.chain("two", (6, 6, 1), exact.conv(rng, "c1", 4, 1), exact.relu("r"), ("flatten", "f", {}),
                        exact.dense(rng, "d", 1, 64), ("table", "s", {"function": "logistic"}))
    x = rng.integers(0, 256, (60, 6, 6, 1)).astype(np.uint8)
    logits = run(exact.chain("two", (6, 6, 1), *[(n.op, n.name, n.params) for n in graph.nodes[:-1]]), x / 255)
    bias = graph.nodes[-2].params["bias"]
    bias -= np.median(logits)
    y = (logits[:, 0] > np.median(logits)).astype(int)
    y[:6] ^= 1
    data = Data(x, y, "two")
    result = evaluate(graph, data=data, calibrate=data, mode=mode, outputs=tmp_path / "o.npz")
    assert result["accuracy"]["float"] == 54 / 60 and abs(result["accuracy"]["golden"] - 54 / 60) <= 2 / 60
    confusion = np.array(result["confusion"])
    assert confusion.shape == (2, 2) and (confusion.sum(axis=1) == np.bincount(y)).all() and (confusion > 0).all()
    with np.load(tmp_path / "o.npz") as kept:
        found = (kept["golden"] - kept["zero_point"]) * kept["scale"] > 0.5
        assert np.mean(found.ravel() == y) == result["accuracy"]["golden"]
    with pytest.raises(DataError, match="have labels 0 to 2, but the model knows 2 classes"):
        evaluate(graph, data=Data(x, y + (y > 0), "three"), calibrate=data)


def test_one_output_without_a_sigmoid_tells_nothing_apart():
    graph = exact.chain("one", (3,), exact.dense(np.random.default_rng(0), "d", 1, 3))
    data = Data(np.zeros((4, 3), np.uint8), np.array([0, 1, 0, 1]), "two")
    with pytest.raises(DataError, match="has one output, which tells two classes apart only behind a sigmoid; end the"):
        evaluate(graph, data=data)


def test_network_files_and_folders(tmp_path):
    graph = model()
    data = frames(graph)
    network = quantize(graph, calibrate=data.x)
    network.save(tmp_path / "network.npz")
    for path in (tmp_path, tmp_path / "network.npz"):
        accuracy = evaluate(path, data=data)["accuracy"]
        assert accuracy["float"] is None and accuracy["golden"] > 0.5
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="empty' holds no network.npz; give a folder that 'lutloom build' made"):
        evaluate(tmp_path / "empty", data=data)
    with pytest.raises(ModelError, match="mode simulated needs the model file"):
        evaluate(tmp_path, data=data, mode="simulated")


def test_folders_of_another_version_or_damaged(tmp_path):
    graph = model()
    data = frames(graph)
    path = tmp_path / "network.npz"
    quantize(graph, calibrate=data.x).save(path)
    kept = path.read_bytes()
    (tmp_path / "plan.json").write_text(json.dumps({"format_version": 9}))
    with pytest.raises(BuildError, match="has format version 9, but this Lutloom reads 1; build again"):
        evaluate(tmp_path, data=data)
    (tmp_path / "plan.json").write_text(json.dumps({"format_version": 1}))
    path.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(BuildError, match="network.npz is not a network of lutloom; build the folder again"):
        evaluate(tmp_path, data=data)
    path.write_bytes(kept)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["header"] = np.array(json.dumps(json.loads(str(arrays["header"])) | {"format_version": 5}))
    np.savez(path, **arrays)
    with pytest.raises(BuildError, match="network.npz has format version 5, .* reads 1; build the folder again"):
        evaluate(tmp_path, data=data)


def test_missing_labels():
    graph = model()
    with pytest.raises(DataError, match="hold no labels, which accuracy needs; add an array 'y' or 'label'"):
        evaluate(graph, data=frames(graph, labels=False), calibrate=frames(graph))


def test_one_hot_labels_are_none(tmp_path):
    graph = model()
    data = frames(graph)
    np.savez(tmp_path / "hot.npz", x=data.x, y=np.eye(5)[data.y])
    with pytest.raises(DataError, match=r"'y' or 'label' of class numbers \(of one-hot rows, their argmax"):
        evaluate(graph, data=tmp_path / "hot.npz", calibrate=data)


def test_labels_out_of_range():
    graph = model()
    data = frames(graph)
    data.y[0] = 7
    with pytest.raises(DataError, match="have labels 0 to 7, but the model knows 5 classes"):
        evaluate(graph, data=data, calibrate=data)


def test_outputs_need_no_labels(tmp_path):
    graph = model()
    result = evaluate(graph, data=frames(graph, labels=False), calibrate=frames(graph), outputs=tmp_path / "o.npz")
    assert result == {"accuracy": {"float": None, "golden": None}, "count": 40, "confusion": None, "confusions": None,
                      "per_class": None, "classes": None}


def test_outputs_that_cannot_be_written(tmp_path):
    graph = model()
    with pytest.raises(DataError, match="cannot be written"):
        evaluate(graph, data=frames(graph), calibrate=frames(graph), outputs=tmp_path / "no" / "o.npz")


def test_mode():
    with pytest.raises(ValueError, match="mode must be one of integer, simulated, not 'fast'"):
        evaluate(model(), data=frames(model()), mode="fast")


@pytest.mark.parametrize("mode", ["integer", "simulated"])
def test_data_of_another_shape_are_named(mode):
    graph = model()
    odd = Data(np.zeros((9, 5, 5, 1), np.uint8), np.zeros(9, int), "odd.npz")
    with pytest.raises(DataError, match=r"^data 'odd.npz' do not fit the model: data must have shape .*6, 6, 1"):
        evaluate(graph, data=odd, calibrate=frames(graph), mode=mode)
    with pytest.raises(DataError, match="^data 'odd.npz' do not fit the model"):
        evaluate(quantize(graph, calibrate=frames(graph)), data=odd)
    with pytest.raises(DataError, match="^calibration data 'odd.npz' do not fit the model"):
        evaluate(graph, data=frames(graph), calibrate=odd, mode=mode)
