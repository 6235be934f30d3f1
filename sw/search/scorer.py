"""Scoring formats: the float model in float32 with some layers' weights quantised, and the golden model.

Weights are rounded as ``quantize`` would. Where that is compensated, each layer's are by what it takes in the float
model: what layers in front of it change is not made good in a trial, so that it does not depend on them.

Trials that follow each other share what they have in common: values in front of a layer are kept while the formats of
all layers before it stay the same, so that only what lies behind the first change is computed again. In the right
order (``order``) every prefix is computed once.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from lutloom.classes import classes, is_binary, is_binary_network
from lutloom.data import Data, shaped
from lutloom.graph import Graph
from lutloom.network import TopK
from lutloom.passes.compensate import can_be_compensated
from lutloom.passes.prune import unpruned
from lutloom.passes.rewire import CLOSINGS
from lutloom.passes.weigh import real_layers
from lutloom.quantize import ROUNDINGS, fake_quantised, input_network, prepared, quantize, reals_of, reworked
from lutloom.search.fits import Fits
from lutloom.search.runner import Runner, operator_of, single
from lutloom.weight_spec import parse_spec

GOLDEN_CHUNK = 500


@dataclass(frozen=True, eq=False)
class Problem:
    """All that a trial needs, in one piece that can be sent to another process.

    Parameters
    ----------
    graph : Graph
        As the model file has it.
    choices : dict
        ``input_scale input_zero input_format activations method rounding prune requant equalise`` of ``quantize``.
    calibration, data : Data
        What chooses, and what scores in the end.
    layers : tuple of str
        Those that are searched, in the order of the graph.
    """

    graph: Graph
    choices: dict
    calibration: Data
    data: Data
    layers: tuple


def order(trials, layers):
    """Trials (dicts of layer to format) so that prefixes are shared most: float first, so the last layer changes first.
    """
    return sorted(trials, key=lambda trial: [(trial.get(name) is not None, trial.get(name, "")) for name in layers])


class Scorer:
    """Scores one trial after the other.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem):
        self._problem = problem
        given = {name: value for name, value in problem.choices.items() if value is not None}
        rounding = given.pop("rounding", None) or ROUNDINGS[0]
        given.pop("activations", None)
        graph, options = prepared(problem.graph, **given)
        graph = _open(reworked(graph, options))
        layers = {node.name: node for node in graph.nodes if node.name in problem.layers}
        graph = unpruned(graph)
        self._graph, self._stub, self._input = graph, input_network(graph, options.input), options.input
        self._nodes = [single(node) for node in graph.nodes]
        self._plain = [operator_of(node) for node in self._nodes]
        frames = self._frames(problem.calibration)
        places = [index for index, node in enumerate(graph.nodes) if node.name in problem.layers]
        self._halves = halves(problem.calibration)
        self._runners = [Runner(graph, self._nodes, frames[half], places) for half in self._halves]
        self._fits = Fits(graph, layers, [replace(options, rounding=rounding, frames=frames[half])
                                          for half in self._halves[::-1]])
        self._float = self._outputs(tuple(None for _ in problem.layers))
        self._spread = float(np.var(self._float, axis=0, dtype=np.float64).mean()) or 1.0
        self._binary = is_binary(graph)
        found = classes(self._float, self._binary)
        self._truth = found if problem.calibration.y is None else problem.calibration.y

    def __call__(self, task):
        """Results of a task, a dict.

        Parameters
        ----------
        task : tuple
            ("simulated", dict of layer to format), the others float; ("golden", a --weights line, ...) on the data that
            score and ("chosen", ...) on those that choose; ("float", ...). What comes behind tells tasks on other
            data apart.
        """
        start = time.perf_counter()
        what, *given = task
        score = {"simulated": self._simulated, "golden": self._golden, "chosen": self._chosen,
                 "float": lambda *_: self._unquantised()}[what]
        return score(*given[:1]) | {"seconds": round(time.perf_counter() - start, 3)}

    def _simulated(self, trial):
        """Score on the calibration data, and how much the outputs change."""
        y = self._outputs(tuple(trial.get(name) for name in self._problem.layers))
        change = np.square(y - self._float, dtype=np.float64).mean() / self._spread
        return {"accuracy": self._share(y, self._truth), "error": float(f"{change:.4g}")}

    def _outputs(self, texts):
        """Outputs for the calibration data with one format a layer, each half of them with what suits the other."""
        chosen = {name: text for name, text in zip(self._problem.layers, texts, strict=True) if text}
        y = None
        for number, (half, run) in enumerate(zip(self._halves, self._runners, strict=True)):
            found = run(texts, [self._fits.operators(node.name, chosen[node.name])[number] if node.name in chosen
                                else plain for node, plain in zip(self._nodes, self._plain, strict=True)])
            if y is None:
                y = np.empty((len(self._problem.calibration.x), *found.shape[1:]), found.dtype)
            y[half] = found
        return y

    def _unquantised(self):
        """Accuracy of the model as it is."""
        data = self._problem.data
        run = Runner(self._graph, self._nodes, self._frames(data), [])
        y = run((), self._plain)
        return {"accuracy": self._share(self._float, self._truth), "test_accuracy": self._share(y, data.y)}

    def _golden(self, line):
        """Accuracy on the data that score: the golden model's, simulated where activations stay float."""
        data = self._problem.data
        return {"accuracy": float(np.mean(self._classes(line, self._problem.calibration, data) == data.y))}

    def _chosen(self, line):
        """The same on each half of the data that choose, with what the other half set."""
        found = np.empty(len(self._truth), self._truth.dtype)
        for mine, other in zip(self._halves, self._halves[::-1], strict=True):
            found[mine] = self._classes(line, *(_part(self._problem.calibration, half) for half in (other, mine)))
        return {"accuracy": float(np.mean(found == self._truth))}

    def _classes(self, line, calibration, data):
        """What is found in data, with everything quantised by calibration data."""
        choices = {**self._problem.choices, "rounding": self._rounding_of(line)}
        if choices.get("activations") == "float":
            graph = _open(fake_quantised(self._problem.graph, weights=line, calibrate=calibration, **choices)[0])
            nodes = [single(node) for node in graph.nodes]
            y = Runner(graph, nodes, self._frames(data), [])((), [operator_of(node) for node in nodes])
            return classes(y, self._binary)
        network = quantize(self._problem.graph, weights=line, calibrate=calibration, **choices)
        codes = network.encode(shaped(network, data.x))
        found, binary = [], is_binary_network(network)
        for start in range(0, len(codes), GOLDEN_CHUNK):
            y = network(codes[start:start + GOLDEN_CHUNK])
            chosen = isinstance(network.layers[-1], TopK)
            found.append(y[:, 0] if chosen else classes(network.decode(y) if binary else y, binary))
        return np.concatenate(found)

    def _rounding_of(self, line):
        """The rounding that was asked for, where a line has something that is rounded so."""
        asked = self._problem.choices.get("rounding")
        if asked == "mask":
            return asked if "bitmask" in line else None
        if asked != "compensated":
            return asked
        layers = {node.name: node for node in real_layers(self._graph)}
        read = parse_spec(line).choose(layers)
        return asked if any(can_be_compensated(node, read[name].about) for name, node in layers.items()) else None

    def _share(self, y, truth):
        return float(np.mean(classes(y, self._binary) == truth))

    def _frames(self, data):
        """Real values, NHWC, float32: what the input's codes stand for."""
        codes = self._stub.encode(shaped(self._stub, data.x))
        reals = reals_of(self._input, codes).astype(np.float32)
        return reals.reshape(len(reals), *self._graph.shapes[self._graph.input])


def halves(data):
    """Two arrays of frame numbers that are half of the data each, with as many of every class, drawn by chance that is
    the same each time."""
    drawn = np.random.default_rng(len(data.x)).permutation(len(data.x))
    if data.y is not None:
        drawn = drawn[np.argsort(data.y[drawn], kind="stable")]
    return np.sort(drawn[::2]), np.sort(drawn[1::2])


def _part(data, half):
    """A part of data."""
    return Data(data.x[half], None if data.y is None else data.y[half], data.name)


def _open(graph):
    """The graph without what closes it: a softmax changes no order, and a class is found here."""
    node = graph.producer(graph.output)
    while node is not None and node.op in CLOSINGS:
        kept = tuple(other for other in graph.nodes if other is not node)
        shape = graph.shapes[node.inputs[0]]
        graph = replace(graph, nodes=kept, output=node.inputs[0], output_shape=tuple(shape))
        node = graph.producer(graph.output)
    return graph
