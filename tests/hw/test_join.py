"""Sums and products of two streams, and tables: against golden, in the cycles that the schedules say."""

import numpy as np
import pytest
from bench import packed, play
from stream_bench import drive_ports, transfers

from lutloom.formats import Format
from lutloom.golden.join import add, product, scaled_codes
from lutloom.hw.join import JoinStage, ProductOfCodes, SumOfTables, TableLookup
from lutloom.hw.requantise import make_requantise
from lutloom.network import Add, Multiply, Product, Table

UINT8, INT8, INT5, UINT4 = (Format.parse(text) for text in ("uint:8", "int:8", "int:5", "uint:4"))


def sum_layer(subtract=0, left=20):
    return Add("add", ("a", "b"), "y", left, (128, -3), (1073741824, 1717986918), (31, 33), 1340000000, 31 + left, -5,
               -128, 127, subtract)


def product_layer(offsets=(5, -128)):
    return Product("product", ("a", "b"), "y", offsets, 1717986918, 38, 3, -100, 127)


def pairs(formats, lanes, count=60, seed=1):
    """Codes (count, lanes) of both inputs: all corners against each other first."""
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(form.code_low, form.code_high + 1, (count, lanes)) for form in formats)
    corners = [(x, y) for x in (formats[0].code_low, formats[0].code_high, 0)
               for y in (formats[1].code_low, formats[1].code_high, 0)]
    a[: len(corners)], b[: len(corners)] = np.array(corners)[:, :1], np.array(corners)[:, 1:]
    return a, b


def contributions(layer, formats, a, b):
    """What codes contribute to an Add."""
    return [
        scaled_codes(form, layer.left, layer.offsets[k], layer.multipliers[k], layer.shifts[k])[codes - form.code_low]
        for k, (form, codes) in enumerate(zip(formats, (a, b), strict=True))
    ]


def combined(unit, formats, a, b):
    """What a Combine gives, and checks that it is there after its delay."""
    rng = np.random.default_rng(3)
    valid = rng.integers(0, 2, len(a)) | (np.arange(len(a)) < 12)
    spare = [0] * (unit.delay + 1)
    seen = play(unit, {"i_valid": [*valid.tolist(), *spare], "i_a": packed(a, formats[0].bits) + spare,
                       "i_b": packed(b, formats[1].bits) + spare}, ["o_valid", "o_acc"])
    assert seen["o_valid"] == [0] * unit.delay + valid.tolist() + [0]
    return np.array(seen["o_acc"][unit.delay : unit.delay + len(a)], object)


@pytest.mark.parametrize("formats", [(INT8, INT8), (UINT8, INT5), (UINT4, UINT8)], ids=str)
@pytest.mark.parametrize("subtract,latency,left", [(0, 1, 20), (1, 2, 20), (1, 1, 0)])
def test_sum_of_tables(formats, subtract, latency, left):
    layer = sum_layer(subtract, left)
    unit = SumOfTables(name="s", layer=layer, formats=formats, lanes=2, latency=latency)
    a, b = pairs(formats, 2)
    one, two = contributions(layer, formats, a, b)
    assert combined(unit, formats, a, b).tolist() == packed(one - two if subtract else one + two, unit.acc_shape.width)
    assert sorted(spec.depth for spec in unit.memories) == sorted(2 ** form.bits for form in formats for _ in range(2))


@pytest.mark.parametrize("formats,offsets", [((INT8, INT8), (128, -7)), ((UINT8, INT5), (-255, 40)),
                                             ((UINT4, UINT8), (0, 0))], ids=str)
@pytest.mark.parametrize("dsp", [False, True])
def test_product_of_codes(formats, offsets, dsp):
    unit = ProductOfCodes(layer=product_layer(offsets), formats=formats, lanes=2, dsp=dsp)
    a, b = pairs(formats, 2)
    expected = packed((a + offsets[0]) * (b + offsets[1]), unit.acc_shape.width)
    assert combined(unit, formats, a, b).tolist() == expected


