"""The shared TFLite models against TensorFlow Lite Micro's bytes, and what is refused, in which words."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tflite_models import Model, Number, int8, int32, run_tflm, tflm_tensors

from lutloom import Network, check, evaluate, quantize
from lutloom.cli import main
from lutloom.errors import ModelError
from lutloom.evaluate import logits_of
from lutloom.floating import run
from lutloom.frontend import load_graph

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
MODELS = DATA / "models"
shared = pytest.mark.skipif(not MODELS.is_dir(), reason="needs the shared models")


@shared
@pytest.mark.parametrize("name", ["hello_world_int8", "ad01_int8", "micro_speech_quantized", "kws_ref_model",
                                  "pretrainedResnet_quant", "hey_jarvis", "alexa"])
def test_outputs_are_tflite_micros_bytes(name, tmp_path):
    network = quantize(MODELS / f"{name}.tflite")
    with np.load(MODELS / f"{name}.expected.npz") as expected:
        x, y = network.encode(expected["x"]), expected["y_tflm"]
        logits = expected["logits_tflm"] if "logits_tflm" in expected.files else None
    assert np.array_equal(network(x).reshape(y.shape), y)
    if logits is not None:
        assert np.array_equal(network.run(x, (logits_of(network),))[logits_of(network)].reshape(logits.shape), logits)
    network.save(tmp_path / "network.npz")
    assert np.array_equal(Network.load(tmp_path / "network.npz")(x[:20]).reshape(y[:20].shape), y[:20])


@shared
@pytest.mark.parametrize("name", ["ad01_int8", "micro_speech_quantized", "kws_ref_model", "pretrainedResnet_quant",
                                  "hey_jarvis", "alexa"])
def test_every_tensor_between_is_tflite_micros(name):
    pytest.importorskip("tflite_micro")
    network = quantize(MODELS / f"{name}.tflite")
    with np.load(MODELS / f"{name}.expected.npz") as expected:
        x = expected["x"][:4]
    trace = network.trace(network.encode(x))
    for index, (tensors, shown) in enumerate(tflm_tensors(MODELS / f"{name}.tflite", x)):
        same = [np.array_equal(found.reshape(-1), trace[tensors[number].name][index].reshape(-1))
                for number, found in shown.items() if tensors[number].name in trace]
        assert all(same) and len(same) >= len(shown) - 2  # views have no tensor of their own


@shared
def test_evaluate_shows_real_numbers_beside_codes(tmp_path):
    path, outputs = MODELS / "hey_jarvis.tflite", tmp_path / "outputs.npz"
    evaluate(path, data=MODELS / "hey_jarvis.expected.npz", outputs=outputs)
    with np.load(outputs) as kept, np.load(MODELS / "hey_jarvis.expected.npz") as expected:
        assert np.array_equal(kept["golden"], expected["y_tflm"])
        assert np.array_equal(kept["logits"], expected["logits_tflm"].reshape(kept["logits"].shape))
        assert np.abs(kept["float"] / kept["scale"] - kept["golden"]).max() < 3
    scored = evaluate(MODELS / "kws_ref_model.tflite", data=MODELS / "kws_ref_model.expected.npz")
    assert scored["accuracy"]["golden"] == 0.915 and abs(scored["accuracy"]["float"] - 0.915) < 0.02


@shared
def test_a_stream_cut_in_two_is_another_stream_but_the_same_from_a_fresh_start():
    network = quantize(MODELS / "hey_jarvis.tflite")
    x, logits = np.random.default_rng(6).integers(-128, 128, (60, 3, 1, 40)), logits_of(network)
    assert network.has_state
    whole, again, first, last = (network.run(part, (logits,))[logits] for part in (x, x, x[:30], x[30:]))
    assert np.array_equal(whole, again) and np.array_equal(whole[:30], first)
    assert not np.array_equal(whole[30:], last)


@shared
def test_weights_may_be_requantised_and_all_else_stays():
    path = MODELS / "kws_ref_model.tflite"
    data = MODELS / "kws_ref_model.expected.npz"
    narrow = quantize(path, weights="conv_2d_0=int:5,*=bitmask:4@channel")
    formats = [layer.weights.format for layer in narrow.layers if hasattr(layer, "weights")]
    assert str(formats[0]) == "int:5" and all(format.kind == "bitmask" and format.bits == 4 for format in formats[1:])
    assert evaluate(narrow, data=data)["accuracy"]["golden"] > 0.8
    one = quantize(path, weights="fully_connected_0=int:6")
    own = quantize(path)
    assert [layer.weights.format.bits for layer in one.layers if hasattr(layer, "weights")] == [8] * 9 + [6]
    for a, b in zip(own.layers[:18], one.layers, strict=False):
        assert type(a) is type(b) and (not hasattr(a, "multiplier") or np.array_equal(a.multiplier, b.multiplier))
    with pytest.raises(ModelError, match="matches no layer"):
        quantize(path, weights="conv9=int:4")


@shared
@pytest.mark.parametrize("choices, option", [
    ({"activations": 4}, "--activations"), ({"calibrate": "digits"}, "--calibrate"),
    ({"input_scale": "1/128"}, "--input-scale"), ({"input_zero": 3}, "--input-zero"),
    ({"input_format": "int:8"}, "--input"),
])
def test_options_of_float_models_are_refused(choices, option):
    with pytest.raises(ModelError, match=f"brings its own integer arithmetic, so that {option} means nothing"):
        quantize(MODELS / "hello_world_int8.tflite", **choices)


@shared
def test_simulating_an_integer_model_is_refused():
    with pytest.raises(ModelError, match="is integer already, so that there is nothing to simulate"):
        evaluate(MODELS / "kws_ref_model.tflite", data=MODELS / "kws_ref_model.expected.npz", mode="simulated")


@shared
@pytest.mark.parametrize("name, operator", [
    ("hello_world_float", "FULLY_CONNECTED"), ("kws_ref_model_float32", "CONV_2D"),
    ("magic_wand", "DEPTHWISE_CONV_2D"), ("pretrainedResnet_float", "CONV_2D"),
])
def test_float_models_are_pointed_to_quantize(name, operator, capsys):
    words = f"model '{name}' computes in real numbers \\({operator} gives FLOAT32\\).*'lutloom quantize'"
    for function in (quantize, check):
        with pytest.raises(ModelError, match=words):
            function(MODELS / f"{name}.tflite")
    assert main(["check", str(MODELS / f"{name}.tflite")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@shared
def test_an_unsupported_operator_is_named_with_index_and_output(capsys):
    path = MODELS / "mnist_lstm_int8.tflite"
    words = (r"UNIDIRECTIONAL_SEQUENCE_LSTM 'unidirectional_sequence_lstm_0' \(operator 0, output tensor "
             r"'tfl.unidirectional_sequence_lstm'\) is an operator that is not supported; supported are ADD, ")
    with pytest.raises(ModelError, match=words):
        quantize(path)
    found = check(path)
    assert not found.supported and [row.supported for row in found] == [False, True, True]
    assert "operator 0" in found.sentence
    assert main(["check", str(path), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["layers"][0]["op"] == "UNIDIRECTIONAL_SEQUENCE_LSTM" and not printed["supported"]


def dense_model(**changes):
    """A model of one FULLY_CONNECTED; changes are arguments of its tensors."""
    model = Model()
    x = model.tensor((1, 4), **{"scale": 0.05, "zero_point": 3} | changes.get("x", {}))
    weights = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    w = model.tensor((3, 4), **{"scale": 0.1, "data": weights} | changes.get("w", {}))
    b = model.tensor((3,), **{"type": "INT32", "data": np.array([5, -7, 9], np.int32)} | changes.get("b", {}))
    y = model.tensor((1, 3), **{"scale": 0.05, "zero_point": -4} | changes.get("y", {}))
    model.operator("FULLY_CONNECTED", [x, w, b], [y], changes.get("options", {}))
    return model.write([x], [y])


@pytest.mark.parametrize("changes, words", [
    ({"x": {"scale": None}}, "has no scale"), ({"x": {"scale": -1.0}}, "scales are positive numbers"),
    ({"y": {"scale": np.inf}}, "scales are positive numbers"), ({"y": {"zero_point": 300}}, "zero point 300"),
    ({"x": {"scale": [0.1, 0.2]}}, "with 2 scales; activations have one"),
    ({"x": {"scale": 3e38}, "y": {"scale": 1e-30}}, "its scales make no sense"),
    ({"w": {"scale": [0.1, 0.2]}}, "2 weight scales along axis 0 for 3 outputs"),
    ({"w": {"zero_point": 999}}, "weight zero point that is no weight code"),
    ({"w": {"data": None}}, "weights must be constants"),
    ({"w": {"data": np.zeros(5, np.int8)}}, "but 5 bytes of values"),
    ({"b": {"type": "INT64", "data": np.zeros(3, np.int64)}}, "bias of type INT64"),
    ({"x": {"type": "INT16"}}, "INT16 tensor 't0'; activations must be INT8 or UINT8"),
    ({"options": {0: int8(4)}}, "fused activation 4"), ({"options": {1: int8(1)}}, "shuffled format"),
])
def test_quantisation_that_makes_no_sense(tmp_path, changes, words):
    (tmp_path / "model.tflite").write_bytes(dense_model(**changes))
    with pytest.raises(ModelError, match=words):
        quantize(tmp_path / "model.tflite")


@pytest.mark.parametrize("damage, words", [
    (lambda data: b"", "is not a TFLite file"), (lambda data: data[:40], "damaged"),
    (lambda data: b"PK\3\4" + data, "is not a TFLite file"), (lambda data: data[:-50], "damaged"),
    (lambda data: b"\xff\xff\xff\x7f" + data[4:], "points outside its own bytes"),
])
def test_damaged_files(tmp_path, damage, words):
    (tmp_path / "model.tflite").write_bytes(damage(dense_model()))
    for function in (check, quantize):
        with pytest.raises(ModelError, match=words):
            function(tmp_path / "model.tflite")


def test_absurd_sizes(tmp_path):
    model = Model()
    x = model.tensor((1, 1 << 20, 1 << 20, 3), scale=0.05)
    y = model.tensor((1, 1 << 20, 1 << 20, 3), scale=0.05)
    model.operator("RELU6", [x], [y])
    (tmp_path / "model.tflite").write_bytes(model.write([x], [y]))
    with pytest.raises(ModelError, match="tensors have at most"):
        quantize(tmp_path / "model.tflite")


def test_two_outputs_and_open_sizes_are_refused(tmp_path):
    model = Model()
    x = model.tensor((1, 4), scale=0.05)
    y, z = (model.tensor((1, 4), scale=0.05, name=name) for name in "yz")
    model.operator("RELU6", [x], [y])
    model.operator("TANH", [x], [z])
    (tmp_path / "model.tflite").write_bytes(model.write([x], [y, z]))
    with pytest.raises(ModelError, match="must have one output, not 2 \\('y', 'z'\\)"):
        quantize(tmp_path / "model.tflite")
    model.tensors[x][7] = np.array([-1, -1], np.int32)
    (tmp_path / "model.tflite").write_bytes(model.write([x], [y]))
    with pytest.raises(ModelError, match="only the batch may be open"):
        quantize(tmp_path / "model.tflite")


def real_ends():
    """A model that takes and gives real numbers around a dense layer of codes."""
    model = Model()
    x = model.tensor((1, 4), "FLOAT32")
    q = model.tensor((1, 4), scale=0.05, zero_point=3)
    w = model.tensor((3, 4), scale=0.1, data=np.arange(-6, 6, dtype=np.int8).reshape(3, 4))
    b = model.tensor((3,), "INT32", scale=0.005, data=np.array([5, -7, 9], np.int32))
    r = model.tensor((1, 3), scale=0.07, zero_point=-4)
    y = model.tensor((1, 3), "FLOAT32")
    model.operator("QUANTIZE", [x], [q])
    model.operator("FULLY_CONNECTED", [q, w, b], [r])
    model.operator("DEQUANTIZE", [r], [y])
    return model.write([x], [y])


def test_real_numbers_at_the_ends(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(real_ends())
    network = quantize(path)
    x = np.random.default_rng(1).uniform(-6, 6, (50, 4)).astype(np.float32)
    reals = network.decode(network(network.encode(x)))
    assert np.abs(reals - run(load_graph(path), (network.encode(x) - 3.0) * 0.05)).max() <= 0.07
    pytest.importorskip("tflite_micro")
    assert np.allclose(reals, run_tflm(real_ends(), x, tmp_path).reshape(50, 3), atol=1e-6)


def test_real_numbers_in_the_middle_are_refused(tmp_path):
    model = Model()
    x = model.tensor((1, 4), scale=0.05)
    a = model.tensor((1, 4), "FLOAT32", name="middle")
    y = model.tensor((1, 4), scale=0.02)
    model.operator("DEQUANTIZE", [x], [a])
    model.operator("QUANTIZE", [a], [y])
    (tmp_path / "model.tflite").write_bytes(model.write([x], [y]))
    with pytest.raises(ModelError, match="turns codes into real numbers inside the model"):
        quantize(tmp_path / "model.tflite")


def state_model(reset=None):
    """y = tanh of x + state, the state is y: a loop through arithmetic, set by CALL_ONCE where there is a reset."""
    model = Model()
    kinds = dict(scale=0.02, zero_point=5)
    x, s, z, y = (model.tensor((1, 6), name=name, **kinds) for name in "xszy")
    handle = model.tensor((), "RESOURCE")
    if reset is not None:
        main, main_operators = model.tensors, model.operators
        model.tensors, model.operators = [], []
        inner, value = model.tensor((), "RESOURCE"), model.tensor((1, 6), data=reset, **kinds)
        model.operator("VAR_HANDLE", [], [inner], {0: "box", 1: "state"})
        model.operator("ASSIGN_VARIABLE", [inner, value], [])
        none = np.zeros(0, np.int32)
        model.others.append({0: model.tensors, 1: none, 2: none, 3: model.operators, 4: "init"})
        model.tensors, model.operators = main, main_operators
        model.operator("CALL_ONCE", [], [], {0: int32(1)})
    model.operator("VAR_HANDLE", [], [handle], {0: "box", 1: "state"})
    model.operator("READ_VARIABLE", [handle], [s])
    model.operator("ADD", [x, s], [z])
    model.operator("LEAKY_RELU", [z], [y], {0: Number("Float32", 0.5)})
    model.operator("ASSIGN_VARIABLE", [handle, y], [])
    return model.write([x], [y])


@pytest.mark.parametrize("reset", [None, np.array([[-128, -3, 0, 9, 77, 127]], np.int8)])
def test_state_with_a_loop(tmp_path, reset):
    pytest.importorskip("tflite_micro")
    x = np.random.default_rng(3).integers(-30, 40, (60, 6)).astype(np.int8)
    expected = run_tflm(state_model(reset), x, tmp_path)
    network = quantize(tmp_path / "model.tflite")
    assert np.array_equal(network(x), expected.reshape(60, 6))
    assert len(run(load_graph(tmp_path / "model.tflite"), (x - 5.0) * 0.02)) == 60


def as_uint8(codes):
    """Codes of int8 as the codes of uint8 that stand for the same numbers, zero points 128 higher."""
    return (codes.astype(np.int16) + 128).astype(np.uint8)


@pytest.mark.parametrize("type", ["CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "ADD", "LOGISTIC", "SOFTMAX"])
def test_uint8_equals_int8_with_every_code_128_higher(tmp_path, type):
    random, found = np.random.default_rng(4), []
    weights = random.integers(-127, 128, (1, 3, 3, 4) if type[0] == "D" else (5, 3, 3, 4)).astype(np.int8)
    bias = random.integers(-900, 900, 4 if type[0] == "D" else 5).astype(np.int32)
    codes = random.integers(-128, 128, (30, 6, 6, 4)).astype(np.int8)
    for kind, up, turn in (("INT8", 0, np.int8), ("UINT8", 128, as_uint8)):
        model = Model()
        x = model.tensor((1, 6, 6, 4), kind, 0.04, up - 11)
        made = {"CONV_2D": (1, 6, 6, 5), "AVERAGE_POOL_2D": (1, 3, 3, 4)}.get(type, (1, 6, 6, 4))
        fixed = type in ("LOGISTIC", "SOFTMAX")
        zero = up - 128 if fixed else up - 11
        y = model.tensor(made, kind, 1 / 256 if fixed else 0.04 if type[0] == "A" else 0.09, zero)
        inputs = [x]
        if "CONV" in type:
            inputs += [model.tensor(weights.shape, kind, 0.02, up, data=turn(weights), axis=0),
                       model.tensor(bias.shape, "INT32", data=bias)]
        if type == "ADD":
            inputs.append(x)
        pool = {0: int8(0), 1: int32(2), 2: int32(2), 3: int32(3), 4: int32(3)}
        options = {"CONV_2D": {1: int32(1), 2: int32(1), 3: int8(1)}, "AVERAGE_POOL_2D": pool,
                   "DEPTHWISE_CONV_2D": {1: int32(1), 2: int32(1), 3: int32(1), 4: int8(1)},
                   "SOFTMAX": {0: Number("Float32", 1.0)}}.get(type, {})
        model.operator(type, inputs, [y], options)
        (tmp_path / "model.tflite").write_bytes(model.write([x], [y]))
        found.append(quantize(tmp_path / "model.tflite")(turn(codes)))
    if type == "AVERAGE_POOL_2D":  # halves are rounded away from zero: the codes' zero, not the numbers'
        different = np.flatnonzero(found[1] != as_uint8(found[0]))
        assert 0 < len(different) < found[0].size / 10 and (found[1] > as_uint8(found[0])).sum() == len(different)
    else:
        assert np.array_equal(found[1], as_uint8(found[0]))


def test_uint8_weight_zero_points_are_taken_off(tmp_path):
    random = np.random.default_rng(5)
    weights, model = random.integers(0, 256, (7, 20)).astype(np.uint8), Model()
    x, y = model.tensor((1, 20), "UINT8", 0.04, 117), model.tensor((1, 7), "UINT8", 1.5, 100)
    w = model.tensor(weights.shape, "UINT8", 0.02, 91, data=weights)
    model.operator("FULLY_CONNECTED", [x, w, -1], [y])
    (tmp_path / "model.tflite").write_bytes(model.write([x], [y]))
    codes = random.integers(0, 256, (200, 20)).astype(np.uint8)
    exact = (codes.astype(np.int64) - 117) @ (weights.astype(np.int64) - 91).T * (0.04 * 0.02 / 1.5) + 100
    found = quantize(tmp_path / "model.tflite")(codes)
    assert found.dtype == np.uint8 and np.abs(found - np.clip(exact, 0, 255)).max() < 0.51
