"""Calibrate: put a quantiser in front of every layer that would take real numbers, with ranges from real data.

Layers are done in order, each on what the quantised layers before it give. A model that brings its own quantisers
everywhere needs nothing of this.
"""

from dataclasses import replace

import numpy as np

from lutloom.errors import DataError, ModelError
from lutloom.floating import chunk_size, run_part
from lutloom.graph import Node
from lutloom.passes.grids import can_pad, code_grid, feeds_sum, is_short, shares_quantiser, short_scale
from lutloom.passes.ranges import Histogram, find_range
from lutloom.passes.rewire import JOINS, LINEAR, POOLS, inserted, is_padded, only_reader, without

TAKE_CODES = ("pad", "reshape", "slice", "transpose", "upsample", "table")
"""Operators, besides those with weights, pools and joins, that work on codes alone."""

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
        if reader.op == "concat":
            graph = _united(graph, reader, activations, options)
        elif options.activations == "binary" and reader.op in LINEAR and not _is_input_side(graph, value):
            graph = _binary(graph, value, activations)
        else:
            graph = _quantised(graph, value, reader, activations, options)
    return graph


def _next_site(graph, options):
    """(value, its reader) of the first layer that takes real numbers; None where every layer takes codes.

    A concat is its own reader where its inputs lie on several grids; so is a function whose results are no codes.
    """
    for node in graph.nodes:
        for value in node.inputs:
            if node.op != "concat" and _needs_codes(graph, node, value, options):
                return value, node
        if node.op == "concat" and not shares_quantiser(graph, node):
            return node.output, node
        if node.op == "table":
            reader = only_reader(graph, node.output)
            if reader is None or reader.op not in ("quant", "concat"):  # a concat brings its quantiser
                return node.output, node
    return None


def _needs_codes(graph, node, value, options):
    """Whether a layer takes codes, but the value is real numbers, or codes that it cannot take."""
    if node.op not in (*LINEAR, *POOLS, *JOINS, *TAKE_CODES):
        return False
    grid = code_grid(graph, value, options.input)
    if grid is None:
        return not (node.op in POOLS and _is_sum(graph, value))
    if node.op in JOINS:
        return grid[1].denominator != 1 or (node.op != "mul" and not is_short(grid[0]))
    if node.op == "pad":
        return grid[1].denominator != 1
    if _is_uneven(node) and grid[1] != 0:
        return True
    return node.op in LINEAR + POOLS and is_padded(node) and not can_pad(grid)


def _is_uneven(node):
    """Whether a node averages over windows of several sizes, which takes codes whose zero is 0."""
    return node.op == "avgpool" and len(np.unique(node.params["divisor"])) > 1


def _is_sum(graph, value):
    """Whether a value is affine in accumulators of weights that the source itself quantised: a pool may add these."""
    node = graph.producer(value)
    while node is not None and node.op in ("affine", "flatten"):
        node = graph.producer(node.inputs[0])
    return node is not None and node.op in LINEAR and node.params.get("weight_quant") is not None


def _is_input_side(graph, value):
    """Whether no layer with weights stands in front of a value."""
    open_, seen = [value], set()
    while open_:
        node = graph.producer(open_.pop())
        if node is None or node.output in seen:
            continue
        if node.op in LINEAR:
            return False
        seen.add(node.output)
        open_.extend(node.inputs)
    return True


def _quantised(graph, value, reader, activations, options):
    """The graph with an integer quantiser behind a value."""
    bits = options.activations
    ends = reader.op == "table" and (value != reader.output or value == graph.output)
    if bits == "binary" or ends or _is_input_side(graph, value):
        bits = INPUT_BITS if bits == "binary" else max(bits, INPUT_BITS)
    uneven = any(map(_is_uneven, graph.consumers(value)))
    histogram = Histogram.of(activations.of(graph, value, reader))
    found = find_range(histogram, bits, options.method, may_shift=not uneven)
    name = f"{value}.quant"
    node = Node("quant", name, (value,), name, _grid_params(graph, found, bits, value))
    # a layer with weights takes signs of its own in a binary network
    but = LINEAR if options.activations == "binary" and reader.op not in LINEAR else ()
    return inserted(graph, node, graph.shapes[value], but=but)


