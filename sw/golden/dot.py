"""Dot products as the arithmetic units compute them, one beat at a time."""

import numpy as np


def dot(values, weights, valid=None):
    """Σ over the last axis of weight · value, over the lanes that are valid: int64.

    Parameters
    ----------
    values : integer array (..., lanes)
        What activation codes stand for: ±1 of a bipolar code.
    weights : integer array (..., lanes)
        What weight codes stand for.
    valid : bool array (..., lanes) or None
        None: every lane counts.
    """
    products = np.asarray(values, dtype=np.int64) * np.asarray(weights, dtype=np.int64)
    return (products if valid is None else products * np.asarray(valid, dtype=bool)).sum(axis=-1)


def matches(codes, weight_codes, valid=None):
    """How many lanes hold equal bits, over the lanes that are valid: int64.

    For bipolar activations and binary weights ``dot`` is 2·matches - lanes, with ``valid`` lanes counted alone.
    """
    equal = np.asarray(codes, dtype=bool) == np.asarray(weight_codes, dtype=bool)
    return (equal if valid is None else equal & np.asarray(valid, dtype=bool)).sum(axis=-1, dtype=np.int64)
