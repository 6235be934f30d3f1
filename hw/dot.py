"""Which unit computes the dot product of which formats."""

from functools import partial

from lutloom.hw.bipolar import BipolarDot
from lutloom.hw.dot_base import Dot
from lutloom.hw.dsp import DspDot
from lutloom.hw.fixed import FixedDot
from lutloom.hw.mask import MaskDot
from lutloom.hw.sign import SignDot
from lutloom.hw.xnor import XnorDot

__all__ = ["Dot", "dot_for"]


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
        On the chip's DSP blocks, where the formats give a multiplication; of no effect on one-bit operands.
    paired : bool
        In LUTs of a chip whose adders gate their operands.

    Returns
    -------
    Dot
    """
    if x_format.kind == "bipolar":
        unit = XnorDot if w_format.kind == "binary" else BipolarDot
    elif w_format.kind == "binary":
        unit = SignDot
    elif dsp:
        unit = DspDot
    elif w_format.kind == "bitmask":
        unit = MaskDot
    else:
        unit = partial(FixedDot, paired=paired)
    return unit(lanes=lanes, x_format=x_format, w_format=w_format, masked=masked)
