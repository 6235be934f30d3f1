"""Weights without their zeros: runs and codes, in the order in which a stage that skips zeros reads them.

A stage of ``units`` outputs side by side and ``width`` values a word reads, for every unit and every place of a word,
a stream of its own: a step forward from one weight that is not zero to the next, in words, and that weight's code. A
gap longer than the greatest step takes entries more, with a weight of zero. The streams of a group (``units`` outputs)
go on together, as long as the longest of them; shorter ones end in steps of 0 with weights of zero.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lutloom.network import Dense
from lutloom.rom import pack, unpack

LOGIC_BITS = 512
"""Lengths of groups are logic where they are so few bits."""

RUN_BITS = range(1, 9)
"""Bits of a step that are tried."""

LEAST_FOLDS = 2
"""Cycles of a group, at least: what is counted off in between."""


@dataclass(frozen=True)
class Coding:
    """How a stage's weights are stored without their zeros.

    Parameters
    ----------
    width, units : int
        Values a word, outputs side by side.
    run_bits : int
        Of a step.
    floor : int
        Cycles of a group, at least: results must be gone before the next group's come.
    """

    width: int
    units: int
    run_bits: int
    floor: int = LEAST_FOLDS

    @property
    def longest(self):
        """The greatest step."""
        return (1 << self.run_bits) - 1

    def lengths(self, entries):
        """Cycles of each group of outputs, (groups,), of the entries of each stream, (N, width)."""
        longest = np.maximum(entries.max(axis=1), self.floor)
        spare = -len(longest) % self.units
        return np.concatenate([longest, np.full(spare, self.floor)]).reshape(-1, self.units).max(axis=1)


def lengths_in_logic(lengths):
    """Whether the lengths of groups are logic rather than a block RAM."""
    return len(lengths) * (int(lengths.max()) - 1).bit_length() <= LOGIC_BITS


def matrix_of(layer, channels, width, fill):
    """Codes of a layer, a row an output, in the order of the words that a stage takes.

    Parameters
    ----------
    layer : Dense or Conv
    channels : int
        Of the input; its words hold ``width`` each.
    fill : int
        Code of zero: stands where words go beyond the channels, and where a group of a convolution reads none.

    Returns
    -------
    uint16 array (N, kernel rows · kernel columns · words · width)
    """
    codes = layer.weights.codes
    codes = codes[:, None, None, :] if isinstance(layer, Dense) else codes
    outputs, kh, kw, depth = codes.shape
    groups = channels // depth
    whole = np.full((outputs, kh, kw, -(-channels // width) * width), fill, np.uint16)
    each = outputs // groups
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        whole[rows, ..., group * depth:(group + 1) * depth] = codes[rows]
    return whole.reshape(outputs, -1)


def codes_of_matrix(matrix, shape, groups, width):
    """The inverse of `matrix_of`: codes of ``shape`` (N, kh, kw, C/groups)."""
    outputs, kh, kw, depth = shape
    whole, each = matrix.reshape(outputs, kh, kw, -1), outputs // groups
    return np.concatenate([whole[group * each:(group + 1) * each, ..., group * depth:(group + 1) * depth]
                           for group in range(groups)])


def entries_of(matrix, fill, width, run_bits):
    """Entries of each stream, int64 (N, width): one a weight that is not ``fill``, more for long gaps."""
    row, _, gap = _gaps(matrix, fill, width)
    counts = np.maximum(1, -(-gap // ((1 << run_bits) - 1)))
    return np.bincount(row, counts, len(matrix) * width).astype(np.int64).reshape(len(matrix), width)


def _gaps(matrix, fill, width):
    """(stream, code, step from the one before) of every weight that is not ``fill``, stream by stream."""
    streams = matrix.reshape(len(matrix), -1, width).transpose(0, 2, 1).reshape(len(matrix) * width, -1)
    row, place = np.nonzero(streams != fill)
    before = np.concatenate([[0], place[:-1]])
    opens = np.concatenate([[True], row[1:] != row[:-1]]) if len(row) else np.zeros(0, bool)
    return row, streams[row, place], place - np.where(opens, 0, before[:len(place)])


@lru_cache(maxsize=256)
def entries_of_layer(layer, channels, width, run_bits):
    """``entries_of`` a layer's weights, and the words of a vector."""
    fill = int(layer.weights.format.encode([0])[0])
    matrix = matrix_of(layer, channels, width, fill)
    return entries_of(matrix, fill, width, run_bits), matrix.shape[1] // width


