"""Real weights into a weight format: scales by least squares, bitmask patterns by least squared error."""

from fractions import Fraction
from itertools import combinations

import numpy as np

from lutloom.weight_format import WeightFormat
from lutloom.weight_spec import SEARCH_DIGITS

GRID = np.geomspace(1.1, 0.04, 48)
"""Scales that are tried, as fractions of the scale at which the greatest level is the greatest weight."""

ZOOMS = (*(1 + width * np.linspace(-1, 1, 10) for width in (0.06, 0.013, 0.003)), np.ones(1))
"""Scales that are tried then, each time around the best so far, beside the refit to the rounded weights."""

FINALISTS = 3
"""Patterns of a search that are refined: the best on half the grid."""

MANY_LEVELS = 1024
"""Formats with more levels take the scale that just reaches the greatest weight: nothing is gained by clipping."""


def fit(format, real, choice):
    """Bring a layer's real weights into a format.

    Parameters
    ----------
    format : WeightFormat or None
        ``choice.format``; None searches the bitmask pattern of ``choice.search_bits`` stored bits and at most 8
        digits that leaves the least squared error, the fewest digits among equals.
    real : float array (N, ...)
        Finite; outputs first.
    choice : FormatChoice
        Scale and rounding.

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
    rows = _Rows(real.reshape(len(real), -1) if choice.scale == "channel" else real.reshape(1, -1))
    if format is None:
        rough = sorted(candidates(choice), key=lambda candidate: _fit_rows(rows, candidate, choice, ())[0])
        fitted = [(*_fit_rows(rows, candidate, choice, ZOOMS), candidate) for candidate in rough[:FINALISTS]]
        _, scales, format = min(fitted, key=lambda found: found[0])
    else:
        _, scales = _fit_rows(rows, format, choice, ZOOMS)
    shape = (-1,) + (1,) * (real.ndim - 1)
    codes = format.quantise(real, scales[0] if len(scales) == 1 else scales.reshape(shape), choice.rounding)
    scale = (format.unit,) if choice.scale == "one" else tuple(Fraction(float(s)) for s in scales)
    return format, scale, codes


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

    def moments(self, row, boundaries, integers, scales):
        """Σ weight·integer and Σ integer² of one row, for each scale."""
        places = np.searchsorted(self.sorted[row], np.multiply.outer(scales, boundaries))
        steps, square_steps = np.diff(integers), np.diff(np.square(integers))
        sums, count = self.sums[row], self.sorted.shape[1]
        cross = integers[-1] * sums[-1] - sums[places] @ steps
        norm = float(integers[-1]) ** 2 * count - places @ square_steps
        return cross, norm


def _fit_rows(rows, format, choice, zooms):
    """(squared error, float64 scales): scales that leave the least squared error."""
    boundaries, integers = format.steps(choice.rounding)
    if choice.scale == "one":
        scale = float(format.unit)
        cross, norm = rows.moments(0, boundaries, integers, np.array([scale]))
        return float(rows.squares[0] - 2 * scale * cross[0] + scale * scale * norm[0]), np.array([scale])
    reach = np.maximum(rows.sorted[:, -1] / max(format.high, 1), rows.sorted[:, 0] / format.low)
    if len(integers) > MANY_LEVELS:
        return 0.0, np.where(reach > 0, reach, float(format.unit))
    error, scales = 0.0, np.full(len(reach), float(format.unit))
    for row in np.flatnonzero(reach > 0):
        scales[row], left = _best_scale(rows, row, boundaries, integers, reach[row], zooms)
        error += left
    return error, scales


def _best_scale(rows, row, boundaries, integers, top, zooms):
    """(scale, squared error) of one row: the best of the grid, of its zooms and of refits to the rounded weights."""
    scales = top * (GRID if zooms else GRID[::2])
    found, least = top, np.inf
    for zoom in (*zooms, None):
        cross, norm = rows.moments(row, boundaries, integers, scales)
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
