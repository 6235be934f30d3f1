"""What every dot product is tested for."""

import numpy as np
from bench import check_dot, dot_vectors

from lutloom.formats import Format
from lutloom.weights import WeightFormat

LANES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]


def make(kind, lanes, x, w, masked=False):
    """A unit, from its formats' names."""
    return kind(lanes=lanes, x_format=Format.parse(x), w_format=WeightFormat.parse(w), masked=masked)


def wrong(unit, seed=0, count=40):
    """Differences between a unit and its model, over corners and random codes (and masks)."""
    x, w = dot_vectors(unit, seed, count)
    valid = np.random.default_rng(seed + 1).integers(0, 2, x.shape).astype(bool) if unit.masked else None
    if unit.masked:
        valid[:4] = [[False], [True], [False], [True]]
    return check_dot(unit, x, w, valid)


def notices_a_flipped_weight(unit):
    """Whether the bench sees one weight bit of one lane that the model does not know of."""
    x, w = dot_vectors(unit, 0)
    model = unit.model
    for lane in {0, unit.lanes - 1}:
        flipped = w.copy()
        flipped[:, lane] ^= 1
        unit.model = lambda x, w, valid, flipped=flipped: model(x, flipped, valid)
        if not check_dot(unit, x, w, None if not unit.masked else np.ones(x.shape, bool)):
            return False
    return True
