"""Trim: channels that never reach the output, or are always the same, leave the network; what is left may be sorted.

Exact: the network gives the codes that it gave before. A channel whose every reader has weights of zero for it goes
with the weights that made it; one whose own weights are all zero is a constant, which becomes part of the
requantisation behind its readers. Outputs of layers whose zeros are skipped are put in the order of their number of
weights, so that units which work side by side have as much to do.
"""

from dataclasses import replace

import numpy as np

from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Offset,
    SumPool,
    Table,
    Thresholds,
    inputs_of,
)

PER_CHANNEL = {Thresholds: ("values", "falling"), Multiply: ("multiplier", "shift", "offset", "fraction"),
               Offset: ("values",)}
"""Arrays of a requantiser whose first axis are channels."""


def trim(network):
    """The network without its dead channels, layers that skip zeros sorted (Network -> Network).

    ``info["removed"]`` counts the channels by layer.
    """
    removed = {}
    again = True
    while again:
        again = False
        for layer in network.layers:
            chain = _chain(network, layer)
            if chain is None:
                continue
            network, gone = _without_dead(network, chain)
            if gone:
                removed[layer.name] = removed.get(layer.name, 0) + gone
                again = True
                break
    for name in [layer.name for layer in network.layers if getattr(getattr(layer, "weights", None), "sparse", False)]:
        chain = _chain(network, next(layer for layer in network.layers if layer.name == name))
        if chain is not None:
            network = _with_channels(network, chain, np.argsort(_counts(chain[0]), kind="stable"))
    if removed:
        text = ", ".join(f"{name} {count}" for name, count in removed.items())
        network = replace(network, info={**network.info, "removed": text})
    return network


def _counts(layer):
    """Weights of each output that are not zero."""
    return np.count_nonzero(layer.weights.integers.reshape(len(layer.weights.codes), -1), axis=1)


def _chain(network, first):
    """The layers from one with weights to the next that reads all its channels, both included; None if others read
    what is between, or something between mixes channels."""
    if not _mixes(first):
        return None
    readers = {}
    for layer in network.layers:
        for name in inputs_of(layer):
            readers.setdefault(name, []).append(layer)
    chain, name = [first], first.output
    while True:
        behind = readers.get(name, [])
        if len(behind) != 1 or name == network.output:
            return None
        layer = behind[0]
        chain.append(layer)
        if _mixes(layer):
            return None if layer.weights.format.group > 1 else chain  # its weights are stored by groups of inputs
        if not (isinstance(layer, MaxPool | SumPool | Flatten | Table | Thresholds | Multiply | Offset)
                or _is_depthwise(layer)):
            return None
        name = layer.output


def _mixes(layer):
    """Whether each output is a sum over all channels."""
    return isinstance(layer, Dense) or (isinstance(layer, Conv) and layer.groups == 1)


def _is_depthwise(layer):
    """Whether a convolution gives one channel for each that it takes."""
    return isinstance(layer, Conv) and layer.groups > 1 and layer.weights.codes.shape[3] == 1 and (
        len(layer.weights.codes) == layer.groups)


def _columns(network, chain, channels):
    """Which of the last layer's inputs come from some channels of the first."""
    for layer in chain[1:-1]:
        if isinstance(layer, Flatten):
            height, width, depth = network.tensors[layer.input].shape
            channels = (np.arange(height * width)[:, None] * depth + channels).ravel()
    return channels


def _without_dead(network, chain):
    """(network, how many channels went) without those of a chain's first layer that do nothing."""
    first, last = chain[0], chain[-1]
    count = len(first.weights.codes)
    integers = last.weights.integers
    reads = np.count_nonzero(integers.reshape(len(integers), -1, integers.shape[-1]), axis=(0, 1))
    owner = np.empty(integers.shape[-1], int)
    for channel in range(count):
        owner[_columns(network, chain, np.array([channel]))] = channel
    unread = np.bincount(owner, reads, count) == 0
    constant = (_counts(first) == 0) & ~unread
    if constant.any():
        network, constant = _with_constants(network, chain, constant, owner)
    kept = np.flatnonzero(~(unread | constant))
    if len(kept) == 0:
        kept = np.arange(1)
    if len(kept) == count:
        return network, 0
    return _with_channels(network, _chain(network, _named(network, first.name)), kept), count - len(kept)


def _named(network, name):
    """The layer of a name."""
    return next(layer for layer in network.layers if layer.name == name)


