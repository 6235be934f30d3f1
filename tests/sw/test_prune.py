"""Pruning: which weights go, what is left after compensation, and every wrong --prune."""

import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.passes.prune import prune
from lutloom.prune_spec import Pruning, parse_pruning
from lutloom.quantize import fake_quantised, prepared, quantize


def two_layers(scale=1.0):
    rng = np.random.default_rng(7)
    graph = exact.chain("net", (6,), exact.dense(rng, "fc1", 5, 6), exact.relu("r"), exact.dense(rng, "fc2", 4, 5))
    node = graph.nodes[-1]
    from lutloom.passes.rewire import with_node

    return with_node(graph, node, node.with_params(weight=node.params["weight"] * scale))


def kept(graph, text):
    graph, options = prepared(graph, prune=text)
    return {node.name: node.params.get("kept") for node in prune(graph, options).nodes if "weight" in node.params}


def test_spec():
    assert parse_pruning("0.9") == (Pruning("*", 0.9, "global"),)
    assert parse_pruning("conv*=0.5, ip1=output:0.95") == (Pruning("conv*", 0.5), Pruning("ip1", 0.95, "output"))
    assert [str(one) for one in parse_pruning("layer:0.25,".rstrip(","))] == ["*=layer:0.25"]


@pytest.mark.parametrize(("text", "sentence"), [
    ("most", "--prune must be a share such as 0.9, layer:0.9 or output:0.9"),
    ("1", "shares of at least 0 and below 1, not 1"),
    ("-0.1", "shares of at least 0 and below 1, not -0.1"),
    ("nan", "shares of at least 0 and below 1, not nan"),
    ("row:0.5", "not 'row'"),
    ("0.5,0.6", "or a comma list of LAYER=SHARE"),
    ("=0.5", "or a comma list of LAYER=SHARE"),
    ("conv9=0.5", "'conv9', which matches no layer with weights that can be pruned; there are fc1, fc2"),
])
def test_wrong_specs(text, sentence):
    with pytest.raises(ModelError, match=sentence.replace(".", r"\.").replace("*", r"\*")):
        kept(two_layers(), text)


def test_the_smallest_of_all_layers_go():
    graph = two_layers(scale=100.0)
    together, apart = kept(graph, "magnitude:0.5"), kept(graph, "layer:0.5")
    assert together["fc1"].sum() == 5 and together["fc2"].sum() == 20  # those of fc2 are large
    assert apart["fc1"].sum() == 15 and apart["fc2"].sum() == 10
    for node in graph.nodes[::2]:
        real = np.abs(node.params["weight"])
        for left in (together[node.name], apart[node.name]):
            assert real[left].min() > real[~left].max(initial=0)


def test_layers_are_compared_by_what_is_left_of_them():
    """Weights of another unit are pruned alike, and the order within a layer is that of their sizes."""
    one, other = kept(two_layers(), "0.6"), kept(two_layers(scale=100.0), "0.6")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert sum(int(each.sum()) for each in one.values()) == 20
    for node in two_layers().nodes:
        if "weight" in node.params:
            real, mine = np.abs(node.params["weight"]), one[node.name]
            assert real[mine].min() > real[~mine].max()


def test_each_output_alike():
    rows = kept(two_layers(), "fc1=output:0.5")
    assert (rows["fc1"].sum(axis=1) == 3).all() and rows["fc2"] is None
    for real, left in zip(np.abs(two_layers().nodes[0].params["weight"]), rows["fc1"], strict=True):
        assert real[left].min() > real[~left].max()


def test_equal_weights_go_in_order():
    graph = exact.chain("net", (4,), ("dense", "fc", {"weight": np.ones((1, 4)), "bias": None}))
    assert kept(graph, "0.5")["fc"].tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("weights", ["int:4", "bitmask:X0.0XX", "ternary", "pow2:3", "codebook:3", "codebook:16",
                                     "float16", "int:8+sparse"])
def test_pruned_weights_are_zero_in_every_format(weights):
    rng = np.random.default_rng(1)
    graph, _ = fake_quantised(two_layers(), weights=weights, prune="layer:0.5", calibrate=rng.random((40, 6)))
    for node in graph.nodes:
        if "quantised" in node.params:
            found = node.params["quantised"]
            assert (found.integers[~node.params["kept"]] == 0).all()
            assert (node.params["weight"][~node.params["kept"]] == 0).all()
            assert found.sparse is ("sparse" in weights)


def test_formats_without_a_zero_are_refused():
    with pytest.raises(ModelError, match="layer 'fc1': its weights cannot be pruned and binary, which has no zero"):
        quantize(two_layers(), weights="binary", prune="0.5", calibrate=np.random.default_rng(1).random((40, 6)))


def test_compensation_makes_good_what_pruning_took():
    """With inputs that are much alike, others carry what a pruned weight did."""
    rng = np.random.default_rng(3)
    x = (rng.random((400, 2)) @ rng.random((2, 12)) / 2).astype(np.float32)
    graph = exact.chain("net", (12,), ("dense", "fc", {"weight": rng.normal(size=(5, 12)), "bias": np.zeros(5)}))
    given, errors = graph.nodes[0].params["weight"], []
    for rounding in ("nearest", "compensated"):
        fake, _ = fake_quantised(graph, weights="int:8", prune="output:0.6", calibrate=x, rounding=rounding,
                                 activations="float")
        node = next(node for node in fake.nodes if node.op == "dense")
        assert np.count_nonzero(node.params["quantised"].integers) <= 25
        difference = x @ (node.params["weight"] - given).T
        errors.append(difference.var(axis=0).sum())
    assert errors[1] < 0.05 * errors[0], errors


@pytest.mark.parametrize(("share", "left"), [("output:0.9", [[1] * 5, [1] * 4]), ("layer:0.99", [[1], [1]]),
                                             ("0.99", [[1], [1]])])
def test_no_layer_loses_all_its_weights(share, left):
    found = kept(two_layers(), share)
    counts = [[int(row.sum()) for row in rows] if "output" in share else [int(rows.sum())] for rows in found.values()]
    assert counts == left


def test_a_codebook_of_pruned_weights_has_a_zero_and_little_else_changes():
    """Two in a hundred weights go: not the half that a zero in the place of another entry would take along."""
    rng = np.random.default_rng(2)
    real = rng.normal(size=(8, 64))
    graph = exact.chain("net", (64,), ("dense", "fc", {"weight": real, "bias": None}))
    for entries, most in (4, 0.2), (8, 0.04):
        fake, _ = fake_quantised(graph, weights=f"codebook:{entries}", prune="0.02", activations="float")
        weights = next(node for node in fake.nodes if node.op == "dense").params
        assert 0 in weights["quantised"].format.values
        assert np.square(weights["weight"] - real).sum() < most * np.square(real).sum()


def test_binarised_kernels_are_not_pruned():
    with pytest.raises(ModelError, match="layer 'fc1' cannot be pruned where --binarize makes its weights 1 and -1"):
        quantize(two_layers(), weights="ternary", prune="0.5", binarize="kernel",
                 calibrate=np.random.default_rng(1).random((40, 6)))
