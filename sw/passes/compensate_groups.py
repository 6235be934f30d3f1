"""Compensated rounding of weights that share an index: a group's entry at a time, and the table fitted to the data.

The groups of an output are chosen one after the other. Of what an entry leaves of a group, the part that counts is what
the weights that are still free cannot make good: the distance is measured in the Schur complement of the Hessian, and
the free weights then take the rest.
"""

# Ref: van Baalen et al., "GPTVQ: The Blessing of Dimensionality for LLM Quantization", 2024.

import numpy as np

from lutloom.vector_fit import format_of, integers, nearest, without_unused
from lutloom.weight_groups import codes_of, indices_of, members

MOST_WORK = 1 << 29
"""Products that the fit of a table may take; larger layers keep theirs."""


def choose_groups(power, target, format, scale, shape):
    """Codes of a layer's outputs, a group after the other.

    Parameters
    ----------
    power : float64 array (inputs, inputs)
        Second moments of the inputs, damped.
    target : float64 array (N, inputs)
        Weights that give most nearly what is wanted.
    format : WeightFormat
        Of groups.
    scale : float64 array (N,)
    shape : tuple of int
        Of the codes: (N, kh, kw, C) or (N, C).

    Returns
    -------
    uint16 array (N, inputs)
    """
    places = members(shape, format.group)
    weight = np.where(places >= 0, np.diag(power)[places], 0).sum(axis=1)
    turns = np.argsort(-weight, kind="stable")  # groups of the most power first
    inputs = [places[turn][places[turn] >= 0] for turn in turns]
    order = np.concatenate(inputs)
    inverse = np.linalg.inv(power[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    free, table = target[:, order].copy(), np.reshape(format.values, (-1, format.group)).astype(np.float64)
    indices, at = np.zeros((len(target), len(turns)), np.int64), 0
    for turn, own in zip(turns, inputs, strict=True):
        end = at + len(own)
        back = np.linalg.inv(upper[at:end, at:end])
        entries = table[:, :len(own)]
        given = free[:, at:end] / scale[:, None]
        chosen = nearest(given @ back, np.ones(given.shape), entries @ back)
        error = (free[:, at:end] - scale[:, None] * entries[chosen]) @ back
        free[:, end:] -= error @ upper[at:end, end:]
        indices[:, turn] = chosen
        at = end
    return codes_of(indices, shape, format.group).reshape(target.shape)


def fitted_table(parts, format, codes, scale, shape):
    """A table by least squares of what the layer gives, for the indices and scales as they are.

    Parameters
    ----------
    parts : list of (slice, power, target)
        Outputs that share second moments, those, and the weights wanted.
    format : WeightFormat
        Of groups.
    codes : uint16 array (N, inputs)
    scale : float64 array (N,)
    shape : tuple of int
        Of all codes.

    Returns
    -------
    format, codes : of the same entries, without those that nothing uses; as given where it would take too long
    """
    if codes.size * codes.shape[1] > MOST_WORK:
        return format, codes
    size = len(format.values)
    above, below = np.zeros(size), np.zeros(size * size)
    for mine, power, target in parts:
        wanted = target @ power
        for row, unit, goal in zip(codes[mine].astype(np.int64), scale[mine], wanted, strict=True):
            below += np.bincount(np.add.outer(row * size, row).ravel(), (unit * unit * power).ravel(), size * size)
            above += np.bincount(row, unit * goal, size)
    below = below.reshape(size, size)
    damping = 1e-3 * np.diag(below).mean() + 1e-30
    solved = np.linalg.solve(below + damping * np.eye(size), above + damping * np.array(format.values))
    table = integers(solved.reshape(-1, format.group))
    table, indices = without_unused(table, indices_of(codes.reshape(shape), format.group))
    return format_of(table, format.group), codes_of(indices, shape, format.group).reshape(codes.shape)
