"""Real weights into a weight format: scales by least squares, bitmask patterns by least squared error."""

from fractions import Fraction
from itertools import combinations

import numpy as np

from lutloom.vector_fit import fit_vectors
from lutloom.weight_format import ENTRIES, ENTRY_BITS, WeightFormat
from lutloom.weight_spec import SEARCH_DIGITS

GRID = np.geomspace(1.1, 0.04, 48)
"""Scales that are tried, as fractions of the scale at which the greatest level is the greatest weight."""

ZOOMS = (*(1 + width * np.linspace(-1, 1, 10) for width in (0.06, 0.013, 0.003)), np.ones(1))
"""Scales that are tried then, each time around the best so far, beside the refit to the rounded weights."""

REFIT = (np.ones(1),)
"""Zooms while patterns are compared: the best of the grid, refitted once."""

SAMPLE, FINALISTS = 64, 3
"""A search ranks patterns by so many rows, then so many of the best by all rows."""

MANY_LEVELS = 1024
"""Formats with more levels take the scale that just reaches the greatest weight: nothing is gained by clipping."""


def fit(format, real, choice, zero=False):
    """Bring a layer's real weights into a format.

    Parameters
    ----------
    format : WeightFormat or None
        ``choice.format``; None searches the bitmask pattern of ``choice.search_bits`` stored bits and at most 8
        digits that leaves the least squared error, the fewest digits among equals, or ``choice.entries`` entries of a
        codebook by k-means.
    real : float array (N, ...)
        Finite; outputs first.
    choice : FormatChoice
        Scale and rounding.
    zero : bool
        A codebook has an entry of 0, beside those found for the weights that are not zero.

    Returns
    -------
    format : WeightFormat
    scale : tuple of Fraction
        Real value of integer 1: one for the layer, or N with ``@channel``.
    codes : uint16 array of the shape of ``real``
    """
    real = np.asarray(real, dtype=np.float64)
    if not np.isfinite(real).all():
        raise ValueError("weights must be finite, but there is NaN or infinity among them")
    if format is not None and format.kind == "float16":
        return _halves(real)
    if choice.group > 1:
        return fit_vectors(real, choice)
    rows = _Rows(real.reshape(len(real), -1) if choice.scale == "channel" else real.reshape(1, -1))
    if choice.entries is not None:
        format = _codebook(rows, choice, zero)
    elif format is None:
        sample = range(0, len(rows.sorted), -(-len(rows.sorted) // SAMPLE))
        ranked = sorted(candidates(choice), key=lambda each: _fit_rows(rows, each, choice, REFIT, sample)[0])
        format = min(ranked[:FINALISTS], key=lambda each: _fit_rows(rows, each, choice, REFIT)[0])
    _, scales = _fit_rows(rows, format, choice, ZOOMS)
    shape = (-1,) + (1,) * (real.ndim - 1)
    codes = format.quantise(real, scales[0] if len(scales) == 1 else scales.reshape(shape), choice.rounding)
    scale = (format.unit,) if choice.scale == "one" else tuple(Fraction(float(s)) for s in scales)
    return format, scale, codes


def _halves(real):
    """``fit`` of float16: numbers as IEEE halves, in units of the least exponent among them."""
    with np.errstate(over="ignore"):
        halves = real.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ValueError(f"float16 holds numbers up to 65504, not {float(np.abs(real).max()):g}; scale the layer")
    codes = halves.view(np.uint16)
    codes = np.where(codes == 0x8000, 0, codes).astype(np.uint16)  # zero is stored as +0
    exponents = np.maximum(codes[codes != 0] >> 10 & 31, 1)
    span = (int(exponents.min()), int(exponents.max())) if exponents.size else (15, 15)
    format = WeightFormat("float16", 16, None, span)
    return format, (format.unit,), codes


def _codebook(rows, choice, zero):
    """The codebook of ``choice.entries`` entries that k-means finds, of weights divided by their row's greatest; one
    entry is 0 with ``zero``."""
    greatest = np.maximum(np.abs(rows.sorted[:, 0]), np.abs(rows.sorted[:, -1]))
    reach = 1 << ENTRY_BITS - 1
    top = np.where(greatest > 0, greatest, 1)[:, None] if choice.scale != "one" else (reach - 1) / reach
    values = np.sort((rows.sorted / top).ravel())
    if zero and values.any():
        values = values[values != 0]
    means = _means(values, choice.entries, zero)
    entries = np.unique(np.clip(np.rint(means * (reach - 1)), -reach, reach - 1).astype(int))
    spare = (value for value in (0, 1) if value not in entries)
    while len(entries) < ENTRIES[0]:  # all weights are one number
        entries = np.sort(np.append(entries, next(spare)))
    return WeightFormat("codebook", max(1, (len(entries) - 1).bit_length()), None, tuple(map(int, entries)))


ROUNDS = 100


def _means(values, count, zero=False):
    """k-means of sorted numbers, begun at their quantiles: float64 (count,) or fewer, ascending; with ``zero`` the one
    nearest to 0 stays there."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means = np.unique(np.quantile(values, (np.arange(count) + 0.5) / count))
    for _ in range(ROUNDS):
        ends = np.concatenate([[0], values.searchsorted((means[1:] + means[:-1]) / 2), [len(values)]])
        held = ends[1:] > ends[:-1]
        found = np.where(held, (sums[ends[1:]] - sums[ends[:-1]]) / np.maximum(ends[1:] - ends[:-1], 1), means)
        if zero:
            found[np.argmin(np.abs(means))] = 0
        if np.allclose(found, means, rtol=1e-9, atol=0):
            break
        means = found
    return means


def candidates(choice):
    """Bitmask formats of ``choice.search_bits`` stored bits, fewest digits first.

    With a fitted scale and nearest rounding, patterns that differ by a shift alone are one format: the shortest
    stands for them.
    """
    stored = choice.search_bits - 1
    free = choice.scale != "one" and choice.rounding == "nearest"
    found = []
    for digits in range(stored, SEARCH_DIGITS):
        for places in combinations(range(digits), stored):
            if places[-1] != digits - 1 or (free and places[0] != 0):
                continue  # a masked last digit is the shorter pattern, in other units
            magnitude = "".join("X" if place in places else "0" for place in range(digits))
            found.append(WeightFormat.bitmask("X" + magnitude[0] + ("." + magnitude[1:] if digits > 1 else "")))
    return found


class _Rows:
    """Groups of weights that share a scale, sorted, with running sums: errors of a scale cost one search a level."""

    def __init__(self, rows):
        self.sorted = np.sort(rows, axis=1)
        zero = np.zeros((len(rows), 1))
        self.sums = np.concatenate([zero, np.cumsum(self.sorted, axis=1)], axis=1)
        self.squares = np.square(rows).sum(axis=1)

    def moments(self, row, stairs, scales):
        """Σ weight·integer and Σ integer² of one row, for each scale."""
        places = self.sorted[row].searchsorted(np.multiply.outer(scales, stairs.boundaries))
        sums, count = self.sums[row], self.sorted.shape[1]
        cross = stairs.last * sums[-1] - sums[places] @ stairs.rises
        norm = stairs.last**2 * count - places @ stairs.square_rises
        return cross, norm


class _Stairs:
    """A format's rounding as a staircase: where it rises, by how much, and what it ends at."""

    def __init__(self, format, rounding):
        self.boundaries, integers = format.steps(rounding)
        self.rises = np.diff(integers).astype(np.float64)
        self.square_rises = np.diff(np.square(integers)).astype(np.float64)
        self.last = float(integers[-1])


def _fit_rows(rows, format, choice, zooms, sample=None):
    """(squared error, float64 scales): scales that leave the least squared error, of some rows or (None) of all."""
    stairs, unit = _Stairs(format, choice.rounding), float(format.unit)
    if choice.scale == "one":
        cross, norm = rows.moments(0, stairs, np.array([unit]))
        return float(rows.squares[0] - 2 * unit * cross[0] + unit * unit * norm[0]), np.array([unit])
    reach = np.maximum(rows.sorted[:, -1] / max(format.high, 1), rows.sorted[:, 0] / min(format.low, -1))
    if len(stairs.boundaries) >= MANY_LEVELS:
        return 0.0, np.where(reach > 0, reach, unit)
    error, scales = 0.0, np.full(len(reach), unit)
    for row in range(len(reach)) if sample is None else sample:
        if reach[row] > 0:
            scales[row], left = _best_scale(rows, row, stairs, reach[row], zooms)
            error += left
    return error, scales


def _best_scale(rows, row, stairs, top, zooms):
    """(scale, squared error) of one row: the best of the grid, of its zooms and of refits to the rounded weights."""
    scales = top * GRID
    found, least = top, np.inf
    for zoom in (*zooms, None):
        cross, norm = rows.moments(row, stairs, scales)
        left = rows.squares[row] - 2 * scales * cross + scales * scales * norm
        best = int(np.argmin(left))
        if left[best] < least:
            found, least = scales[best], left[best]
        if zoom is not None:
            gain = np.where(cross > 0, cross / np.sqrt(np.maximum(norm, 1)), 0)
            best = int(np.argmax(gain))
            refit = cross[best] / norm[best] if gain[best] > 0 else top
            scales = np.append(found * zoom, refit)
    return found, max(least, 0.0)
