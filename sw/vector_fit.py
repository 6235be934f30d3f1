"""Codebooks of groups: k-means of vectors of weights, their scales and their integers, by least squares."""

# Ref: Gersho and Gray, "Vector Quantization and Signal Compression", 1992 (Lloyd's iteration, gain and shape); Arthur
# and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007.

from fractions import Fraction

import numpy as np

from lutloom.weight_format import ENTRIES, ENTRY_BITS, WeightFormat
from lutloom.weight_groups import codes_of, members

REACH = (1 << ENTRY_BITS - 1) - 1
"""Greatest integer of a table."""

SAMPLE = 1 << 15
"""Vectors that k-means looks at, at most."""

ROUNDS, TURNS = 24, 4
"""Iterations of k-means; times that scales and table are fitted to each other behind it."""

STEP = 2048
"""Vectors that are compared with the table at once."""


def fit_vectors(real, choice):
    """Bring a layer's real weights into a codebook of groups.

    Parameters
    ----------
    real : float array (N, ...)
    choice : FormatChoice
        ``entries``, ``group`` and scale.

    Returns
    -------
    format, scale, codes : as of ``lutloom.weight_fit.fit``
    """
    places = members(real.shape, choice.group)
    rows = real.reshape(len(real), -1)
    vectors = np.where(places >= 0, rows[:, places], 0.0)
    inside = np.broadcast_to(places >= 0, vectors.shape).astype(np.float64)
    gains = _gains(rows, choice)
    weights = inside * np.square(gains)[:, None, None]
    flat = (vectors / gains[:, None, None]).reshape(-1, choice.group), weights.reshape(-1, choice.group)
    table = _means(*flat, choice.entries)
    unit = 1 / (REACH + 1) if choice.scale == "one" else float(np.abs(table).max() or 1) / REACH
    scale, table = gains * unit, integers(table / unit)
    for turn in range(TURNS):
        index = nearest(*_scaled(vectors, inside, scale), table).reshape(vectors.shape[:2])
        if turn < TURNS - 1:
            if choice.scale != "one":
                scale = refit_scales(vectors, inside, table[index], scale, choice.scale == "layer")
            table = integers(_centres(*_scaled(vectors, inside, scale), index.ravel(), table))
    table, index = without_unused(table, index)
    format = format_of(table, choice.group)
    fractions = (format.unit,) if choice.scale == "one" else tuple(
        Fraction(float(s)) for s in (scale[:1] if choice.scale == "layer" else scale))
    return format, fractions, codes_of(index, real.shape, choice.group)


def format_of(table, group):
    """The format of a table (entries, group) of integers."""
    return WeightFormat.parse(f"codebook:{len(table)}x{group}", tuple(map(int, table.ravel())))


def without_unused(table, index):
    """A table without the entries that nothing uses, ascending and each once, and the indices into it."""
    used, place = np.unique(index, return_inverse=True)
    table, order = np.unique(table[used], axis=0, return_inverse=True)
    index = order.reshape(-1)[place.reshape(-1)].reshape(index.shape)
    if len(table) < ENTRIES[0]:
        other = table[:1].copy()
        other[0, 0] += 1 if table[0, 0] < REACH else -1
        table = np.concatenate([table, other])
    return table, index


def nearest(vectors, weights, table):
    """Index of the entry of least weighted squared distance of every vector, the first among equals."""
    # |w·(x - t)²| without w·x², in one product of matrices.
    table = np.asarray(table, np.float64)
    both = np.concatenate([np.square(table).T, -2 * table.T]).astype(np.float32)
    found = np.empty(len(vectors), np.int64)
    for at in range(0, len(vectors), STEP):
        x, w = vectors[at:at + STEP], weights[at:at + STEP]
        given = np.concatenate([w, w * x], axis=1)
        size = given.max(axis=1, keepdims=True)  # small weights would vanish in float32
        found[at:at + STEP] = np.argmin((given / np.where(size > 0, size, 1)).astype(np.float32) @ both, axis=1)
    return found


def refit_scales(vectors, weights, chosen, scale, shared):
    """Scales that leave the least weighted squared error of chosen entries, one an output or one of all."""
    cross = (weights * vectors * chosen).sum(axis=(1, 2))
    norm = (weights * np.square(chosen)).sum(axis=(1, 2))
    if shared:
        cross, norm = np.full_like(cross, cross.sum()), np.full_like(norm, norm.sum())
    fits = (cross > 0) & (norm > 0)
    return np.where(fits, cross / np.where(fits, norm, 1), scale)


def _gains(rows, choice):
    """What an output's weights are divided by in front of k-means: their root mean square, or 1."""
    if choice.scale == "one":
        return np.ones(len(rows))
    power = np.sqrt(np.square(rows).mean(axis=1))
    if choice.scale == "layer":
        power = np.full_like(power, np.sqrt(np.square(power).mean()))
    return np.where(power > 0, power, 1.0)


def _scaled(vectors, inside, scale):
    """Vectors in units of their output's scale and what they weigh then, flat."""
    unit = scale[:, None, None]
    group = vectors.shape[-1]
    return (vectors / unit).reshape(-1, group), (inside * np.square(unit)).reshape(-1, group)


def integers(table):
    """The nearest integers that entries can be."""
    return np.clip(np.rint(table), -REACH - 1, REACH).astype(np.int64)


def _means(vectors, weights, count):
    """k-means (count or fewer, group) of weighted vectors, seeded as k-means++ does it, the same each time."""
    rng = np.random.default_rng(len(vectors))
    if len(vectors) > SAMPLE:
        some = rng.choice(len(vectors), SAMPLE, replace=False)
        vectors, weights = vectors[some], weights[some]
    table = _seeds(vectors, weights, count, rng)
    before = None
    for _ in range(ROUNDS):
        index = nearest(vectors, weights, table)
        if before is not None and np.array_equal(index, before):
            break
        table, before = _centres(vectors, weights, index, table), index
    return table


def _seeds(vectors, weights, count, rng):
    """Vectors drawn one after the other by their distance from those that are drawn."""
    first = int(np.argmax((weights * np.square(vectors)).sum(axis=1)))
    table, left = [vectors[first]], np.full(len(vectors), np.inf)
    while len(table) < count:
        left = np.minimum(left, (weights * np.square(vectors - table[-1])).sum(axis=1))
        total = np.cumsum(left)
        if total[-1] <= 0:
            break  # all vectors are drawn
        table.append(vectors[min(int(np.searchsorted(total, rng.random() * total[-1], "right")), len(vectors) - 1)])
    return np.array(table)


def _centres(vectors, weights, index, table):
    """The weighted mean of what every entry stands for; entries of nothing stay."""
    above, below = np.zeros(table.shape), np.zeros(table.shape)
    for member in range(table.shape[1]):
        w = weights[:, member]
        above[:, member] = np.bincount(index, w * vectors[:, member], len(table))
        below[:, member] = np.bincount(index, w, len(table))
    return np.where(below > 0, above / np.where(below > 0, below, 1), table)
