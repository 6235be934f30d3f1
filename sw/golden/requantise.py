"""TFLM's requantiser for whole feature maps: in floats where that is proven exact, in integers for the few codes left.

With v = (acc + offset) · multiplier / 2**shift, TFLM rounds v · 2**right to an integer first, right = shift - 31, and
that to a code. Unless a half-integer lies within 2**-(right + 1) of v, the code is v rounded to nearest. v is computed
in floats with an error below ``error``; where it lies nearer to a half-integer than both together, the code is worked
out in integers. Where right <= 0 there is one rounding, and the error alone counts.
"""

import numpy as np

from lutloom.golden.multiply import by_quantized_multiplier, multiply

BLOCK = 1 << 14
"""Codes that are computed at a time: their arrays stay in the cache."""


def prepare(layer, shape, low, high, dtype):
    """A function of accumulators (batch first) that gives what ``multiply`` does for a Multiply layer, rounding "tflm".

    Parameters
    ----------
    layer : Multiply
    shape : tuple of int
        Of the accumulators, without the batch.
    low, high : int
        Least and greatest accumulator.
    dtype : numpy dtype
        Of the codes.
    """
    parameters = layer.multiplier, layer.shift, layer.offset, layer.fraction
    clamp = layer.zero_point, layer.low, layer.high
    bound = max(abs(low), abs(high)) + int(np.abs(layer.offset).max())
    work, digits = (np.float32, 24) if bound < 1 << 24 else (np.float64, 53)
    least, most = layer.low - layer.zero_point - 1, layer.high - layer.zero_point + 1
    error = max(abs(least), abs(most)) * 2.0 ** (2 - digits)  # of the factor, of the product, and of the difference
    right = np.maximum(layer.shift - 31, 0)
    margin = 0.5 - np.where(right > 0, 2.0 ** -(right + 1), 0) - error
    if bound >= 1 << 53 or (margin <= 0.25).any() or (layer.multiplier < 0).any():
        return lambda acc: multiply(acc, *parameters, *clamp, "tflm").astype(dtype)
    width = shape[-2] if len(shape) == 3 else 1  # longer rows make numpy's inner loops longer
    factor = layer.multiplier / 2.0**layer.shift
    factor, offset, margin = (np.tile(array, width).astype(work) for array in (factor, layer.offset, margin))
    channels = len(layer.offset)
    rows = max(1, BLOCK // len(factor))

    def run(acc):
        if acc.size % len(factor):  # a map that was pooled first is of another width
            return multiply(acc, *parameters, *clamp, "tflm").astype(dtype)
        flat = acc.reshape(-1, len(factor))
        codes, left = np.empty(flat.shape, dtype), []
        for start in range(0, len(flat), rows):
            value = flat[start:start + rows].astype(work)
            value += offset
            value *= factor
            np.clip(value, least, most, out=value)
            nearest = np.rint(value)
            value -= nearest
            np.abs(value, out=value)
            left.append(np.flatnonzero(value >= margin) + start * len(factor))
            nearest += layer.zero_point
            np.clip(nearest, layer.low, layer.high, out=nearest)
            codes[start:start + rows] = nearest
        unsure = np.concatenate(left) if left else np.zeros(0, np.int64)
        if unsure.size:
            of = unsure % channels
            exact = flat.reshape(-1)[unsure].astype(np.int64) + layer.offset[of]
            exact = by_quantized_multiplier(exact, layer.multiplier[of], layer.shift[of])
            codes.reshape(-1)[unsure] = np.clip(exact + layer.zero_point, layer.low, layer.high)
        return codes.reshape(acc.shape)

    return run
