"""A search: what is tried, in which order, and what comes of it.

Three steps: every candidate in each layer with the others float; combinations of the best; the golden accuracy of the
few that are left. Calibration data choose, in the end by the golden model; ``data`` only score.
"""

import contextlib
import json
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lutloom.board import load_board
from lutloom.classes import is_binary
from lutloom.errors import ModelError
from lutloom.graph import Graph
from lutloom.passes.rewire import LINEAR
from lutloom.pictures import has_matplotlib, pareto_picture
from lutloom.quantize import ROUNDINGS, input_network, prepared, reworked
from lutloom.search.choice import Point, choose, faithful, finalists, front, is_good
from lutloom.search.cost import Budget, CostModel
from lutloom.search.dask import Cluster
from lutloom.search.scorer import Problem, order
from lutloom.search.settings import (
    check_budget,
    check_labels,
    check_rounding,
    digest,
    final_settings,
    load_data,
    load_model,
    settings,
)
from lutloom.search.space import (
    DEFAULT_FORMATS,
    Measured,
    candidates,
    checked_line,
    combinations,
    neighbours,
    shortlist,
)
from lutloom.search.trials import Trials
from lutloom.search.workers import Here, Processes
from lutloom.weight_spec import fit_rounding

DROP = 0.5
"""Points of accuracy on the calibration data that may be lost where there is no budget."""

MORE_FINALS = 2
"""So many times as many combinations the golden model scores where none of the finals loses little enough."""

ROUNDS = 4
"""So often the neighbours of the best combination are tried, where not all combinations are."""


