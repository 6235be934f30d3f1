"""Max, Min, PRelu and Div of ONNX: against onnxruntime, as integers against rationals, and in compiled simulation."""

import numpy as np
import pytest
from lower_checks import compared, kinds
from onnx_models import build, graph_of, node, ops, same
from test_onnx_branches import Model

from lutloom.build import verilog
from lutloom.errors import ModelError
from lutloom.simulate import simulate

CHANNELS = np.array([0.3, -0.2, 0.0, 1.5], np.float32)
MAPS = CHANNELS.reshape(4, 1, 1)


def several(op):
    """Three tensors, one of which is spread over the map, and two numbers."""
    def make(model):
        spread = model.put("GlobalAveragePool", model.conv("x", 3, 4))
        y = model.put(op, f"{model.conv('x', 3, 4)} {model.conv('x', 3, 4)} {spread}",
                      [np.float32(0.1), np.float32(-0.1)])
        return model.classes(y, 4)
    return make


def vectors(op):
    def make(model):
        flat = model.put("Flatten", "x")
        return model.put(op, f"{model.dense(flat, 108, 4)} {model.dense(flat, 108, 4)}")
    return make


MODELS = {
    **{f"{op} of {what}": make(op) for op in ("Max", "Min") for what, make in (
        ("tensors and numbers", several), ("vectors", vectors),
        ("a number a channel",
         lambda op: lambda m: m.classes(m.put(op, m.conv("x", 3, 4), [MAPS, np.float32(0.1)]), 4)),
        ("the input", lambda op: lambda m: m.classes(m.conv(m.put(op, "x", [MAPS[:3]]), 3, 4), 4)))},
    "slopes of channels": lambda m: m.classes(m.put("PRelu", m.conv("x", 3, 4), [MAPS]), 4),
    "slopes of the last layer": lambda m: m.put("PRelu", m.conv("x", 3, 4), [MAPS]),
    "slopes of a vector": lambda m: m.dense(
        m.put("PRelu", m.dense(m.put("Flatten", "x"), 108, 4), [CHANNELS]), 4, 3),
    "division": lambda m: m.classes(m.put("Div", m.put("Relu", m.put(
        "Div", m.conv("x", 3, 4), [MAPS + 2])), [np.float32(-0.7)]), 4),
}


@pytest.mark.parametrize("name", MODELS)
def test_floats_equal_onnxruntime_and_integers_the_quantised_graph(tmp_path, name):
    model = Model()
    graph = same(model.proto(MODELS[name](model)), tmp_path, tolerance=1e-5)
    compared(graph, frames=1)
    compared(graph, frames=1, activations=4, weights="bitmask:3")


def test_what_they_become(tmp_path):
    def made(name):
        return ops(graph_of((model := Model()).proto(MODELS[name](model)), tmp_path))[1:-2]

    assert made("Max of a number a channel") == ["affine", "relu", "affine"]
    assert made("slopes of channels") == ["relu", "affine", "relu", "affine", "add"]
    assert made("division") == ["affine", "relu", "affine"]
    for op, join in ("Max", "add"), ("Min", "sub"):
        found = [kind for kind in made(f"{op} of tensors and numbers") if kind != "reshape"]
        assert found[-7:] == ["sub", "relu", join] * 2 + ["clip"]


def test_a_maximum_of_a_channel_is_one_stage(tmp_path):
    """Steps in front of one quantiser are one staircase."""
    graph = graph_of((model := Model()).proto(MODELS["Max of a number a channel"](model)), tmp_path)
    assert kinds(compared(graph, frames=1))[:3] == ["Conv", "Thresholds", "SumPool"]


@pytest.mark.parametrize("slopes", [np.full((4, 1, 1), 0.25), np.full((1, 1, 1), 0.25), np.array(0.25)])
def test_equal_slopes_are_one_table(tmp_path, slopes):
    model = Model()
    y = model.put("PRelu", model.conv("x", 3, 4), [slopes.astype(np.float32)])
    assert ops(same(model.proto(y), tmp_path)) == ["conv", "table"]


@pytest.mark.parametrize("inputs", ["x", "x k", "k x k", "x high k"])
def test_numbers_are_clips(tmp_path, inputs):
    model = build([node("Neg", "x", "x0"), node("Max", inputs.replace("x", "x0"), "m"), node("Min", "low m", "y")],
                  {"k": np.float32(-0.5), "high": np.full((1, 3, 1, 1), -0.2, np.float32), "low": np.float32([0.4])})
    assert ops(same(model, tmp_path)) == ["affine", *["clip"] * (2 - (inputs == "x"))]


