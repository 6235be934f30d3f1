"""Two numbers for each channel of real ones: thresholds and a size such that signs are nearest to them, by squares."""

import numpy as np

QUANTILES = 32
"""Thresholds that are tried in each channel lie half-way between so many of its quantiles; 0 is tried besides."""

ROUNDS = 20


def two_levels(x, wanted):
    """(thresholds, scale): centre + scale·sign(x - threshold) is nearest to ``wanted``, with a centre for each channel.

    A channel whose numbers hardly differ, measured by the scale that all share, may have the same sign always.

    Parameters
    ----------
    x, wanted : float32 arrays (rows, C)
        What signs are made of, and what they shall stand for: the same, or its relu.

    Returns
    -------
    thresholds : float64 array (C,)
    scale : float, positive
    """
    edges = np.quantile(x, np.linspace(0, 1, QUANTILES), axis=0)
    tried = np.concatenate([np.zeros((1, x.shape[1])), (edges[1:] + edges[:-1]) / 2])
    mean, shared = np.empty(tried.shape), np.empty(tried.shape)  # of signs; of signs and what is wanted
    level = wanted.mean(axis=0, dtype=np.float64)
    for place, threshold in enumerate(tried):
        above = x >= threshold.astype(np.float32)
        share = above.mean(axis=0)
        mean[place] = 2 * share - 1
        shared[place] = 2 * np.where(above, wanted, 0).mean(axis=0, dtype=np.float64) - level - mean[place] * level
    power, channels = 1 - mean * mean, np.arange(x.shape[1])
    best = np.argmax(np.where(power > 0, shared / np.sqrt(np.where(power > 0, power, 1)), 0), axis=0)
    scale = 0.0
    for _ in range(ROUNDS):
        before, total = best, power[best, channels].sum()
        scale = shared[best, channels].sum() / total if total > 0 else 0.0
        best = np.argmax(2 * scale * shared - scale * scale * power, axis=0)
        if np.array_equal(best, before):
            break
    if scale <= 0:  # constants
        return np.zeros(x.shape[1]), float(np.abs(x).mean()) or 1.0
    return tried[best, channels], float(scale)
