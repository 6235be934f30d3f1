"""Which class outputs name: the greatest; of one output behind a sigmoid, whether it is above a half."""

import numpy as np

from lutloom.network import Flatten, Multiply, Reshape, Table

PROBABILITY = 0.5
PASSES_ON = ("reshape", "flatten", "quant", "requantize")


def classes(outputs, binary=False):
    """Class index of every frame of outputs (real numbers where ``binary``)."""
    outputs = outputs.reshape(len(outputs), -1)
    return (outputs[:, 0] > PROBABILITY).astype(np.int64) if binary else outputs.argmax(axis=1)


def is_binary(graph):
    """Whether a graph ends with one number behind a sigmoid."""
    node = graph.producer(graph.output)
    while node is not None and node.op in PASSES_ON:
        node = graph.producer(node.inputs[0])
    return np.prod(graph.shapes[graph.output]) == 1 and node is not None and node.op == "table" and (
        node.params["function"] == "logistic")


def is_binary_network(network):
    """The same of a network."""
    layers, name = {layer.output: layer for layer in network.layers}, network.output
    while isinstance(layer := layers.get(name), Reshape | Flatten | Multiply):
        name = layer.input
    return np.prod(network.tensors[network.output].shape) == 1 and isinstance(layer, Table) and (
        layer.function == "logistic")
