"""From a stage of the plan and the layers that it computes to its hardware."""

from math import gcd

import numpy as np
from amaranth.hdl import signed, unsigned

from lutloom.errors import FitError, ModelError
from lutloom.formats import Format
from lutloom.hw.adapter import Gather, Scatter
from lutloom.hw.build_branch import BRANCHING
from lutloom.hw.build_sparse import sparse_stage
from lutloom.hw.geometry import Geometry
from lutloom.hw.join import TableLookup
from lutloom.hw.matvec import MatVec
from lutloom.hw.memory import Rom
from lutloom.hw.pool import Pool
from lutloom.hw.requantise import make_requantise
from lutloom.hw.stage import MapStage, Stage
from lutloom.hw.topk import TopK
from lutloom.hw.trits import Trits
from lutloom.hw.vectors import VectorTables
from lutloom.hw.whole_pool import WholePool
from lutloom.hw.window import Window
from lutloom.network import Conv, Dense, MaxPool, Table
from lutloom.plan import pools_whole_map, window_of
from lutloom.rom import depthwise_words, pack, weight_words
from lutloom.stored import Stored
from lutloom.weight_format import ENTRY_BITS, WeightFormat


def shape_of(format):
    """Amaranth shape of a format's codes."""
    return signed(format.bits) if format.signed else unsigned(format.bits)


