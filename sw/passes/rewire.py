"""Small edits of a graph that several passes share: taking a node out, putting one in, exact parameters."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

ELEMENTWISE = ("affine", "relu", "clip", "sign", "quant", "bipolarquant", "trunc", "multithreshold")
QUANTISERS = ("quant", "bipolarquant", "trunc", "multithreshold", "sign")
LINEAR = ("conv", "dense")
POOLS = ("avgpool", "globalpool")
JOINS = ("add", "sub", "mul")
CLOSINGS = ("softmax", "argmax", "topk")


def without(graph, node):
    """The graph without a node of one input: whoever read its output reads its input."""
    source = node.inputs[0]
    nodes = tuple(
        replace(other, inputs=tuple(source if name == node.output else name for name in other.inputs))
        for other in graph.nodes if other is not node
    )
    shapes = {name: shape for name, shape in graph.shapes.items() if name != node.output}
    return replace(graph, nodes=nodes, shapes=shapes, output=source if graph.output == node.output else graph.output)


def with_node(graph, old, new):
    """The graph with one node replaced by another that writes the same value."""
    return replace(graph, nodes=tuple(new if node is old else node for node in graph.nodes))


def with_nodes(graph, changes):
    """The graph with nodes replaced: a mapping from the old node's output to the new node."""
    return replace(graph, nodes=tuple(changes.get(node.output, node) for node in graph.nodes))


def inserted(graph, node, shape, but=()):
    """The graph with an element-wise node behind the value that it reads: all readers of that value read the node.

    Readers of operators ``but`` keep reading the value itself.
    """
    value = node.inputs[0]
    nodes = []
    if value == graph.input:
        nodes.append(node)
    for other in graph.nodes:
        moved = tuple(node.output if name == value and other.op not in but else name for name in other.inputs)
        nodes.append(replace(other, inputs=moved))
        if other.output == value:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), shapes={**graph.shapes, node.output: shape},
                   output=node.output if graph.output == value else graph.output)


def swapped(graph, first, second):
    """The graph with two neighbours of one input in the other order; the values between keep their names.

    ``second`` is the only reader of ``first``; one of the two is element-wise, so that the shape between them is what
    the other takes or gives.
    """
    middle = first.output
    a = replace(second, inputs=first.inputs, output=middle)
    b = replace(first, inputs=(middle,), output=second.output)
    nodes = tuple(a if node is first else b if node is second else node for node in graph.nodes)
    shape = graph.shapes[first.inputs[0] if second.op in ELEMENTWISE else second.output]
    return replace(graph, nodes=nodes, shapes={**graph.shapes, middle: shape})


def is_uniform(node):
    """Whether an element-wise node does the same to all channels."""
    return all(np.ndim(node.params[key]) == 0 for key in ("scale", "offset", "zero_point") if key in node.params) and (
        node.op != "multithreshold" or len(node.params["thresholds"]) == 1
    )


def only_reader(graph, value):
    """The one node that reads a value; None where there are several, none, or the value is the graph's output."""
    readers = graph.consumers(value)
    return readers[0] if len(readers) == 1 and value != graph.output else None


def rationals(node, key):
    """A parameter as a list of Fractions, one or one a channel: exactly what was stored.

    Passes that need more than float64 keep the exact numbers in the parameter ``exact``, a mapping from a parameter's
    name to a tuple of Fractions, beside the rounded parameter itself.
    """
    exact = node.params.get("exact", {})
    if key in exact:
        return list(exact[key])
    return [Fraction(float(number)) for number in np.ravel(node.params[key])]


def is_padded(node):
    """Whether a convolution or pool reads beyond the rim of its input."""
    return any(node.params.get("pads", ()))
