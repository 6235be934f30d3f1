"""TensorFlow Lite Micro's functions of one code, as tables of all codes of 8 bits."""

# Ref: tensorflow/lite/kernels/internal/reference/integer_ops/{logistic,tanh}.h, reference/{hard_swish,leaky_relu}.h
# Ref: tensorflow/lite/micro/kernels/activations_common.cc

from math import floor, frexp

import numpy as np

from lutloom.errors import ModelError
from lutloom.golden.fixed_point import logistic, tanh
from lutloom.golden.multiply import by_quantized_multiplier, rounding_divide_by_pot
from lutloom.network import Table
from lutloom.passes.tflm import quantize_multiplier

INPUT_BITS = 4
"""Integer bits that logistic and tanh are computed from."""


def table(name, source, output, function, params, given, made):
    """The Table of a function.

    Parameters
    ----------
    given, made : TensorQuant
    params : mapping
        alpha of leaky_relu.
    """
    low, high = made.format.code_low, made.format.code_high
    codes = np.arange(given.format.code_low, given.format.code_high + 1, dtype=np.int64)
    result = FUNCTIONS[function](codes, given, made, params, name)
    return Table(name, source, output, np.clip(result, low, high), function)


def _relu(codes, given, made, params, name):
    multiplier, shift = quantize_multiplier(float(given.scale) / float(made.scale), name)
    return np.maximum(made.zero_point + _scaled(codes - given.zero_point, multiplier, shift, name), made.zero_point)


def _relu6(codes, given, made, params, name):
    # codes pass as they are; the output's own scale is not looked at
    steps = np.float32(6) / given.scale
    return np.clip(codes, given.zero_point, given.zero_point + floor(float(steps) + 0.5))


def _leaky_relu(codes, given, made, params, name):
    values = codes - given.zero_point
    multiplier, shift = quantize_multiplier(float(given.scale) / float(made.scale), name)
    below, below_shift = quantize_multiplier(float(given.scale) * float(params["alpha"]) / float(made.scale), name)
    negative = _scaled(np.minimum(values, 0), abs(below), below_shift, name)
    positive = _scaled(np.maximum(values, 0), multiplier, shift, name)
    return made.zero_point + np.where(values >= 0, positive, -negative if below < 0 else negative)


def _hard_swish(codes, given, made, params, name):
    fine = np.float32(1 / 128) * given.scale
    multiplier, shift = quantize_multiplier(float(fine / made.scale), name)
    relu_multiplier, relu_shift = quantize_multiplier(float(fine / np.float32(3 / 32768)), name)
    exponent, relu_exponent = 31 - shift, 31 - relu_shift
    if exponent > 0:
        raise ModelError(f"layer {name!r} is a hard swish whose input has more than 128 times the scale of its output, "
                         "which TFLite Micro refuses; convert the model again")
    values = (codes - given.zero_point) << 7
    ramp = values
    if relu_exponent > 0:
        ramp = _int16(ramp << relu_exponent - 1)
    ramp = _high16(ramp, _to_int16(relu_multiplier))
    if relu_exponent > 0:
        ramp = _int16(ramp << 1)
    if relu_exponent < 0:
        ramp = rounding_divide_by_pot(ramp, -relu_exponent)
    ramp = (ramp + (1 << 15)) >> 1
    product = ramp * _high16(values, _to_int16(multiplier))
    cut = np.where(product >= 0, product >> 15, -(-product >> 15))  # towards zero
    return rounding_divide_by_pot(cut, -exponent) + made.zero_point


def _to_int16(multiplier):
    """TFLM's DownScaleInt32ToInt16Multiplier."""
    return min((multiplier + (1 << 15)) >> 16, (1 << 15) - 1)


def _int16(values):
    return np.clip(values, -(1 << 15), (1 << 15) - 1)


def _high16(a, b):
    """gemmlowp's SaturatingRoundingDoublingHighMul of 16-bit integers; b is positive."""
    return (a * b + (1 << 14)) >> 15


def _fixed_point(function, fraction_bits):
    """A function of real numbers that gemmlowp computes in Q4.27 and gives in Q0.31, rounded to a code."""

    def compute(codes, given, made, params, name):
        fraction, left = frexp(float(given.scale) * (1 << 31 - INPUT_BITS))
        multiplier = floor(fraction * 2.0**31 + 0.5)
        if not -31 <= left <= 30 or multiplier == 1 << 31:
            raise ModelError(f"layer {name!r} takes scale {float(given.scale):g}, which makes no sense; convert the "
                             "model again")
        radius = floor(((1 << INPUT_BITS) - 1) * 2.0 ** (31 - INPUT_BITS - left))
        values = codes - given.zero_point
        inside = (values > -radius) & (values < radius)
        scaled = by_quantized_multiplier(np.where(inside, values, 0), multiplier, 31 - left)
        result = rounding_divide_by_pot(function(scaled, INPUT_BITS), 31 - fraction_bits)
        if function is logistic:
            result = result + made.format.code_low
            return np.where(inside, result, np.where(values <= -radius, made.format.code_low, made.format.code_high))
        result = np.where(inside, result, np.where(values <= -radius, -128, 127))
        return result + (made.zero_point if made.format.kind == "uint" else 0)

    return compute


def _scaled(values, multiplier, shift, name):
    """by_quantized_multiplier, within 32 bits."""
    if int(np.abs(values).max()) << max(31 - shift, 0) >= 1 << 31:
        raise ModelError(f"layer {name!r} multiplies codes beyond 32 bits: its scales make no sense; convert the model "
                         "again")
    return by_quantized_multiplier(values, multiplier, shift)


FUNCTIONS = {
    "relu": _relu, "relu6": _relu6, "leaky_relu": _leaky_relu, "hard_swish": _hard_swish,
    "logistic": _fixed_point(logistic, 8), "tanh": _fixed_point(tanh, 7),
}
