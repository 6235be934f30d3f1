"""Layers that move codes and compute nothing: views, parts and unions of tensors, constants, and state."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same codes in raster order (channels innermost) in another shape."""

    name: str
    input: str
    output: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Transpose:
    """Axis i of the output is axis order[i] of the input, both (H, W, C)."""

    name: str
    input: str
    output: str
    order: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Broadcast:
    """The input as often as it takes to be of a shape: axes that are missing in front, or of size 1, stand for all."""

    name: str
    input: str
    output: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Concat:
    """Tensors of one format behind each other along an axis (0 is H of (H, W, C), or C of (C,))."""

    name: str
    inputs: tuple[str, ...]
    output: str
    axis: int


@dataclass(frozen=True, eq=False)
class Slice:
    """Codes begin, begin + step, ... of each axis, ``sizes`` of them; a step may be negative."""

    name: str
    input: str
    output: str
    begin: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pad:
    """The tensor with ``before`` and ``after`` so many times ``code`` along each axis."""

    name: str
    input: str
    output: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    code: int


@dataclass(frozen=True, eq=False)
class Constant:
    """The same codes in every frame.

    Parameters
    ----------
    codes : int64 array of the output's shape
    """

    name: str
    output: str
    codes: np.ndarray

    @property
    def inputs(self):
        """It takes nothing."""
        return ()


@dataclass(frozen=True, eq=False)
class State:
    """What ``input`` was in the frame before; ``reset`` in the first frame, and in the first after a clear.

    The layer stands before those that read its output; its input may be given by any layer, also a later one.

    Parameters
    ----------
    reset : int64 array of the output's shape
    """

    name: str
    input: str
    output: str
    reset: np.ndarray
