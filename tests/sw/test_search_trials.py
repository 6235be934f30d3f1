"""Trials of a search, and what is chosen by them: halves of the data, compensated and pruned weights, golden model."""

import json

import numpy as np
import pytest
from searches import MODEL, few_frames, find, refusal

import lutloom
from lutloom.data import Data
from lutloom.evaluate import evaluate
from lutloom.frontend import load_graph
from lutloom.passes.rewire import with_node
from lutloom.search.choice import Point, choose
from lutloom.search.cost import Budget, Costs
from lutloom.search.report import text as printed
from lutloom.search.scorer import Problem, Scorer, halves, order
from lutloom.search.space import Candidate, Measured, shortlist
from lutloom.sparse import least_bits
from lutloom.weight_spec import parse_spec


@pytest.fixture(scope="module")
def data():
    return few_frames()


@pytest.fixture(scope="module")
def choosing():
    """Frames that choose, enough that each half of them is compensated on."""
    from lutloom.data import load

    return load("digits", "calibrate").first(240)


def crossed(data, what, **choices):
    """Accuracy of each half of the data with what is calibrated on the other, over both."""
    parts = [Data(data.x[half], data.y[half], data.name) for half in halves(data)]
    scored = [evaluate(MODEL, data=one, calibrate=other, **choices)["accuracy"][what]
              for one, other in (parts, parts[::-1])]
    return pytest.approx(np.mean(scored), abs=1e-9)


def simulated(data, line, **choices):
    return crossed(data, "simulated", mode="simulated", activations="float", weights=line, **choices)


@pytest.mark.parametrize("rounding", [None, "nearest", "compensated"])
def test_a_trial_of_one_layer_is_the_simulated_accuracy(rounding, choosing):
    """Also of weights that are compensated, and those of few bits are far better by it."""
    scorer = Scorer(Problem(load_graph(MODEL), {"rounding": rounding}, choosing, choosing, ("conv1", "conv2", "fc")))
    for name, text in (("conv1", "int:2@channel"), ("conv2", "binary@channel"), ("fc", "codebook:4@layer"),
                       ("conv2", "int:8@channel"), ("conv1", "bitmask:2@1"), ("conv2", "codebook:16x4@layer")):
        found = scorer(("simulated", {name: text}))["accuracy"]
        assert found == simulated(choosing, f"{name}={text},*=float", rounding=rounding), text
    binary = scorer(("simulated", {"conv1": "binary@channel", "conv2": "binary@channel"}))["accuracy"]
    assert binary < 0.7 if rounding == "nearest" else binary > 0.8


def test_halves_have_as_many_of_every_class():
    """Also of data in the order in which folders are read: one of each class after the other."""
    for y in (np.arange(200) % 10, np.repeat(np.arange(10), 20), np.arange(201) % 2, None):
        count = 200 if y is None else len(y)
        data = Data(np.zeros((count, 1)), y, "data")
        one, other = halves(data)
        assert sorted([*one, *other]) == list(range(count)) and len(one) - len(other) in (0, 1)
        if y is not None:
            assert np.abs(np.bincount(y[one]) - np.bincount(y[other])).max() <= 1
    assert not np.array_equal(one, np.arange(0, 200, 2)), "without labels, by chance"


def test_outputs_whose_weights_are_all_zero(choosing):
    """Of formats without a zero they are switched off in trials, as they will be; a shared scale is the others'."""
    graph = load_graph(MODEL)
    node = next(node for node in graph.nodes if node.name == "conv2")
    weight = node.params["weight"].copy()
    weight[:4] = 0
    graph = with_node(graph, node, node.with_params(weight=weight))
    scorer = Scorer(Problem(graph, {}, choosing, choosing, ("conv2",)))
    for form in ("binary@channel", "binary@layer"):
        parts = [Data(choosing.x[half], choosing.y[half], "half") for half in halves(choosing)]
        wanted = np.mean([evaluate(graph, data=one, calibrate=other, mode="simulated", activations="float",
                                   weights=f"conv2={form},*=float")["accuracy"]["simulated"]
                          for one, other in (parts, parts[::-1])])
        assert scorer(("simulated", {"conv2": form}))["accuracy"] == pytest.approx(wanted, abs=1e-9)
        assert wanted > 0.8, "a shared scale of one for the dead outputs gave a sixth"


