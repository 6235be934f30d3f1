"""The network of a graph with its own quantisers against the graph computed in rationals."""

import exact_graph as exact
import numpy as np

from lutloom.quantize import fake_quantised, prepared, quantize


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


def compared(graph, frames=2, **choices):
    """The network, after comparing it with the quantised graph in rationals."""
    rng = np.random.default_rng(7)
    choices["calibrate"] = rng.integers(0, 256, (20, *graph.input_shape), dtype=np.uint8)
    network = quantize(graph, **choices)
    quantised, options = fake_quantised(graph, **choices)
    tensor, output = network.tensors[network.input], network.tensors[network.output]
    codes = rng.integers(0, 256, (frames, *tensor.shape), dtype=np.uint8)
    for frame, got in zip(codes, network(codes), strict=True):
        wanted = exact.run(quantised, frame.reshape(graph.shapes[graph.input]), options.input)
        value = (exact.rationals(output.format.values(got).astype(float)) - output.zero_point) * output.scale
        if np.array_equal(value, wanted):
            continue
        assert "output" in network.info  # logits that were rounded to one scale at the end
        assert abs(value - wanted).max() <= output.scale
    return network


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]