def search(model, *, data, calibrate=None, output=None, formats=None, layers=None, budget=None, drop=None, best=3,
           finals=5, board="icebreaker", jobs=None, scheduler=None, progress=None, **choices):
    """Search the weight format of every layer.

    Parameters
    ----------
    model : path or Graph
        A model whose weights are real numbers.
    data : str, path or Data
        Labelled; scores what was chosen, and nothing else.
    calibrate : str, path or Data, optional
        Scores every trial: by its labels, or without any by how often the float model's class is given. Where ``data``
        is a name, its training part.
    output : path, optional
        Folder that keeps the trials; the same search goes on there. ``MODEL-search`` where nothing is said.
    formats, layers : str, optional
        See ``lutloom.search.space``.
    budget : str, optional
        ``bits=N``, ``luts=N`` or ``cycles=N``: the best that meets it is chosen.
    drop : float, optional
        Without a budget, the fewest bits are chosen that lose at most so many points, activations among what loses;
        0.5 where nothing is said.
    best, finals : int
        Formats of every cost that a layer brings into combinations; how many in the end the golden model scores.
    board : str
        Whose LUTs are counted.
    jobs : int, optional
        Processes; as many as there are processors where nothing is said.
    scheduler : str, optional
        Address of a Dask scheduler; its workers do the trials.
    progress : function of (step, done, total), optional
    choices
        ``input_scale input_zero input_format activations method rounding prune requant equalise`` of
        ``lutloom.quantize``.

    Returns
    -------
    dict
        What ``search.json`` holds.

    Raises
    ------
    LutloomError
    """
    start, progress = time.perf_counter(), progress or (lambda *_: None)
    for name in ("binarize", "statistics"):
        if choices.get(name) is not None:
            raise ModelError(f"a search tries formats for the model's own parameters; leave out --{name}, and "
                             "give it to the command that takes the line which is found")
    choices = {name: value for name, value in choices.items() if name not in ("binarize", "statistics")}
    if min(best, finals) < 1:
        raise ModelError(f"--best and --finals must be at least 1, not {min(best, finals)}")
    budget = Budget.parse(budget)
    if budget is not None and drop is not None:
        raise ModelError("--drop is for searches without a budget; leave out --drop or --budget")
    if scheduler is not None and jobs is not None:
        raise ModelError("--jobs is of this machine, and --scheduler of a cluster; leave out one of them")
    progress("read the model")
    graph = load_model(model)
    options, folded = _folded(graph, choices)
    space = candidates(DEFAULT_FORMATS if formats is None else formats, layers, folded, options)
    check_rounding(choices.get("rounding"), space)
    scoring, choosing = load_data(data, calibrate, input_network(graph, options.input))
    costs = CostModel(folded, options, choices.get("activations"), load_board(board).chip)
    check_budget(budget, space, costs)
    for each in (scoring, choosing):
        check_labels(each, _classes(folded))
    problem = Problem(graph, choices, choosing, scoring, tuple(space))
    name = str(graph.name if isinstance(model, Graph) else model)
    folder = Path(output if output is not None else f"{Path(name).stem}-search")
    with contextlib.ExitStack() as stack:
        # a cluster that is not there leaves no folder behind
        pool = None if scheduler is None else stack.enter_context(contextlib.closing(Cluster(problem, scheduler)))
        trials = stack.enter_context(contextlib.closing(Trials(folder, settings(graph, choosing, choices))))
        run = stack.enter_context(contextlib.closing(_Run(problem, trials, jobs, pool, progress)))
        known = len(trials)
        unquantised, = run("float model", [("float", digest(scoring.x, scoring.y))])
        bench = _Bench(run, space, costs, unquantised["accuracy"])
        measured = bench.alone()
        chosen_of = partial(choose, budget=budget, unquantised=unquantised["accuracy"],
                            drop=DROP if drop is None else drop)
        points, promising = _together(bench, measured, best, chosen_of)
        names = [node.name for node in folded.nodes if node.op in LINEAR and node.params.get("weight_quant") is None]
        few, lines, held_out = [], [], []
        for more in _finals(points, promising, finals, budget):
            few += more
            lines += [checked_line(point.formats, names, fit_rounding(options.rounding)) for point in more]
            held_out = [one["accuracy"] for one in run("golden model", [
                ("chosen", line, final_settings(choices)) for line in lines])]
            whole = [point.with_accuracy(accuracy, unquantised["accuracy"])
                     for point, accuracy in zip(few, held_out, strict=True)]
            chosen = whole.index(chosen_of(whole))
            if budget is not None or is_good(whole[chosen].score, unquantised["accuracy"], chosen_of.keywords["drop"]):
                break
        tested = [one["accuracy"] for one in run("golden model, test data", [
            ("golden", line, final_settings(choices, scoring)) for line in lines])]
        what, other = "golden", "simulated"
        if choices.get("activations") == "float":
            what, other = other, what
        result = {
            "model": Path(name).name, "folder": str(folder), "data": scoring.name, "frames": len(scoring.x),
            "calibration": choosing.name, "calibration_frames": len(choosing.x), "labels": choosing.y is not None,
            "board": board, "pace_cycles": costs.pace, "budget": None if budget is None else str(budget),
            "drop": None if budget is not None else DROP if drop is None else drop,
            "trials": {"all": len(trials), "known": known, "alone": sum(map(len, measured.values())),
                       "combinations": len(points), "golden": len(few)},
            "float": {"accuracy": unquantised["test_accuracy"], "calibration": unquantised["accuracy"]},
            "layers": {name: [_alone_row(one) for one in ones] for name, ones in measured.items()},
            "combinations": [_row(point) for point in points],
            "front": [_row(point) for point in front(points)],
            "finals": [_row(point) | {what: accuracy, other: None, "calibration": calibration, "weights": line,
                                      "chosen": place == chosen}
                       for place, (point, calibration, accuracy, line) in enumerate(
                           zip(few, held_out, tested, lines, strict=True))],
            "weights": lines[chosen], "rounding": choices.get("rounding"),
            "picture": None, "seconds": round(time.perf_counter() - start, 1),
        }
        if has_matplotlib():
            result["picture"] = str(folder / "pareto.png")
            pareto_picture(result, folder / "pareto.png")
        _write(folder / "search.json", result)
    return result


class _Run:
    """Does tasks that are not known yet, and keeps their results."""

    def __init__(self, problem, trials, jobs, pool, progress):
        self._problem, self._trials, self._progress = problem, trials, progress
        self._jobs, self._cluster, self._pool = jobs or os.cpu_count() or 1, pool, pool

    def __call__(self, step, tasks):
        """The results of tasks, in their order."""
        tasks = list(tasks)
        missing = [task for task in tasks if task not in self._trials]
        done = len(tasks) - len(missing)
        self._progress(step, done, len(tasks))
        if missing and self._pool is None:
            self._pool = Here(self._problem) if self._jobs == 1 else Processes(self._problem, self._jobs)
        for task, result in self._pool(missing) if missing else ():
            self._trials.add(task, result)
            done += 1
            self._progress(step, done, len(tasks))
        return [self._trials[task] for task in tasks]

    def trials(self):
        """Simulated trials that are known: dicts of layer to format."""
        return [task[1] for task in self._trials.tasks() if task[0] == "simulated"]

    def close(self):
        """End what works here."""
        if self._pool is not None and self._pool is not self._cluster:
            self._pool.close()


