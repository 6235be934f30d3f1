"""Snap: scales of our own quantisers move by parts in a hundred thousand so that short multipliers are exact.

A wide activation is requantised by ``(acc·multiplier + fraction) >> shift`` with a multiplier of few bits. Instead of
approximating the real factor, the factor is made one: where all channels share it, the activation's scale moves; else
the weights' scales do. The last layer's bias becomes a whole number of accumulator units. What the graph says then is
what the integers compute, exactly.

A quantiser that a sum takes its codes from keeps its scale, which is a short number so that the sum is exact, and so do
those in front of a concat, which share one; the weights in front of them move.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from lutloom.passes.grids import code_grid, join_unit
from lutloom.passes.multiplier import multipliers_of, shift_for
from lutloom.passes.rewire import JOINS, LINEAR, QUANTISERS, rationals, with_node

LEAST_MULTIPLIER = 1 << 12
"""Scales move by one part in so many, at most."""


def snap(graph, options):
    """The graph with exact multipliers in front of its own quantisers (Graph -> Graph)."""
    for name in [node.output for node in graph.nodes if node.op == "quant" and node.params.get("own")]:
        graph = _snap_quantiser(graph, graph.producer(name), options)
    return _snap_bias(graph, options)


def _snap_quantiser(graph, quant, options):
    """One quantiser's slope (codes an accumulator step), by its scale or by the weights' scales."""
    if quant.params["bits"] <= options.compared_bits and options.requantiser != "multiply":
        return graph
    layer = _behind(graph, quant, ("relu", "clip", "maxpool", "flatten", "reshape"))
    if layer is None:
        return graph
    scale = rationals(quant, "scale")[0]
    if layer.op in LINEAR:
        grid = code_grid(graph, layer.inputs[0], options.input)
        if grid is None:
            return graph
        step, bipolar = grid[0], grid[1] == Fraction(1, 2)
        units = [(step / 2 if bipolar else step) * unit for unit in layer.params["quantised"].scale]
    elif layer.op in JOINS:
        unit = join_unit(graph, layer, options.input)
        if unit is None:
            return graph
        units = [unit]
    elif layer.op in ("avgpool", "globalpool"):
        grid = code_grid(graph, layer.inputs[0], options.input)
        if grid is None:
            return graph
        units = [grid[0] / _common_divisor(graph, layer)]
    else:
        return graph
    slopes = [unit / scale for unit in units]
    multipliers, shift = multipliers_of(slopes, shift_for(slopes))
    if max(map(abs, multipliers)) < LEAST_MULTIPLIER:
        return graph  # so narrow a multiplier would move scales too far
    fixed = quant.params.get("fixed", False)
    if len(set(units)) == 1 and not fixed:
        exact = units[0] * (1 << shift) / multipliers[0]
        return with_node(graph, quant, quant.with_params(scale=np.array(float(exact)), exact={"scale": (exact,)}))
    if layer.op not in LINEAR or layer.params.get("weight_quant") is not None:
        return graph  # the source's own scales stay as they are
    weights = layer.params["quantised"]
    if fixed and len(weights.scale) == 1 and weights.scale[0].numerator == 1:
        return graph  # spelled out, as @1
    moved = tuple(unit * Fraction(max(m, 1), 1 << shift) / slope
                  for unit, m, slope in zip(weights.scale, multipliers, slopes, strict=True))
    return with_node(graph, layer, _with_scales(layer, replace(weights, scale=moved)))


def _with_scales(layer, weights):
    """The layer with other weight scales."""
    shape = (-1,) + (1,) * (weights.codes.ndim - 1)
    real = weights.integers * np.array([float(unit) for unit in weights.scale]).reshape(shape)
    return layer.with_params(quantised=weights, weight=real)


def _common_divisor(graph, layer):
    """What the sums of a pool, times their factors, are divided by everywhere."""
    if layer.op == "globalpool":
        height, width, _ = graph.shapes[layer.inputs[0]]
        return height * width
    return int(np.lcm.reduce(np.unique(np.asarray(layer.params["divisor"], np.int64))))


def _behind(graph, node, through):
    """The first node in front of a node that is none of some operators."""
    node = graph.producer(node.inputs[0])
    while node is not None and node.op in through:
        node = graph.producer(node.inputs[0])
    return node


def _snap_bias(graph, options):
    """The last layer's bias in whole accumulator units, where its logits share one scale and the bias is ours."""
    node = graph.producer(graph.output)
    while node is not None and node.op not in LINEAR + QUANTISERS:
        if node.op not in ("softmax", "argmax", "topk", "flatten", "maxpool"):
            return graph
        node = graph.producer(node.inputs[0])
    if node is None or node.op not in LINEAR or node.params["bias"] is None:
        return graph
    weights, grid = node.params["quantised"], code_grid(graph, node.inputs[0], options.input)
    if node.params.get("weight_quant") is not None or len(set(weights.scale)) != 1 or grid is None:
        return graph
    unit = weights.scale[0] * (grid[0] / 2 if grid[1] == Fraction(1, 2) else grid[0])
    exact = tuple(round(bias / unit) * unit for bias in rationals(node, "bias"))
    bias = np.array([float(number) for number in exact])
    return with_node(graph, node, node.with_params(bias=bias, exact={"bias": exact}))
