"""Sums and products of two tensors of codes: exact, and in TFLite Micro's arithmetic."""

# Ref: tensorflow/lite/kernels/internal/reference/integer_ops/{add,mul}.h, reference/sub.h

import numpy as np

from lutloom.golden.multiply import by_quantized_multiplier


def scaled_codes(format, left, offset, multiplier, shift):
    """int64 array (codes of the format,): what an Add's input code contributes; code_low comes first."""
    codes = np.arange(format.code_low, format.code_high + 1, dtype=np.int64)
    return by_quantized_multiplier((codes + offset) << left, multiplier, shift)


def add(a, b, layer):
    """Output codes of an Add layer, of what its inputs' codes contribute (``scaled_codes``)."""
    total = a - b if layer.subtract else a + b
    return np.clip(by_quantized_multiplier(total, layer.multiplier, layer.shift) + layer.zero_point, layer.low,
                   layer.high)


def product(a, b, layer):
    """Output codes of a Product layer, of its inputs' codes."""
    values = times(a, b, layer)
    return np.clip(by_quantized_multiplier(values, layer.multiplier, layer.shift) + layer.zero_point, layer.low,
                   layer.high)


def times(a, b, layer):
    """Accumulators of a Times layer (or of a Product, before it rounds), of its inputs' codes."""
    return (a.astype(np.int64) + layer.offsets[0]) * (b.astype(np.int64) + layer.offsets[1])
