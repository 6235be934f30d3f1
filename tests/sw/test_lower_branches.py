"""Branches of float models: the network equals the quantised graph computed in rationals."""

from fractions import Fraction

import exact_graph as exact
import numpy as np
import pytest
from lower_checks import compared, kinds

from lutloom.graph import Graph, Node
from lutloom.passes.grids import common_unit, is_short, short_scale


def graph_of(shape, *steps):
    """A Graph of steps (op, name, params, inputs, shape); inputs are names of steps, the shape None for the first's."""
    shapes, nodes = {"input": shape}, []
    for op, name, params, inputs, size in steps:
        nodes.append(Node(op, name, tuple(inputs), name, params))
        shapes[name] = tuple(size or shapes[inputs[0]])
    return Graph("net", "input", nodes[-1].output, tuple(nodes), shapes, shape, "NHWC", shapes[nodes[-1].output])


def conv(rng, name, outputs, channels, source, shape=None, **more):
    return (*exact.conv(rng, name, outputs, channels, pads=(1, 1, 1, 1), **more), (source,), shape)


SHAPE = (4, 4, 3)


@pytest.mark.parametrize("activations", [8, 4, "binary"])
@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_residual_blocks(kind, activations):
    rng = np.random.default_rng(1)
    network = compared(graph_of(
        SHAPE, conv(rng, "c1", 4, 3, "input", (4, 4, 4)), ("relu", "r1", {}, ("c1",), None),
        conv(rng, "c2", 4, 4, "r1"), (kind, "join1", {}, ("c2", "r1"), None), ("relu", "r2", {}, ("join1",), None),
        conv(rng, "c3", 4, 4, "r2"), conv(rng, "proj", 4, 4, "r2"), (kind, "join2", {}, ("c3", "proj"), None),
        ("relu", "r3", {}, ("join2",), None), ("globalpool", "gap", {}, ("r3",), (4,)),
        (*exact.dense(rng, "fc", 3, 4), ("gap",), (3,)),
    ), activations=activations)
    assert kinds(network).count("Times" if kind == "mul" else "Sum") == 2


def test_a_binary_layer_behind_a_sum_reads_signs_and_the_sum_keeps_numbers():
    rng = np.random.default_rng(1)
    network = compared(graph_of(
        SHAPE, conv(rng, "c1", 4, 3, "input", (4, 4, 4)), ("relu", "r1", {}, ("c1",), None),
        conv(rng, "c2", 4, 4, "r1"), ("add", "join", {}, ("c2", "r1"), None),
    ), activations="binary", weights="binary")
    by_name = {layer.name: layer for layer in network.layers}
    assert network.tensors[by_name["c2"].input].format.kind == "bipolar"
    assert {network.tensors[name].format.bits for name in by_name["join"].inputs} == {8}


def test_unions_have_one_scale():
    rng = np.random.default_rng(2)
    network = compared(graph_of(
        SHAPE, conv(rng, "a", 2, 3, "input", (4, 4, 2)), ("relu", "ra", {}, ("a",), None),
        conv(rng, "b", 5, 2, "ra", (4, 4, 5)), ("concat", "cat", {"axis": 2}, ("ra", "b", "input"), (4, 4, 10)),
        conv(rng, "c", 3, 10, "cat", (4, 4, 3)), ("concat", "rows", {"axis": 0}, ("c", "c"), (8, 4, 3)),
        conv(rng, "d", 2, 3, "rows", (8, 4, 2)),
    ))
    assert kinds(network).count("Concat") == 2


@pytest.mark.parametrize("function", ["leaky_relu", "tanh"])
def test_a_union_of_what_no_weights_stand_in_front_of(function):
    rng = np.random.default_rng(8)
    params = {"function": function, "alpha": 0.3}
    pool = {"kernel": (3, 3), "stride": (1, 1), "pads": (1, 1, 1, 1), "divisor": exact_divisor()}
    compared(graph_of(
        SHAPE, conv(rng, "a", 2, 3, "input", (4, 4, 2)), ("table", "f", params, ("a",), None),
        ("avgpool", "p", pool, ("a",), None), ("add", "s", {}, ("a", "p"), None),
        ("concat", "cat", {"axis": 2}, ("f", "p", "s"), (4, 4, 6)), conv(rng, "b", 2, 6, "cat", (4, 4, 2)),
    ))


def exact_divisor():
    rows = np.array([2, 3, 3, 2])
    return np.outer(rows, rows)


