"""Matrix times vector: groups of folds with idle cycles between and within them."""

import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.sim import Simulator
from bench import packed, play

from lutloom.formats import Format
from lutloom.hw.matvec import MatVec
from lutloom.weights import WeightFormat


@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("options", [
    {}, {"paired": True}, {"dsp": True}, {"dsp": True, "lut_units": 1}, {"dsp": True, "lut_units": 2, "paired": True},
], ids=str)
def test_groups_and_idle_cycles(idle, options):
    rng = np.random.default_rng(7)
    lanes, units, folds, groups = 3, 2, 4, 8
    x_format, w_format = Format("uint", 4), WeightFormat.parse("int:3")
    unit = MatVec(lanes=lanes, units=units, x_format=x_format, w_format=w_format, acc_shape=signed(14), **options)
    x = rng.integers(0, 16, (groups, folds, lanes))
    w = rng.integers(0, 8, (groups, folds, units, lanes))
    expected = (x[:, :, None] * w_format.decode(w)).sum((1, 3)).tolist()
    results = []

    async def bench(ctx):
        todo = [(g, f) for g in range(groups) for f in range(folds)]
        for _ in range(2000):
            going = bool(todo) and rng.random() >= idle
            ctx.set(unit.i_valid, going)
            if going:
                group, fold = todo.pop(0)
                ctx.set(unit.i_first, fold == 0)
                ctx.set(unit.i_last, fold == folds - 1)
                for lane in range(lanes):
                    ctx.set(unit.i_x[lane], int(x[group, fold, lane]))
                for index, code in enumerate(w[group, fold].ravel()):
                    ctx.set(unit.i_w[index], int(code))
            else:  # what lies there between folds must not matter
                ctx.set(unit.i_x[0], int(rng.integers(16)))
            if ctx.get(unit.o_valid):
                results.append([ctx.get(unit.o_acc[u]) for u in range(units)])
            if len(results) == groups:
                return
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert results == expected


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("x,w,masked,dsp", [
    ("int:8", "int:4", False, False), ("uint:4", "int:8", False, True), ("uint:3", "binary", False, False),
    ("bipolar", "binary", False, False), ("bipolar", "binary", True, False), ("bipolar", "int:3", True, False),
])
def test_depthwise(multiplier, channels, x, w, masked, dsp):
    rng = np.random.default_rng(multiplier)
    x_format, w_format = Format.parse(x), WeightFormat.parse(w)
    lanes, units, groups, folds = 3, multiplier * channels, 6, 2
    unit = MatVec(lanes=lanes, units=units, x_format=x_format, w_format=w_format, acc_shape=signed(20), masked=masked,
                  dsp=dsp, channels=channels)
    codes = rng.integers(x_format.code_low, x_format.code_high + 1, (groups, folds, lanes, channels))
    weights = w_format.encode(rng.choice(w_format.levels, (groups, folds, units, lanes)))
    taps = rng.integers(0, 2, (groups, folds, lanes)) if masked else np.ones((groups, folds, lanes), int)
    # The channels' values for each unit: its own channel's alone.
    own = x_format.values(codes)[..., np.arange(units) // multiplier].swapaxes(2, 3)
    products = own * w_format.decode(weights) * taps[:, :, None]
    if x_format.kind == "bipolar" and w_format.kind == "binary" and not masked:
        products = (products + 1) // 2  # matches
    fold = np.arange(groups * folds)
    drive = {
        "i_valid": [1] * len(fold), "i_first": (fold % folds == 0).tolist(), "i_last": (fold % folds == 1).tolist(),
        "i_x": packed(codes.reshape(len(fold), -1), x_format.bits),
        "i_w": packed(weights.reshape(len(fold), -1), w_format.bits),
    }
    if masked:
        drive["i_lanes"] = packed(taps.reshape(len(fold), -1), 1)
    for words in drive.values():
        words.extend([0] * unit.delay)
    seen = play(unit, drive, ["o_valid", "o_acc"])
    done = np.flatnonzero(seen["o_valid"])
    assert done.tolist() == [unit.delay + 1 + folds * group for group in range(groups)]
    assert [seen["o_acc"][cycle] for cycle in done] == packed(products.sum((1, 3)), 20)


def test_depthwise_units_are_whole_channels():
    with pytest.raises(ValueError, match="depthwise units must be a multiple of the 2 channels, not 3"):
        MatVec(lanes=1, units=3, x_format=Format("int", 8), w_format=WeightFormat.parse("int:4"), acc_shape=signed(20),
               channels=2)


@pytest.mark.parametrize("dsp, lut_units, sentence", [
    (True, 3, "units in LUTs must be 0 to 2, not 3"), (False, 1, "units in LUTs must be 0 to 0, not 1"),
])
def test_units_in_luts_are_no_more_than_there_are(dsp, lut_units, sentence):
    with pytest.raises(ValueError, match=sentence):
        MatVec(lanes=1, units=2, x_format=Format("uint", 4), w_format=WeightFormat.parse("int:3"), acc_shape=signed(9),
               dsp=dsp, lut_units=lut_units)
