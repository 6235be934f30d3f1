"""Layers that only move codes, batch first."""

import numpy as np


def slice_codes(codes, begin, sizes, steps):
    """Codes begin, begin + step, ... of each axis behind the batch: a view."""
    parts = [slice(None)]
    for start, size, step in zip(begin, sizes, steps, strict=True):
        stop = start + size * step
        parts.append(slice(start, stop if stop >= 0 else None, step))
    return codes[tuple(parts)]


def broadcast(codes, shape):
    """Codes (B, ...) as often as a shape of a frame takes: a view."""
    missing = len(shape) + 1 - codes.ndim
    return np.broadcast_to(codes.reshape(len(codes), *(1,) * missing, *codes.shape[1:]), (len(codes), *shape))


def pad_codes(codes, before, after, code):
    """Codes with a rim of one code along each axis behind the batch."""
    widths = ((0, 0), *zip(before, after, strict=True))
    return np.pad(codes, widths, constant_values=code)
