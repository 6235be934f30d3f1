"""Equalise: channels between two layers are scaled such that the weights on both sides have even ranges.

What a convolution or dense layer gives in a channel may be divided by a positive number if the layer behind multiplies
its weights for that channel by it: a relu and pools in between do not notice. In real numbers nothing changes; where
all weights of a layer share a scale, or all channels of an activation, less is lost to the largest. It needs no data.
"""

# Ref: Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019, section 4.1.

import numpy as np

from lutloom.errors import ModelError
from lutloom.passes.rewire import LINEAR, only_reader, with_nodes

ROUNDS, ENOUGH = 20, 1e-3
"""Times that all pairs are gone through, at most; until no factor differs from 1 by more."""

MOST = 2.0**10
"""Channels are scaled by so much at most in all, or divided by it."""


def equalise(graph, options):
    """The same function with other weights (Graph -> Graph); the same graph unless ``options.equalise``.

    Raises
    ------
    ModelError
        There is no pair of layers to scale between.
    """
    if not options.equalise:
        return graph
    pairs = pairs_of(graph)
    if not pairs:
        raise ModelError(f"model {graph.name!r} has no two layers of real weights with nothing but a relu or pools "
                         "between them, so that there is nothing to equalise; leave out --equalise")
    nodes = {node.output: node for node in graph.nodes}
    total = {first: np.ones(len(nodes[first].params["weight"])) for first, _ in pairs}
    for _ in range(ROUNDS):
        most = 1.0
        for first, second in pairs:
            factors = _factors(nodes[first], nodes[second])
            factors = np.clip(total[first] * factors, 1 / MOST, MOST) / total[first]
            total[first] *= factors
            nodes[first], nodes[second] = scaled(nodes[first], nodes[second], factors)
            most = max(most, float(np.maximum(factors, 1 / factors).max()))
        if most < 1 + ENOUGH:
            break
    return with_nodes(graph, nodes)


def pairs_of(graph):
    """Outputs of the layers of real weights between which channels can be scaled: a list of pairs, in order."""
    pairs = []
    for node in graph.nodes:
        if not _is_free(node):
            continue
        after = only_reader(graph, node.output)
        while after is not None and _commutes(after):
            after = only_reader(graph, after.output)
        if _is_free(after):
            pairs.append((node.output, after.output))
    return pairs


def scaled(first, second, factors):
    """Two nodes with the outputs of the first divided by positive factors (N,), and the second's weights times them."""
    weight, bias = (first.params[key] for key in ("weight", "bias"))
    rows = factors.reshape((-1,) + (1,) * (np.ndim(weight) - 1))
    columns = _of_inputs(second, factors)
    return (first.with_params(weight=weight / rows, bias=None if bias is None else bias / factors),
            second.with_params(weight=second.params["weight"] * columns))


def _factors(first, second):
    """What brings the ranges of each channel's weights on both sides to their geometric mean; 1 where one is zero."""
    here = np.abs(first.params["weight"]).reshape(len(first.params["weight"]), -1).max(axis=1)
    weight = np.abs(second.params["weight"])
    channels = _of_inputs(second, np.arange(len(here)))
    there = np.zeros(len(here))
    np.maximum.at(there, np.broadcast_to(channels, weight.shape), weight)
    able = (here > 0) & (there > 0)
    return np.where(able, np.sqrt(np.where(able, here, 1) / np.where(able, there, 1)), 1.0)


def _of_inputs(node, values):
    """Values (C,) of the channels that a layer takes, spread so that they broadcast against its weights."""
    weight = node.params["weight"]
    if node.op == "dense":  # behind a flatten the channels go round
        return np.tile(values, weight.shape[1] // len(values))
    groups = node.params["groups"]
    rows = values.reshape(groups, 1, -1).repeat(len(weight) // groups, axis=1)
    return rows.reshape(len(weight), 1, 1, -1)


def _is_free(node):
    """Whether a node is a convolution or dense layer whose weights are still real numbers, its padding zero, and not
    binarised, which scaled they would not be."""
    return node is not None and node.op in LINEAR and node.params.get("weight_quant") is None and (
        not node.params.get("signs"))


def _commutes(node):
    """Whether a node gives the same of channels that are scaled, but scaled."""
    if node.op == "clip":
        return node.params["low"] in (0, -np.inf) and node.params["high"] in (0, np.inf)
    if node.op == "table":
        return node.params["function"] == "leaky_relu"
    return node.op in ("relu", "maxpool", "avgpool", "globalpool", "flatten") or (
        node.op == "pad" and not (node.params["before"][-1] or node.params["after"][-1]))
