"""Stages that join, part and keep streams, from a stage of the plan and its layers to hardware."""

import numpy as np

from lutloom.errors import ModelError
from lutloom.hw.branch import Buffer, Insert, Select, Turns
from lutloom.hw.join import JoinStage, ProductOfCodes, SumOfTables
from lutloom.hw.reorder import Constants, Reorder
from lutloom.hw.requantise import make_requantise
from lutloom.hw.softmax import Softmax
from lutloom.network import Add, Multiply, Product, Sum
from lutloom.plan import image_of, order_of
from lutloom.rom import pack, period


def _join(network, plan, group, stage):
    """Sum or product of two streams."""
    layer, formats = group.main, tuple(tensor.format for tensor in group.inputs)
    if group.inputs[0].shape != group.inputs[1].shape:
        raise ModelError(
            f"layer {layer.name!r} takes tensors of shapes {group.inputs[0].shape} and {group.inputs[1].shape}; "
            "hardware has sums and products of equal shapes only"
        )
    lanes = stage.width
    if isinstance(layer, Add | Sum):
        combine = SumOfTables(name=stage.name, layer=layer, formats=formats, lanes=lanes, latency=plan.memory_latency)
    else:
        combine = ProductOfCodes(layer=layer, formats=formats, lanes=lanes, dsp=stage.dsp, paired=plan.paired)
    behind, tensor, place = group.requantise, network.tensors[layer.output], stage.parameters_place
    if isinstance(layer, Add | Product):  # the layer's own
        one, place = np.ones(lanes, np.int64), "lut"
        behind = Multiply(
            layer.name, "", "", one * layer.multiplier, one * layer.shift, one * 0, one * 0, layer.zero_point,
            layer.low, layer.high, "tflm",
        )
    requantise = None if behind is None else make_requantise(
        behind, name=f"{stage.name}_requantise", tensor=tensor, acc_shape=combine.acc_shape, lanes=lanes,
        out_format=group.output.format, place="ebr" if plan.patchable else place, channels=group.channels_out,
        dsp=stage.requantise_dsp, latency=plan.memory_latency, steps=stage.steps, paired=plan.paired,
    )
    return JoinStage(
        combine=combine, requantise=requantise, formats=formats, out_bits=group.output.format.bits, width=lanes,
        channels=group.channels_out, credits=stage.credits,
    )


def _softmax(network, plan, group, stage):
    layer = group.main
    return Softmax(
        name=stage.name, count=group.image[2], multiplier=layer.multiplier, left=layer.left, least=layer.least,
        low=layer.low, high=layer.high, in_format=group.input.format, out_format=group.output.format,
        latency=plan.memory_latency,
    )


def _concat(network, plan, group, stage):
    """Tensors in turn: whole ones, rows, or pixels."""
    axis = group.main.axis + 3 - len(group.results.shape)
    beats = []
    for tensor in group.inputs:
        height, across, channels = image_of(tensor)
        beats.append((height if axis == 0 else 1) * (across if axis <= 1 else 1) * -(-channels // stage.width))
    return Turns(bits=group.input.format.bits, width=stage.width, beats=beats)


def _places(shape, width, begin, sizes, steps):
    """Beats of a tensor's stream that a part of it takes, in their order."""
    missing = 3 - len(sizes)
    begin, sizes, steps = (0,) * missing + tuple(begin), (1,) * missing + tuple(sizes), (1,) * missing + tuple(steps)
    beats = -(-shape[2] // width)
    rows, columns = (begin[k] + steps[k] * np.arange(sizes[k]) for k in (0, 1))
    channels = (begin[2] + steps[2] * np.arange(0, sizes[2], width)) // width
    return ((rows[:, None, None] * shape[1] + columns[None, :, None]) * beats + channels).ravel()


def _slice(network, plan, group, stage):
    """Some beats of a frame."""
    layer, shape = group.main, group.image
    places = _places(shape, stage.width, layer.begin, layer.sizes, layer.steps)
    beats = shape[0] * shape[1] * -(-shape[2] // stage.width)
    return Select(bits=group.input.format.bits, width=stage.width, kept=places.tolist(), beats=beats)


def _pad(network, plan, group, stage):
    """Constant beats around a tensor."""
    layer, bits = group.main, group.input.format.bits
    shape = image_of(group.results)
    inner = group.input.shape
    places = _places(shape, stage.width, layer.before, inner, (1,) * len(inner))
    word = sum((layer.code & ((1 << bits) - 1)) << bits * lane for lane in range(stage.width))
    beats = shape[0] * shape[1] * -(-shape[2] // stage.width)
    return Insert(bits=bits, width=stage.width, own=places.tolist(), beats=beats, word=word)


def _state(network, plan, group, stage):
    """A buffer that begins with a frame of constants."""
    bits, shape = group.input.format.bits, group.image
    codes = np.asarray(group.main.reset).reshape(-1, shape[2]) & ((1 << bits) - 1)
    spare = -shape[2] % stage.width
    words = pack(np.pad(codes, ((0, 0), (0, spare))).reshape(-1, stage.width), bits)
    return Buffer(
        name=f"{stage.name}_state", bits=bits, width=stage.width, depth=len(words), latency=plan.memory_latency,
        initial=len(words), words=words,
    )


def _order(network, plan, group, stage):
    """A frame in memory, read in another order."""
    sizes, strides, base = order_of(group)
    height, across, channels = group.image
    width = stage.width
    if width > 1:  # whole beats of channels
        sizes, strides = (*sizes[:2], sizes[2] // width), (strides[0] // width, strides[1] // width, strides[2])
    return Reorder(
        name=f"{stage.name}_frames", bits=group.input.format.bits, width=width,
        beats=height * across * channels // width, sizes=sizes, strides=strides, base=base // width,
        latency=plan.memory_latency,
    )


def _constant(network, plan, group, stage):
    """A period of constant beats."""
    bits = group.results.format.bits
    words = pack(np.asarray(group.main.codes).reshape(-1, stage.width), bits)
    return Constants(
        name=f"{stage.name}_codes", bits=bits, width=stage.width, words=words[: period(words)],
        latency=plan.memory_latency, place=stage.weights_place,
    )


BRANCHING = {"join": _join, "softmax": _softmax, "concat": _concat, "slice": _slice, "pad": _pad, "state": _state,
             "order": _order, "constant": _constant}
