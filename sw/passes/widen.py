"""Ranges and formats by bounds: what holds for any weights of the same formats, for designs that are patched later."""

from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import (
    Concat,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Network,
    Offset,
    Pad,
    Reshape,
    Slice,
    State,
    SumPool,
    Thresholds,
    TopK,
    inputs_of,
)

MOVING = MaxPool | Flatten | Reshape | Concat | Slice | Pad | State
KNOWN = Conv | Dense | SumPool | Multiply | Offset | Thresholds | TopK


def widen(network: Network) -> Network:
    """The same network with accumulators as wide as their formats allow; its codes do not change.

    A bias is taken to be at most as large as the accumulators that it is added to.

    Raises
    ------
    ModelError
        For layers whose hardware depends on their numbers, and for a bias beyond the bound.
    """
    tensors = {network.input: _whole(network.tensors[network.input])}
    for layer in network.layers:
        target = network.tensors[layer.output]
        if isinstance(layer, MOVING):
            before = tensors.get(inputs_of(layer)[0], target)  # a state's may be given later
            tensors[layer.output] = _whole(replace(target, format=before.format))
            continue
        if not isinstance(layer, KNOWN):
            raise ModelError(
                f"layer {layer.name!r} ({type(layer).__name__}) has hardware that depends on its numbers; build "
                "without --patchable"
            )
        format = getattr(getattr(layer, "weights", None), "format", None)
        if format is not None and layer.weights.sparse:
            raise ModelError(
                f"layer {layer.name!r} has weights without their zeros, whose places and number other weights would "
                "change; build without --patchable, or leave out +sparse"
            )
        if format is not None and format.values and format.group == 1:
            raise ModelError(
                f"layer {layer.name!r} has {format} weights, whose table stands in logic and depends on them; build "
                "without --patchable"
            )
        source = tensors[layer.input]
        if isinstance(layer, Multiply):
            if layer.output == _logits(network):
                raise ModelError(
                    f"layer {layer.name!r} brings logits to one scale by multiplying, whose hardware depends on the "
                    "weights; a patchable build needs weights of one scale in the last layer: ask for them with @layer "
                    "in --weights"
                )
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
        elif isinstance(layer, Thresholds):
            target = _whole(target)
        tensors[layer.output] = target
    return replace(network, tensors=tensors)


def biased(network: Network) -> Network:
    """The same network with an Offset behind its logits, of zeros where there was none; its codes do not change.

    Whether logits need one depends on the numbers (a bias that all channels share is a zero point): other weights of
    the same network may bring one, and shall find its hardware.
    """
    name = _logits(network)
    given = {layer.output: layer for layer in network.layers}
    source = given.get(name)
    while isinstance(source, Flatten | MaxPool | SumPool):
        source = given.get(source.input)
    if not isinstance(source, Conv | Dense):
        return network
    taken, new = {layer.name for layer in network.layers} | set(network.tensors), f"{name}.offset"
    while new in taken:
        new += "_"
    tensor = network.tensors[name]
    offset = Offset(new, name, new, np.zeros(tensor.shape[-1], np.int64))
    layers, top = network.layers, network.layers[-1]
    layers = (*layers[:-1], offset, replace(top, input=new)) if isinstance(top, TopK) else (*layers, offset)
    output = network.output if isinstance(top, TopK) else new
    return replace(network, layers=layers, output=output, tensors={**network.tensors, new: replace(tensor, name=new)})


def _logits(network):
    """Name of the tensor that leaves the network, or that its TopK takes."""
    last = network.layers[-1]
    return last.input if isinstance(last, TopK) else network.output


def _of_range(tensor, low, high):
    return replace(tensor, low=low, high=high, format=Format.of_range(low, high))


def _whole(tensor):
    """Every code of the tensor's format may occur."""
    return replace(tensor, low=tensor.format.code_low, high=tensor.format.code_high)
