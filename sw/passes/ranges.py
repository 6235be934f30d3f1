"""Scale and zero point of an activation, from the values that calibration data gave.

Values are kept as a histogram; every candidate's squared error is computed on it. A grid has codes 0..2**bits - 1 with
an integer zero point, or -2**(bits-1)..2**(bits-1) - 1 with zero point 0.
"""

from dataclasses import dataclass

import numpy as np

BINS = 8192
SAMPLE = 1 << 22
PERCENTILE = 99.9
"""Method percentile leaves out (100 - this) / 2 per cent at either side, all of it above for unsigned values."""

CLIPS = np.linspace(0.05, 1.0, 96)
"""Shares of the range that least squared error tries as the new end."""

PREFERENCE = 0.95
"""A zero point is taken only where it leaves less than this share of the signed grid's error."""


@dataclass(frozen=True)
class Range:
    """A quantiser's grid: real = scale·(code - zero_point)."""

    scale: float
    zero_point: int
    signed: bool


@dataclass(frozen=True)
class Histogram:
    """How often which values occurred.

    Parameters
    ----------
    centres, counts : float64 arrays
        Of the bins that are not empty; zero, where it occurs often, is a bin of its own.
    low, high : float
        The least and the greatest value.
    sample : array
        Values to take quantiles of.
    """

    centres: np.ndarray
    counts: np.ndarray
    low: float
    high: float
    sample: np.ndarray

    @classmethod
    def of(cls, values):
        """The histogram of an array of finite values."""
        values = np.asarray(values).ravel()
        low, high = float(values.min()), float(values.max())
        if low == high:
            return cls(np.array([low]), np.array([float(values.size)]), low, high, values[:1])
        zeros = np.count_nonzero(values == 0)
        counts, edges = np.histogram(values, bins=BINS, range=(low, high))
        counts = counts.astype(np.float64)
        if low <= 0 <= high:
            counts[min(int((0 - low) / (high - low) * BINS), BINS - 1)] -= zeros
        centres = (edges[1:] + edges[:-1]) / 2
        some = counts > 0
        centres, counts = np.append(centres[some], 0.0), np.append(counts[some], float(zeros))
        return cls(centres, counts, low, high, values[::-(-values.size // SAMPLE)])

    def error(self, scales, zero_points, low, high):
        """Squared error of grids: arrays of scales and zero points of one shape, codes low..high."""
        scales, zeros = np.asarray(scales, np.float64)[..., None], np.asarray(zero_points, np.float64)[..., None]
        codes = np.clip(np.floor(self.centres / scales + zeros + 0.5), low, high)
        return np.square((codes - zeros) * scales - self.centres) @ self.counts


def find_range(histogram, bits, method, may_shift=True):
    """The grid of an activation.

    Parameters
    ----------
    histogram : Histogram
    bits : int
    method : "mse", "minmax" or "percentile"
    may_shift : bool
        False forbids zero points other than 0 (what averages with unequal divisors need).

    Returns
    -------
    Range
    """
    steps = (1 << bits) - 1
    low, high = histogram.low, histogram.high
    if method == "percentile":
        tail = (1 - PERCENTILE / 100) / (1 if low >= 0 else 2)
        low, high = (float(end) for end in np.quantile(histogram.sample, (tail if low < 0 else 0, 1 - tail)))
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Range(1.0, 0, False)
    if low == 0:
        return Range(_unsigned(histogram, high, steps, method), 0, False)
    half = 1 << bits - 1
    signed = Range(_symmetric(histogram, max(-low / half, high / max(half - 1, 1)), half, method), 0, True)
    if not may_shift or bits == 1:
        return signed
    shifted = _asymmetric(histogram, low, high, steps, method)
    errors = [float(histogram.error([r.scale], [r.zero_point], *bounds)[0])
              for r, bounds in ((signed, (-half, half - 1)), (shifted, (0, steps)))]
    return shifted if errors[1] < PREFERENCE * errors[0] else signed


def _unsigned(histogram, high, steps, method):
    """Scale of codes 0..steps."""
    if method != "mse":
        return high / steps
    scales = high * CLIPS / steps
    return float(scales[np.argmin(histogram.error(scales, np.zeros(len(scales)), 0, steps))])


def _symmetric(histogram, scale, half, method):
    """Scale of codes -half..half-1."""
    if method != "mse":
        return scale
    scales = scale * CLIPS
    return float(scales[np.argmin(histogram.error(scales, np.zeros(len(scales)), -half, half - 1))])


def _asymmetric(histogram, low, high, steps, method):
    """Scale and zero point of codes 0..steps: both ends are clipped by themselves, first coarsely, then finely."""
    if method != "mse":
        scale = (high - low) / steps
        return Range(scale, int(np.clip(np.floor(-low / scale + 0.5), 0, steps)), False)
    best = None
    lows, highs = low * np.linspace(0.0, 1.0, 21), high * np.linspace(0.05, 1.0, 20)
    for _ in range(3):
        ends = np.stack(np.meshgrid(lows, highs, indexing="ij"), axis=-1).reshape(-1, 2)
        ends = ends[ends[:, 1] - ends[:, 0] > 1e-3 * (high - low)]
        scales = (ends[:, 1] - ends[:, 0]) / steps
        zeros = np.clip(np.floor(-ends[:, 0] / scales + 0.5), 0, steps)
        errors = np.concatenate([histogram.error(*part, 0, steps)
                                 for part in zip(np.array_split(scales, 8), np.array_split(zeros, 8), strict=True)])
        index = int(np.argmin(errors))
        if best is None or errors[index] < best[0]:
            best = errors[index], Range(float(scales[index]), int(zeros[index]), False)
        width = [abs(values[-1] - values[0]) / (len(values) - 1) for values in (lows, highs)]
        lows, highs = (np.linspace(end - w, end + w, 9) for end, w in zip(ends[index], width, strict=True))
        lows, highs = np.minimum(lows, 0.0), np.maximum(highs, high * 1e-3)
    return best[1]
