"""Weights that share an index: which of an output's weights make a group, and the way from codes to indices and back.

A dot product in hardware reads a kernel column at a time: of all its rows, the channels (of a part of them, where words
are narrower). Groups are runs in that order, of one column each: along the channels of a tap where these are whole
groups, across the rows of the column where they are not. The last group of a column may be longer than what is left;
what its entry holds beyond counts for nothing.
"""

import numpy as np

from lutloom.weight_format import ENTRY_BITS


def members(shape, group):
    """The weights of every group.

    Parameters
    ----------
    shape : tuple of int
        Of a layer's codes: (N, kh, kw, C) or (N, C).
    group : int

    Returns
    -------
    int array (groups of an output, group)
        Places among an output's weights in row-major order; -1 beyond the last of a column.
    """
    kh, kw, channels = shape[1:] if len(shape) == 4 else (1, 1, shape[1])
    places = np.arange(kh * kw * channels).reshape(kh, kw, channels).transpose(1, 0, 2).reshape(kw, -1)
    spare = -places.shape[1] % group
    return np.pad(places, ((0, 0), (0, spare)), constant_values=-1).reshape(-1, group)


def indices_of(codes, group):
    """Indices (N, groups of an output) of codes of a layer's shape."""
    places = members(codes.shape, group)
    return codes.reshape(len(codes), -1)[:, places[:, 0]] // group


def codes_of(indices, shape, group):
    """The inverse of ``indices_of``: uint16 codes of a layer's ``shape``."""
    places = members(shape, group)
    codes = np.zeros((shape[0], int(np.prod(shape[1:]))), np.uint16)
    inside = places >= 0
    codes[:, places[inside]] = (np.asarray(indices)[:, :, None] * group + np.arange(group))[:, inside]
    return codes.reshape(shape)


def whole(codes, group):
    """Whether the members of every group have the same index, each at its own place."""
    return np.array_equal(codes, codes_of(indices_of(codes, group), codes.shape, group))


def stored_bits(shape, format):
    """Bits that a memory holds of codes of a shape; where a group shares an index, that once. A table is not in it."""
    count = int(np.prod(shape)) if format.group == 1 else shape[0] * len(members(shape, format.group))
    return count * format.index_bits


def table_bits(format):
    """Bits of a codebook's table, which a layer has of its own; 0 of other formats."""
    return len(format.values) * ENTRY_BITS if format.kind == "codebook" else 0
