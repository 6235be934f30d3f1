"""Equalisation between layers: the same function, even ranges."""

from pathlib import Path

import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.floating import run
from lutloom.frontend import load_graph
from lutloom.graph import Graph, Node
from lutloom.passes.binarize import binarize
from lutloom.passes.equalise import equalise, pairs_of
from lutloom.passes.fold import fold
from lutloom.quantize import prepared, quantize

MODEL = Path(__file__).resolve().parents[2] / "sw" / "examples" / "digits.onnx"


def conv(rng, name, source, shape, groups=1, bias=True, **others):
    weight = rng.normal(size=shape) * np.exp(rng.normal(size=(shape[0], 1, 1, 1)))
    params = dict(weight=weight, bias=rng.normal(size=shape[0]) if bias else None, stride=(1, 1), dilation=(1, 1),
                  pads=(1, 1, 1, 1), groups=groups, weight_quant=None) | others
    return Node("conv", name, (source,), name, params)


def graph(seed=1):
    """A convolution, a grouped one, a depthwise one, and a dense layer behind a flatten; uneven on purpose."""
    rng = np.random.default_rng(seed)
    pool = dict(kernel=(2, 2), stride=(2, 2), pads=(0, 0, 0, 0))
    nodes = (
        conv(rng, "a", "x", (6, 3, 3, 2)), Node("relu", "r", ("a",), "r", {}),
        conv(rng, "b", "r", (4, 3, 3, 3), 2, False), Node("maxpool", "m", ("b",), "m", pool),
        conv(rng, "c", "m", (4, 3, 3, 1), 4), Node("table", "t", ("c",), "t",
                                                   {"function": "leaky_relu", "alpha": 0.1, "beta": 0.0}),
        Node("flatten", "f", ("t",), "f", {}),
        Node("dense", "d", ("f",), "d", dict(weight=rng.normal(size=(5, 36)), bias=None, weight_quant=None)),
    )
    shapes = {"x": (6, 6, 2), "a": (6, 6, 6), "r": (6, 6, 6), "b": (6, 6, 4), "m": (3, 3, 4), "c": (3, 3, 4),
              "t": (3, 3, 4), "f": (36,), "d": (5,)}
    return Graph("g", "x", "d", nodes, shapes, (6, 6, 2), "NHWC", (5,))


class Choice:
    equalise = True


def test_the_function_stays():
    before = graph()
    after = equalise(before, Choice)
    x = np.random.default_rng(2).normal(size=(7, 6, 6, 2))
    assert pairs_of(before) == [("a", "b"), ("b", "c"), ("c", "d")]
    assert np.allclose(run(before, x), run(after, x), rtol=1e-12, atol=1e-12)
    assert not np.allclose(before.nodes[0].params["weight"], after.nodes[0].params["weight"])


def test_ranges_are_even():
    nodes = {node.name: node.params for node in equalise(graph(), Choice).nodes}
    rows = np.abs(nodes["c"]["weight"]).reshape(4, -1).max(1)
    columns = np.abs(nodes["d"]["weight"]).reshape(5, 9, 4).max((0, 1))
    assert np.allclose(rows, columns, rtol=0.01)
    first, second = np.abs(nodes["a"]["weight"]).reshape(6, -1).max(1), np.abs(nodes["b"]["weight"])
    assert np.allclose(first, second.reshape(2, 2, 9, 3).max((1, 2)).ravel(), rtol=0.01)


def test_what_stands_between():
    base = graph()
    for op, params, able in (("clip", {"low": 0.0, "high": 6.0}, False), ("clip", {"low": 0.0, "high": np.inf}, True),
                             ("sign", {}, False), ("table", {"function": "tanh"}, False)):
        nodes = tuple(Node(op, "r", ("a",), "r", params) if node.name == "r" else node for node in base.nodes)
        changed = Graph("g", "x", "d", nodes, base.shapes, (6, 6, 2), "NHWC", (5,))
        assert (("a", "b") in pairs_of(changed)) == able


def test_a_value_that_two_read_stays():
    base = graph()
    again = Node("relu", "again", ("r",), "again", {})
    changed = Graph("g", "x", "d", (*base.nodes[:2], again, *base.nodes[2:]), base.shapes | {"again": (6, 6, 6)},
                    (6, 6, 2), "NHWC", (5,))
    assert ("a", "b") not in pairs_of(changed)


def test_channels_of_zeros_stay():
    base = graph()
    weight = base.nodes[0].params["weight"].copy()
    weight[2] = 0
    nodes = (base.nodes[0].with_params(weight=weight), *base.nodes[1:])
    after = equalise(Graph("g", "x", "d", nodes, base.shapes, (6, 6, 2), "NHWC", (5,)), Choice)
    assert after.nodes[0].params["bias"][2] == base.nodes[0].params["bias"][2]
    assert all(np.isfinite(node.params["weight"]).all() for node in after.nodes if "weight" in node.params)


def test_only_where_it_is_asked_for():
    model = load_graph(MODEL)
    _, options = prepared(MODEL, calibrate="digits")
    folded = fold(model, options)
    assert equalise(folded, options) is folded
    plain, even = (quantize(MODEL, calibrate="digits", weights="int:4@layer", equalise=way) for way in (None, True))
    assert even.info["equalise"] == "yes" and "equalise" not in plain.info
    first = [next(layer for layer in net.layers if hasattr(layer, "weights")) for net in (plain, even)]
    assert not np.array_equal(first[0].weights.codes, first[1].weights.codes)


def test_nothing_to_equalise():
    base = graph()
    single = Graph("g", "x", "a", base.nodes[:1], base.shapes, (6, 6, 2), "NHWC", (6, 6, 6))
    with pytest.raises(ModelError, match="'g' has no two layers of real weights .* leave out --equalise"):
        equalise(single, Choice)


def test_binarised_kernels_are_not_scaled():
    with pytest.raises(ModelError, match="nothing to equalise; leave out --equalise"):
        prepared_graph, options = prepared(graph(), equalise=True, binarize="kernel")
        equalise(binarize(prepared_graph, options), options)
