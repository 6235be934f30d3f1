"""Prune: the smallest weights become zero, as many as ``--prune`` says."""

# Ref: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015 (by magnitude); Lee et
# al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", 2021 (how layers are compared)

from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.passes.rewire import LINEAR, with_nodes
from lutloom.prune_spec import chosen


def prune(graph, options):
    """The graph with zeros in its convolutions and dense layers (Graph -> Graph).

    Such a layer has ``kept``, which of its weights are not pruned, and ``unpruned``, its weights as they were: what
    compensated rounding holds it against.

    Raises
    ------
    ModelError
        The model brings its weights quantised, or an entry matches no layer.
    """
    entries = entries_of(graph, options)
    if not entries:
        return graph
    free = [node for node in graph.nodes if node.op in LINEAR and node.name in entries]
    binary = [node.name for node in free if node.params.get("signs")]
    if binary:
        raise ModelError(f"layer {binary[0]!r} cannot be pruned where --binarize makes its weights 1 and -1, of which "
                         "none is smaller; leave it out of --prune, or its kernel out of --binarize")
    weights = {node.name: np.asarray(node.params["weight"], np.float64) for node in free}
    kept = {}
    for entry in set(entries.values()):
        mine = [name for name in weights if entries[name] == entry]
        if entry.scope in ("global", "magnitude"):
            sizes = [weights[name].size for name in mine]
            weigh = _share_of_larger if entry.scope == "global" else np.abs
            all_kept = _kept(np.concatenate([weigh(weights[name].ravel()) for name in mine])[None], entry.share)[0]
            parts = np.split(all_kept, np.cumsum(sizes)[:-1])
        else:
            rows = (len(weights[name]) if entry.scope == "output" else 1 for name in mine)
            parts = [_kept(weights[name].reshape(count, -1), entry.share) for name, count in zip(mine, rows,
                                                                                                 strict=True)]
        for name, part in zip(mine, parts, strict=True):
            if not part.any():  # a layer without a weight would give the same for whatever comes in
                part.flat[np.argmax(np.abs(weights[name]))] = True
        kept |= {name: part.reshape(weights[name].shape) for name, part in zip(mine, parts, strict=True)}
    return with_nodes(graph, {
        node.output: node.with_params(weight=weights[node.name] * kept[node.name], kept=kept[node.name],
                                      unpruned=weights[node.name])
        for node in free})


def unpruned(graph):
    """The graph with the weights that were pruned as they were."""
    pruned = [node for node in graph.nodes if "kept" in node.params]
    params = [{key: value for key, value in node.params.items() if key not in ("kept", "unpruned")} for node in pruned]
    return with_nodes(graph, {node.output: replace(node, params=others | {"weight": node.params["unpruned"]})
                              for node, others in zip(pruned, params, strict=True)})


def entries_of(graph, options):
    """The entry of ``--prune`` of every layer that one matches, by name; ModelError as ``prune`` raises it."""
    if not options.pruning:
        return {}
    free = [node for node in graph.nodes if node.op in LINEAR and node.params.get("weight_quant") is None]
    if not free:
        raise ModelError(f"model {graph.name!r} brings all its weights quantised; leave out --prune")
    return chosen(options.pruning, [node.name for node in free])


def _share_of_larger(weights):
    """Each weight's square as a share of the sum of it and all larger ones: what is lost with it of what is left."""
    squares = np.square(weights)
    order = np.argsort(squares, kind="stable")
    left = np.cumsum(squares[order][::-1])[::-1]
    shares = np.empty_like(squares)
    shares[order] = np.where(left > 0, squares[order] / np.where(left > 0, left, 1), 0)
    return shares


def _kept(rows, share):
    """Which numbers of each row are not among its smallest: bool array of the shape of ``rows``.

    Of equal ones the first go.
    """
    count = int(share * rows.shape[1] + 1e-9)
    count -= count == rows.shape[1]
    order = np.argsort(np.abs(rows), axis=1, kind="stable")
    kept = np.ones(rows.shape, bool)
    np.put_along_axis(kept, order[:, :count], False, axis=1)
    return kept