@pytest.mark.parametrize("function", ["leaky_relu", "logistic", "tanh", "elu", "hard_swish", "silu"])
def test_functions_become_tables(function):
    rng = np.random.default_rng(3)
    params = {"function": function, "alpha": 0.3}
    network = compared(graph_of(
        SHAPE, conv(rng, "a", 2, 3, "input", (4, 4, 2)), ("table", "f", params, ("a",), None),
        conv(rng, "b", 5, 2, "f", (4, 4, 5)), ("maxpool", "p", {"kernel": (2, 2), "stride": (2, 2),
                                                                  "pads": (0, 0, 0, 0)}, ("b",), (2, 2, 5)),
        ("table", "g", {"function": "logistic"}, ("p",), None),
    ))
    assert kinds(network).count("Table") == 2 and network.tensors[network.output].format.bits == 8


def test_pads_and_views():
    rng = np.random.default_rng(4)
    compared(graph_of(
        (2, 4, 6), ("reshape", "r", {}, ("input",), (4, 4, 3)),
        ("pad", "p", {"before": (1, 0, 0), "after": (0, 2, 0)}, ("r",), (5, 6, 3)),
        (*exact.conv(rng, "a", 2, 3), ("p",), (3, 4, 2)), ("relu", "f", {}, ("a",), None),
        ("reshape", "s", {}, ("f",), (2, 3, 4)), ("pad", "q", {"before": (0, 1, 0), "after": (1, 0, 0)}, ("s",),
                                                    (3, 4, 4)),
        (*exact.conv(rng, "b", 2, 4), ("q",), (1, 2, 2)), ("flatten", "g", {}, ("b",), (4,)),
        ("reshape", "t", {}, ("g",), (1, 1, 4)),
    ))


def test_pads_in_front_of_a_convolution_are_its_own():
    rng = np.random.default_rng(4)
    params = {"before": (1, 0, 0), "after": (1, 2, 0)}
    network = compared(graph_of(SHAPE, ("pad", "p", params, ("input",), (6, 6, 3)),
                                conv(rng, "c", 2, 3, "p", (6, 6, 2)), ("relu", "r", {}, ("c",), None)))
    assert "Pad" not in kinds(network)
    assert network.layers[0].pads == (2, 1, 2, 3)


@pytest.mark.parametrize("size", [1, 4])
def test_codes_that_move(size):
    """A crop that runs backwards, a transpose, and pixels that are repeated."""
    rng = np.random.default_rng(5)
    params = {"begin": (3, 1, 0), "sizes": (2, 3, 4), "steps": (-2, 1, 1)}
    network = compared(graph_of(
        SHAPE, conv(rng, "c", 4, 3, "input", (4, 4, 4)), ("slice", "s", params, ("c",), (2, 3, 4)),
        ("transpose", "t", {"order": (1, 2, 0)}, ("s",), (3, 4, 2)),
        ("upsample", "u", {"factor": (size, 2)}, ("t",), (3 * size, 8, 2)),
        conv(rng, "e", 2, 2, "u", (3 * size, 8, 2)), ("relu", "r", {}, ("e",), None)))
    assert {"Slice", "Transpose", "Broadcast"} <= {*kinds(network)}
    assert kinds(network).count("Broadcast") == (1 if size == 1 else 2)


def test_squeeze_and_excite_spreads_a_vector_over_a_map():
    rng = np.random.default_rng(5)
    network = compared(graph_of(
        SHAPE, conv(rng, "a", 4, 3, "input", (4, 4, 4)), ("relu", "r", {}, ("a",), None),
        ("globalpool", "gap", {}, ("r",), (4,)), (*exact.dense(rng, "fc", 4, 4), ("gap",), (4,)),
        ("table", "gate", {"function": "logistic"}, ("fc",), None), ("reshape", "s", {}, ("gate",), (1, 1, 4)),
        ("mul", "m", {}, ("r", "s"), None), conv(rng, "b", 2, 4, "m", (4, 4, 2)),
    ))
    assert "Broadcast" in kinds(network)


def test_a_value_added_to_itself_and_to_the_input():
    rng = np.random.default_rng(6)
    compared(graph_of(SHAPE, conv(rng, "a", 3, 3, "input"), ("add", "twice", {}, ("a", "a"), None),
                      ("add", "sum", {}, ("twice", "input"), None)), input_scale="1/255")


def test_sums_of_large_values():
    """Steps above 4,096 were taken for no short ones, and quantised again without end."""
    rng = np.random.default_rng(6)
    big = dict(weight=1e7 * rng.normal(size=(3, 3, 3, 3)))
    op, name, params, inputs, shape = conv(rng, "a", 3, 3, "input")
    compared(graph_of(SHAPE, (op, name, params | big, inputs, shape), ("add", "twice", {}, ("a", "a"), None)))


def test_scales_of_sums_are_short():
    for scale in (1e-5, 0.0123, 0.9999, 1.0, 77.7, 6543.2, 1e9):
        short = short_scale(scale)
        assert abs(short / scale - 1) <= 1 / 256 and is_short(Fraction(short))
    assert not is_short(Fraction(0.1)) and is_short(Fraction(1, 255))
    assert common_unit(Fraction(3, 8), Fraction(5, 255)) == Fraction(1, 408)
