"""onnxruntime's integer CPU kernels: layers that give their bytes, from scales in float32 as they compute with them.

A kernel computes an exact integer, turns it into a real number in float32 and rounds that, halves to even. As a
function of the integer this never falls, so that thresholds say it exactly: they are found by evaluating the float32
function itself, and become a multiplier where one does the same for every integer that can occur; else a product in
float32 is what it is, where the integer has no more than 24 bits.
"""

# Ref: onnxruntime/core/mlas/lib/quantize.cpp (MlasRequantizeOutput, MlasQuantizeLinear), qladd.cpp, qlmul.cpp,
# Ref: qlgavgpool.cpp (MLAS, with AVX2 and FMA), contrib_ops/cpu/quantization/qlinear_pool.cc

from fractions import Fraction
from types import SimpleNamespace

import numpy as np

from lutloom.errors import ModelError
from lutloom.functions import FUNCTIONS
from lutloom.golden.multiply import FLOAT32_BITS
from lutloom.network import Multiply, Sum, Table, Thresholds, Times
from lutloom.passes.multiplier import multiply_for
from lutloom.passes.requantise import Grid, Linear

MULTIPLIER_BITS = (18, 25, 31)
"""Widths that are tried for multipliers, the cheapest first."""

LEAST_SLOPE, MOST_SLOPE = 2.0**-60, 2.0**31
"""Steps of the output that one of an accumulator can be."""

SUM_BITS = 52
"""Most fraction bits of the tables of a sum."""


def accumulator_requantiser(name, source, output, given, weight_scale, made, offset, low, high):
    """The requantiser behind a convolution or dense layer (MlasRequantizeOutput).

    Parameters
    ----------
    source : Tensor
        The accumulators.
    given, made : TensorQuant
        Of the layer's input and output.
    weight_scale : array () or (N,)
    offset : int64 array (N,)
        What the bias and the zero points add.
    """
    scale = given.scale * np.asarray(weight_scale, np.float32).reshape(-1) / made.scale
    scale = np.broadcast_to(scale, offset.shape)
    reach = max(abs(source.low), abs(source.high)) + int(np.abs(offset).max())
    if reach >= 1 << 31:
        raise ModelError(f"layer {name!r} sums up to {reach}, beyond onnxruntime's 32 bits; quantise the model again")

    def codes(acc):
        return (acc + offset[:, None]).astype(np.float32) * scale[:, None]

    return _requantiser(name, source, output, codes, scale, made, low, high, offset)


def mean(name, source, output, given, made, count, low, high):
    """The requantiser behind sums of ``count`` codes (MlasQLinearGlobalAveragePool)."""
    scale = np.full(source.shape[-1], given.scale / (made.scale * np.float32(count)), np.float32)
    offset = -given.zero_point * count

    def codes(acc):
        return (acc + offset).astype(np.float32) * scale[:, None]

    return _requantiser(name, source, output, codes, scale, made, low, high, np.full(scale.shape, offset))


def average(name, source, output, given, made, zero, divisor, low, high):
    """The requantiser of sums of codes, less ``zero``, that divides by one whole number.

    The sum is exact; onnxruntime adds real numbers in float32, which strays where the average lies half-way between
    two codes (see docs/onnx-quantised.md).
    """
    scale = np.full(source.shape[-1], float(given.scale) / divisor / float(made.scale))

    def codes(acc):
        return ((acc - zero) * float(given.scale) / divisor).astype(np.float32) / made.scale

    return _requantiser(name, source, output, codes, scale, made, low, high)


