"""Fold: batch norms and other affine steps into the weights beside them, and steps that do nothing out of the graph.

Only weights that are real numbers take a factor in; what stands behind weights that the source itself quantised goes
into the requantiser later, exactly. So do batch norms whose statistics are yet to be measured, and steps in front of
binarised kernels, which stay 1 and -1.
"""

from fractions import Fraction

import numpy as np

from lutloom.passes.rewire import LINEAR, is_padded, only_reader, rationals, swapped, with_node, without


def fold(graph, options=None):
    """The same function with fewer nodes (Graph -> Graph)."""
    changed = True
    while changed:
        changed = False
        for rule in (_drop_idle, _fold_back, _fold_forward, _merge):
            for node in graph.nodes:
                better = None if node.params.get("open") else rule(graph, node)
                if better is not None:
                    graph, changed = better, True
                    break
            if changed:
                break
    return graph


def _is_free(node):
    """Whether a node is a convolution or dense layer whose weights are still real numbers."""
    return node is not None and node.op in LINEAR and node.params.get("weight_quant") is None


def _drop_idle(graph, node):
    """Take out what changes nothing."""
    params = node.params
    if node.op in ("identity", "dropout"):
        return without(graph, node)
    if node.op == "affine" and np.all(params["scale"] == 1) and np.all(params["offset"] == 0):
        return without(graph, node)
    if node.op == "flatten" and len(graph.shapes[node.inputs[0]]) == 1:
        return without(graph, node)
    if node.op == "clip" and params["low"] == -np.inf and params["high"] == np.inf:
        return without(graph, node)
    if node.op in ("maxpool", "avgpool") and tuple(params["kernel"]) == tuple(params["stride"]) == (1, 1):
        if not is_padded(node) and np.all(params.get("divisor", 1) == 1):
            return without(graph, node)
    before = graph.producer(node.inputs[0])
    if node.op == "relu" and before is not None and before.op == "relu":
        return without(graph, node)
    return None


def _fold_back(graph, node):
    """An affine step into the weights in front of it, also across a flatten or (where it rises) a max pool."""
    if node.op != "affine":
        return None
    scale, offset = (np.asarray(node.params[key], np.float64) for key in ("scale", "offset"))
    before = graph.producer(node.inputs[0])
    while before is not None and only_reader(graph, before.output) is not None:
        if _is_free(before):
            break
        if before.op == "flatten" and scale.ndim == offset.ndim == 0:
            pass
        elif not (before.op == "maxpool" and np.all(scale > 0)):
            return None
        before = graph.producer(before.inputs[0])
    if not _is_free(before) or only_reader(graph, before.output) is None:
        return None
    weight, bias = before.params["weight"], before.params["bias"]
    wide = scale.reshape((-1,) + (1,) * (weight.ndim - 1)) if scale.ndim else scale
    bias = np.zeros(len(weight)) if bias is None else bias
    new = before.with_params(weight=weight * wide, bias=bias * scale + offset)
    return without(with_node(graph, before, new), node)


def _fold_forward(graph, node):
    """An affine step into the weights behind it: always without padding, with padding where it adds nothing."""
    if node.op != "affine":
        return None
    after = only_reader(graph, node.output)
    if after is None:
        return None
    scale, offset = (np.asarray(node.params[key], np.float64) for key in ("scale", "offset"))
    if after.op == "flatten":
        if not _is_free(only_reader(graph, after.output)):
            return None
        height, width, _ = graph.shapes[node.output]
        wide = node.with_params(**{key: np.tile(value, height * width) if value.ndim else value
                                   for key, value in (("scale", scale), ("offset", offset))})
        return swapped(with_node(graph, node, wide), wide, after)
    if not _is_free(after) or (is_padded(after) and np.any(offset != 0)):
        return None
    if after.params.get("signs") and not np.all(scale == scale.flat[0]):
        return None  # its kernel would no longer be of two numbers an output
    weight, bias = after.params["weight"], after.params["bias"]
    channels = graph.shapes[node.output][-1]
    scale, offset = (np.broadcast_to(value, (channels,)) for value in (scale, offset))
    groups = after.params.get("groups", 1)
    group = np.arange(len(weight)) // (len(weight) // groups)
    scale, offset = (value.reshape(groups, -1)[group] for value in (scale, offset))  # (N, C/groups)
    between = (len(weight),) + (1,) * (weight.ndim - 2) + (-1,)
    scale, offset = scale.reshape(between), offset.reshape(between)
    bias = np.zeros(len(weight)) if bias is None else bias
    bias = bias + (weight * offset).reshape(len(weight), -1).sum(axis=1)
    return without(with_node(graph, after, after.with_params(weight=weight * scale, bias=bias)), node)


def _merge(graph, node):
    """Two affine steps into one, where float64 holds the product exactly."""
    after = only_reader(graph, node.output)
    if node.op != "affine" or after is None or after.op != "affine" or after.params.get("open"):
        return None
    scale = np.asarray(node.params["scale"] * after.params["scale"], np.float64)
    offset = np.asarray(node.params["offset"] * after.params["scale"] + after.params["offset"], np.float64)
    a, o, b, p = (rationals(step, key) for step in (node, after) for key in ("scale", "offset"))
    size = max(map(len, (a, o, b, p)))
    a, o, b, p = (values * size if len(values) == 1 else values for values in (a, o, b, p))
    exact_scale = [x * y for x, y in zip(a, b, strict=True)]
    exact_offset = [x * y + z for x, y, z in zip(o, b, p, strict=True)]
    for rounded, exact in ((scale, exact_scale), (offset, exact_offset)):
        rounded = [Fraction(float(number)) for number in np.ravel(rounded)]
        if (rounded * size if len(rounded) == 1 else rounded) != exact:
            return None
    return without(with_node(graph, after, after.with_params(scale=scale, offset=offset)), node)