def test_lines_that_cannot_be_compensated_are_scored_all_the_same(data, tmp_path):
    result = find(data, tmp_path / "found", formats="float16,int:8", rounding="compensated")
    assert {row["formats"]["fc"] for row in result["finals"]} >= {"float16"}


def test_pruned_weights_are_compensated_in_trials_as_they_will_be(choosing):
    scorer = Scorer(Problem(load_graph(MODEL), {"prune": "conv2=0.6"}, choosing, choosing, ("conv2",)))
    found = scorer(("simulated", {"conv2": "int:3@channel"}))["accuracy"]
    assert found == simulated(choosing, "conv2=int:3,*=float", prune="conv2=0.6")
    assert scorer(("float",))["accuracy"] == np.mean(lutloom.evaluate(
        MODEL, data=choosing, calibrate=choosing)["accuracy"]["float"]), "what is pruned is measured by what was not"



def test_zeros_of_pruned_layers_need_not_be_stored(data, tmp_path):
    """Bits of candidates with +sparse are those of the network, which hold a step beside each code."""
    options = dict(layers="conv2,fc", prune="conv2=0.3,fc=0.9", rounding="nearest")
    result = find(data, tmp_path / "found", formats="int:4,int:4+sparse,codebook:16+sparse", **options)
    bits = {name: {one["format"]: one["weight_bits"] for one in ones} for name, ones in result["layers"].items()}
    luts = {name: {one["format"]: one["luts"] for one in ones} for name, ones in result["layers"].items()}
    assert bits["fc"]["int:4+sparse@layer"] == bits["fc"]["codebook:16+sparse@layer"] < 0.3 * bits["fc"]["int:4@layer"]
    assert bits["conv2"]["int:4+sparse@channel"] == bits["conv2"]["int:4@channel"], "steps would cost more than zeros"
    assert luts["conv2"]["int:4+sparse@channel"] == pytest.approx(0.7 * luts["conv2"]["int:4@channel"], rel=0.01)
    chosen = next(row for row in result["finals"] if row["chosen"])
    assert chosen["formats"]["fc"].startswith(("int:4+sparse", "codebook:16+sparse"))
    network = lutloom.quantize(MODEL, calibrate=data[1], weights=result["weights"], prune=options["prune"],
                               rounding="nearest")
    found = {layer.name: least_bits(layer.weights) for layer in network.layers if hasattr(layer, "weights")}
    assert sum(found.values()) <= chosen["weight_bits"] <= 1.05 * sum(found.values())
    assert evaluate(MODEL, data=data[0], calibrate=data[1], weights=result["weights"], prune=options["prune"],
                    rounding="nearest")["accuracy"]["golden"] == chosen["golden"]
    assert refusal(data, tmp_path / "other", formats="int:4+sparse") == (
        "layer 'conv1' is not pruned, so that what int:4+sparse@channel saves is not known; leave out +sparse, give "
        "--prune, or name the pruned layers with --layers")


def test_a_trial_of_all_layers_is_the_simulated_accuracy(data, tmp_path):
    point = find(data, tmp_path / "found", rounding="nearest", layers="conv*")["combinations"][0]
    line = ",".join([f"{name}={text}" for name, text in point["formats"].items()] + ["*=float"])
    assert point["accuracy"] == simulated(data[1], line, rounding="nearest")


def test_the_golden_model_chooses_by_frames_that_were_not_calibrated_on(choosing, data, tmp_path):
    result = lutloom.search(MODEL, data=data[0], calibrate=choosing, output=tmp_path / "found", formats="int:2,int:3",
                            activations=2, jobs=1)
    for row in result["finals"]:
        assert row["calibration"] == crossed(choosing, "golden", activations=2, weights=row["weights"])
    good = [row for row in result["finals"] if row["calibration"] >= result["float"]["calibration"] - 0.005]
    chosen = next(row for row in result["finals"] if row["chosen"])
    best = min(good, key=lambda row: row["weight_bits"]) if good else max(
        result["finals"], key=lambda row: row["calibration"])
    assert chosen["calibration"] == best["calibration"] and chosen["weights"] == result["weights"]
    none = "None of these loses at most 0.5 points on the calibration data: the best is chosen."
    assert bool(good) != (none in printed(result))