def test_compiled_simulation(tmp_path):
    model = Model(("N", 2, 4, 4))
    x = model.put("PRelu", model.conv("x", 2, 4), [MAPS])
    y = model.put("Max", f"{x} {model.conv('x', 2, 4)}", [MAPS / 4])
    y = model.put("Div", model.put("Min", f"{y} {model.conv('x', 2, 4)}"), [MAPS + 1])
    graph = same(model.proto(model.classes(y, 4, 3)), tmp_path, tolerance=1e-5)
    network = compared(graph, frames=1, activations=4, weights="int:4")
    verilog(network, board="ulx3s-12f", output=tmp_path / "out", top="stream")
    frames = np.random.default_rng(3).integers(0, 256, (12, *network.input_shape), dtype=np.uint8)
    found = simulate(tmp_path / "out", frames, stalls=0.2, jobs=1)
    assert (found.frames, found.differ) == (12, 0) and not found.cycles_differ


@pytest.mark.parametrize("nodes, says", [
    ([node("Relu", "x", "r"), node("Div", "x r", "y", "own")], "Div 'own' divides by a computed tensor"),
    ([node("Max", "x nan", "y", "own")], "Max 'own' has a bound that is NaN"),
    ([node("Min", "x k3 k4", "y", "own")], "Min 'own' has constants of shapes (3, 1, 1), (4, 1, 1), which do not fit"),
    ([node("Min", "x k4", "y", "own")], "Min 'own' has a bound of shape (4, 1, 1), which does not fit its input"),
    ([node("Max", "x inf", "y", "own")], "Max 'own' has bounds that are NaN or infinite"),
    ([node("Max", "x map", "y", "own")], "Max 'own' has a bound that differs within a channel"),
    ([node("PRelu", "x map", "y", "own")], "PRelu 'own' has a slope that differs within a channel"),
    ([node("PRelu", "x k4", "y", "own")], "PRelu 'own' has a slope of shape (4, 1, 1), which does not fit its input"),
])
def test_refused(tmp_path, nodes, says):
    weights = {"nan": np.float32(np.nan), "k3": MAPS[:3], "k4": MAPS, "inf": np.array([1, 2, np.inf])[:, None, None],
               "map": np.arange(108).reshape(1, 3, 6, 6)}
    weights = {name: np.asarray(array, np.float32) for name, array in weights.items()}
    with pytest.raises(ModelError) as caught:
        graph_of(build(nodes, weights), tmp_path)
    assert says in str(caught.value)


def test_quantised_models_refuse_what_is_composed(tmp_path):
    def quantised(operator, **weights):
        nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"), operator,
                 node("QuantizeLinear", "o s z", "p"), node("DequantizeLinear", "p s z", "y")]
        return build(nodes, {"s": np.float32(0.1), "z": np.int8(0), **weights})

    for operator, says in ((node("Max", "d d", "o"), "Max 'max_0' compares several computed tensors"),
                           (node("Min", "d k", "o"), "Min 'min_0' has a bound of 3 numbers"),
                           (node("PRelu", "d k", "o"), "PRelu 'prelu_0' has 3 slopes")):
        with pytest.raises(ModelError) as caught:
            graph_of(quantised(operator, k=MAPS[:3]), tmp_path)
        assert f"{says}, which is supported only in models of real numbers" in str(caught.value)


@pytest.mark.parametrize("steps", [
    [("Clip", np.float32(-0.1), np.float32(0.1))], [("Relu",), ("Mul", np.float32(-0.3))], [("Max", MAPS)],
    [("Clip", np.float32(0), np.float32(1)), ("MaxPool",)], [("Clip", np.float32(0), np.float32(1)), ("Softmax",)],
])
def test_models_that_end_with_steps_that_are_not_affine(tmp_path, steps):
    """Their output is codes of eight bits at least, whatever activations have."""
    model = Model()
    y = model.conv("x", 3, 4) if steps[-1][0] != "Softmax" else model.classes(model.conv("x", 3, 4), 4)
    for op, *weights in steps:
        y = model.put(op, y, weights, **{"MaxPool": {"kernel_shape": [2, 2]}, "Softmax": {"axis": 1}}.get(op, {}))
    graph = same(model.proto(y), tmp_path, tolerance=1e-5)
    for activations in (4, "binary", 8):
        network = compared(graph, frames=1, activations=activations)
        assert network.tensors[network.output].format.bits == 8
