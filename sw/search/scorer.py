"""Scoring formats: the float model in float32 with some layers' weights quantised, and the golden model.

Weights are rounded as ``quantize`` would. Where that is compensated, each layer's are by what it takes in the float
model: what layers in front of it change is not made good in a trial, so that it does not depend on them.

Trials that follow each other share what they have in common: values in front of a layer are kept while the formats of
all layers before it stay the same, so that only what lies behind the first change is computed again. In the right
order (``order``) every prefix is computed once.
"""

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lutloom.classes import classes, is_binary, is_binary_network
from lutloom.data import Data, shaped
from lutloom.errors import ModelError
from lutloom.floating import OPERATORS, chunk_size
from lutloom.golden.conv import conv_matrices, conv_with
from lutloom.graph import Graph
from lutloom.network import TopK, Weights
from lutloom.passes.compensate import compensated, is_compensated, outputs, taken
from lutloom.passes.rewire import CLOSINGS
from lutloom.passes.weigh import source_weights, with_zeros
from lutloom.quantize import ROUNDINGS, fake_quantised, input_network, prepared, quantize, reals_of, reworked
from lutloom.weight_fit import fit
from lutloom.weight_spec import FormatChoice, fit_rounding

MOST_KEPT = 1 << 29
"""Bytes of values that are kept in front of layers."""

FITS = 8
"""Fitted weights that are kept, for each layer."""