@dataclass(frozen=True)
class _Bench:
    """Tries formats of the searched layers."""

    run: _Run
    space: dict
    costs: CostModel
    unquantised: float

    def alone(self):
        """Every candidate in its layer, the others float: dict of layer to Measured, best first."""
        trials = [{name: one.text} for name, ones in self.space.items() for one in ones]
        results = {pair: result for trial, result in self._scores("formats of each layer", trials)
                   for pair in trial.items()}
        found = {}
        for name, ones in self.space.items():
            measured = []
            for one in ones:
                accuracy, error = (results[name, one.text][key] for key in ("accuracy", "error"))
                score = min(accuracy, self.unquantised)
                measured.append(Measured(one, accuracy, score, error, self.costs.layer(name, one.choice)))
            found[name] = sorted(measured, key=lambda one: one.rank)
        return found

    def together(self, combinations):
        """A Point of each combination: tuples of Measured, one a layer."""
        trials = [dict(zip(self.space, (one.candidate.text for one in each), strict=True)) for each in combinations]
        formats = {tuple(trial.items()): [one.candidate.choice for one in each]
                   for trial, each in zip(trials, combinations, strict=True)}
        points = []
        for trial, result in self._scores("combinations", trials):
            costs = self.costs.of(dict(zip(self.space, formats[tuple(trial.items())], strict=True)))
            score = min(result["accuracy"], self.unquantised)
            points.append(Point(trial, costs, result["accuracy"], score, result["error"]))
        return points

    def known(self, measured):
        """Combinations that were tried before, for another budget say: tuples of Measured, one a layer."""
        by_text = [{one.candidate.text: one for one in ones} for ones in measured.values()]
        trials = [list(trial.values()) for trial in self.run.trials() if list(trial) == list(self.space)]
        return [tuple(ones[text] for ones, text in zip(by_text, texts, strict=True)) for texts in trials
                if len(texts) > 1 and all(text in ones for ones, text in zip(by_text, texts, strict=True))]

    def _scores(self, step, trials):
        """(trial, result) in the order in which they share most."""
        trials = order(trials, tuple(self.space))
        return list(zip(trials, self.run(step, [("simulated", trial) for trial in trials]), strict=True))


def _together(bench, measured, best, choose):
    """(points, the chosen one) of combinations; where they were too many, of the neighbours of the best as well."""
    lists = [shortlist(ones, best) for ones in measured.values()]
    tried = list(dict.fromkeys([*combinations(lists), *bench.known(measured)]))
    points = bench.together(tried)
    by_texts = [{one.candidate.text: one for one in ones} for ones in measured.values()]
    for _ in range(ROUNDS):
        chosen = choose(points)
        here = tuple(texts[text] for texts, text in zip(by_texts, chosen.formats.values(), strict=True))
        near = [one for one in neighbours(here, lists) if one not in tried]
        if not near:
            break
        tried, points = tried + near, points + bench.together(near)
    return points, choose(points)


def _finals(points, promising, count, budget):
    """Points for the golden model, a few at a time: more where none of those before is good, by what changes least."""
    few = finalists(points, promising, count, budget)
    yield few
    rest = [point for point in faithful(points) if all(point is not other for other in few)]
    for start in range(0, min(len(rest), MORE_FINALS * count), count):
        yield rest[start:start + count]


def _folded(graph, choices):
    """(Options, the graph whose weights are searched); choices that mean nothing are refused."""
    given = {name: value for name, value in choices.items() if name != "rounding" and value is not None}
    if given.get("activations") == "float":
        del given["activations"]
    options = replace(prepared(graph, **given)[1], rounding=choices.get("rounding") or ROUNDINGS[0])
    return options, reworked(graph, options)


def _classes(graph):
    """How many classes a graph tells apart."""
    if is_binary(graph):
        return 2
    node = graph.producer(graph.output)
    last = node.inputs[0] if node.op in ("argmax", "topk") else graph.output
    count = 1
    for size in graph.shapes[last]:
        count *= int(size)
    return count


def _alone_row(one):
    bits, luts = one.costs
    return {"format": one.candidate.text, "accuracy": one.accuracy, "error": one.error, "weight_bits": bits,
            "luts": luts}


def _row(point):
    return {"formats": point.formats, "weight_bits": point.costs.bits, "luts": point.costs.luts,
            "cycles": point.costs.cycles, "accuracy": point.accuracy, "error": point.error}


def _write(path, result):
    """JSON under its name only when whole."""
    part = path.with_name("trials.jsonl.part")
    part.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(part, path)