def _with_constants(network, chain, constant, owner):
    """(network, channels that could be done) whose last layer of a chain has zero weights for constant channels, with
    what they add in the requantisation behind it."""
    last, done = chain[-1], np.zeros(len(constant), bool)
    if 0 not in last.weights.format.levels:
        return network, done
    given = network.tensors[last.input]
    frame = np.full((1, *network.tensors[network.input].shape), network.tensors[network.input].low)
    codes = network.run(frame, (last.input,))[last.input][0]
    codes = codes.reshape(-1, codes.shape[-1])
    padded = isinstance(last, Conv) and any(last.pads)
    for channel in np.flatnonzero(constant):
        columns = np.flatnonzero(owner == channel)
        mine = codes[:, columns]
        at_rim = given.format.kind != "bipolar" and (mine[0] == given.zero_point).all()
        if (mine != mine[0]).any() or (padded and not at_rim):
            continue  # the sum is another there
        better = _absorbed(network, last.name, columns, given.format.values(mine[0]).astype(np.int64))
        if better is not None:
            network, done[channel] = better, True
    return network, done


def _absorbed(network, name, columns, values):
    """The network with zero weights in some columns of a layer, whose inputs always are ``values``; what they add goes
    into the requantisation behind it. None where there is none, or its output would not be known to stay in range."""
    last = _named(network, name)
    behind = [layer for layer in network.layers if last.output in inputs_of(layer)]
    if len(behind) != 1 or not isinstance(behind[0], Thresholds | Multiply | Offset) or last.output == network.output:
        return None
    integers = last.weights.integers.astype(np.int64)
    added = integers[..., columns].reshape(len(integers), -1, len(columns)).sum(axis=1) @ values
    stored = last.weights.codes.copy()
    stored[..., columns] = last.weights.format.encode(np.zeros(1, int))[0]
    changed = replace(last, weights=replace(last.weights, codes=stored))
    low, high = output_range(changed, network.tensors[last.input])
    sums = replace(network.tensors[last.output], format=Format.of_range(low, high), low=low, high=high)
    requantiser = behind[0]
    if isinstance(requantiser, Thresholds):
        requantiser = replace(requantiser, values=np.clip(requantiser.values - added[:, None], low, high + 1))
    elif isinstance(requantiser, Multiply):
        requantiser = replace(requantiser, offset=requantiser.offset + added)
    else:
        requantiser = replace(requantiser, values=requantiser.values + added)
    low, high = output_range(requantiser, sums)
    results = network.tensors[requantiser.output]
    if low < results.low or high > results.high:
        if requantiser.output != network.output:
            return None  # what reads it counts on its range
        low, high = min(low, results.low), max(high, results.high)
        results = replace(results, format=Format.of_range(low, high), low=low, high=high)
    swapped = {last.name: changed, requantiser.name: requantiser}
    tensors = {**network.tensors, sums.name: sums, results.name: results}
    return replace(network, tensors=tensors, layers=tuple(swapped.get(layer.name, layer) for layer in network.layers))


def _with_channels(network, chain, kept):
    """The network with some of the channels of a chain's first layer, in an order of their own."""
    tensors, swapped = dict(network.tensors), {}
    index = np.asarray(kept)
    for place, layer in enumerate(chain):
        if place == len(chain) - 1:
            swapped[layer.name] = replace(layer, weights=replace(layer.weights, codes=np.ascontiguousarray(
                layer.weights.codes[..., index])))
            break
        if isinstance(layer, Conv | Dense):
            changes = {"groups": len(index)} if _is_depthwise(layer) else {}
            swapped[layer.name] = replace(layer, weights=_rows(layer.weights, index), **changes)
        elif isinstance(layer, Thresholds | Multiply | Offset):
            arrays = PER_CHANNEL[type(layer)]
            swapped[layer.name] = replace(layer, **{name: getattr(layer, name)[index] for name in arrays})
        elif isinstance(layer, Flatten):
            height, width, depth = network.tensors[layer.input].shape
            index = (np.arange(height * width)[:, None] * depth + index).ravel()
        before = tensors[layer.output]
        tensors[layer.output] = replace(before, shape=(*before.shape[:-1], len(index)))
    return replace(network, tensors=tensors, layers=tuple(swapped.get(layer.name, layer) for layer in network.layers))


def _rows(weights, index):
    """Weights of some outputs."""
    scale = weights.scale if len(weights.scale) == 1 else tuple(weights.scale[row] for row in index)
    return replace(weights, codes=np.ascontiguousarray(weights.codes[index]), scale=scale)