def best_run_bits(layer, channels, width, units):
    """Bits of a step with which a stage's weights take the fewest bits."""

    def size(run_bits):
        lengths = Coding(width, units, run_bits).lengths(entries_of_layer(layer, channels, width, run_bits)[0])
        return int(lengths.sum()) * (layer.weights.format.bits + run_bits)

    return min(RUN_BITS, key=size)


def least_bits(weights):
    """Bits that weights take: of those that may be stored without their zeros, with their steps, if that is less."""
    whole = weights.stored_bits
    if not weights.sparse or weights.format.group > 1 or 0 not in weights.format.levels:
        return whole
    fill = int(weights.format.encode([0])[0])
    matrix = weights.codes.reshape(len(weights.codes), -1)
    return min(whole, *(int(entries_of(matrix, fill, 1, bits).sum()) * (weights.format.bits + bits)
                        for bits in RUN_BITS))


def sparse_words(matrix, fill, coding, code_bits):
    """The words of the memory.

    Parameters
    ----------
    matrix : uint16 array (N, words · width)
    fill : int
        Code of zero.
    coding : Coding
    code_bits : int

    Returns
    -------
    words : list of int
        For each unit, for each place of a word: a code and, above it, a step; the first in the lowest bits.
    lengths : int64 array (groups,)
        Words of each group.
    """
    width, units, longest = coding.width, coding.units, coding.longest
    row, code, gap = _gaps(matrix, fill, width)
    counts = np.maximum(1, -(-gap // longest))
    entries = np.bincount(row, counts, len(matrix) * width).astype(np.int64)
    lengths = coding.lengths(entries.reshape(-1, width))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    values = np.full((int(lengths.sum()), units * width), fill, np.int64)
    each = np.repeat(np.arange(len(row)), counts)  # entry -> its weight
    ends = np.cumsum(counts)
    final = np.zeros(len(each), bool)
    final[ends - 1] = True
    first = np.concatenate([[0], np.cumsum(entries)[:-1]])[row[each]] if len(each) else np.zeros(0, int)
    place = np.arange(len(each)) - first
    step = np.where(final, (gap - longest * (counts - 1))[each], longest)
    output, lane = row[each] // width, row[each] % width
    values[starts[output // units] + place, output % units * width + lane] = (
        np.where(final, code[each], fill) | step << code_bits)
    return pack(values, code_bits + coding.run_bits), lengths


def matrix_of_words(words, lengths, shape, fill, coding, code_bits):
    """The inverse of `sparse_words`: codes of ``shape`` (N, words · width)."""
    width, units = coding.width, coding.units
    values = unpack(words, code_bits + coding.run_bits, units * width)
    codes, steps = values & ((1 << code_bits) - 1), values >> code_bits
    outputs, columns = shape
    matrix = np.full((len(lengths) * units, width, columns // width), fill, np.uint16)
    begin = 0
    for group, length in enumerate(lengths):
        places = np.cumsum(steps[begin:begin + length], axis=0)
        for stream in range(units * width):
            row = matrix[group * units + stream // width, stream % width]
            held = codes[begin:begin + length, stream]
            some = held != fill
            row[places[some, stream]] = held[some]
        begin += length
    return matrix[:outputs].transpose(0, 2, 1).reshape(shape)
