"""The choice of a unit, and its Verilog."""

from pathlib import Path

import pytest
from amaranth.back import verilog
from amaranth.hdl import Fragment

from lutloom.formats import Format
from lutloom.hw.bipolar import BipolarDot
from lutloom.hw.dot import dot_for
from lutloom.hw.dot_base import Dot
from lutloom.hw.dsp import DspDot
from lutloom.hw.fixed import FixedDot
from lutloom.hw.mask import MaskDot
from lutloom.hw.memory import Target
from lutloom.hw.sign import SignDot
from lutloom.hw.xnor import XnorDot
from lutloom.toolchain.tools import yosys_for_amaranth
from lutloom.weights import WeightFormat

CHOICES = [
    ("bipolar", "binary", False, False, XnorDot),
    ("bipolar", "binary", True, False, XnorDot),
    ("bipolar", "int:4", False, False, BipolarDot),
    ("bipolar", "bitmask:X0.0XX", True, True, BipolarDot),
    ("uint:4", "binary", False, False, SignDot),
    ("int:4", "binary", False, True, SignDot),
    ("uint:4", "bitmask:X0.0XX", False, False, MaskDot),
    ("uint:4", "bitmask:X0.0XX", False, True, DspDot),
    ("uint:8", "int:8", False, False, FixedDot),
    ("uint:8", "int:8", False, True, DspDot),
]


@pytest.mark.parametrize("x,w,masked,dsp,kind", CHOICES)
def test_choice(x, w, masked, dsp, kind):
    unit = dot_for(Format.parse(x), WeightFormat.parse(w), 5, masked=masked, dsp=dsp)
    Fragment.get(unit, None)
    assert type(unit) is kind
    assert (unit.lanes, str(unit.x_format), str(unit.w_format), unit.masked) == (5, x, w, masked)
    assert unit.o.shape() == unit.acc_shape


def test_masked_needs_bipolar():
    with pytest.raises(ValueError, match="masked must be False for uint:8 activations"):
        dot_for(Format("uint", 8), WeightFormat.parse("int:8"), 2, masked=True, dsp=True)


@pytest.mark.parametrize("family", ["generic", "ice40", "ecp5"])
def test_verilog(family):
    with yosys_for_amaranth():
        for x, w, masked, dsp, _ in (CHOICES[1], CHOICES[4], CHOICES[7]):
            unit = dot_for(Format.parse(x), WeightFormat.parse(w), 4, masked=masked, dsp=dsp)
            text = verilog.convert(unit, name="lutloom_dot", platform=Target(family), emit_src=False)
            assert "module lutloom_dot(" in text
            assert str(Path(__file__).parents[2]) not in text and ".py" not in text


def test_base_is_abstract():
    class Nothing(Dot):
        X_KINDS, W_KINDS = ("uint",), ("int",)

    with pytest.raises(NotImplementedError):
        _ = Nothing(lanes=1, x_format=Format("uint", 1), w_format=WeightFormat.parse("int:1")).delay
