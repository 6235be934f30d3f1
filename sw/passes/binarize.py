"""Binarize: parameters of a trained model become two numbers each, in front of batch-norm folding.

The rules are those of the source document: kernels, biases and betas that are at least 0 become 1, others -1; gammas
that are at least 1 become 2, others 0. A gamma of 0 leaves nothing of its channel but beta.
"""

# Ref: "tf.kerasで作成したモデルのパラメータの量子化 Part1", 2020 (binarising a trained residual Keras network).

from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.passes.rewire import LINEAR, with_nodes
from lutloom.passes.weigh import choose, real_layers

PARAMETERS = ("kernel", "bias", "gamma", "beta")
"""What can be binarised, by Keras's names."""


def signs(numbers):
    """1 where a number is at least 0, else -1."""
    return np.where(np.asarray(numbers) >= 0, 1.0, -1.0)


def gates(numbers):
    """2 where a number is at least 1, else 0."""
    return np.where(np.asarray(numbers) >= 1, 2.0, 0.0)


def parse(text):
    """The words of ``--binarize`` as a tuple in the order of PARAMETERS; ModelError for others."""
    if isinstance(text, str):
        text = text.split(",")
    words = [str(word).strip() for word in text]
    for word in words:
        if word not in PARAMETERS:
            raise ModelError(f"--binarize must be a comma list of {', '.join(PARAMETERS)}, not {','.join(words)!r}")
    return tuple(word for word in PARAMETERS if word in words)


def binarize(graph, options):
    """The graph with binary parameters (Graph -> Graph).

    Layers whose kernels are binarised carry ``signs``: their weights are no longer rounded in any other way. These
    are all layers with real weights where ``kernel`` is asked for, else those whose format is ``binary``. Batch norms
    are ``open`` where statistics are to be measured.
    """
    if options.statistics == "measured":
        graph = with_nodes(graph, {node.output: node.with_params(open=True) for node in norms(graph)})
    if not options.binarize:
        return graph
    layers = real_layers(graph)
    if options.weights is None and "kernel" not in options.binarize:
        chosen = set()
    else:
        choices = choose(graph, layers, options) if layers else {}
        chosen = {name for name, choice in choices.items()
                  if "kernel" in options.binarize or (choice.format is not None and choice.format.kind == "binary")}
    changes = {}
    for node in layers:
        params = node.params
        if node.name in chosen:
            node = node.with_params(weight=signs(params["weight"]), signs=True)
        if "bias" in options.binarize and params["bias"] is not None:
            node = node.with_params(bias=signs(params["bias"]))
        changes[node.output] = node
    for node in norms(graph):
        norm = node.params["norm"]
        norm = replace(norm, gamma=gates(norm.gamma) if "gamma" in options.binarize else norm.gamma,
                       beta=signs(norm.beta) if "beta" in options.binarize else norm.beta)
        changes[node.output] = node.with_params(**norm.affine(), norm=norm)
    return with_nodes(graph, changes)


def norms(graph):
    """The affines that are batch norms."""
    return [node for node in graph.nodes if node.op == "affine" and node.params.get("norm") is not None]


def check_binarize(graph, words):
    """ModelError where a model has nothing of what is to be binarised."""
    name, layers = graph.name, real_layers(graph)
    if "kernel" in words and not layers:
        raise ModelError(f"model {name!r} brings all its weights quantised, so that there is no kernel to binarise; "
                         "leave kernel out of --binarize")
    if "bias" in words and not any(node.op in LINEAR and node.params["bias"] is not None for node in layers):
        raise ModelError(f"model {name!r} has no bias that could be binarised; leave bias out of --binarize")
    for word in ("gamma", "beta"):
        if word in words and not norms(graph):
            raise ModelError(f"model {name!r} has no batch norm, so that there is no {word} to binarise; leave {word} "
                             "out of --binarize")
