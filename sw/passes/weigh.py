"""Weigh: every convolution and dense layer gets its weights as stored codes, the source's own or by ``--weights``."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from lutloom.errors import ModelError
from lutloom.graph import Node
from lutloom.network import Weights
from lutloom.passes.prune import entries_of
from lutloom.passes.rewire import LINEAR, QUANTISERS, inserted, with_node, with_nodes
from lutloom.weights import WeightFormat, fit, fit_rounding, parse_spec


def weigh(graph, options):
    """The graph with ``quantised`` (a network's Weights) on every convolution and dense layer (Graph -> Graph).

    ``weight`` becomes what the codes stand for, so that the graph computes with the quantised weights. Logits of the
    last layer share one scale unless the user chose its scale. Where a format has no zero, an output whose weights all
    are 0 is switched off by an affine step behind the layer.
    """
    graph = _switched(graph, options)
    layers = [node for node in graph.nodes if node.op in LINEAR]
    choices = choose(graph, real_layers(graph), options)
    changes = {}
    for node in layers:
        real = np.asarray(node.params["weight"], np.float64)
        if not np.isfinite(real).all():
            raise ModelError(f"layer {node.name!r} has NaN or infinite weights")
        if node.params["bias"] is not None and not np.isfinite(node.params["bias"]).all():
            raise ModelError(f"layer {node.name!r} has a NaN or infinite bias")
        if node.name in choices and choices[node.name].real:
            continue
        if node.name not in choices:
            weights = source_weights(node)
            changes[node.output] = node.with_params(quantised=weights, weight=_reals(weights))
            continue
        try:
            changes[node.output] = weighed(node, choices[node.name])
        except ValueError as error:
            raise ModelError(f"layer {node.name!r}: {error}") from None
    return with_nodes(graph, changes)


def _switched(graph, options):
    """The graph with affine steps in place of weights that are 0 for a whole output, in formats without a zero."""
    free = real_layers(graph)
    choices = choose(graph, free, options)
    for name in [node.output for node in free]:
        node = graph.producer(name)
        live, switch = switched(node, choices[node.name].format)
        if switch is not None:
            graph = inserted(with_node(graph, node, live), switch, graph.shapes[node.output])
    return graph


def switched(node, format):
    """(the layer, the affine step behind it) for a format without a zero; (node, None) where no output is all zeros.

    Weights of such an output get the others' mean size, so that a shared scale stays theirs.
    """
    weight = np.asarray(node.params["weight"], np.float64)
    dead = ~weight.reshape(len(weight), -1).any(axis=1)
    if format is None or 0 in format.levels or not dead.any():
        return node, None
    bias = np.zeros(len(weight)) if node.params["bias"] is None else np.asarray(node.params["bias"], np.float64)
    size = 1.0 if dead.all() else np.abs(weight[~dead]).mean()
    live = node.with_params(weight=np.where(dead.reshape((-1,) + (1,) * (weight.ndim - 1)), size, weight),
                            bias=np.where(dead, 0.0, bias))
    return live, Node("affine", f"{node.name}.switch", (node.output,), f"{node.output}.switch",
                      {"scale": np.where(dead, 0.0, 1.0), "offset": np.where(dead, bias, 0.0)})


def real_layers(graph):
    """The convolutions and dense layers whose weights the source does not quantise."""
    return [node for node in graph.nodes if node.op in LINEAR and node.params.get("weight_quant") is None]


def choose(graph, free, options):
    """The FormatChoice of every layer whose weights are real numbers, by name; ModelError where --weights cannot be."""
    text = options.weights
    if not free:
        if text is not None:
            raise ModelError(f"model {graph.name!r} brings all its weights quantised; leave out --weights")
        return {}
    if text is None:
        text = "binary" if "kernel" in options.binarize else "int:8"
    spec = text if not isinstance(text, str) else parse_spec(text, fit_rounding(options.rounding))
    choices = spec.choose([node.name for node in free])
    last = _last(graph)
    if last is not None and last.name in choices and not _scale_is_given(text, spec, choices[last.name]):
        choice = choices[last.name]
        if choice.scale == "channel" and not last.params.get("signs"):
            choices[last.name] = replace(choice, scale="layer")
    return choices


def _scale_is_given(text, spec, choice):
    """Whether the entry that chose a layer's format spells out a scale."""
    if not isinstance(text, str):
        return True
    parts = text.split(",")
    return any(entry is choice and "@" in part for part, (_, entry) in zip(parts, spec.entries, strict=True))


def _last(graph):
    """The layer that gives the logits; None where a quantiser or a join stands behind it."""
    node = graph.producer(graph.output)
    while node is not None and node.op not in LINEAR:
        if node.op in QUANTISERS or len(node.inputs) > 1:
            return None
        node = graph.producer(node.inputs[0])
    return node


def weighed(node, choice):
    """A layer with its real weights in the chosen format, each rounded by itself; binarised ones of one size an output
    are so exactly.

    Raises
    ------
    ValueError
        The format cannot hold them.
    """
    real = np.asarray(node.params["weight"], np.float64)
    sizes = np.abs(real).reshape(len(real) if choice.scale == "channel" else 1, -1)
    if (node.params.get("signs") and choice.format is not None and choice.format.kind == "binary"
            and choice.scale != "one" and np.all(sizes == sizes[:, :1])):
        weights = Weights(choice.format.encode(np.sign(real).astype(np.int64)), choice.format,
                          tuple(Fraction(float(size)) for size in sizes[:, 0]))
    else:
        format, scale, codes = fit(choice.format, real, choice, zero="kept" in node.params)
        if "kept" in node.params:
            format, codes = with_zeros(format, codes, node.params["kept"])
        weights = Weights(codes, format, scale, choice.sparse)
    return node.with_params(quantised=weights, weight=_reals(weights), real_bias=node.params["bias"],
                            real_weight=node.params.get("unpruned", real))


def _reals(weights):
    """What codes stand for."""
    return weights.integers * np.array([float(unit) for unit in weights.scale]).reshape(
        (-1,) + (1,) * (weights.codes.ndim - 1))


def check_weights(graph, options):
    """ModelError where --weights or --prune name a layer that is not there, or a format that a pruned layer, or an
    integer network, cannot have: what can be said of them before there are data."""
    choices = choose(graph, real_layers(graph), options)
    for name, choice in choices.items():
        if choice.real and not options.simulated:
            raise ModelError(f"layer {name!r} cannot have float weights in an integer network; take float16, or "
                             "'evaluate --mode simulated --activations float'")
    for name in entries_of(graph, options):
        choice = choices[name]
        if choice.group > 1:
            raise ModelError(f"layer {name!r}: its weights cannot be pruned and {choice}, whose entries are of "
                             f"{choice.group} weights; take codebook:16, or leave it out of --prune")
        if choice.format is not None and 0 not in choice.format.levels:
            raise ModelError(f"layer {name!r}: its weights cannot be pruned and {choice.format}, which has no zero; "
                             "take ternary, or leave it out of --prune")


def with_zeros(format, codes, kept):
    """(format, codes) with zero where a weight is not ``kept``."""
    return format, np.where(kept, codes, format.encode(np.zeros(1, int))[0]).astype(codes.dtype)


def source_weights(node):
    """The weights that the source itself quantised, exactly."""
    quant = node.params["weight_quant"]
    scale = [Fraction(float(s)) for s in np.ravel(quant.scale)]
    if min(scale) <= 0:
        raise ModelError(f"layer {node.name!r} has a weight scale of {float(min(scale)):g}, but scales must be "
                         "positive")
    codes = np.asarray(quant.codes).astype(np.int64)
    if quant.kind == "bipolar":
        format = WeightFormat("binary", 1)
        return Weights(format.encode(codes), format, tuple(scale))
    zero = np.asarray(quant.zero_point)
    if np.any(zero != np.round(zero)):
        raise ModelError(f"layer {node.name!r} has a weight zero point that is not an integer")
    zero = zero.astype(np.int64).reshape((-1,) + (1,) * (codes.ndim - 1)) if zero.ndim else zero.astype(np.int64)
    integers = codes - zero
    bits = max(int(quant.bits), 1)
    while integers.min() < -(1 << bits - 1) or integers.max() >= 1 << bits - 1:
        bits += 1  # unsigned codes or a zero point need room for the sign
    if bits > 16:
        raise ModelError(f"layer {node.name!r} has weights of {bits} bits, but at most 16 are supported")
    format = WeightFormat("int", bits)
    return Weights(format.encode(integers), format, tuple(scale))
