"""The search for weight formats: what is tried, what is kept, what is chosen, on one process, several and a cluster."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from searches import MODEL, few_frames, find, refusal

import lutloom
from lutloom.cli import main
from lutloom.data import Data
from lutloom.errors import LutloomError
from lutloom.evaluate import evaluate
from lutloom.search import dask, workers
from lutloom.search.trials import Trials


@pytest.fixture(scope="module")
def data():
    return few_frames()


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    """The same as files."""
    paths = [tmp_path_factory.mktemp("data") / f"{name}.npz" for name in ("test", "calibrate")]
    for path, each in zip(paths, data, strict=True):
        np.savez(path, x=each.x, y=each.y)
    return paths


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
