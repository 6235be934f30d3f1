"""TensorFlow Lite Micro's arithmetic: the parameters of a network's layers, computed from scales exactly as it does.

Each function gives one layer. Scales are numpy.float32, as the file has them. Factors are computed in double, as
``tflite-micro`` 0.dev20261023 does, with which every operator is compared; its sources of August 2026 still multiply
and divide in float32 in FULLY_CONNECTED, SUB, RELU and LEAKY_RELU, which now and then moves a code by one.
"""

# Ref: tensorflow/lite/kernels/internal/quantization_util.cc (QuantizeMultiplier, PreprocessSoftmaxScaling)
# Ref: tensorflow/lite/kernels/kernel_util.cc (PopulateConvolutionQuantizationParams, GetQuantizedConvolutionMultipler)
# Ref: tensorflow/lite/micro/kernels/{add,sub,mul,softmax,quantize,fully_connected}_common.cc
# Ref: tensorflow/lite/kernels/internal/reference/reduce.h (QuantizedMeanOrSum)

from fractions import Fraction
from math import floor, frexp

import numpy as np

from lutloom.errors import ModelError
from lutloom.golden.softmax import DIFFERENCE_BITS
from lutloom.network import Add, Multiply, Product, Softmax, Thresholds
from lutloom.passes.multiplier import multiply_for
from lutloom.passes.requantise import Grid, Linear, Round, threshold_table

LEFT_SHIFT = 20
"""Of codes of 8 bits before they are scaled and added."""


def quantize_multiplier(real, name):
    """(multiplier, shift) with real ~ multiplier / 2**shift, multiplier of 31 bits: TFLM's shift is 31 - shift.

    Raises
    ------
    ModelError
        The scales of layer ``name`` make a factor of 2**30 and more, which no model means.
    """
    fraction, exponent = frexp(real)
    multiplier = floor(abs(fraction) * 2.0**31 + 0.5)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier >> 1, exponent + 1
    if exponent < -31:
        multiplier, exponent = 0, 0
    if exponent > 30:
        raise ModelError(f"layer {name!r} multiplies by {real:g}: its scales make no sense; convert the model again")
    return (-multiplier if real < 0 else multiplier), 31 - exponent


def accumulator_requantiser(name, source, output, given, weight_scale, made, offset, low, high):
    """The Multiply behind a convolution or dense layer.

    Parameters
    ----------
    source : Tensor
        The accumulators.
    given, made : TensorQuant
        Of the layer's input and output.
    weight_scale : float32 array () or (N,)
    offset : int64 array (N,)
    """
    reals = [float(given.scale) * float(scale) / float(made.scale) for scale in np.ravel(weight_scale)]
    pairs = [quantize_multiplier(real, name) for real in reals]
    return _multiply(name, source.name, output, pairs, offset, made, low, high)


def requantiser(name, source, output, given, made, channels):
    """The Multiply that brings codes to another scale and zero point."""
    pair = quantize_multiplier(float(given.scale) / float(made.scale), name)
    return _multiply(name, source, output, [pair], np.full(channels, -given.zero_point, np.int64), made,
                     made.format.code_low, made.format.code_high)


def average(name, source, output, given, made, zero, divisor, low, high):
    """The requantiser of sums of codes that divides by one whole number; halves are rounded away from zero."""
    if low == high:
        raise ModelError(f"layer {name!r} gives one value only, {low}; convert the model again")
    chain = (Linear(Fraction(1, divisor), Fraction(0)), Round("HALF_UP", low, high))
    grid = Grid(Fraction(1), Fraction(0), low, high)
    chains = (chain,) * source.shape[-1]
    levels = [Fraction(code) for code in range(low + 1, high + 1)]
    values, falling = threshold_table(chains, levels, source.low, source.high)
    found = multiply_for(chains, grid, values, falling, low, source.low, source.high)
    if found is None:
        return Thresholds(name, source.name, output, values, falling, low)
    return Multiply(name, source.name, output, **found)


def pool_padding(name, given, made, inside, divisor, kernel):
    """(code of a pool's padded taps, what zero points add to a sum): TFLite averages the codes themselves."""
    return 0, 0


def mean(name, source, output, given, made, count, low, high):
    """The Multiply behind sums of ``count`` codes."""
    multiplier, shift = quantize_multiplier(float(given.scale) / float(made.scale), name)
    more = min(count.bit_length() - 1, 32, 62 - shift)
    pair = (multiplier << more) // count, shift + more
    offset = np.full(source.shape[-1], -given.zero_point * count, np.int64)
    return _multiply(name, source.name, output, [pair], offset, made, low, high)


def _multiply(name, source, output, pairs, offset, made, low, high):
    multiplier, shift = (np.broadcast_to(np.array(part, np.int64), offset.shape).copy()
                         for part in zip(*pairs, strict=True))
    return Multiply(name, source, output, multiplier, shift, offset, np.zeros_like(offset), made.zero_point, low, high,
                    "tflm")


def sub(*arguments):
    """An Add that subtracts; see ``add``."""
    return add(*arguments, subtract=1)


def add(name, sources, output, given, made, low, high, subtract=0):
    """An Add."""
    scales = [float(quant.scale) for quant in given]
    twice = 2 * max(scales)
    factor = twice / ((1 << LEFT_SHIFT) * float(made.scale))
    multipliers, shifts = zip(*(quantize_multiplier(scale / twice, name) for scale in scales), strict=True)
    multiplier, shift = quantize_multiplier(factor, name)
    if shift < 31:
        raise ModelError(f"layer {name!r} adds values {factor:g} times the scale of its output, which TFLite Micro "
                         "refuses; convert the model again")
    offsets = tuple(-quant.zero_point for quant in given)
    return Add(name, sources, output, LEFT_SHIFT, offsets, multipliers, shifts, multiplier, shift, made.zero_point,
               low, high, subtract)


def mul(name, sources, output, given, made, low, high):
    """A Product."""
    real = float(given[0].scale) * float(given[1].scale) / float(made.scale)
    multiplier, shift = quantize_multiplier(real, name)
    return Product(name, sources, output, tuple(-quant.zero_point for quant in given), multiplier, shift,
                   made.zero_point, low, high)


def softmax(name, source, output, given, made, beta):
    """A Softmax."""
    real = min(float(beta) * float(given.scale) * (1 << 31 - DIFFERENCE_BITS), (1 << 31) - 1.0)
    if real <= 1:
        raise ModelError(f"layer {name!r} is a softmax of scale {float(given.scale):g}, which makes no sense; convert "
                         "the model again")
    multiplier, shift = quantize_multiplier(real, name)
    left = 31 - shift
    least = -floor(((1 << DIFFERENCE_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_BITS - left))
    return Softmax(name, source, output, multiplier, left, least, made.format.code_low, made.format.code_high)
