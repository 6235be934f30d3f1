"""Measure: mean and variance of batch norms anew, of what really comes in.

What a trained model stores are the statistics of its float parameters. After kernels became binary, layers give other
numbers, and batch norms that still subtract and divide by the old ones saturate what stands behind. Calibration data
show the new ones: no labels, no training. Norms are done in order, each on what the measured ones before it give.
"""

from dataclasses import replace

import numpy as np

from lutloom.errors import DataError, ModelError
from lutloom.passes.binarize import norms
from lutloom.passes.rewire import with_node
from lutloom.passes.values_of import Activations

STATISTICS = ("stored", "measured")


def measure(graph, options):
    """The graph whose batch norms have the statistics of the calibration data (Graph -> Graph)."""
    activations = Activations(graph, options)
    while (node := next_norm(graph)) is not None:
        graph = measured(graph, node, activations, options)
    return graph


def next_norm(graph):
    """The first batch norm that is to be measured and is not yet; None where there is none."""
    return next((node for node in graph.nodes if node.params.get("open")), None)


def measured(graph, node, activations, options):
    """The graph with one batch norm of statistics of what it takes in, as the graph is now.

    What was subtracted in front of it stays: a mean of what is left is subtracted too.
    """
    options.progress(f"measure {node.name}")
    x = activations.of(graph, node.inputs[0], node)
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axis=axes, dtype=np.float64), x.var(axis=axes, dtype=np.float64)
    norm = replace(node.params["norm"], mean=mean, variance=variance)
    scale = norm.affine()["scale"]
    params = {key: value for key, value in node.params.items() if key not in ("norm", "open", "exact")}
    return with_node(graph, node, replace(node, params={**params, "scale": scale, "offset": norm.beta - mean * scale}))


def check_measure(graph, data):
    """An error where statistics are to be measured of nothing, or without data."""
    if not norms(graph):
        raise ModelError(f"model {graph.name!r} has no batch norm whose statistics could be measured; leave out "
                         "--statistics")
    if data is None:
        raise DataError("statistics of batch norms can only be measured on calibration data; give them with "
                        "--calibrate")
