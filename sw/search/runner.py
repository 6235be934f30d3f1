"""Runs a graph in float32 with changing operators: what lies in front of the first change is not computed again."""

from functools import partial

import numpy as np

from lutloom.floating import OPERATORS, chunk_size
from lutloom.golden.conv import conv_matrices, conv_with
from lutloom.passes.weigh import source_weights

MOST_KEPT = 1 << 28
"""Bytes of values that are kept in front of layers."""

MOST_CHUNK = 64  # frames that are computed at a time: more are slower (cache)


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


def single(node):
    """The node with its numbers in float32, and weights that the source quantised as they are."""
    if node.params.get("weight_quant") is not None:
        weights = source_weights(node)
        units = np.array([float(unit) for unit in weights.scale]).reshape((-1,) + (1,) * (weights.codes.ndim - 1))
        node = node.with_params(weight=weights.integers * units)
    return node.with_params(**{
        name: np.asarray(value, np.float32) for name, value in node.params.items()
        if isinstance(value, np.ndarray) and value.dtype == np.float64})


def operator_of(node):
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