def join(layer, formats, width, channels, latency=1, credits=9):
    """A join of 8-bit results, as lutloom.hw.build_branch makes it."""
    if isinstance(layer, Add):
        combine = SumOfTables(name="s", layer=layer, formats=formats, lanes=width, latency=latency)
    else:
        combine = ProductOfCodes(layer=layer, formats=formats, lanes=width)
    one = np.ones(width, np.int64)
    behind = Multiply("m", "", "", one * layer.multiplier, one * layer.shift, one * 0, one * 0, layer.zero_point,
                      layer.low, layer.high, "tflm")
    requantise = make_requantise(
        behind, name="r", tensor=None, acc_shape=combine.acc_shape, lanes=width, out_format=INT8, place="lut",
        channels=width, dsp=False, latency=latency,
    )
    return JoinStage(combine=combine, requantise=requantise, formats=formats, out_bits=8, width=width,
                     channels=channels, credits=credits)


def beats_of(codes, width, bits):
    """Pixels (n, channels) as beats; values beyond the last channel are zero."""
    spare = -codes.shape[1] % width
    return packed(np.pad(codes, ((0, 0), (0, spare))).reshape(-1, width), bits)


@pytest.mark.parametrize("layer,formats", [(sum_layer(), (INT8, UINT8)), (sum_layer(1), (INT5, INT8)),
                                           (product_layer(), (INT8, UINT4)), (product_layer((0, 0)), (UINT8, INT8))])
@pytest.mark.parametrize("width,channels,credits", [(1, 1, 3), (2, 3, 40)])
@pytest.mark.parametrize("rates", [{}, {"i0": 0.4}, {"i1": 0.5, "o": 0.5}], ids=str)
def test_join(layer, formats, width, channels, credits, rates):
    unit = join(layer, formats, width, channels, latency=credits % 2 + 1, credits=credits)
    a, b = pairs(formats, channels, 14)
    golden = add(*contributions(layer, formats, a, b), layer) if isinstance(layer, Add) else product(a, b, layer)
    beats = {f"i{k}": beats_of(codes, width, formats[k].bits) for k, codes in enumerate((a, b))}
    expected = beats_of(golden, width, 8)
    outputs, cycles = drive_ports(unit, beats, {"o": len(expected)}, in_rates=rates, out_rates=rates, seed=4)
    assert outputs["o"] == expected
    if not rates:
        assert cycles == transfers(unit, {"i0": len(expected), "i1": len(expected)}, {"o": len(expected)})


@pytest.mark.parametrize("source,target,lanes,latency", [("int:8", "int:8", 2, 1), ("uint:3", "int:6", 3, 2),
                                                         ("int:4", "uint:2", 1, 1), ("bipolar", "uint:5", 2, 1)])
def test_table_lookup(source, target, lanes, latency):
    source, target = Format.parse(source), Format.parse(target)
    rng = np.random.default_rng(5)
    layer = Table("t", "x", "y", rng.integers(target.code_low, target.code_high + 1, 1 << source.bits))
    unit = TableLookup(name="t", layer=layer, in_format=source, out_format=target, lanes=lanes, latency=latency)
    codes = np.arange(source.code_low, source.code_high + 1)
    x = np.stack([np.roll(codes, lane) for lane in range(lanes)], axis=1)
    spare = [0] * (latency + 1)
    seen = play(unit, {"i_valid": [1] * len(x) + spare, "i_acc": packed(x, source.bits) + spare}, ["o_valid", "o"])
    assert seen["o_valid"] == [0] * latency + [1] * len(x) + [0]
    assert seen["o"][latency : latency + len(x)] == packed(layer.codes[x - source.code_low], target.bits)


def test_a_wrong_table_is_noticed():
    layer = Table("t", "x", "y", np.arange(16)[::-1].astype(np.int64))
    wrong = Table("t", "x", "y", np.where(np.arange(16) == 9, 0, layer.codes))
    unit = TableLookup(name="t", layer=wrong, in_format=UINT4, out_format=UINT4, lanes=1)
    seen = play(unit, {"i_valid": [1] * 17, "i_acc": [*range(16), 0]}, ["o"])["o"][1:]
    assert [place for place, code in enumerate(seen) if code != layer.codes[place]] == [9]