def adapters(name, bits, given_channels, channels, width, wanted):
    """Units between a stream of ``width`` values a beat and a consumer of ``wanted``, none if they are equal.

    Where the consumer sees the stream shaped anew, with other channels a pixel, it passes through beats so narrow that
    pixels of both shapes are whole ones.
    """
    common = gcd(width, wanted)
    if given_channels != channels:
        common = gcd(common, given_channels, channels)
    units = []
    for kind, pixel, wide in (("scatter", given_channels, width), ("gather", channels, wanted)):
        if wide != common:
            make = Scatter if kind == "scatter" else Gather
            unit = make(bits=bits, width=common, ratio=wide // common, pixel_beats=-(-pixel // common))
            units.append((f"{name}_{kind}", unit))
    return units


def geometry(group, width, units):
    """Where a stage's window goes.

    Parameters
    ----------
    group : lutloom.plan.Group
    width : int
        Values a word.
    units : int
    """
    main, channels = group.main, group.image[2]
    words = -(-channels // width)
    if isinstance(main, Dense):
        return Geometry(1, 1, words, reps=-(-main.weights.codes.shape[0] // units))
    where = window_of(group)
    if not isinstance(main, Conv) or group.depthwise:
        return Geometry(words=words, blocks=words, **where)
    if main.groups > 1 and (channels // main.groups) % width:
        raise ModelError(
            f"layer {main.name!r} has {channels // main.groups} channels a group: its words must divide them, "
            f"not be of {width}"
        )
    outputs = main.weights.codes.shape[0] // main.groups
    return Geometry(words=words, blocks=main.groups, reps=-(-outputs // units), **where)


def accumulator_shape(network, group):
    """Amaranth shape that holds every result of a stage's work."""
    tensor = group.results if group.requantise is None else network.tensors[group.requantise.input]
    return shape_of(Format.of_range(tensor.low, tensor.high))


def results_shape(network, group):
    """Amaranth shape of a pooling's results in front of the requantisation, as the network declares them."""
    results = group.results if group.requantise is None else network.tensors[group.requantise.input]
    return shape_of(results.format)


def make_stage(network, plan, group, stage):
    """The component of one stage.

    Parameters
    ----------
    network : Network
    plan : Plan
    group : lutloom.plan.Group
        The layers.
    stage : StagePlan
    """
    if stage.kind in BRANCHING:
        return BRANCHING[stage.kind](network, plan, group, stage)
    if stage.kind == "topk":
        return TopK(shape=shape_of(group.input.format), count=group.input.shape[0], width=stage.width, k=group.main.k)
    requantise_name = f"{stage.name}_requantise"
    place = "ebr" if plan.patchable else stage.parameters_place
    channels = group.channels_out
    source = group.input.format
    if isinstance(group.requantise, Table):
        requantise = TableLookup(
            name=requantise_name, layer=group.requantise, in_format=source, out_format=group.output.format,
            lanes=stage.width, latency=plan.memory_latency, place=place,
        )
    elif stage.kind == "map":
        requantise = make_requantise(
            group.requantise, name=requantise_name, tensor=group.input, acc_shape=shape_of(source), lanes=stage.width,
            out_format=group.output.format, place=place, channels=channels, dsp=stage.requantise_dsp,
            latency=plan.memory_latency, patchable=plan.patchable, steps=stage.steps, paired=plan.paired,
        )
    if stage.kind == "map":
        return MapStage(
            requantise=requantise, shape=shape_of(source), in_bits=source.bits, out_bits=group.output.format.bits,
            width=stage.width, channels=channels, credits=stage.credits,
        )
    if pools_whole_map(group):
        return _whole_pool(network, plan, group, stage)
    if stage.run_bits:
        shape = accumulator_shape(network, group)
        requantise = _behind(network, plan, group, stage, shape, None)
        return sparse_stage(plan, group, stage, shape, requantise)
    where = geometry(group, stage.width, stage.units)
    masked = source.kind == "bipolar" and any(where.pads) and not isinstance(group.main, MaxPool)
    if masked and stage.kind == "dot" and group.image[2] % stage.width:
        raise FitError(
            f"layer {group.main.name!r} pads bipolar values: a word must divide its {group.image[2]} channels"
        )
    pad_code = None
    if isinstance(group.main, MaxPool):
        pad_code = source.code_low
    elif stage.kind == "pool":
        pad_code = group.main.pad_code
    elif source.kind != "bipolar":
        pad_code = int(group.input.zero_point)
    latency = plan.memory_latency
    weights = decode = center = None
    if stage.kind == "dot":
        decode = decoder(plan, group, stage, where.kernel[0] * (1 if group.depthwise else stage.width))
    window = Window(
        name=stage.name, geometry=where, bits=source.bits, lanes=stage.width, pad_code=pad_code, latency=latency,
        lead=(latency if latency == 1 else latency + 2) + (decode.delay if decode is not None else 0),
        place=stage.rows_place,
    )
    if stage.kind == "dot":
        _check_codebook(group, stage)
        acc_shape = accumulator_shape(network, group)
        form = group.main.weights.format
        lanes = where.kernel[0] * (1 if group.depthwise else stage.width)
        if source.kind == "bipolar" and form.kind == "binary" and not masked:
            center = int(np.prod(group.main.weights.codes.shape[1:]))
            acc_shape = unsigned(center.bit_length())
        work = MatVec(
            lanes=lanes, units=stage.units, x_format=source, w_format=decoded(plan, form), acc_shape=acc_shape,
            masked=masked, dsp=stage.dsp, lut_units=stage.lut_units, channels=stage.width if group.depthwise else None,
            paired=plan.paired,
        )
        # Far ways on an ECP5: a register between its blocks and the choice among them, one more behind it.
        depth = latency if latency == 1 else latency + 1
        weights = weight_rom(group, stage, where, depth, "ebr" if plan.patchable else stage.weights_place)
    else:
        kind = "max" if isinstance(group.main, MaxPool) else "sum"
        acc_shape = results_shape(network, group)
        work = Pool(
            kind=kind, rows=where.kernel[0], units=stage.units, x_format=source, acc_shape=acc_shape, masked=masked,
            factors=None if kind == "max" else group.main.factors.reshape(where.out_height, where.out_width),
        )
    requantise = _behind(network, plan, group, stage, acc_shape, center)
    return Stage(
        name=stage.name, window=window, work=work, weights=weights, decode=decode, shape=acc_shape, units=stage.units,
        out_width=stage.out_width, channels=channels, requantise=requantise, out_bits=group.output.format.bits,
        credits=stage.credits, masked=masked,
    )


def _behind(network, plan, group, stage, shape, center):
    """The requantiser behind a stage's windows."""
    return make_requantise(
        group.requantise, name=f"{stage.name}_requantise", acc_shape=shape, lanes=stage.out_width, center=center,
        tensor=network.tensors[group.main.output], out_format=group.output.format,
        place="ebr" if plan.patchable else stage.parameters_place, channels=group.channels_out,
        dsp=stage.requantise_dsp, latency=plan.memory_latency, patchable=plan.patchable, steps=stage.steps,
        paired=plan.paired,
    )


def _whole_pool(network, plan, group, stage):
    """A pooling of whole feature maps."""
    shape, latency = results_shape(network, group), plan.memory_latency
    requantise = make_requantise(
        group.requantise, name=f"{stage.name}_requantise", acc_shape=shape, lanes=stage.width,
        tensor=network.tensors[group.main.output], out_format=group.output.format,
        place="ebr" if plan.patchable else stage.parameters_place, channels=group.channels_out,
        dsp=stage.requantise_dsp, latency=latency, patchable=plan.patchable, steps=stage.steps, paired=plan.paired,
    )
    return WholePool(
        name=stage.name, kind="max" if isinstance(group.main, MaxPool) else "sum",
        pixels=group.image[0] * group.image[1], x_format=group.input.format, shape=shape, width=stage.width,
        channels=group.channels_out, requantise=requantise, out_bits=group.output.format.bits, credits=stage.credits,
        latency=latency,
    )


def _check_codebook(group, stage):
    """FitError where words go beyond the channels and the weights have no zero to fill them with."""
    form, share = group.main.weights.format, group.image[2] // getattr(group.main, "groups", 1)
    if form.group > 1:
        if not able_width(group, stage.width):
            raise FitError(f"layer {group.main.name!r} has {share} channels whose weights share indices in groups of "
                           f"{form.group}: its words cannot be of {stage.width}")
        return
    if not filled(form) and not group.depthwise and share % stage.width:
        raise FitError(f"layer {group.main.name!r} has a codebook without a zero: a word must divide its {share} "
                       "channels")


def able_width(group, width):
    """Whether words of a width are of whole groups of weights, where weights share an index."""
    main, size = group.main, group.main.weights.format.group
    share = group.image[2] // getattr(main, "groups", 1)
    if size == 1 or group.depthwise or width == share:
        return True
    rows = 1 if isinstance(main, Dense) else window_of(group)["kernel"][0]
    whole = width % size == 0 and (rows == 1 or share % size == 0)
    return whole and (share % width == 0 or group.input.format.kind != "bipolar")


def decoded(plan, format):
    """The format of weights as multipliers take them; of a patchable design, for any table."""
    if format.group > 1 and plan.patchable:
        return WeightFormat("int", ENTRY_BITS)
    return format.decoded


def decoder(plan, group, stage, lanes):
    """What stands between the ROM of a stage and its multipliers; None where codes are stored as they are."""
    form = group.main.weights.format
    if form.group > 1:
        place = "ebr" if plan.patchable else stage.table_place
        latency = plan.memory_latency
        return VectorTables(
            name=f"{stage.name}_table", format=form, entry_bits=decoded(plan, form).bits, lanes=lanes,
            units=stage.units, latency=1 if place == "lut" or latency == 1 else latency + 1, place=place,
        )
    return Trits(count=lanes * stage.units) if stage.packed else None


def filled(format):
    """Whether words may go beyond the channels: there is a code that then adds nothing, or nothing comes in there."""
    return format.group > 1 or format.kind == "binary" or 0 in format.levels


def filler(format):
    """Code of the weights beyond the last channel: it decodes to zero, or meets a zero bit without a match.

    A codebook without a zero has none: its words divide the channels, and what fills the units beyond the last output
    does not count.
    """
    if format.kind == "binary":
        return 1
    if format.group > 1:
        return 0
    return int(format.encode(np.zeros(1, int))[0]) if 0 in format.levels else 0


def weight_rom(group, stage, where, latency, place):
    """The memory of a stage's weights."""
    weights = group.main.weights
    codes = weights.codes
    if isinstance(group.main, Dense):
        codes = codes[:, None, None, :]
    codes = codes.reshape(len(codes), *where.kernel, -1)
    if group.depthwise:
        words = depthwise_words(codes, stage.units)
    else:
        words = weight_words(codes, where, stage.width, stage.units, filler(weights.format))
    stored = Stored.of(weights.format, words.shape[1] // stage.units, stage.units, stage.packed)
    return Rom(
        name=f"{stage.name}_weights", width=stored.width, depth=len(words),
        init=pack(stored.numbers_of(words), stored.bits), latency=latency, place=place,
    )
