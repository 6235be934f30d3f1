"""Requantisation by thresholds: y = base + Σ_t [acc ≥ T(channel, t)]."""

import numpy as np

COMPARED = 24
"""Up to so many thresholds are compared one by one; beyond, a table or a binary search is faster in numpy."""

SMALL_TABLE, LARGE_TABLE = 1 << 19, 1 << 22
"""Entries, over all channels, up to which a table is made instead of comparing and instead of searching."""


BLOCK = 1 << 14
"""Elements that are compared with all thresholds before the next: they stay in the first cache."""


def thresholds(acc, values, falling, base):
    """y = base + Σ_t [acc >= values[c, t]]; in a falling channel y = base + Σ_t [acc < values[c, t]].

    Parameters
    ----------
    acc : array (..., C) of whole numbers
        Integers, or floats that hold integers exactly.
    values : int64 array (C, T)
        Ascending along t.
    falling : bool array (C,)
    base : int

    Returns
    -------
    integer array of the shape of ``acc``, in a type that holds base to base + T
    """
    acc, values = np.asarray(acc), np.asarray(values)
    steps = values.shape[1]
    counts = _compare(acc, values) if steps <= COMPARED else _search(acc, values)
    return _finish(counts, steps, falling, base)


def threshold_table(values, falling, base, low, high):
    """y for every accumulator from low to high, flattened (C, high - low + 1); None where ``thresholds`` is faster."""
    channels, steps = values.shape
    if steps < 8 or channels * (high - low + 1) > (SMALL_TABLE if steps <= COMPARED else LARGE_TABLE):
        return None
    acc = np.arange(low, high + 1)
    counts = np.stack([np.searchsorted(row, acc, side="right") for row in values], axis=1)
    return np.ascontiguousarray(_finish(counts, steps, falling, base).T).reshape(-1)


def look_up(acc, table, low, high):
    """y by ``threshold_table``, for acc (..., C) within low to high."""
    rows = np.arange(acc.shape[-1], dtype=np.int32) * (high - low + 1) - low
    return table[acc.astype(np.int32) + rows]


def _compare(acc, values):
    """Counts of thresholds reached, by one comparison each."""
    channels, steps = values.shape
    if acc.dtype.kind == "f":
        exact = 1 << (24 if acc.dtype == np.float32 else 53)  # no whole number in acc is greater in magnitude
        rows = np.clip(values, -exact, exact).astype(acc.dtype)
    else:
        acc = acc if acc.dtype == object else acc.astype(np.int64)
        rows = values
    counts = np.zeros(acc.shape, np.uint8)
    width = acc.shape[-2] if acc.ndim == 4 else 1  # longer rows make numpy's inner loops longer
    flat, out = acc.reshape(-1, width * channels), counts.reshape(-1, width * channels)
    tiled = np.tile(rows.T, width)
    block = max(1, BLOCK // (width * channels))
    for start in range(0, len(flat), block):
        part, sums = flat[start : start + block], out[start : start + block]
        for row in tiled:
            np.add(sums, np.greater_equal(part, row).view(np.uint8), out=sums)
    return counts


def _search(acc, values):
    """Counts of thresholds reached, by a binary search of all elements at once."""
    channels, steps = values.shape
    acc = acc if acc.dtype == object else acc.astype(np.int64)
    levels = steps.bit_length()
    ladder = np.repeat(values[:, -1:], 1 << levels, axis=1)
    ladder[:, :steps] = values
    flat, first = ladder.reshape(-1), np.arange(channels) << levels
    places = np.broadcast_to(first, acc.shape).copy()
    for level in reversed(range(levels)):
        places += (acc >= flat[places + ((1 << level) - 1)]).astype(np.int64) << level
    return np.minimum(places - first, steps)


def _finish(counts, steps, falling, base):
    """Turn falling channels over, add the base, narrow the type."""
    falling = np.asarray(falling, dtype=bool)
    if falling.any():
        counts = np.where(falling, steps - counts.astype(np.int64), counts)
    narrowest = np.promote_types(np.min_scalar_type(base), np.min_scalar_type(base + steps))
    if base == 0:
        return counts.astype(narrowest, copy=False)
    return (counts.astype(np.int64) + base).astype(narrowest)
