"""The search for weight formats: what is tried, what is kept, what is chosen, on one process, several and a cluster."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import lutloom
from lutloom import digits
from lutloom.cli import main
from lutloom.data import Data
from lutloom.errors import LutloomError
from lutloom.evaluate import evaluate
from lutloom.frontend import load_graph
from lutloom.passes.rewire import with_node
from lutloom.search import dask, workers
from lutloom.search.choice import Point, choose
from lutloom.search.cost import Budget, Costs
from lutloom.search.report import text as printed
from lutloom.search.scorer import Problem, Scorer, halves, order
from lutloom.search.space import Candidate, Measured, shortlist
from lutloom.search.trials import Trials
from lutloom.sparse import least_bits
from lutloom.weight_spec import parse_spec

MODEL = digits.example("digits.onnx")
FEW = "int:2,int:4,binary"


@pytest.fixture(scope="module")
def data():
    """Frames that score and frames that choose: few, so that a trial takes milliseconds."""
    from lutloom.data import load

    return load("digits").first(200), load("digits", "calibrate").first(120)


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """The same as files."""
    paths = [tmp_path_factory.mktemp("data") / f"{name}.npz" for name in ("test", "calibrate")]
    for path, each in zip(paths, data, strict=True):
        np.savez(path, x=each.x, y=each.y)
    return paths


def find(data, folder, **options):
    scoring, choosing = data
    options = {"formats": FEW, "jobs": 1, **options}
    return lutloom.search(MODEL, data=scoring, calibrate=choosing, output=folder, **options)


def refusal(data, folder, **options):
    with pytest.raises(LutloomError) as error:
        find(data, folder, **options)
    return str(error.value)


def same(one, other):
    """Whether two results are of the same trials and choice."""
    keys = ("layers", "combinations", "front", "finals", "weights", "float")
    return all(one[key] == other[key] for key in keys)


def tasks(folder):
    return [line["task"] for line in map(json.loads, (folder / "trials.jsonl").read_text().splitlines()[1:])]


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    """(result, folder) of a search on one process."""
    folder = tmp_path_factory.mktemp("search") / "found"
    return find(data, folder), folder


# --- what is found ----------------------------------------------------------------------------------------------------

def test_every_candidate_is_tried_alone_and_combinations_of_the_best(found):
    result, folder = found
    assert list(result["layers"]) == ["conv1", "conv2", "fc"]
    assert {one["format"] for one in result["layers"]["fc"]} == {"int:2@layer", "int:4@layer", "binary@layer"}
    assert result["trials"]["alone"] == 9 and result["trials"]["combinations"] <= 27
    kept = tasks(folder)
    assert len(kept) == result["trials"]["all"] == len({json.dumps(task) for task in kept})
    assert json.loads((folder / "search.json").read_text()) == result
    assert (folder / "pareto.png").read_bytes()[:4] == b"\x89PNG"


def test_the_line_is_what_evaluate_scores(found, data):
    result, _ = found
    scored = evaluate(MODEL, data=data[0], calibrate=data[1], weights=result["weights"])
    chosen = next(row for row in result["finals"] if row["chosen"])
    assert chosen["golden"] == scored["accuracy"]["golden"]
    assert result["float"]["accuracy"] == scored["accuracy"]["float"]
    assert chosen["weight_bits"] == sum(
        layer.weights.codes.size * layer.weights.format.bits
        for layer in lutloom.quantize(MODEL, calibrate=data[1], weights=result["weights"]).layers
        if hasattr(layer, "weights"))


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


def test_budgets(data, tmp_path):
    folder = tmp_path / "found"
    free = find(data, folder, drop=0.01)
    for of, key in (("bits", "weight_bits"), ("luts", "luts"), ("cycles", "cycles")):
        dear = max(row[key] for row in free["finals"])
        result = find(data, folder, budget=f"{of}={dear - 1}")
        chosen = next(row for row in result["finals"] if row["chosen"])
        meeting = [row for row in result["finals"] if row[key] < dear]
        best = max(row["calibration"] for row in meeting)
        assert chosen in meeting and chosen["calibration"] >= min(best, result["float"]["calibration"])
        promising = max(row["accuracy"] for row in result["combinations"] if row[key] < dear)
        assert max(row["accuracy"] for row in meeting) >= min(promising, result["float"]["calibration"])
        assert result["trials"]["known"] > 20, "what was tried for another budget is not tried again"


def test_many_formats_are_lowered_step_by_step(data, tmp_path):
    result = find(data, tmp_path / "found", formats="int:2..6,bitmask:2..4@layer,binary")
    assert 20 < result["trials"]["combinations"] < 400
    bits = [row["weight_bits"] for row in result["combinations"]]
    assert min(bits) == 5352 and max(bits) == 6 * (200 + 1152 + 4000)


def test_float_activations_end_without_a_golden_model(data, tmp_path):
    result = find(data, tmp_path / "found", activations="float", layers="fc")
    assert all(row["golden"] is None and row["simulated"] > 0.9 for row in result["finals"])


def test_without_labels_the_float_model_is_the_truth(data, tmp_path):
    result = find((data[0], Data(data[1].x, None, "no labels")), tmp_path / "found", layers="fc")
    assert result["float"]["calibration"] == 1.0 and not result["labels"]


# --- interrupted and resumed ------------------------------------------------------------------------------------------

class Stopping:
    """Progress that is interrupted at a step."""

    def __init__(self, step, done):
        self.step, self.done = step, done

    def __call__(self, step, done=None, total=None):
        if step == self.step and done == self.done:
            raise KeyboardInterrupt


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted_and_resumed(data, found, tmp_path, jobs):
    folder = tmp_path / "found"
    with pytest.raises(KeyboardInterrupt):
        find(data, folder, progress=Stopping("formats of each layer", 4), jobs=jobs)
    assert len(tasks(folder)) == 5  # the float model's as well
    with pytest.raises(KeyboardInterrupt):
        find(data, folder, progress=Stopping("combinations", 3), jobs=jobs)
    before = tasks(folder)
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"task": ["simulated", {"conv1"')  # the machine went down here
    result = find(data, folder, jobs=jobs)
    kept = tasks(folder)
    assert result["trials"]["known"] == len(before) == 1 + 9 + 3
    assert kept[:len(before)] == before and len(kept) == len({json.dumps(task) for task in kept})
    assert same(result, found[0])


def test_two_jobs_find_what_one_does(data, found, tmp_path):
    assert same(find(data, tmp_path / "found", jobs=2), found[0])


def test_a_process_that_dies_is_replaced(data, found, tmp_path, monkeypatch):
    pools, make = [], workers.Processes.__init__

    def noted(pool, *arguments):
        pools.append(pool)
        make(pool, *arguments)

    monkeypatch.setattr(workers.Processes, "__init__", noted)

    def kill(step, done=None, total=None):
        if step == "formats of each layer" and done == 3 and pools[0].pids:
            os.kill(pools[0].pids[0], signal.SIGKILL)

    folder = tmp_path / "found"
    result = find(data, folder, jobs=2, progress=kill)
    kept = tasks(folder)
    assert same(result, found[0]) and len(kept) == len({json.dumps(task) for task in kept})


def test_processes_that_always_die_end_the_search(data, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", [sys.executable, "-c", "raise SystemExit"])
    assert refusal(data, tmp_path / "found", jobs=2) == (
        "3 processes of the search ended without a result; is there memory enough? The trials that are done are kept; "
        "try --jobs 1")


def test_other_settings_are_refused(data, tmp_path):
    folder = tmp_path / "found"
    find(data, folder, layers="fc", formats="int:4")
    assert refusal(data, folder, input_scale="1/256") == (
        f"{folder} has trials of another search: --input-scale was not given, not 1/256; give another folder with -o")
    for name, value in (("prune", "0.5"), ("equalise", True)):
        assert f"--{name} was not given, not {value}; give another folder" in refusal(data, folder, layers="fc",
                                                                                 formats="int:4", **{name: value})
    fewer = data[0], data[1].first(110)
    assert f"{folder} has trials of another search: calibration data is another; give" in refusal(fewer, folder)
    assert "settings" in (folder / "trials.jsonl").read_text().splitlines()[0]


def test_pruned_layers_are_tried_in_formats_with_a_zero(data, tmp_path):
    result = find(data, tmp_path / "found", layers="fc", formats=None, prune="0.5")
    tried = {one["format"].partition("@")[0] for ones in result["layers"].values() for one in ones}
    assert "ternary" in tried and "binary" not in tried
    assert refusal(data, tmp_path / "other", layers="fc", formats="int:4,binary", prune="0.5") == (
        "layer 'fc' is pruned, and binary@layer cannot hold single zeros; leave it out of --formats, or the layer out "
        "of --prune")


def test_folders_that_are_none(data, tmp_path):
    (tmp_path / "file").write_text("")
    assert refusal(data, tmp_path / "file") == f"{tmp_path / 'file'} is a file; give a folder for the search with -o"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    assert refusal(data, tmp_path / "other") == (
        f"{tmp_path / 'other'} holds 'thesis.tex', so it is not the folder of a search; give another with -o")
    assert refusal(data, tmp_path / "a" / "b") == f"{tmp_path / 'a' / 'b'} cannot be made: there is no folder " + str(
        tmp_path / "a")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "trials.jsonl").write_text("hello\n")
    assert refusal(data, damaged) == (
        f"{damaged / 'trials.jsonl'} does not begin as trials of a search do; give another folder with -o")
    (damaged / "trials.jsonl").write_text('{"lutloom_search": 9, "settings": {}}\n')
    assert refusal(data, damaged) == (
        f"{damaged} has trials of format version 9, but this Lutloom reads 3; give another folder with -o")


def test_a_damaged_line_is_named(tmp_path):
    trials = Trials(tmp_path / "found", {"a": "b"})
    trials.add(("simulated", {}), {"accuracy": 1.0})
    with pytest.raises(LutloomError, match="another search is at work in"):
        Trials(tmp_path / "found", {"a": "b"})
    trials.add(("simulated", {}), {"accuracy": 0.0})  # came twice: counted once
    trials.close()
    path = tmp_path / "found" / "trials.jsonl"
    assert len(path.read_text().splitlines()) == 2
    path.write_text(path.read_text().replace('"accuracy"', "accuracy") + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(LutloomError, match=r"trials.jsonl is damaged in line 2; take that line out, or give another"):
        Trials(tmp_path / "found", {"a": "b"})


# --- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, sentence", [
    ({"formats": "int:99"}, "--formats cannot hold 'int:99': weight format int:BITS takes 1 to 16 bits, not 99"),
    ({"formats": "bitmask:X0.0Y"}, "--formats cannot hold 'bitmask:X0.0Y': a bitmask pattern is a sign X"),
    ({"formats": "bitmask:9"}, "--formats cannot hold 'bitmask:9@1': bitmask:BITS takes 2 to 8 stored bits, not 9"),
    ({"formats": "int:5..2"}, "--formats cannot hold 'int:5..2': a range goes upwards, as int:2..5"),
    ({"formats": "fc=int:4;"}, "--formats must be a comma list of formats, or such lists as"),
    ({"formats": "fc5=int:4"}, "--formats names 'fc5', which matches no layer with weights; there are conv1, conv2, "
     "fc"),
    ({"layers": "fc5"}, "--layers names 'fc5', which matches no layer with weights; there are conv1, conv2, fc"),
    ({"formats": "fc=int:4", "layers": "conv1"}, "--formats and --layers have no layer in common; there are conv1, "
     "conv2, fc"),
    ({"budget": "bits"}, "--budget must be bits=N, luts=N or cycles=N with a whole number above zero, not 'bits'"),
    ({"budget": "ebr=4"}, "--budget must be bits=N, luts=N or cycles=N with a whole number above zero, not 'ebr=4'"),
    ({"budget": "bits=5351"}, "no formats meet --budget bits=5351: the closest take 5,352 weight bits (conv1 "
     "binary@channel, conv2 binary@channel, fc binary@layer); give more with --budget, or smaller formats with "
     "--formats"),
    ({"budget": "luts=3"}, "no formats meet --budget luts=3: the closest take "),
    ({"budget": "cycles=3"}, "no formats meet --budget cycles=3: the closest take "),
    ({"budget": "bits=1", "drop": 1.0}, "--drop is for searches without a budget; leave out --drop or --budget"),
    ({"scheduler": "tcp://127.0.0.1:1"}, "--jobs is of this machine, and --scheduler of a cluster; leave out one of "
     "them"),
    ({"rounding": "mask"}, "--rounding mask is of weights as bit masks, but --formats has none; leave it out, or add a "
     "bit mask"),
    ({"board": "nonsense"}, "nonsense"),
])
def test_refused(data, tmp_path, options, sentence):
    said = refusal(data, tmp_path / "found", **options)
    assert said.startswith(sentence) or (len(sentence) < 12 and sentence in said), said
    assert not (tmp_path / "found").exists()


def test_data_that_do_not_serve(data, files, tmp_path):
    folder, (scoring, choosing) = tmp_path / "found", data
    assert refusal((scoring, choosing.first(20)), folder) == (
        f"calibration data {choosing.name!r} hold 20 frames, but a search needs 100 at least; give some hundred")
    wrong = Data(np.zeros((200, 5, 5, 1), np.uint8), None, "other")
    assert refusal((scoring, wrong), folder) == (
        "calibration data 'other' do not fit the model: data must have shape ('batch', 1, 28, 28) (the model's own) or "
        "('batch', 28, 28, 1) (NHWC), not (1, 5, 5, 1); reshape x")
    assert refusal((Data(wrong.x, np.zeros(200, np.int64), "other"), choosing), folder).startswith(
        "data 'other' do not fit the model: data must have shape")
    assert refusal((Data(scoring.x, None, "none"), choosing), folder) == (
        "data 'none' hold no labels, which accuracy needs; add an array 'y' or 'label'")
    assert refusal((Data(scoring.x, scoring.y + 7, "far"), choosing), folder) == (
        "data 'far' have labels 7 to 16, but the model knows 10 classes")
    assert refusal((files[0], files[0]), folder) == (
        f"--data and --calibrate are both {str(files[0])!r}, but what chooses must not score; give other data for "
        "one of them")
    assert refusal((files[0], None), folder) == (
        "a search chooses by calibration data, which are not those that score; give them with --calibrate")


def test_models_that_cannot_be_searched(data, tmp_path):
    network = lutloom.quantize(MODEL, calibrate=data[1])
    network.save(tmp_path / "net.npz")
    with pytest.raises(LutloomError, match="net.npz is integer already, so that there is nothing to search; give the"):
        lutloom.search(tmp_path / "net.npz", data=data[0], calibrate=data[1])


def test_a_format_that_a_layer_cannot_take(data, tmp_path, monkeypatch):
    from lutloom.passes import weigh

    def fit(format, real, choice, **others):
        if len(real) == 10 and choice.format.bits == 2:
            raise ValueError("it has 10 outputs")
        return true_fit(format, real, choice, **others)

    true_fit = weigh.fit
    monkeypatch.setattr(weigh, "fit", fit)
    assert refusal(data, tmp_path / "found") == (
        "layer 'fc' cannot take int:2@layer: it has 10 outputs; leave it out of --formats")


# --- the command ------------------------------------------------------------------------------------------------------

def test_command(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["search", str(MODEL), "--data", str(files[0]), "--calibrate", str(files[1]), "--jobs", "1", "--layers",
             "fc", "--formats", "bitmask:3@layer"]
    assert main(words) == 0
    out = capsys.readouterr().out
    line = out.splitlines()[-1]
    assert line.startswith("--weights 'fc=bitmask:X") and line.endswith("@layer'")
    assert "written: digits-search/trials.jsonl, search.json, pareto.png" in out
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["trials"]["known"] == result["trials"]["all"]
    monkeypatch.setattr(sys.modules["lutloom.search.run"], "has_matplotlib", lambda: False)
    (tmp_path / "digits-search" / "pareto.png").unlink()
    assert main([*words, "--rounding", "mask", "-o", "other"]) == 0
    out = capsys.readouterr().out
    assert "There is no plot: it needs matplotlib (pip install 'lutloom[plots]')." in out
    assert out.splitlines()[-1].endswith("@layer' --rounding mask")


# --- on a cluster -----------------------------------------------------------------------------------------------------

def test_a_scheduler_that_is_not_there(data, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask, "SECONDS", 1)
    said = refusal(data, tmp_path / "found", jobs=None, scheduler="tcp://127.0.0.1:9")
    assert said.startswith("no Dask scheduler answers at 'tcp://127.0.0.1:9' (")
    assert said.endswith("); start one with 'dask scheduler', or leave out --scheduler")
    assert not (tmp_path / "found").exists()
    for address in ("nonsense", "http://127.0.0.1:9", "tls://127.0.0.1:9", "tcp://127.0.0.1", "127.0.0.1:99999", ""):
        assert refusal(data, tmp_path / "found", jobs=None, scheduler=address) == (
            f"--scheduler must be the address of a Dask scheduler, tcp://HOST:PORT, not {address!r}")
    assert not (tmp_path / "found").exists()


@pytest.mark.slow
def test_a_cluster_without_workers(data, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(dask, "SECONDS", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert refusal(data, tmp_path / "found", jobs=None, scheduler=address) == (
            f"the Dask scheduler at {address!r} has no workers; start some with 'dask worker {address}'")


def test_a_cluster_without_dask(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert refusal(data, tmp_path / "found", jobs=None, scheduler="tcp://127.0.0.1:9") == (
        "--scheduler needs dask.distributed, which is not installed; pip install 'lutloom[search]'")


@pytest.mark.slow
def test_a_cluster_with_a_worker_killed_in_the_middle(data, found, tmp_path):
    distributed = pytest.importorskip("distributed")
    folder, killed = tmp_path / "found", threading.Event()
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:

        def kill(step, done=None, total=None):
            if step == "formats of each layer" and done == 3 and not killed.is_set():
                killed.set()
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
                time.sleep(1)

        result = find(data, folder, jobs=None, scheduler=cluster.scheduler_address, progress=kill)
    kept = tasks(folder)
    assert killed.is_set()
    assert len(kept) == len({json.dumps(task) for task in kept}) == result["trials"]["all"]
    assert same(result, found[0])


def test_codebooks_of_groups_are_tried_and_counted(data, tmp_path):
    result = find(data, tmp_path / "s", formats="codebook:16x4,int:4", layers="fc")
    tried = {point["format"]: point for point in result["layers"]["fc"]}
    assert "codebook:16x4@layer" in tried