def _united(graph, node, activations, options):
    """The graph with one quantiser, of the whole concat's range, in front of each of its inputs."""
    bits = options.activations
    bits = INPUT_BITS if bits == "binary" else max(bits, INPUT_BITS) if _is_input_side(graph, node.output) else bits
    found = find_range(Histogram.of(activations.of(graph, node.output, node)), bits, options.method)
    params = {**_grid_params(graph, found, bits, node.output), "fixed": True}
    names, nodes, shapes = {}, [], dict(graph.shapes)
    for value in dict.fromkeys(node.inputs):
        name = names[value] = f"{node.output}.quant{len(names)}"
        nodes.append(Node("quant", name, (value,), name, params))
        shapes[name] = graph.shapes[value]
    place = graph.nodes.index(node)
    nodes.append(replace(node, inputs=tuple(names[value] for value in node.inputs)))
    return replace(graph, nodes=(*graph.nodes[:place], *nodes, *graph.nodes[place + 1:]), shapes=shapes)


def _grid_params(graph, found, bits, value):
    """Parameters of our own quantiser behind a value; its scale is a short number where a sum takes its codes."""
    fixed = feeds_sum(graph, value)
    return {"scale": np.array(short_scale(found.scale) if fixed else found.scale),
            "zero_point": np.array(float(found.zero_point)), "bits": bits, "signed": found.signed, "narrow": False,
            "rounding": "HALF_UP", "own": True, "fixed": fixed}


def _binary(graph, value, activations):
    """The graph with signs behind a value; a relu in front of them would leave nothing of them, and goes.

    Where a sum or the like reads the value too, that keeps it, and layers with weights read signs of what is in front
    of the relu.
    """
    node, readers = graph.producer(value), graph.consumers(value)
    if any(reader.op not in LINEAR for reader in readers):
        source = value
        while node is not None and node.op in ("relu", "clip"):
            source, node = node.inputs[0], graph.producer(node.inputs[0])
        quant = _sign(graph, source, activations, readers[0])
        moved = {reader.output: replace(reader, inputs=tuple(quant.output if name == value else name
                                                             for name in reader.inputs))
                 for reader in readers if reader.op in LINEAR}
        nodes = [moved.get(other.output, other) for other in graph.nodes]
        place = next((i for i, other in enumerate(nodes) if other.output == source), -1) + 1
        nodes.insert(place, quant)
        return replace(graph, nodes=tuple(nodes), shapes={**graph.shapes, quant.output: graph.shapes[source]})
    while node.op in ("relu", "clip", "maxpool", "flatten"):
        source = node.inputs[0]
        if node.op in ("relu", "clip") and only_reader(graph, source) is node:
            graph = without(graph, node)
            value = source if value == node.output else value
        node = graph.producer(source)
    return inserted(graph, _sign(graph, value, activations, node), graph.shapes[value])


def _sign(graph, value, activations, reader):
    """A node of signs of a value, times its mean size."""
    scale = float(np.abs(activations.of(graph, value, reader)).mean()) or 1.0
    return Node("bipolarquant", f"{value}.sign", (value,), f"{value}.sign", {"scale": np.array(scale)})


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
        sources, nodes = self._segment(graph, value)
        given = {name: self._known[name] for name in sources}
        size = int(np.prod(graph.shapes[value]))
        count = max(1, min(*map(len, given.values()), len(options.frames), MOST_VALUES // size))
        part = replace(graph, nodes=nodes, output=value)
        step = max(1, min(count, 256, chunk_size(part)))
        y = np.empty((count, *graph.shapes[value]), np.float32)
        for i in range(0, count, step):
            y[i : i + step] = run_part(part, {name: x[i : min(i + step, count)] for name, x in given.items()})
        if not np.isfinite(y).all():
            raise ModelError(f"model {graph.name!r} gives NaN or infinite values in front of layer {reader.name!r}")
        self._known[value] = y
        needed = self._segment(graph, graph.output)[0]
        self._known = {name: x for name, x in self._known.items() if name in needed or name == value}
        return y

    def _segment(self, graph, value):
        """(known values, nodes from them to ``value``), all of the way back."""
        wanted, sources = {value}, []
        nodes = []
        for node in reversed(graph.nodes):
            if node.output in wanted and node.output not in self._known:
                nodes.insert(0, node)
                wanted.update(node.inputs)
        sources = [name for name in wanted if name in self._known]
        return sources, tuple(nodes)
