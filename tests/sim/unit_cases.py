"""Every unit with what a bench gives it and expects of it, by the units' own models; vectors as in tests/hw."""

from dataclasses import dataclass
from functools import partial

import bench
import dot_checks
import numpy as np
import test_adapter
import test_branch
import test_half
import test_join
import test_multiply
import test_offset
import test_softmax
import test_sparse_stage
import test_stage
import test_table
import test_thresholds
import test_topk
import test_vectors
from amaranth.hdl import signed, unsigned
from stream_bench import transfers

from lutloom.executor import in_a_row, run
from lutloom.formats import Format
from lutloom.golden import join as golden_join
from lutloom.golden.softmax import exponentials, softmax
from lutloom.hw.adapter import Gather, Scatter
from lutloom.hw.bipolar import BipolarDot
from lutloom.hw.branch import Buffer, Fork, Insert, Select, Turns
from lutloom.hw.dot import dot_for
from lutloom.hw.dsp import DspDot
from lutloom.hw.fifo import ShiftFifo
from lutloom.hw.fixed import FixedDot
from lutloom.hw.join import TableLookup
from lutloom.hw.mask import MaskDot
from lutloom.hw.matvec import MatVec
from lutloom.hw.multiply import Multiply
from lutloom.hw.pool import Pool
from lutloom.hw.product import Product
from lutloom.hw.reorder import Reorder
from lutloom.hw.serialize import Serialize
from lutloom.hw.shift import ShiftDot
from lutloom.hw.sign import SignDot
from lutloom.hw.softmax import Softmax
from lutloom.hw.topk import TopK
from lutloom.hw.tree import AdderTree, MaxTree, range_of
from lutloom.hw.trits import Trits
from lutloom.hw.xnor import XnorDot
from lutloom.network import Add, Table
from lutloom.weights import WeightFormat


@dataclass(frozen=True)
class Vectors:
    """A unit of fixed latency, and what goes in and comes out.

    Parameters
    ----------
    unit : component
    inputs, outputs : dict of port to integers (vectors,) or (vectors, lanes)
    delay : int
    masks : dict of port to bool array (vectors,)
        Vectors whose result is compared.
    """

    unit: object
    inputs: dict
    outputs: dict
    delay: int
    masks: dict | None = None


@dataclass(frozen=True)
class Beats:
    """A unit with streams, and their beats.

    Parameters
    ----------
    unit : component
    inputs, outputs : dict of stream to list of int
        Payloads.
    cycles : dict of stream to list of int
        Of their transfers when no side stalls.
    """

    unit: object
    inputs: dict
    outputs: dict
    cycles: dict


def dot(kind, lanes, x, w, masked=False):
    """A dot product by itself."""
    unit = dot_checks.make(kind, lanes, x, w, masked)
    return dot_of(unit, *bench.dot_vectors(unit, seed=1))


def dot_of(unit, x, w):
    """A dot product with vectors."""
    inputs = {"i_x": x, "i_w": w}
    if unit.masked:
        inputs["i_valid"] = masks(x.shape)
    return Vectors(unit, inputs, {"o": unit.model(x, w, inputs.get("i_valid"))}, unit.delay)


def table_dot(lanes, x, w):
    """A dot product behind a codebook."""
    unit = test_table.make(lanes, x, w)
    return dot_of(unit, *bench.dot_vectors(unit, seed=1))


def half(lanes, x, span):
    """A dot product of halves."""
    unit = test_half.make(lanes, x, span)
    return dot_of(unit, *test_half.vectors(unit))


def vectors(entries, group, lanes, units, place):
    """Words of indices through their tables."""
    unit = test_vectors.make(entries, group, lanes, units, place=place)
    i = test_vectors.indices(unit, entries)
    return Vectors(unit, {"i": i}, {"o": np.array([unit.model(row) for row in i])}, unit.delay)


