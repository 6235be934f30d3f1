"""Ranges and formats by bounds: what holds for any weights of the same formats, for designs that are patched later."""

from dataclasses import replace

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Network, Offset, SumPool, Thresholds


def widen(network: Network) -> Network:
    """The same network with accumulators as wide as their formats allow; its codes do not change.

    A bias is taken to be at most as large as the accumulators that it is added to.

    Raises
    ------
    ModelError
        For a requantiser whose hardware depends on its numbers, and for a bias beyond the bound.
    """
    tensors = {network.input: _whole(network.tensors[network.input])}
    for layer in network.layers:
        source, target = tensors[layer.input], network.tensors[layer.output]
        if isinstance(layer, Multiply):
            raise ModelError(
                f"layer {layer.name!r} requantises by multiplying, whose hardware depends on the weights; a patchable "
                "build needs thresholds: take at most 4 bits with --activations"
            )
        if isinstance(layer, Conv | Dense | SumPool):
            target = _of_range(target, *output_range(layer, source, by_format=True))
        elif isinstance(layer, Offset):
            low, high = min(2 * source.low, source.low), max(2 * source.high, source.high)
            if int(layer.values.min()) < low - source.low or int(layer.values.max()) > high - source.high:
                raise ModelError(
                    f"layer {layer.name!r} has a bias beyond the range of its accumulators, which a patchable build "
                    "does not hold; build without --patchable"
                )
            target = _of_range(target, low, high)
        elif isinstance(layer, Thresholds | MaxPool | Flatten):
            target = _whole(target)
        tensors[layer.output] = target
    return replace(network, tensors=tensors)


def _of_range(tensor, low, high):
    return replace(tensor, low=low, high=high, format=Format.of_range(low, high))


def _whole(tensor):
    """Every code of the tensor's format may occur."""
    return replace(tensor, low=tensor.format.code_low, high=tensor.format.code_high)
