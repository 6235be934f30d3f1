"""Calibrate: put a quantiser in front of every layer that would take real numbers, with ranges from real data.

Layers are done in order, each on what the quantised layers before it give. A model that brings its own quantisers
everywhere needs nothing of this.
"""

import numpy as np

from lutloom.errors import DataError, ModelError
from lutloom.floating import run
from lutloom.graph import Graph, Node
from lutloom.passes.grids import can_pad, code_grid
from lutloom.passes.ranges import Histogram, find_range
from lutloom.passes.rewire import CLOSINGS, LINEAR, POOLS, inserted, is_padded, only_reader, without

MOST_VALUES = 1 << 25
"""So many numbers of one value are looked at, at most; of larger data the first frames are."""

INPUT_BITS = 8
"""An input that is normalised by channel is quantised with at least so many bits."""

OUTPUT_BITS = 16
"""Of a quantiser behind the last layer, where something that is not affine stands there."""

METHODS = ("mse", "minmax", "percentile")


def calibrate(graph, options):
    """The graph with quantisers wherever integers are needed (Graph -> Graph).

    Raises
    ------
    DataError
        Quantisers are needed and there are no calibration data.
    """
    activations = Activations(graph, options)
    while (site := _next_site(graph, options)) is not None:
        value, reader = site
        options.progress(f"calibrate {reader.name}")
        if options.activations == "binary" and value != graph.input and not _is_input_side(graph, value):
            graph = _binary(graph, value, activations)
        else:
            graph = _quantised(graph, value, reader, activations, options)
    return graph


def _next_site(graph, options):
    """(value, its reader) of the first layer that takes real numbers; None where every layer takes codes."""
    for node in graph.nodes:
        if node.op not in LINEAR + POOLS:
            continue
        value = node.inputs[0]
        grid = code_grid(graph, value, options.input)
        if grid is not None and (not is_padded(node) or can_pad(grid)):
            continue
        if node.op in POOLS and _is_sum(graph, value):
            continue
        return value, node
    return None


def _is_sum(graph, value):
    """Whether a value is affine in accumulators of weights that the source itself quantised: a pool may add these."""
    node = graph.producer(value)
    while node is not None and node.op in ("affine", "flatten"):
        node = graph.producer(node.inputs[0])
    return node is not None and node.op in LINEAR and node.params.get("weight_quant") is not None


def _is_input_side(graph, value):
    """Whether no layer with weights stands in front of a value."""
    node = graph.producer(value)
    while node is not None:
        if node.op in LINEAR:
            return False
        node = graph.producer(node.inputs[0])
    return True


def _quantised(graph, value, reader, activations, options):
    """The graph with an integer quantiser behind a value."""
    bits = options.activations
    if _is_input_side(graph, value):
        bits = max(bits, INPUT_BITS) if bits != "binary" else INPUT_BITS
    uneven = reader.op == "avgpool" and len(np.unique(reader.params["divisor"])) > 1
    histogram = Histogram.of(activations.of(graph, value, reader))
    found = find_range(histogram, bits, options.method, may_shift=not uneven)
    name = f"{value}.quant"
    node = Node("quant", name, (value,), name, {
        "scale": np.array(found.scale), "zero_point": np.array(float(found.zero_point)), "bits": bits,
        "signed": found.signed, "narrow": False, "rounding": "HALF_UP", "own": True,
    })
    return inserted(graph, node, graph.shapes[value])


def _binary(graph, value, activations):
    """The graph with signs behind a value; a relu in front of them would leave nothing of them, and goes."""
    node = graph.producer(value)
    while node.op in ("relu", "clip", "maxpool", "flatten"):
        source = node.inputs[0]
        if node.op in ("relu", "clip") and only_reader(graph, source) is node:
            graph = without(graph, node)
            value = source if value == node.output else value
        node = graph.producer(source)
    scale = float(np.abs(activations.of(graph, value, node)).mean()) or 1.0
    name = f"{value}.sign"
    quant = Node("bipolarquant", name, (value,), name, {"scale": np.array(scale)})
    return inserted(graph, quant, graph.shapes[value])


class Activations:
    """Values of a graph for the calibration data, computed from the nearest quantised value that is known."""

    def __init__(self, graph, options):
        self._options, self._known = options, {}

    def of(self, graph, value, reader):
        """float32 array (frames, ...) of a value."""
        options = self._options
        if options.frames is None:
            raise DataError(f"layer {reader.name!r} takes real numbers, so its input must be calibrated; give data for "
                            "it with --calibrate")
        if graph.input not in self._known:
            self._known[graph.input] = options.frames
        source, nodes = self._segment(graph, value)
        x = self._known[source]
        part = Graph(graph.name, source, value, nodes, graph.shapes, tuple(graph.shapes[source]), "NHWC",
                     tuple(graph.shapes[value]))
        size = int(np.prod(graph.shapes[value]))
        count = max(1, min(len(x), MOST_VALUES // size))
        step = max(1, min(count, 256))
        y = np.empty((count, *graph.shapes[value]), np.float32)
        for i in range(0, count, step):
            y[i : i + step] = run(part, x[i : min(i + step, count)])
        if not np.isfinite(y).all():
            raise ModelError(f"model {graph.name!r} gives NaN or infinite values in front of layer {reader.name!r}")
        self._known = {source: x, value: y} if value != source else self._known
        return y

    def _segment(self, graph, value):
        """(known value, nodes from it to ``value``): all of the way back along single inputs."""
        nodes = []
        while value not in self._known:
            node = graph.producer(value)
            if node is None or len(node.inputs) != 1 or node.op in CLOSINGS:
                raise ModelError(f"model {graph.name!r} has branches at {value!r}; only chains of layers are supported")
            nodes.insert(0, node)
            value = node.inputs[0]
        return value, tuple(nodes)
