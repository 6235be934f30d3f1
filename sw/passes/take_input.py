"""Take the input: where a model begins with a quantiser, its codes are what the network takes in."""

from fractions import Fraction

from lutloom.formats import Format
from lutloom.passes.options import InputFormat
from lutloom.passes.rewire import ELEMENTWISE, is_uniform, only_reader, rationals, swapped, without
from lutloom.rounding import code_range

LEAST_BITS = 3
"""Quantisers of fewer bits stay in the network: pixels of 8 bits come in, and thresholds make the codes."""


def take_input(graph, options=None):
    """The graph without a quantiser that sets the input's format (Graph -> Graph).

    A flatten behind element-wise steps goes to the front: a row of pixels can come in many at a time.
    """
    quant = first_quantiser(graph)
    graph = graph if quant is None else without(graph, quant)
    before, node = None, only_reader(graph, graph.input)
    while node is not None and node.op in ELEMENTWISE and is_uniform(node):
        before, node = node, only_reader(graph, node.output)
    while before is not None and node is not None and node.op == "flatten":
        graph = swapped(graph, before, node)
        node = next(other for other in graph.nodes if other.op == "flatten" and other.output == before.output)
        before = graph.producer(node.inputs[0])
    return graph


def first_quantiser(graph):
    """The quantiser that the model begins with (behind flattening at most), of LEAST_BITS and more; or None."""
    node = only_reader(graph, graph.input)
    while node is not None and node.op == "flatten":
        node = only_reader(graph, node.output)
    if node is None or node.op != "quant" or not LEAST_BITS <= node.params["bits"] <= 16:
        return None
    return node if len(set(rationals(node, "scale"))) == len(set(rationals(node, "zero_point"))) == 1 else None


def input_format(graph, format, scale, zero_point):
    """The InputFormat of a graph: its own first quantiser's, else what the user gave."""
    quant = first_quantiser(graph)
    if quant is None:
        return InputFormat(format, Fraction(scale), Fraction(zero_point), format.code_low, format.code_high)
    bits, signed = quant.params["bits"], quant.params["signed"]
    low, high = code_range(bits, signed, quant.params["narrow"])
    return InputFormat(Format("int" if signed else "uint", bits), rationals(quant, "scale")[0],
                       rationals(quant, "zero_point")[0], low, high)
