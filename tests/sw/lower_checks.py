"""The network of a graph with its own quantisers against the graph computed in rationals."""

import exact_graph as exact
import numpy as np

from lutloom.quantize import prepared, quantize


def check(graph, frames=2, seed=0, **choices):
    """The network of a graph equals the graph in rationals, up to the output's own scale; the network."""
    network = quantize(graph, **choices)
    _, options = prepared(graph, **choices)
    rng = np.random.default_rng(seed)
    tensor = network.tensors[network.input]
    codes = rng.integers(tensor.low, tensor.high + 1, (frames, *graph.shapes[graph.input]))
    found = network(codes.reshape(frames, *tensor.shape).astype(tensor.format.dtype()))
    output = network.tensors[network.output]
    for frame, got in zip(codes, found, strict=True):
        wanted = exact.run(graph, frame, options.input)
        value = exact.rationals(output.format.values(got).astype(float))
        np.testing.assert_array_equal((value - output.zero_point) * output.scale, wanted)
    return network


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]
