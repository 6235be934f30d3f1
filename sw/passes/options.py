"""What the user chose, as every pass from graph to network reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from lutloom.formats import Format


@dataclass(frozen=True)
class InputFormat:
    """Codes that the network takes in: code q stands for scale·(q - zero_point)."""

    format: Format
    scale: Fraction
    zero_point: Fraction
    low: int
    high: int


def _silent(step, done=None, total=None):
    """Progress that nobody sees."""


@dataclass(frozen=True)
class Options:
    """Choices of one quantisation.

    Parameters
    ----------
    input : InputFormat
    weights : str, Spec or None
        ``--weights``; None where the user said nothing.
    rounding : "auto", "nearest", "mask" or "compensated"
        Of weights; auto: compensated where there are calibration data and it pays.
    activations : int or "binary"
        Bits of activations that the model does not quantise itself.
    method : "mse", "minmax" or "percentile"
    frames : float array (N, ...) or None
        Calibration data: real values in NHWC, in the shape of the graph's input.
    requantiser : "auto", "thresholds" or "multiply"
        auto: thresholds for outputs of ``compared_bits`` and fewer, multipliers for wider ones where they are exact.
    compared_bits : int
    equalise : bool
        Scale channels between layers so that their weights' ranges are even.
    simulated : bool
        The graph is computed in floats, with activations as they are: layers may keep real weights.
    pruning : tuple of lutloom.prune_spec.Pruning
    binarize : tuple of str
        Of "kernel", "bias", "gamma", "beta": parameters that become two numbers each.
    statistics : "stored" or "measured"
        Mean and variance of batch norms: the model's own, or those of ``frames``.
    info : mapping of str to str
        What the network shall say about where it came from.
    progress : function of (step, done, total)
    """

    input: InputFormat
    weights: object = None
    rounding: str = "auto"
    activations: int | str = 8
    method: str = "mse"
    frames: np.ndarray | None = None
    requantiser: str = "auto"
    compared_bits: int = 4
    equalise: bool = False
    simulated: bool = False
    pruning: tuple = ()
    binarize: tuple = ()
    statistics: str = "stored"
    info: Mapping[str, str] = field(default_factory=dict)
    progress: Callable = _silent
