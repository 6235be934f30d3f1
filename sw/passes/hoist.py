"""Hoist: quantisers go in front of max pools and flattening, so that pools and rows move few bits."""

import numpy as np

from lutloom.passes.rewire import ELEMENTWISE, QUANTISERS, is_uniform, only_reader, swapped


def hoist(graph, options=None):
    """The same function with every max pool and flatten behind its quantiser where they commute (Graph -> Graph).

    A max pool commutes with steps that never fall, a flatten with steps that are the same for all channels.
    """
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            after = only_reader(graph, node.output)
            if node.op == "flatten" and node.inputs[0] == graph.input:
                continue  # a row of pixels comes in many at a time, an image pixel by pixel
            if node.op in ("maxpool", "flatten") and after is not None and _ends_in_quantiser(graph, node, after):
                graph, changed = swapped(graph, node, after), True
                break
    return graph


def _ends_in_quantiser(graph, moved, node):
    """Whether a quantiser follows behind element-wise steps that all commute with ``moved``."""
    while node is not None and node.op in ELEMENTWISE:
        if not (_never_falls(node) if moved.op == "maxpool" else is_uniform(node)):
            return False
        if node.op in QUANTISERS:
            return True
        node = only_reader(graph, node.output)
    return False


def _never_falls(node):
    if node.op == "affine":
        return bool(np.all(np.asarray(node.params["scale"]) >= 0))
    return node.op != "multithreshold" or float(node.params["out_scale"]) > 0
