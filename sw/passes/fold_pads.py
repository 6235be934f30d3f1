"""Fold pads: a PAD in front of a convolution becomes the convolution's own padding."""

from dataclasses import replace

from lutloom.passes.rewire import only_reader


def fold_pads(graph, options=None):
    """The integer graph without those pads of height and width that one convolution reads (Graph -> Graph).

    A convolution's padded taps have the code that stands for zero, so a pad of another code stays.
    """
    for node in graph.nodes:
        reader = only_reader(graph, node.output)
        if node.op != "pad" or reader is None or reader.op != "conv":
            continue
        before, after, code = (node.params[key] for key in ("before", "after", "code"))
        if len(before) != 3 or before[2] or after[2] or code != graph.quants[node.output].zero_point:
            continue
        if graph.quants[node.inputs[0]] != graph.quants[node.output]:
            continue
        pads = tuple(a + b for a, b in zip(reader.params["pads"], (*before[:2], *after[:2]), strict=True))
        merged = replace(reader.with_params(pads=pads), inputs=node.inputs)
        nodes = tuple(merged if other is reader else other for other in graph.nodes if other is not node)
        graph = replace(graph, nodes=nodes)
    return graph
