"""Where a window goes over a feature map: the numbers that hardware, ROM order and schedule share."""

from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np


@dataclass(frozen=True)
class Geometry:
    """Where a window goes, over which words, and how often.

    For each position in raster order: for each block: ``reps`` times (each time is a group): for each kernel column:
    for each word of the block: one fold, with the words of all kernel rows side by side.

    Parameters
    ----------
    height, width : int
        Of the feature map, in pixels.
    words : int
        Words a pixel.
    kernel, stride, dilation : (int, int)
    pads : (top, left, bottom, right)
    blocks : int
        Parts of the channels that are gone through apart (groups of a convolution; words of a pooling).
    reps : int
        Times that each block is replayed (for further outputs).
    """

    height: int
    width: int
    words: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    blocks: int = 1
    reps: int = 1

    def __post_init__(self):
        for what in ("height", "width", "words", "blocks", "reps"):
            if getattr(self, what) < 1:
                raise ValueError(f"window {what} must be at least 1, not {getattr(self, what)!r}")
        if self.words % self.blocks:
            raise ValueError(f"window words must be a multiple of blocks {self.blocks}, not {self.words}")
        if min(self.pads) < 0 or min(self.kernel + self.stride + self.dilation) < 1:
            raise ValueError("window kernel, stride and dilation must be positive and pads not negative")
        if self.out_height < 1 or self.out_width < 1:
            raise ValueError(f"window kernel {self.kernel} must fit the padded {self.height}x{self.width} map")

    @property
    def span(self):
        """Rows from a window's first to its last."""
        return (self.kernel[0] - 1) * self.dilation[0] + 1

    @property
    def out_height(self):
        """Positions down."""
        return (self.height + self.pads[0] + self.pads[2] - self.span) // self.stride[0] + 1

    @property
    def out_width(self):
        """Positions across."""
        span = (self.kernel[1] - 1) * self.dilation[1] + 1
        return (self.width + self.pads[1] + self.pads[3] - span) // self.stride[1] + 1

    @property
    def block_words(self):
        """Words of a block."""
        return self.words // self.blocks

    @property
    def cost(self):
        """Folds of a group."""
        return self.kernel[1] * self.block_words

    @property
    def position_groups(self):
        """Groups a position."""
        return self.blocks * self.reps

    @property
    def row_words(self):
        """Words a row of the feature map."""
        return self.width * self.words

    @cached_property
    def banks(self):
        """Memories: as few as hold a window's rows in different ones."""
        banks = self.kernel[0]
        while gcd(banks, self.dilation[0]) != 1:
            banks += 1
        return banks

    @cached_property
    def depth_rows(self):
        """Rows held in each bank: enough for a window and the rows of the next one."""
        return -(-(min(self.span, self.height) + self.stride[0]) // self.banks)

    @property
    def ring(self):
        """Rows held."""
        return self.banks * self.depth_rows

    @property
    def capacity(self):
        """Words held."""
        return self.ring * self.row_words

    @cached_property
    def need_row(self):
        """Last row that output row r reads, (out_height,)."""
        rows = np.arange(self.out_height) * self.stride[0] - self.pads[0] + self.span - 1
        return np.clip(rows, 0, self.height - 1)

    @cached_property
    def need_column(self):
        """Last column that output column c reads, (out_width,)."""
        columns = np.arange(self.out_width) * self.stride[1] - self.pads[1]
        return np.clip(columns + (self.kernel[1] - 1) * self.dilation[1], 0, self.width - 1)

    @cached_property
    def freed_rows(self):
        """Rows that are not read any more after output row r, (out_height,)."""
        first = np.arange(1, self.out_height + 1) * self.stride[0] - self.pads[0]
        freed = np.clip(first, 0, self.height)
        freed[-1] = self.height
        return freed

    @property
    def need(self):
        """Words of the frame that a position needs, (out_height, out_width)."""
        return (self.need_row[:, None] * self.width + self.need_column[None, :] + 1) * self.words

    @property
    def frees(self):
        """Words of the frame that are free after a position, (out_height, out_width)."""
        before = np.concatenate([[0], self.freed_rows[:-1]])
        frees = np.repeat(before[:, None], self.out_width, axis=1)
        frees[:, -1] = self.freed_rows
        return frees * self.row_words