def test_shared_prefixes_change_nothing(data):
    scoring, choosing = data
    layers = ("conv1", "conv2", "fc")
    problem = Problem(load_graph(MODEL), {}, choosing, scoring, layers)
    rng = np.random.default_rng(1)
    trials = [{name: str(rng.choice(["int:2@layer", "int:3@layer"])) for name in layers if rng.random() < 0.7}
              for _ in range(12)]
    scorer = Scorer(problem)
    walked = {json.dumps(trial): scorer(("simulated", trial)) for trial in order(trials, layers)}
    for trial in trials:
        alone = Scorer(problem)(("simulated", trial))
        again = scorer(("simulated", trial))
        assert {**alone, "seconds": 0} == {**again, "seconds": 0} == {**walked[json.dumps(trial)], "seconds": 0}


def test_every_pattern_of_three_stored_bits(data, tmp_path):
    result = find(data, tmp_path / "found", formats="bitmask:3", layers="fc", best=2)
    texts = [one["format"] for one in result["layers"]["fc"]]
    assert sum(text.endswith("@1") for text in texts) == 21 and sum(text.endswith("@layer") for text in texts) == 6
    assert result["trials"]["combinations"] == 2
    assert parse_spec(result["weights"]).entries[0][0] == "fc"


def test_formats_of_layers_apart(data, tmp_path):
    result = find(data, tmp_path / "found", formats="conv*=int:2..3@layer; fc=binary")
    assert [one["format"] for one in result["layers"]["fc"]] == ["binary@layer"]
    assert {one["format"] for one in result["layers"]["conv2"]} == {"int:2@layer", "int:3@layer"}


def test_of_those_that_are_good_the_fewest_bits_are_chosen():
    points = [Point({"fc": str(bits)}, Costs(bits, luts, 9), accuracy, accuracy, 0.1)
              for bits, luts, accuracy in ((8, 1, 0.99), (4, 5, 0.986), (4, 4, 0.985), (3, 1, 0.984), (2, 1, 0.5))]
    assert choose(points, None, 0.99, 0.5) is points[2] and choose(points, None, 0.99, 0.4) is points[1]
    assert choose(points[3:], None, 0.99, 0.1) is points[3], "where none is good, the best"
    assert choose(points, Budget("bits", 4), 0.99, None) is points[1]


def test_other_data_that_score_are_scored(data, tmp_path):
    """Trials and choice stay; what the golden model gives is computed again."""
    one = find(data, tmp_path / "found")
    scoring = Data(data[0].x[::2], data[0].y[::2], "half")
    other = find((scoring, data[1]), tmp_path / "found")
    assert other["weights"] == one["weights"] and other["trials"]["known"] == one["trials"]["all"]
    wrong = Data(scoring.x, (scoring.y + 1) % 10, "wrong")
    assert all(row["golden"] < 0.2 for row in find((wrong, data[1]), tmp_path / "found")["finals"])
    assert {row["golden"] for row in other["finals"]} != {row["golden"] for row in one["finals"]}


def test_where_no_final_is_good_more_are_scored(choosing, data, tmp_path, monkeypatch):
    """Those that change least come next; --finals says how many at a time."""
    options = dict(formats="int:2..8", activations="binary", calibrate=choosing, output=tmp_path / "found", jobs=1)
    result = lutloom.search(MODEL, data=data[0], finals=3, **options)
    assert 3 < len(result["finals"]) <= 9
    least = min(row["error"] for row in result["combinations"])
    assert any(row["error"] == least for row in result["finals"])
    chosen = next(row for row in result["finals"] if row["chosen"])
    assert chosen["calibration"] == max(row["calibration"] for row in result["finals"])
    assert len(lutloom.search(MODEL, data=data[0], finals=7, drop=99.0, **options)["finals"]) == 7


def test_a_frame_of_luck_drops_no_format():
    """A cheaper format that gives a frame more, but changes the outputs more, leaves the other one in."""
    def measured(text, score, error, bits):
        return Measured(Candidate(text, None), score, score, error, (bits, bits))

    lucky, less, beaten = (measured(*each) for each in (("a", 0.9975, 0.125, 100), ("b", 0.995, 0.039, 200),
                                                        ("c", 0.99, 0.2, 300)))
    assert shortlist([lucky, less, beaten], 3) == [lucky, less]
