"""Fold pads: a PAD in front of a convolution becomes the convolution's own padding."""

from dataclasses import replace

from lutloom.passes.rewire import only_reader


def fold_pads(graph, options=None):
    """The graph without those pads of height and width that one convolution reads (Graph -> Graph).

    A convolution's padded taps stand for zero, so a pad of a code that does not stays; pads of real numbers are zeros.
    """
    for node in graph.nodes:
        reader = only_reader(graph, node.output)
        if node.op != "pad" or reader is None or reader.op != "conv":
            continue
        before, after = (node.params[key] for key in ("before", "after"))
        if len(before) != 3 or before[2] or after[2] or not (graph.arithmetic == "real" or _is_zero(graph, node)):
            continue
        pads = tuple(a + b for a, b in zip(reader.params["pads"], (*before[:2], *after[:2]), strict=True))
        merged = replace(reader.with_params(pads=pads), inputs=node.inputs)
        nodes = tuple(merged if other is reader else other for other in graph.nodes if other is not node)
        graph = replace(graph, nodes=nodes)
    return graph


def _is_zero(graph, node):
    """Whether the code that a pad adds stands for zero."""
    given, made = graph.quants[node.inputs[0]], graph.quants[node.output]
    return node.params["code"] == made.zero_point and given == made
