"""Calibrate: put a quantiser in front of every layer that would take real numbers, with ranges from real data.

Layers are done in order, each on what the quantised layers before it give; so are batch norms whose statistics are
to be measured. A model that brings its own quantisers everywhere needs nothing of this.
"""

from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.floating import OPERATORS
from lutloom.graph import Node
from lutloom.passes.grids import can_pad, code_grid, feeds_sum, is_short, shares_quantiser, short_scale
from lutloom.passes.measure import measured, next_norm
from lutloom.passes.ranges import Histogram, find_range
from lutloom.passes.rewire import (
    CLOSINGS,
    JOINS,
    LINEAR,
    POOLS,
    QUANTISERS,
    inserted,
    is_padded,
    only_reader,
    without,
)
from lutloom.passes.two_levels import two_levels
from lutloom.passes.values_of import Activations

TAKE_CODES = ("pad", "reshape", "slice", "transpose", "upsample", "table")
"""Operators, besides those with weights, pools and joins, that work on codes alone."""

MOST_FEATURES = 4096
"""Signs of a map that becomes a vector have a threshold for each value, of larger ones for each channel."""

INPUT_BITS = 8
"""An input that is normalised by channel is quantised with at least so many bits."""

METHODS = ("mse", "minmax", "percentile")


def calibrate(graph, options):
    """The graph with quantisers wherever integers are needed (Graph -> Graph).

    Raises
    ------
    DataError
        Quantisers are needed and there are no calibration data.
    """
    activations = Activations(graph, options)
    while True:
        norm, site = next_norm(graph), _next_site(graph, options)
        if norm is not None and (site is None or graph.nodes.index(norm) < graph.nodes.index(site[1])):
            graph = measured(graph, norm, activations, options)
            continue
        if site is None:
            return graph
        value, reader = site
        options.progress(f"calibrate {reader.name}")
        if reader.op == "concat":
            graph = _united(graph, reader, activations, options)
        elif options.activations == "binary" and reader.op in LINEAR and not _is_input_side(graph, value):
            graph = _binary(graph, value, activations)
        else:
            graph = _quantised(graph, value, reader, activations, options)


def _next_site(graph, options):
    """(value, its reader) of the first layer that takes real numbers; None where every layer takes codes.

    A concat is its own reader where its inputs lie on several grids; so is a function whose results are no codes, and
    the last step of a model that ends with a clip or the like.
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
        if node.output == _end(graph) and _is_bent(graph, node):
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


def _end(graph):
    """What the graph computes in front of a softmax, argmax or top-k that it closes with."""
    value = graph.output
    while (node := graph.producer(value)) is not None and node.op in CLOSINGS:
        value = node.inputs[0]
    return value


def _is_bent(graph, node):
    """Whether a node's real numbers are neither affine in what a layer accumulates, nor a relu of that alone: then they
    can only leave as codes of a quantiser."""
    steps = []
    while node is not None and node.op in ("affine", "relu", "clip", "maxpool", "flatten"):
        steps.insert(0, node.op)
        node = graph.producer(node.inputs[0])
    bends = [step for step in steps if step in ("relu", "clip")]
    if not bends or node is None or node.op in QUANTISERS:
        return False
    return bends != ["relu"] or "affine" in steps[steps.index("relu"):]


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
    node = graph.producer(value)
    if node is not None and node.op == "quant" and node.params.get("own"):
        raise ModelError(f"layer {reader.name!r} cannot take codes in steps of {float(node.params['scale']):g}; scale "
                         "the model's activations, or put a quantiser of its own in front of the layer")
    bits = options.activations
    ends = value == _end(graph) or (reader.op == "table" and value != reader.output)
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
    readers, given = graph.consumers(value), activations.of(graph, value, graph.consumers(value)[0])
    source, node = value, graph.producer(value)
    shared = any(reader.op not in LINEAR for reader in readers)
    if shared:
        while node is not None and node.op in ("relu", "clip"):
            source, node = node.inputs[0], graph.producer(node.inputs[0])
    else:
        while node.op in ("relu", "clip", "maxpool", "flatten"):
            before = node.inputs[0]
            if node.op in ("relu", "clip") and only_reader(graph, before) is node:
                graph = without(graph, node)
                source = before if source == node.output else source
            node = graph.producer(before)
    layers = [reader.output for reader in readers if reader.op in LINEAR]
    flat = None if shared else graph.producer(source)
    many = int(np.prod(graph.shapes[source])) > MOST_FEATURES
    if flat is not None and flat.op == "flatten" and only_reader(graph, flat.inputs[0]) is flat and many:
        source = flat.inputs[0]  # a large map has a threshold for each channel
    else:
        flat = None
    nodes, signs = _signs(graph, source, given.reshape(len(given), *graph.shapes[source]), activations)
    moved = {name: _shifted(graph.producer(name), given, signs.reshape(given.shape)) for name in layers}
    if flat is not None:
        moved[flat.output] = replace(flat, inputs=(nodes[-1].output,))
    else:
        moved = {name: replace(layer, inputs=(nodes[-1].output,)) for name, layer in moved.items()}
    kept = [moved.get(other.output, other) for other in graph.nodes]
    place = next((i for i, other in enumerate(kept) if other.output == source), -1) + 1
    shapes = {node.output: graph.shapes[source] for node in nodes}
    return replace(graph, nodes=(*kept[:place], *nodes, *kept[place:]), shapes={**graph.shapes, **shapes})


def _signs(graph, value, given, activations):
    """(nodes that make signs of a value, the signs): nearest to what layers took so far, up to a centre a channel."""
    x = activations.of(graph, value, graph.producer(value))
    channels = x.shape[-1]
    threshold, scale = two_levels(x.reshape(-1, channels), given.reshape(-1, channels))
    nodes = []
    if threshold.any():
        nodes.append(Node("affine", f"{value}.centre", (value,), f"{value}.centre",
                          {"scale": np.array(1.0), "offset": -threshold}))
    source = nodes[0].output if nodes else value
    nodes.append(Node("bipolarquant", f"{value}.sign", (source,), f"{value}.sign", {"scale": np.array(scale)}))
    return nodes, np.where(x >= threshold, np.float32(scale), np.float32(-scale))


def _shifted(layer, before, after):
    """A layer whose bias makes good, on average, what its outputs differ by when its inputs change."""
    part = before.mean(axis=0, dtype=np.float64)[None] - after.mean(axis=0, dtype=np.float64)[None]

    def moved(weight, bias):
        change = OPERATORS[layer.op]({**layer.params, "weight": weight, "bias": None}, part)
        return (0.0 if bias is None else bias) + change.reshape(-1, change.shape[-1]).mean(axis=0)

    changes = {"bias": moved(layer.params["weight"], layer.params["bias"])}
    if "real_weight" in layer.params:
        changes["real_bias"] = moved(layer.params["real_weight"], layer.params["real_bias"])
    exact = {key: value for key, value in layer.params.get("exact", {}).items() if key != "bias"}
    return layer.with_params(exact=exact, **changes)