MOST_CHUNK = 64  # frames that are computed at a time: more are slower (cache)
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
        rounding = given.pop("rounding", None)
        self._rounding = fit_rounding(rounding)
        given.pop("activations", None)
        graph, options = prepared(problem.graph, **given)
        graph = _open(reworked(graph, options))
        self._real = {node.name: np.asarray(node.params["weight"], np.float64) for node in graph.nodes
                      if node.name in problem.layers}
        self._graph, self._stub, self._input = graph, input_network(graph, options.input), options.input
        self._nodes = [_single(node) for node in graph.nodes]
        frames = self._frames(problem.calibration)
        self._run = Runner(graph, self._nodes, frames,
                           [index for index, node in enumerate(graph.nodes) if node.name in problem.layers])
        self._options = replace(options, rounding=rounding or ROUNDINGS[0], frames=frames)
        self._outputs = {}
        self._fits = {}
        self._float = self._run(tuple(None for _ in problem.layers), self._operators(()))
        self._spread = float(np.var(self._float, axis=0, dtype=np.float64).mean()) or 1.0
        self._binary = is_binary(graph)
        found = classes(self._float, self._binary)
        self._truth = found if problem.calibration.y is None else problem.calibration.y

    def __call__(self, task):
        """Results of a task, a dict.

        Parameters
        ----------
        task : tuple
            ("simulated", dict of layer to format), the others float; ("golden", a --weights line, ...); ("float", ...).
            What comes behind tells tasks on other data apart.
        """
        start = time.perf_counter()
        what = task[0]
        result = self._simulated(task[1]) if what == "simulated" else (
            self._golden(task[1]) if what == "golden" else self._unquantised())
        return result | {"seconds": round(time.perf_counter() - start, 3)}

    def _simulated(self, trial):
        """Score on the calibration data, and how much the outputs change."""
        texts = tuple(trial.get(name) for name in self._problem.layers)
        y = self._run(texts, self._operators(texts))
        change = np.square(y - self._float, dtype=np.float64).mean() / self._spread
        return {"accuracy": self._share(y, self._truth), "error": float(f"{change:.4g}")}

    def _unquantised(self):
        """Accuracy of the model as it is."""
        data = self._problem.data
        run = Runner(self._graph, self._nodes, self._frames(data), [])
        y = run((), self._operators(()))
        return {"accuracy": self._share(self._float, self._truth), "test_accuracy": self._share(y, data.y)}

    def _golden(self, line):
        """Accuracy of the golden model on the data that score; simulated where activations stay float."""
        problem = self._problem
        choices = {name: value for name, value in problem.choices.items() if value != "mask" or "bitmask" in line}
        if choices.get("activations") == "float":
            y = self._float_activations(line, choices)
            return {"golden": None, "test_simulated": self._share(y, problem.data.y)}
        network = quantize(problem.graph, weights=line, calibrate=problem.calibration, **choices)
        codes = network.encode(shaped(network, problem.data.x))
        found, binary = [], is_binary_network(network)
        for start in range(0, len(codes), GOLDEN_CHUNK):
            y = network(codes[start:start + GOLDEN_CHUNK])
            chosen = isinstance(network.layers[-1], TopK)
            found.append(y[:, 0] if chosen else classes(network.decode(y) if binary else y, binary))
        return {"golden": float(np.mean(np.concatenate(found) == problem.data.y)), "test_simulated": None}

    def _float_activations(self, line, choices):
        """Outputs on the data that score, with quantised weights everywhere and nothing else."""
        problem = self._problem
        graph = _open(fake_quantised(problem.graph, weights=line, calibrate=problem.calibration, **choices)[0])
        nodes = [_single(node) for node in graph.nodes]
        return Runner(graph, nodes, self._frames(problem.data), [])((), [_operator(node) for node in nodes])

    def _share(self, y, truth):
        return float(np.mean(classes(y, self._binary) == truth))

    def _frames(self, data):
        """Real values, NHWC, float32: what the input's codes stand for."""
        codes = self._stub.encode(shaped(self._stub, data.x))
        reals = reals_of(self._input, codes).astype(np.float32)
        return reals.reshape(len(reals), *self._graph.shapes[self._graph.input])

    def _operators(self, texts):
        """What computes each node, with the weights that a trial chooses."""
        chosen = dict(zip(self._problem.layers, texts, strict=False))
        return [self._quantised(node, chosen[node.name]) if chosen.get(node.name) else _operator(node)
                for node in self._nodes]

    def _quantised(self, node, text):
        """The operator of a layer with quantised weights."""
        kept = self._fits.setdefault(node.name, {})
        if text not in kept:
            choice = FormatChoice.parse(text, self._rounding)
            try:
                format, scale, codes = fit(choice.format, self._real[node.name], choice, zero="kept" in node.params)
                if "kept" in node.params:
                    format, codes = with_zeros(format, codes, node.params["kept"])
            except ValueError as error:
                raise ModelError(f"layer {node.name!r} cannot take {text}: {error}; leave it out of "
                                 "--formats") from None
            units = np.array([float(unit) for unit in scale]).reshape((-1,) + (1,) * (codes.ndim - 1))
            made = node.with_params(
                quantised=Weights(codes, format, scale), weight=format.decode(codes) * units,
                real_weight=node.params.get("unpruned", self._real[node.name]), real_bias=node.params["bias"])
            if is_compensated(made, self._options):
                made = compensated(made, self._outputs_of(made))
            while len(kept) >= FITS:
                kept.pop(next(iter(kept)))
            kept[text] = _operator(_single(made))
        return kept[text]

    def _outputs_of(self, node):
        """What compensation knows of a layer, by what it takes in the float model; the last layers' are kept."""
        if node.name not in self._outputs:
            x = taken(self._graph, node.name, self._options.frames)
            found = outputs(node, x, x)
            size = sum(part.nbytes for part in found)
            while self._outputs and size + sum(each for _, each in self._outputs.values()) > MOST_KEPT:
                self._outputs.pop(next(iter(self._outputs)))
            self._outputs[node.name] = found, size
        return self._outputs[node.name][0]


