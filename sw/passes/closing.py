"""The end of a lowered network: logits on one scale, and what the model closes with."""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.network import Multiply, Offset, TopK
from lutloom.passes.multiplier import multipliers_of, shift_for
from lutloom.passes.requantise import Maximum, run_chain
from lutloom.passes.rewire import CLOSINGS

OUTPUT_BITS = 16
"""Logits whose scales differ by channel are brought to one scale in so many bits."""


def close(lowering):
    """The network whose output is what the graph's output is, up to a softmax (Lowering -> Network)."""
    graph = lowering.graph
    ends, name = [], graph.output
    while (node := graph.producer(name)) is not None and node.op in CLOSINGS:
        ends.insert(0, node)
        name = node.inputs[0]
    value = lowering.values[name]
    reader = ends[0].name if ends else "output"
    if value.is_plain or not value.is_quantised:
        output = _logits(lowering, value)
    else:
        output = lowering.codes(value, reader).tensor
    ops = [node.op for node in ends]
    picks = [node for node in ends if node.op != "softmax"]
    if len(picks) > 1 or "softmax" in ops[1:]:
        raise ModelError(f"model ends with {' and '.join(ops)}; a softmax or one argmax or top-k is supported")
    if picks:
        layer = TopK(lowering.name(picks[0].name), output, lowering.name(picks[0].name), picks[0].params.get("k", 1))
        return lowering.network(lowering.add(layer), "")
    return lowering.network(output, "softmax" if ops else "")


def _logits(lowering, value):
    """The output tensor of a value that is affine in accumulators: exact where one scale holds for all channels."""
    tensor = lowering.tensors[value.tensor]
    if tensor.format.kind == "bipolar" and value.is_plain:
        return value.tensor
    slopes = {chain[0].scale for chain in value.chains}
    if not value.is_plain or len(slopes) != 1 or min(slopes) <= 0:
        return _common_scale(lowering, value)
    scale = slopes.pop()
    shifts = [chain[0].offset / scale for chain in value.chains]
    if len(set(shifts)) == 1:
        lowering.tensors[value.tensor] = replace(tensor, scale=scale, zero_point=-shifts[0])
        return value.tensor
    zero = Fraction(0)
    if all((shift - shifts[0]).denominator == 1 for shift in shifts):
        zero = floor(shifts[0]) - shifts[0]
    whole = [round(shift + zero) for shift in shifts]
    if any(number != shift + zero for number, shift in zip(whole, shifts, strict=True)):
        lowering.notes["output"] = "biases rounded to whole accumulator units"
    name = lowering.name(f"{value.tensor}.offset")
    layer = Offset(name, value.tensor, name, np.array(whole, np.int64))
    return lowering.add(layer, scale=scale, zero_point=zero)


def _common_scale(lowering, value):
    """Bring channels of different scales to one in 16 bits, by a multiplier a channel."""
    tensor = lowering.tensors[value.tensor]
    chains = value.chains * tensor.shape[-1] if len(value.chains) == 1 else value.chains
    ends = [sorted(run_chain(chain, code) for code in (tensor.low, tensor.high)) for chain in chains]
    most = max(max(abs(end) for end in pair) for pair in ends) or Fraction(1)
    format = Format("int", OUTPUT_BITS)
    scale = most / format.code_high
    linear = [chain[0] for chain in chains]
    if any(len(chain) > 2 for chain in chains) or not _only_clamped(chains):
        if value.tensor == lowering.graph.input:
            raise ModelError(f"what stands behind input {value.tensor!r} at the end is neither a quantiser nor affine; "
                             "end the model with a quantiser, or with a layer of weights")
        raise ModelError(f"what stands behind layer {value.tensor!r} at the end is neither a quantiser nor affine; end "
                         "the model with a quantiser, or cut it behind that layer")
    slopes = [step.scale / scale for step in linear]
    multiplier, shift = multipliers_of(slopes, shift_for(slopes))
    fraction = [round(step.offset / scale * (1 << shift)) for step in linear]
    least = min(pair[0] for pair in ends)
    low = max(format.code_low, ceil(least / scale)) if any(len(chain) == 2 for chain in chains) else format.code_low
    lowering.notes["output"] = f"channels brought to one scale in {OUTPUT_BITS} bits"
    name, channels = lowering.name(f"{value.tensor}.scale"), len(chains)
    layer = Multiply(name, value.tensor, name, np.array(multiplier, np.int64), np.full(channels, shift, np.int64),
                     np.zeros(channels, np.int64), np.array(fraction, np.int64), 0, low, format.code_high)
    return lowering.add(layer, format, scale, Fraction(0))


def _only_clamped(chains):
    """Whether all chains are affine, or all affine and then a relu."""
    tails = {chain[1:] for chain in chains}
    return tails in ({()}, {(Maximum(Fraction(0)),)})
