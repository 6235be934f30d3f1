"""Weigh an integer model: its own weight codes, or the same weights in the formats of ``--weights``."""

from fractions import Fraction

import numpy as np

from lutloom.errors import ModelError
from lutloom.network import Weights
from lutloom.passes.rewire import LINEAR, with_nodes
from lutloom.passes.weigh import source_weights
from lutloom.weight_spec import DEFAULT
from lutloom.weights import fit, fit_rounding, parse_spec


def weigh_integer(graph, options):
    """The graph with ``quantised`` (a network's Weights) on every convolution and dense layer (Graph -> Graph).

    A layer that ``--weights`` names gets new codes with scales in float32, as a file would have them, and its bias in
    their units; all else stays.
    """
    layers = [node for node in graph.nodes if node.op in LINEAR]
    choices, changes = choose_integer(graph, options), {}
    for node in layers:
        changes[node.output] = (_fitted(graph, node, choices[node.name]) if node.name in choices
                                else node.with_params(quantised=source_weights(node),
                                                      weight_scale=node.params["weight_quant"].scale))
    return with_nodes(graph, changes)


def choose_integer(graph, options):
    """The FormatChoice of every layer that ``--weights`` names, by name; ModelError where it cannot be."""
    if options.weights is None:
        return {}
    rounding = fit_rounding(options.rounding)
    spec = parse_spec(options.weights, rounding) if isinstance(options.weights, str) else options.weights
    choices = spec.choose([node.name for node in graph.nodes if node.op in LINEAR])
    for name, choice in choices.items():
        if choice.real or (choice.format is not None and choice.format.kind == "float16"):
            raise ModelError(f"layer {name!r} has integer weights, which {choice} is not for; leave it out of "
                             "--weights")
    return {name: choice for name, choice in choices.items() if choice is not DEFAULT}


def _fitted(graph, node, choice):
    """A layer with its weights in another format."""
    real = np.asarray(node.params["weight"], np.float64)
    try:
        format, scale, codes = fit(choice.format, real, choice)
    except ValueError as error:
        raise ModelError(f"layer {node.name!r}: {error}") from None
    scales = np.array([float(unit) for unit in scale], np.float32)
    weights = Weights(codes, format, tuple(Fraction(float(unit)) for unit in scales), choice.sparse)
    units = scales.astype(np.float64).reshape((-1,) + (1,) * (real.ndim - 1))
    changes = {"quantised": weights, "weight_scale": scales if scales.size > 1 else scales[0],
               "weight": weights.integers * units}
    if node.params["bias"] is not None:
        step = float(graph.quants[node.inputs[0]].scale) * scales.astype(np.float64)
        changes["bias_codes"] = np.rint(node.params["bias"] / step).astype(np.int64)
    return node.with_params(**changes)