class Runner:
    """Runs a graph on the same frames with changing operators, and keeps values in front of some nodes.

    Parameters
    ----------
    graph : Graph
    nodes : list of Node
    frames : float32 array
    places : list of int
        Nodes that change.
    """

    def __init__(self, graph, nodes, frames, places):
        self._graph, self._nodes, self._frames, self._places = graph, nodes, frames, places
        live = [self._live(place) for place in places]
        size = [len(frames) * 4 * sum(int(np.prod(graph.shapes[name])) for name in names) for names in live]
        stride = 1
        while sum(size[::stride]) > MOST_KEPT and stride < len(places):
            stride *= 2
        self._live_at = {index: live[index] for index in range(0, len(places), stride)}
        self._kept = {}  # number of the changing node -> (formats before it, values by name)
        self._step = min(MOST_CHUNK, chunk_size(graph))

    def __call__(self, texts, operators):
        """Outputs with one format a changing node, computed from the last values that are still right."""
        first = max((index for index, (before, _) in self._kept.items() if before == texts[:index]), default=None)
        start = 0 if first is None else self._places[first]
        source = {self._graph.input: self._frames} if first is None else self._kept[first][1]
        wanted = {self._places[index]: index for index in self._live_at if first is None or index > first}
        fresh = {index: {name: np.empty((len(self._frames), *self._graph.shapes[name]), np.float32)
                         for name in self._live_at[index]} for index in wanted.values()}
        y = np.empty((len(self._frames), *self._graph.shapes[self._graph.output]), np.float32)
        for begin in range(0, len(self._frames), self._step):
            part = slice(begin, begin + self._step)
            values = {name: array[part] for name, array in source.items()}
            for place in range(start, len(self._nodes)):
                if place in wanted:
                    for name, array in fresh[wanted[place]].items():
                        array[part] = values[name]
                node = self._nodes[place]
                made = operators[place](*(values[name] for name in node.inputs))
                values[node.output] = made.reshape(len(made), *self._graph.shapes[node.output])
            y[part] = values[self._graph.output]
        self._kept = {index: kept for index, kept in self._kept.items() if kept[0] == texts[:index]}
        self._kept |= {index: (texts[:index], values) for index, values in fresh.items()}
        return y

    def _live(self, place):
        """Values that nodes from a place on read, and that are there before it."""
        made = {node.output for node in self._nodes[place:]}
        return sorted({name for node in self._nodes[place:] for name in node.inputs} - made)


def _open(graph):
    """The graph without what closes it: a softmax changes no order, and a class is found here."""
    node = graph.producer(graph.output)
    while node is not None and node.op in CLOSINGS:
        kept = tuple(other for other in graph.nodes if other is not node)
        shape = graph.shapes[node.inputs[0]]
        graph = replace(graph, nodes=kept, output=node.inputs[0], output_shape=tuple(shape))
        node = graph.producer(graph.output)
    return graph


def _single(node):
    """The node with its numbers in float32, and weights that the source quantised as they are."""
    if node.params.get("weight_quant") is not None:
        weights = source_weights(node)
        units = np.array([float(unit) for unit in weights.scale]).reshape((-1,) + (1,) * (weights.codes.ndim - 1))
        node = node.with_params(weight=weights.integers * units)
    return node.with_params(**{
        name: np.asarray(value, np.float32) for name, value in node.params.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float64})


def _operator(node):
    """A function of float32 arrays that computes a node."""
    params = node.params
    if node.op == "conv":
        matrices = conv_matrices(params["weight"], params["groups"], np.dtype(np.float32))
        bias = 0.0 if params["bias"] is None else params["bias"].astype(np.float32)
        kernel = params["weight"].shape[1:3]
        return partial(_conv, matrices, bias, kernel, params["stride"], params["dilation"], params["pads"])
    return partial(_in_float32, OPERATORS[node.op], params)


def _conv(matrices, bias, kernel, stride, dilation, pads, x):
    y = conv_with(x, matrices, kernel, stride, dilation, pads, 0)
    y += bias
    return y


def _in_float32(operator, params, *inputs):
    return operator(params, *inputs).astype(np.float32, copy=False)
