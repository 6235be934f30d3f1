"""Which unit computes the dot product of which formats."""

from functools import partial

from lutloom.hw.bipolar import BipolarDot
from lutloom.hw.dot_base import Dot
from lutloom.hw.dsp import DspDot
from lutloom.hw.fixed import FixedDot
from lutloom.hw.half import HalfDot
from lutloom.hw.mask import MaskDot
from lutloom.hw.shift import ShiftDot
from lutloom.hw.sign import SignDot
from lutloom.hw.table import TableDot
from lutloom.hw.xnor import XnorDot

__all__ = ["Dot", "dot_for"]


WITHOUT_MULTIPLIER = {"binary": SignDot, "ternary": MaskDot, "pow2": ShiftDot}
"""Of integer activations: the unit by the weights' kind, where a DSP block is of no use."""


def dot_for(x_format, w_format, lanes, masked=False, dsp=False, paired=False):
    """The unit that computes Σ w·x of these formats (matches, with bipolar activations, binary weights and no mask).

    Parameters
    ----------
    x_format : Format
    w_format : WeightFormat
    lanes : int
    masked : bool
        Lanes can be left out; for bipolar activations alone.
    dsp : bool
        On the chip's DSP blocks, where the formats give a multiplication; of no effect on others.
    paired : bool
        In LUTs of a chip whose adders gate their operands.

    Returns
    -------
    Dot
    """
    kind = w_format.kind
    if x_format.kind == "bipolar":
        unit = {"binary": XnorDot, "codebook": TableDot, "pow2": TableDot}.get(kind, BipolarDot)
    elif kind in WITHOUT_MULTIPLIER:
        unit = WITHOUT_MULTIPLIER[kind]
    elif kind in ("codebook", "float16"):
        unit = partial(TableDot if kind == "codebook" else HalfDot, dsp=dsp, paired=paired)
    elif dsp:
        unit = DspDot
    else:
        unit = MaskDot if kind == "bitmask" else partial(FixedDot, paired=paired)
    return unit(lanes=lanes, x_format=x_format, w_format=w_format, masked=masked)
