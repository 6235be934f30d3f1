import exact_graph as exact
import numpy as np
import pytest

from lutloom.floating import run
from lutloom.passes.fold import fold
from lutloom.passes.hoist import hoist
from lutloom.passes.take_input import take_input


def same(graph, folded, frames=3):
    x = np.random.default_rng(0).normal(size=(frames, *graph.shapes[graph.input]))
    np.testing.assert_allclose(run(folded, x), run(graph, x), rtol=1e-9, atol=1e-9)


def ops(graph):
    return [node.op for node in graph.nodes]


def test_affine_steps_behind_layers_go_into_weights():
    rng = np.random.default_rng(1)
    graph = exact.chain(
        "g",
        (6, 6, 2),
        exact.conv(rng, "c1", 3, 2, bias=False),
        exact.affine("bn1", rng.normal(size=3), rng.normal(size=3)),
        exact.affine("mul", 2.0, 0.0),
        exact.relu("r"),
        ("flatten", "f", {}),
        exact.dense(rng, "d", 4, 48),
        exact.affine("bn2", rng.normal(size=4), rng.normal(size=4)),
    )
    folded = fold(graph)
    assert ops(folded) == ["conv", "relu", "flatten", "dense"]
    same(graph, folded)
    assert folded.output == folded.nodes[-1].output


def test_affine_steps_behind_pools_go_in_where_they_rise():
    rng = np.random.default_rng(2)
    up = exact.chain(
        "g", (6, 6, 2), exact.conv(rng, "c", 3, 2), exact.maxpool("p"), exact.affine("bn", [1.0, 2.0, 0.5], 1.0)
    )
    down = exact.chain(
        "g", (6, 6, 2), exact.conv(rng, "c", 3, 2), exact.maxpool("p"), exact.affine("bn", [1.0, -2.0, 1.0], 1.0)
    )
    assert ops(fold(up)) == ["conv", "maxpool"] and ops(fold(down)) == ["conv", "maxpool", "affine"]
    same(up, fold(up))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_affine_steps_in_front_of_layers_go_into_weights(groups):
    rng = np.random.default_rng(3)
    graph = exact.chain(
        "g",
        (6, 6, 4),
        exact.affine("norm", rng.normal(size=4), rng.normal(size=4)),
        exact.conv(rng, "c", 4, 4, groups=groups, bias=False),
    )
    assert ops(fold(graph)) == ["conv"]
    same(graph, fold(graph))


def test_affine_steps_in_front_of_padding_stay_unless_they_add_nothing():
    rng = np.random.default_rng(4)
    for offset, left in ((0.5, ["affine", "conv"]), (0.0, ["conv"])):
        graph = exact.chain(
            "g", (6, 6, 2), exact.affine("norm", 2.0, offset), exact.conv(rng, "c", 3, 2, pads=(1, 1, 1, 1))
        )
        assert ops(fold(graph)) == left
        same(graph, fold(graph))


def test_affine_steps_go_through_flattening():
    rng = np.random.default_rng(5)
    graph = exact.chain(
        "g",
        (3, 3, 2),
        exact.conv(rng, "c", 4, 2),
        exact.relu("r"),
        exact.affine("bn", rng.normal(size=4), rng.normal(size=4)),
        ("flatten", "f", {}),
        exact.dense(rng, "d", 3, 4),
    )
    assert ops(fold(graph)) == ["conv", "relu", "flatten", "dense"]
    same(graph, fold(graph))


def test_weights_of_the_source_stay_as_they_are():
    rng = np.random.default_rng(6)
    graph = exact.chain(
        "g",
        (6, 6, 2),
        exact.affine("norm", 2.0, -1.0),
        exact.conv(rng, "c", 3, 2, quant=4),
        exact.affine("bn", [1.0, 2.0, -1.0], 0.5),
    )
    assert fold(graph).nodes == graph.nodes


def test_idle_steps_go():
    rng = np.random.default_rng(7)
    graph = exact.chain(
        "g",
        (4,),
        ("flatten", "f", {}),
        exact.affine("one", 1.0, 0.0),
        exact.relu("r1"),
        exact.relu("r2"),
        ("clip", "open", {"low": -np.inf, "high": np.inf}),
        exact.dense(rng, "d", 3, 4, quant=3),
    )
    assert ops(fold(graph)) == ["relu", "dense"]
    same(graph, fold(graph))


def test_affine_steps_merge_only_where_that_is_exact():
    exactly = exact.chain("g", (3,), exact.affine("a", 2.0, [1.0, 2.0, 3.0]), exact.affine("b", -0.5, 0.25))
    rounded = exact.chain("g", (3,), exact.affine("a", 0.1, 0.3), exact.affine("b", 0.7, 0.1))
    assert len(fold(exactly).nodes) == 1 and len(fold(rounded).nodes) == 2
    same(exactly, fold(exactly))


def test_quantisers_go_in_front_of_pools_and_flattening():
    rng = np.random.default_rng(8)
    graph = exact.chain(
        "g",
        (6, 6, 2),
        exact.conv(rng, "c", 3, 2),
        exact.maxpool("p1"),
        exact.maxpool("p2", 2, 1),
        ("flatten", "f", {}),
        exact.relu("r"),
        exact.quant("q", 0.5, 4),
        exact.dense(rng, "d", 3, 3),
    )
    assert ops(hoist(graph)) == ["conv", "relu", "quant", "maxpool", "maxpool", "flatten", "dense"]
    same(graph, hoist(graph))
    by_channel = exact.chain(
        "g",
        (6, 6, 2),
        exact.conv(rng, "c", 3, 2),
        exact.maxpool("p1"),
        exact.affine("n", [1.0, 2.0, -1.0], 0.0),
        exact.quant("q", 0.5, 4),
    )
    assert hoist(by_channel).nodes == by_channel.nodes


def test_flattening_goes_to_the_input():
    graph = exact.chain(
        "g",
        (4, 4, 1),
        exact.affine("n", 2.0, -1.0),
        exact.bipolar("b"),
        ("flatten", "f", {}),
        exact.dense(np.random.default_rng(9), "d", 3, 16, quant="bipolar"),
    )
    taken = take_input(graph)
    assert ops(taken) == ["flatten", "affine", "bipolarquant", "dense"]
    assert [taken.shapes[node.output] for node in taken.nodes] == [(16,), (16,), (16,), (3,)]
    same(graph, taken)