def trits(count):
    """Every byte, in each place."""
    unit = Trits(count=count)
    i = np.stack([np.roll(np.arange(256), place) for place in range(-(-count // 5))], axis=1)
    return Vectors(unit, {"i": i}, {"o": np.array([unit.model(row) for row in i])}, 1)


def masks(shape):
    """Which lanes count: none, all, then any."""
    valid = np.random.default_rng(2).integers(0, 2, shape)
    valid[:4] = [[0], [1], [0], [1]]
    return valid


def trees(kind, shape, count):
    """A tree over the extremes, then over anything."""
    (low, high), unit = range_of(shape), kind(shape=shape, count=count)
    corners = [np.full(count, low), np.full(count, high), np.where(np.arange(count) % 2, low, high)]
    values = np.concatenate([corners, np.random.default_rng(1).integers(low, high + 1, (40, count))])
    return Vectors(unit, {"i": values}, {"o": unit.model(values)}, unit.delay)


def product(a_shape, b_shape, dsp):
    """Products of the extremes, then of anything."""
    unit, rng = Product(a_shape=a_shape, b_shape=b_shape, dsp=dsp), np.random.default_rng(1)
    (a_low, a_high), (b_low, b_high) = range_of(a_shape), range_of(b_shape)
    a = np.concatenate([[a_low, a_low, a_high, a_high], rng.integers(a_low, a_high + 1, 60)])
    b = np.concatenate([[b_low, b_high, b_low, b_high], rng.integers(b_low, b_high + 1, 60)])
    return Vectors(unit, {"i_a": a, "i_b": b}, {"o": unit.model(a, b)}, unit.delay)


def requantiser(unit, acc, beats):
    """A requantiser, its accumulators (n, lanes) and their beats, with idle cycles in between."""
    rng = np.random.default_rng(3)
    place = np.cumsum(rng.choice([1, 1, 1, 2, 4], len(acc)))
    valid = np.zeros(place[-1] + 1, int)
    valid[place] = 1
    i_acc, i_beat = np.zeros((len(valid), acc.shape[1]), np.int64), np.zeros(len(valid), int)
    i_acc[:], i_beat[:] = acc[rng.integers(0, len(acc), len(valid))], rng.integers(0, unit.beats, len(valid))
    i_acc[place], i_beat[place] = acc, beats
    codes = np.array([unit.model(row, beat) for row, beat in zip(i_acc, i_beat, strict=True)])
    inputs = {"i_valid": valid, "i_acc": i_acc, "i_beat": i_beat}
    return Vectors(unit, inputs, {"o_valid": valid, "o": codes}, unit.delay, {"o": valid == 1})


def thresholds(number):
    """Both sides of every threshold of a case of tests/hw."""
    case = test_thresholds.CASES[number]
    unit = test_thresholds.unit_of(case)
    return requantiser(unit, *test_thresholds.beats_of(unit, case))


def multiply(number):
    """A case of tests/hw."""
    case = test_multiply.CASES[number]
    return requantiser(Multiply(**test_multiply.parameters(case)), *test_multiply.beats_of(case))


def offset(shape, **options):
    """The extremes of an accumulator in every beat, then anything."""
    unit, rng, (low, high) = test_offset.make(shape, **options), np.random.default_rng(2), range_of(shape)
    corners = np.repeat([low, high], 4)[:, None].repeat(3, 1)
    acc = np.concatenate([corners, rng.integers(low, high + 1, (60, 3))])
    return requantiser(unit, acc, np.arange(len(acc)) % unit.beats)


def grouped(count):
    """Groups of one to four folds, some of them with idle cycles in between: valid, first, last, number of the group.

    The flags of an idle cycle are junk.
    """
    rng = np.random.default_rng(4)
    valid = (rng.random(count) < 0.8).astype(int)
    valid[:30] = valid[-1] = 1  # corners back to back
    first, last = rng.integers(0, 2, (2, count))
    folds = np.flatnonzero(valid)
    ends = rng.random(len(folds)) < 0.4
    ends[:20], ends[-1] = True, True  # groups of one fold
    last[folds] = ends
    first[folds] = np.concatenate([[1], ends[:-1]])
    group = np.zeros(count, int)
    group[folds] = np.cumsum(first[folds]) - 1
    return valid, first, last, group


def matvec(lanes, units, x, w, *, masked=False, dsp=False, channels=None):
    """Groups of folds through several dot products; depthwise: each of the values of its own channel."""
    formats = Format.parse(x), WeightFormat.parse(w)
    unit = MatVec(lanes=lanes, units=units, x_format=formats[0], w_format=formats[1], acc_shape=signed(20),
                  masked=masked, dsp=dsp, channels=channels)
    dot = dot_for(*formats, lanes, masked=masked, dsp=dsp)
    x, w = bench.dot_vectors(dot, seed=1, count=120)
    w = np.stack([np.roll(w, row, axis=0) for row in range(units)], axis=1)
    x = np.stack([np.roll(x, 3 * channel, axis=0) for channel in range(channels or 1)], axis=2)
    own = x[:, :, np.arange(units) * (channels or 1) // units].swapaxes(1, 2)
    valid, first, last, group = grouped(len(x))
    inputs = {"i_valid": valid, "i_first": first, "i_last": last, "i_x": x.reshape(len(x), -1),
              "i_w": w.reshape(len(w), -1)}
    mask = None
    if masked:
        inputs["i_lanes"] = masks(x.shape[:2])
        mask = inputs["i_lanes"][:, None]
    sums = np.zeros((group.max() + 1, units), np.int64)
    np.add.at(sums, group[valid == 1], dot.model(own, w, mask)[valid == 1])
    done = valid & last
    return Vectors(unit, inputs, {"o_valid": done, "o_acc": sums[group]}, unit.delay, {"o_acc": done == 1})


def pool(kind, rows, units, x_format, factors=None):
    """Groups of folds through a pool, each at a position of its own."""
    form, rng = Format.parse(x_format), np.random.default_rng(5)
    shape = signed(16) if kind == "sum" else (signed if form.signed else unsigned)(form.bits)
    unit = Pool(kind=kind, rows=rows, units=units, x_format=form, acc_shape=shape, factors=factors)
    corners = [[code] * (rows * units) for code in (form.code_low, form.code_high, form.code_low)]
    x = np.concatenate([corners, rng.integers(form.code_low, form.code_high + 1, (200, rows * units))])
    valid, first, last, group = grouped(len(x))
    factors = np.ones((1, 1), int) if factors is None else np.asarray(factors)
    row, column = group % factors.shape[0], group // factors.shape[0] % factors.shape[1]
    values, done = form.values(x).reshape(len(x), rows, units), valid & last
    results = np.zeros((group.max() + 1, units), np.int64)
    for number in range(len(results)):
        here = values[(group == number) & (valid == 1)]
        results[number] = here.max((0, 1)) if kind == "max" else here.sum((0, 1))
    scale = factors[row, column][:, None] if kind == "sum" else 1
    inputs = {"i_valid": valid, "i_first": first, "i_last": last, "i_x": x, "i_row": row, "i_column": column}
    return Vectors(unit, inputs, {"o_valid": done, "o_acc": results[group] * scale}, unit.delay, {"o_acc": done == 1})


def serialize(shape, units, width, beats):
    """Groups as close as may be, then with gaps; a pixel's last group gives fewer beats."""
    unit = Serialize(shape=shape, units=units, width=width, beats=beats)
    rng, (low, high) = np.random.default_rng(6), range_of(shape)
    valid, i, o_valid, o, o_beat, beat = [], [], [], [], [], 0
    for number in range(40):
        values = [low, high][number] if number < 2 else rng.integers(low, high + 1, units)
        group = np.zeros((unit.group_beats, width), np.int64)
        group.reshape(-1)[:units] = values
        for part in range(min(unit.group_beats, beats - beat)):
            valid.append(int(part == 0))
            i.append(group.reshape(-1)[:units] if part == 0 else rng.integers(low, high + 1, units))
            o_valid.append(1)
            o.append(group[part])
            o_beat.append(beat)
            beat = (beat + 1) % beats
        for _ in range(0 if number < 20 else int(rng.integers(0, 4))):
            valid.append(0)
            i.append(rng.integers(low, high + 1, units))
            o_valid.append(0)
            o.append(np.zeros(width, np.int64))
            o_beat.append(beat)
    there = np.array(o_valid) == 1
    outputs = {"o_valid": np.array(o_valid), "o": np.array(o), "o_beat": np.array(o_beat)}
    return Vectors(unit, {"i_valid": np.array(valid), "i": np.array(i)}, outputs, 0, {"o": there, "o_beat": there})


def scheduled(unit, i, o, frames=1):
    """Beats, at the cycles of the unit's schedule."""
    came, left = run(in_a_row([unit.schedule]), len(i) // frames, len(o) // frames, frames)[:2]
    return Beats(unit, {"i": i}, {"o": o}, {"i": list(came), "o": list(left)})


def ported(unit, inputs, outputs):
    """Beats of several ports, at the cycles of the unit's schedule."""
    counts = ({name: len(beats) for name, beats in side.items()} for side in (inputs, outputs))
    return Beats(unit, inputs, outputs, transfers(unit, *counts))


def adapter(kind, channels, width, ratio):
    """Pixels through a width adapter."""
    unit = kind(bits=4, width=width, ratio=ratio, pixel_beats=-(-channels // width))
    beats = test_adapter.pixels(channels, width, 12), test_adapter.pixels(channels, width * ratio, 12)
    return scheduled(unit, *(beats if kind is Gather else beats[::-1]))


def fifo(depth):
    """Beats through a buffer: a cycle later, and one at a time where it holds one."""
    beats, step = test_adapter.pixels(8, 2, 20), 2 if depth == 1 else 1
    came = list(range(0, step * len(beats), step))
    return Beats(ShiftFifo(bits=4, width=2, depth=depth), {"i": beats}, {"o": beats},
                 {"i": came, "o": [cycle + 1 for cycle in came]})


def topk(shape, count, width, k):
    """Frames with many equal values."""
    unit, values = TopK(shape=shape, count=count, width=width, k=k), test_topk.frames_of(shape, count)
    beats = test_topk.beats_of(values, shape.width, width)
    return scheduled(unit, beats, unit.model(values).ravel().tolist(), len(values))


def stage(kind, number):
    """Three frames through a window and a pool, a case of tests/hw."""
    height, width, channels, kernel, stride, pads, word, out_width, latency = test_stage.CASES[number]
    unit, model = test_stage.pool_stage(kind, height, width, channels, kernel, stride, pads, word, out_width, latency,
                                        3 * word)
    x = np.random.default_rng(number).integers(0, 16, (3, height, width, channels))
    x[0] = 15
    expected = test_stage.beats_of(model(x), out_width, unit._out_bits)
    return scheduled(unit, test_stage.beats_of(x, word, 4), expected, 3)


def sparse(number):
    """A stage that skips zeros."""
    return scheduled(*test_sparse_stage.sums(test_sparse_stage.CASES[number]), 3)


def unfold(number):
    """Windows as a stream."""
    return scheduled(*test_sparse_stage.windows(test_sparse_stage.WINDOWS[number]), 3)


def fork(ways):
    """Beats to several."""
    beats = test_branch.words(30)
    return ported(Fork(bits=4, width=2, ways=ways), {"i": beats}, {f"o{way}": beats for way in range(ways)})


def buffer(depth, latency, constants=()):
    """Beats through a memory, behind those of a state's first frame."""
    unit = Buffer(name="b", bits=4, width=2, depth=depth, latency=latency, initial=len(constants), words=constants)
    beats = test_branch.words(30)
    return ported(unit, {"i": beats}, {"o": [*constants, *beats]})


def turns(counts):
    """Beats of several in turn."""
    inputs = {f"i{port}": test_branch.words(6 * count, seed=port) for port, count in enumerate(counts)}
    waiting = {name: iter(beats) for name, beats in inputs.items()}
    expected = [next(waiting[f"i{port}"]) for _ in range(6) for port, count in enumerate(counts) for _ in range(count)]
    return ported(Turns(bits=4, width=2, beats=counts), inputs, {"o": expected})


def select(kept, beats):
    """Some beats of six frames."""
    words = test_branch.words(6 * beats)
    expected = [word for place, word in enumerate(words) if place % beats in kept]
    return scheduled(Select(bits=4, width=2, kept=kept, beats=beats), words, expected, 6)


def insert(own, beats):
    """Six frames with constants in between."""
    words = test_branch.words(6 * len(own))
    waiting = iter(words)
    expected = [next(waiting) if place in own else 9 for _ in range(6) for place in range(beats)]
    return scheduled(Insert(bits=4, width=2, own=own, beats=beats, word=9), words, expected, 6)


def reorder(number, latency):
    """Six frames in another order, a case of tests/hw."""
    beats, sizes, strides, base = test_branch.REORDERED[number]
    words = test_branch.words(6 * beats)
    expected = [beat for start in range(0, len(words), beats)
                for beat in test_branch.reordered(words[start:start + beats], sizes, strides, base)]
    unit = Reorder(name="r", bits=4, width=2, beats=beats, sizes=sizes, strides=strides, base=base, latency=latency)
    return scheduled(unit, words, expected, 6)


def join(layer, formats, width, channels, latency, credits):
    """Two streams into one, of all corners and more."""
    unit = test_join.join(layer, formats, width, channels, latency, credits)
    codes = test_join.pairs(formats, channels, 14)
    if isinstance(layer, Add):
        golden = golden_join.add(*test_join.contributions(layer, formats, *codes), layer)
    else:
        golden = golden_join.product(*codes, layer)
    inputs = {f"i{k}": test_join.beats_of(codes[k], width, formats[k].bits) for k in range(2)}
    return ported(unit, inputs, {"o": test_join.beats_of(golden, width, 8)})


def table(in_format, out_format, lanes, latency):
    """Every code in every lane."""
    source, target = Format.parse(in_format), Format.parse(out_format)
    rng = np.random.default_rng(5)
    layer = Table("t", "x", "y", rng.integers(target.code_low, target.code_high + 1, 1 << source.bits))
    unit = TableLookup(name="t", layer=layer, in_format=source, out_format=target, lanes=lanes, latency=latency)
    x = np.stack([np.roll(np.arange(source.code_low, source.code_high + 1), lane) for lane in range(lanes)], axis=1)
    valid = rng.integers(0, 2, len(x))
    outputs = {"o_valid": valid, "o": layer.codes[x - source.code_low]}
    return Vectors(unit, {"i_valid": valid, "i_acc": x}, outputs, unit.delay, {"o": valid == 1})


def shares(count, kind, number, latency):
    """Softmax of a few vectors."""
    form, layer = Format.parse(f"{kind}:8"), test_softmax.LAYERS[number]
    ends = form.code_low, form.code_high
    unit = Softmax(name="s", count=count, multiplier=layer[0], left=layer[1], least=layer[2], low=ends[0], high=ends[1],
                   in_format=form, out_format=form, latency=latency)
    x = test_softmax.vectors(count, *ends)
    expected = softmax(x, exponentials(*layer), *ends)
    return scheduled(unit, (x & 255).ravel().tolist(), (expected & 255).ravel().tolist(), len(x))


FACTORS = np.outer([6, 3, 6], [2, 1])

CASES = {
    "xnor": partial(dot, XnorDot, 33, "bipolar", "binary"),
    "xnor masked": partial(dot, XnorDot, 9, "bipolar", "binary", True),
    "sign": partial(dot, SignDot, 5, "int:3", "binary"),
    "mask": partial(dot, MaskDot, 5, "uint:4", "bitmask:X0.X00X"),
    "fixed": partial(dot, FixedDot, 5, "int:4", "int:4"),
    "bipolar": partial(dot, BipolarDot, 5, "bipolar", "int:4"),
    "bipolar masked": partial(dot, BipolarDot, 3, "bipolar", "bitmask:X0.X0XX", True),
    "dsp": partial(dot, DspDot, 5, "uint:8", "int:8"),
    "ternary": partial(dot, MaskDot, 7, "int:5", "ternary"),
    "shift": partial(dot, ShiftDot, 5, "int:4", "pow2:4"),
    "table": partial(table_dot, 5, "uint:4", "codebook:5"),
    "half": partial(half, 3, "int:4", (12, 15)),
    "vectors": partial(vectors, 16, 4, 7, 2, "ebr"),
    "vectors in logic": partial(vectors, 5, 2, 4, 1, "lut"),
    "trits": partial(trits, 7),
    "thresholds rising": partial(thresholds, 4),
    "thresholds falling": partial(thresholds, 3),
    "multiply up": partial(multiply, 0),
    "multiply tflm": partial(multiply, 3),
    "multiply tflm on dsp": partial(multiply, 6),
    "offset": partial(offset, signed(6)),
    "offset in logic": partial(offset, unsigned(6), latency=2, value_shape=signed(12), place="lut"),
    "adder tree": partial(trees, AdderTree, signed(4), 9),
    "adder of one": partial(trees, AdderTree, unsigned(5), 1),
    "max tree": partial(trees, MaxTree, signed(5), 7),
    "product": partial(product, signed(16), unsigned(16), False),
    "product on dsp": partial(product, signed(33), signed(17), True),
    "matvec": partial(matvec, 4, 3, "uint:4", "int:4"),
    "matvec masked": partial(matvec, 5, 2, "bipolar", "binary", masked=True),
    "matvec depthwise": partial(matvec, 3, 4, "uint:4", "int:4", channels=2),
    "matvec depthwise masked": partial(matvec, 3, 3, "bipolar", "binary", masked=True, channels=3),
    "serialize": partial(serialize, signed(7), 4, 2, 5),
    "serialize offcut": partial(serialize, unsigned(5), 5, 2, 3),
    "pool max": partial(pool, "max", 3, 2, "int:4"),
    "pool sum": partial(pool, "sum", 2, 3, "bipolar", FACTORS),
    "stage max": partial(stage, "max", 3),
    "stage sum": partial(stage, "sum", 4),
    "stage offcut": partial(stage, "max", 9),
    "stage that skips zeros": partial(sparse, 4),
    "stage that skips zeros, several lanes": partial(sparse, 5),
    "windows as a stream": partial(unfold, 3),
    "gather": partial(adapter, Gather, 5, 2, 2),
    "scatter": partial(adapter, Scatter, 7, 1, 3),
    "fifo": partial(fifo, 3),
    "fifo of one": partial(fifo, 1),
    "top 1": partial(topk, signed(5), 10, 4, 1),
    "top 3": partial(topk, unsigned(3), 10, 1, 3),
    "fork": partial(fork, 3),
    "buffer": partial(buffer, 9, 1),
    "buffer slow and shallow": partial(buffer, 2, 2),
    "buffer with a first frame": partial(buffer, 6, 2, (1, 2, 3, 4, 5)),
    "turns": partial(turns, (1, 4, 2)),
    "select": partial(select, (0, 3, 4), 6),
    "insert": partial(insert, (0, 3, 4), 6),
    "reorder": partial(reorder, 1, 2),
    "reorder backwards": partial(reorder, 7, 1),
    "sum": partial(join, test_join.sum_layer(1), (test_join.INT5, test_join.INT8), 2, 3, 2, 40),
    "product of streams": partial(join, test_join.product_layer(), (test_join.INT8, test_join.UINT4), 1, 1, 1, 3),
    "table of codes": partial(table, "int:4", "uint:5", 3, 2),
    "softmax": partial(shares, 5, "int", 0, 2),
}
QUICK = "thresholds falling", "gather", "turns"  # of each bench one: a memory and its image, streams, several of them