def pool_padding(name, given, made, inside, divisor, kernel):
    """(code of a pool's padded taps, what zero points add to a sum times its factor).

    Parameters
    ----------
    inside, divisor : integer arrays (OH, OW)
        How many taps of each window lie inside, and how many count.
    """
    taps, whole = kernel[0] * kernel[1], int(np.lcm.reduce(np.unique(divisor)))
    if (divisor == divisor.flat[0]).all():  # padded taps stand for zero
        return given.zero_point, given.zero_point * taps * (whole // int(divisor.flat[0]))
    if (divisor == inside).all() or not given.zero_point:  # padded taps add nothing
        return 0, given.zero_point * whole
    raise ModelError(f"layer {name!r} averages padding along with windows of several sizes, at a zero point of "
                     f"{given.zero_point}, which is not supported; use count_include_pad = 0")


def is_exact_average(given, made, divisors):
    """Whether onnxruntime's sums in float32 give the codes of the exact ones, whatever the windows hold.

    They do where no sum's average lies nearer to half a code than float32 can err: every product of a code and the
    scale, every addition and both divisions by at most 2**-24 of what they give.

    Parameters
    ----------
    divisors : integer array
        By which sums of so many codes are divided.
    """
    ratio = float(given.scale) / float(made.scale)
    low, high = (code - given.zero_point for code in (given.format.code_low, given.format.code_high))
    halves = np.arange(made.format.code_low, made.format.code_high) + 0.5 - made.zero_point
    halves = halves[(halves >= low * ratio - 1) & (halves <= high * ratio + 1)]
    for divisor in np.unique(divisors):
        sums = halves * (int(divisor) / ratio)
        error = (int(divisor) + 4) * 2.0**-24 * max(-low, high) * ratio
        if (np.abs(sums - np.rint(sums)) * (ratio / int(divisor)) <= error).any():
            return False
    return True


def table(name, source, output, function, params, given, made):
    """The Table of functions of one number, in float32 step by step."""
    codes = np.arange(given.format.code_low, given.format.code_high + 1)
    real = (codes - given.zero_point).astype(np.float32) * given.scale
    for step, parameters in params["steps"]:
        real = FUNCTIONS[step](real.astype(np.float64), parameters).astype(np.float32)
    return Table(name, source, output, _rounded(real / made.scale, made).astype(np.int64), function)


def add(name, sources, output, given, made, low, high):
    """A Sum, and what makes the requantiser behind it, of a + b (MlasQLinearAdd)."""
    (a, b), (ra, rb) = _code_ranges(given), (quant.scale / made.scale for quant in given)
    za, zb = (np.float32(quant.zero_point) for quant in given)
    # with fused multiply-adds, as MLAS has them: float64 holds a product of two float32 exactly
    fixed = np.float32(np.float32(made.zero_point) - _fused(ra, za, rb * zb))
    right = _fused(b.astype(np.float32), rb, fixed)
    real = _fused(a.astype(np.float32)[:, None], ra, right[None])
    codes = np.clip(np.rint(np.clip(real, -1e6, 1e6)), low, high).astype(np.int64)
    parts = a * float(ra), right.astype(np.float64)
    return _sum(name, sources, parts, codes, low, high)


def sub(name, sources, output, given, made, low, high):
    """A Sum, and what makes the requantiser behind it, of a - b, which onnxruntime computes in float32."""
    a, b = ((codes - quant.zero_point).astype(np.float32) * quant.scale
            for codes, quant in zip(_code_ranges(given), given, strict=True))
    real = (a[:, None] - b[None]) / made.scale
    codes = np.clip(_rounded(real, made), low, high).astype(np.int64)
    scale = float(made.scale)
    parts = a.astype(np.float64) / scale + made.zero_point, -b.astype(np.float64) / scale
    return _sum(name, sources, parts, codes, low, high)


def mul(name, sources, output, given, made, low, high):
    """A Times, and what makes the requantiser behind it, of a · b (MlasQLinearMul)."""
    with np.errstate(all="ignore"):  # what is out of range is refused with the requantiser
        scale = np.atleast_1d(given[0].scale * given[1].scale / made.scale)
    layer = Times(name, sources, name, tuple(-quant.zero_point for quant in given))

    def requantiser(name, source, output):
        scales = np.broadcast_to(scale, source.shape[-1:])
        return _requantiser(name, source, output, lambda acc: acc.astype(np.float32) * scales[:, None], scales, made,
                            low, high)

    return layer, requantiser


def _fused(a, b, c):
    """a · b + c in float32, rounded once (twice where float64 rounds the sum, which matters to no code)."""
    return (np.asarray(a, np.float64) * np.float64(b) + np.asarray(c, np.float64)).astype(np.float32)


def _code_ranges(given):
    return [np.arange(quant.format.code_low, quant.format.code_high + 1) for quant in given]


def _rounded(real, made):
    """Codes of float32 numbers in steps of the output, as QuantizeLinear gives them; integers in a float array."""
    zero = made.zero_point
    return np.rint(np.clip(real, made.format.code_low - zero, made.format.code_high - zero)) + zero


def _requantiser(name, source, output, real, slopes, made, low, high, offset=None):
    """The Thresholds, or a Multiply that is the same, of a real number in steps of the output, of an accumulator.

    Parameters
    ----------
    real : function of an int64 array (C, T) of accumulators
        Gives float32; never falls along with the accumulator.
    slopes : array (C,)
        About how steep it is.
    offset : int array (C,), optional
        ``real`` is the product of accumulator and offset with the slope, in float32.
    """
    if low == high:
        raise ModelError(f"layer {name!r} gives one value only, {low}; quantise the model again")
    if not all(LEAST_SLOPE < slope < MOST_SLOPE for slope in slopes):
        raise ModelError(f"layer {name!r} has scales of input, weights and output that are too far apart; quantise the "
                         "model again")
    levels = np.arange(low + 1, high + 1)
    left = np.full((source.shape[-1], len(levels)), source.low, np.int64)
    right = np.full_like(left, source.high + 1)
    while (open_ := left < right).any():
        middle = (left + right) >> 1
        reached = _rounded(real(middle), made) >= levels
        right = np.where(open_ & reached, middle, right)
        left = np.where(open_ & ~reached, middle + 1, left)
    falling = np.zeros(len(left), bool)
    chains = [(Linear(Fraction(float(slope)), Fraction(0)),) for slope in slopes]
    found = _multiplier(chains, left, falling, low, high, source)
    if found is None and offset is not None:
        found = _in_float32(slopes, offset, source, made, low, high)
    if found is None:
        return Thresholds(name, source.name, output, left, falling, low)
    return Multiply(name, source.name, output, **found)


def _in_float32(slopes, offset, source, made, low, high):
    """Parameters of a Multiply with rounding "float32"; None where its numbers are out of range."""
    mantissa, exponent = np.frexp(np.asarray(slopes, np.float32))
    multiplier, shift = np.ldexp(mantissa, FLOAT32_BITS).astype(np.int64), FLOAT32_BITS - exponent.astype(np.int64)
    reach = max(abs(source.low + int(offset.min())), abs(source.high + int(offset.max())))
    if reach >= 1 << FLOAT32_BITS or (multiplier <= 0).any() or shift.min() <= FLOAT32_BITS or shift.max() > 62:
        return None
    return dict(multiplier=multiplier, shift=shift, offset=np.asarray(offset, np.int64), fraction=np.zeros_like(shift),
                zero_point=int(made.zero_point), low=low, high=high, rounding="float32")


def _multiplier(chains, values, falling, low, high, source):
    """Parameters of the narrowest Multiply that is the same as thresholds; None where there is none."""
    grid = Grid(Fraction(1), Fraction(0), low, high)
    for bits in MULTIPLIER_BITS:
        found = multiply_for(chains, grid, values, falling, low, source.low, source.high, bits)
        if found is not None:
            return found
    return None


def _sum(name, sources, parts, codes, low, high):
    """(Sum, function that makes its requantiser) of two tables whose sum decides the code.

    The tables are rounded to as few fraction bits as keep every one of the pairs' codes apart: first where rounding
    the sum at halves gives them, else where any thresholds do.
    """
    if low == high:
        raise ModelError(f"layer {name!r} gives one value only, {low}; quantise the model again")
    if not all(np.abs(part).max() < MOST_SLOPE for part in parts):
        raise ModelError(f"layer {name!r} adds values whose scales are too far apart; quantise the model again")
    levels = np.arange(low + 1, high + 1)
    shifted = None
    for bits in range(SUM_BITS):
        first, second = (np.rint(part * 2.0**bits).astype(np.int64) for part in parts)
        total = first[:, None] + second[None]
        if bits and np.array_equal(np.clip((total + (1 << bits - 1)) >> bits, low, high), codes):
            values = (levels << bits) - (1 << bits - 1)
            return Sum(name, sources, name, first, second), _decide(values, bits, low, high)
        if shifted is None:
            shifted = _levels(total, codes, levels, low)
            shifted = None if shifted is None else (first, second, shifted)
    if shifted is None:
        raise ModelError(f"layer {name!r} adds values whose scales are too far apart; quantise the model again")
    first, second, values = shifted
    return Sum(name, sources, name, first, second), _decide(values, None, low, high)


def _levels(total, codes, levels, low):
    """Thresholds of sums that give the codes; None where some sum would have to give two."""
    order = np.argsort(total, axis=None, kind="stable")
    sums, made = total.ravel()[order], codes.ravel()[order]
    ends = np.flatnonzero(np.diff(made) != 0)
    if (np.diff(made) < 0).any() or (sums[ends] == sums[ends + 1]).any():
        return None
    places = np.searchsorted(made, levels)
    return np.append(sums, sums[-1] + 1)[places]


def _decide(values, bits, low, high):
    """A function that makes the requantiser of a Sum's accumulators: a rounding shift by ``bits``, or thresholds."""

    def requantiser(name, source, output):
        if bits is not None:
            zeros, ones = np.zeros(source.shape[-1], np.int64), np.ones(source.shape[-1], np.int64)
            return Multiply(name, source.name, output, ones, ones * bits, zeros, zeros, 0, low, high)
        rows = np.tile(np.clip(values, source.low, source.high + 1), (source.shape[-1], 1))
        return Thresholds(name, source.name, output, rows, np.zeros(len(rows), bool), low)

    return requantiser


RULES = SimpleNamespace(
    accumulator_requantiser=accumulator_requantiser, mean=mean, average=average, pool_padding=pool_padding,
    is_exact_average=is_exact_average, table=table, add=add, sub=sub, mul=mul,
)
