"""Multipliers that do exactly what thresholds do.

A Multiply layer is used only where it gives the thresholds' code for every accumulator that can occur. With a
multiplier m and a shift s, code k is reached at acc where acc·m + fraction >= k·2**s - 2**(s-1): every threshold is an
interval for the fraction, and any integer in the intersection is exact.
"""

from fractions import Fraction
from math import floor, gcd, log2

import numpy as np

from lutloom.passes.exact_rounding import TO_NEAREST
from lutloom.passes.requantise import Linear, Maximum, Minimum, Round

MULTIPLIER_BITS = 18
"""Signed width of the multipliers: what one DSP block of either chip family takes."""

MAX_SHIFT = 40
"""Keeps 16-bit codes times 2**shift within int64."""


def slope_of(chain, grid):
    """Codes of the grid per accumulator step, where the chain is steep: exact for affine, clamp, rounding chains."""
    slope = 1 / grid.scale
    for step in chain:
        if isinstance(step, Linear):
            slope *= step.scale
    return slope


def shift_for(slopes, bits=MULTIPLIER_BITS):
    """The greatest common shift at which every slope's multiplier fits; the least one that loses nothing of them."""
    steepest = max((abs(slope) for slope in slopes), default=0)
    if steepest == 0:
        return 0
    most = (1 << bits - 1) - 1
    shift = floor(log2(most / steepest))
    while round(steepest * 2**shift) > most:
        shift -= 1
    return max(0, min(shift, MAX_SHIFT))


def multipliers_of(slopes, shift):
    """(multipliers, shift) in integers; powers of two that all multipliers share are taken out."""
    multipliers = [round(slope * (1 << shift)) for slope in slopes]
    while shift > 0 and all(m % 2 == 0 for m in multipliers):
        multipliers, shift = [m // 2 for m in multipliers], shift - 1
    return multipliers, shift


def multiply_directly(chains, grid, low, high):
    """Parameters of the Multiply layer that is the chains, with no thresholds tried; None where there is none.

    That is so where every chain is affine, clamped at points of the grid, rounded to nearest and scaled back, where a
    multiplier of ``MULTIPLIER_BITS`` holds every slope exactly, and where no accumulator in low..high lies half-way
    between two codes (or halves are rounded up: away from zero, of codes that are never negative).

    Returns
    -------
    dict with multiplier, shift, offset, fraction (int64 arrays), zero_point, low, high; or None
    """
    parts = {chain: _affine_part(chain, grid) for chain in set(chains)}
    if None in parts.values() or Fraction(grid.zero).denominator != 1:
        return None
    slopes = [parts[chain][0] for chain in chains]
    shift = shift_for(slopes)
    multiplier, shift = multipliers_of(slopes, shift)
    if any(Fraction(m, 1 << shift) != slope for m, slope in zip(multiplier, slopes, strict=True)):
        return None
    if max(map(abs, multiplier)) >= 1 << MULTIPLIER_BITS - 1:
        return None
    fractions, zero = [], int(grid.zero)
    for m, chain in zip(multiplier, chains, strict=True):
        _, offset, mode, bounds = parts[chain]
        exact = (offset - zero) * (1 << shift)
        if not (mode == "HALF_UP" and bounds[0] >= 0) and _has_tie(m, shift, exact, low, high):
            return None
        fractions.append(floor(exact))
    bounds = {parts[chain][3] for chain in chains}
    if len(bounds) != 1 or max(map(abs, fractions)) >= 1 << 62:
        return None
    least, most = bounds.pop()
    same = np.zeros(len(chains), np.int64)
    return {"multiplier": np.array(multiplier, np.int64), "shift": same + shift, "offset": same,
            "fraction": np.array(fractions, np.int64), "zero_point": zero, "low": least, "high": most}


def _has_tie(multiplier, shift, exact, low, high):
    """Whether acc·multiplier + exact is an odd multiple of 2**(shift-1) for any acc in low..high."""
    if exact.denominator != 1 or shift == 0:
        return False
    goal, modulus = ((1 << shift - 1) - int(exact)) % (1 << shift), 1 << shift
    if multiplier == 0:
        return goal == 0
    common = gcd(multiplier, modulus)
    if goal % common:
        return False
    modulus //= common
    first = goal // common * pow(multiplier // common, -1, modulus) % modulus if modulus > 1 else 0
    return low + (first - low) % modulus <= high


def _affine_part(chain, grid):
    """(slope, offset, rounding, (low, high)) of a chain that is affine, clamped, rounded and scaled back, in codes."""
    rounds = [index for index, step in enumerate(chain) if isinstance(step, Round)]
    if len(rounds) != 1 or chain[-1] != Linear(grid.scale, -grid.scale * grid.zero) or rounds[0] != len(chain) - 2:
        return None
    slope, offset, low, high = Fraction(1), Fraction(0), grid.low, grid.high
    for index, step in enumerate(chain[:-2]):
        if isinstance(step, Linear):
            slope, offset = slope * step.scale, offset * step.scale + step.offset
        elif isinstance(step, Maximum | Minimum):
            code = step.bound
            for later in chain[index + 1:-2]:
                if not isinstance(later, Linear) or later.scale <= 0:
                    return None
                code = later.forward(code)
            if code.denominator != 1:
                return None
            low = max(low, int(code)) if isinstance(step, Maximum) else low
            high = min(high, int(code)) if isinstance(step, Minimum) else high
        else:
            return None
    mode = chain[-2].mode.upper()
    return (slope, offset, mode, (low, high)) if low <= high and mode in TO_NEAREST else None


def multiply_for(chains, grid, values, falling, base, low, high, bits=MULTIPLIER_BITS):
    """Parameters of a Multiply layer that equals the thresholds on low..high; None where there is none.

    Parameters
    ----------
    chains : sequence of chains, one a channel
    grid : Grid
        Of the codes; its zero must be an integer.
    values, falling, base
        Of the Thresholds layer.
    low, high : int
        The accumulators that can occur.
    bits : int
        Signed width of the multipliers.

    Returns
    -------
    dict with multiplier, shift, offset, fraction (int64 arrays), zero_point, low, high; or None
    """
    if Fraction(grid.zero).denominator != 1:
        return None
    zero, steps, channels = int(grid.zero), values.shape[1], len(values)
    known = {chain: slope_of(chain, grid) for chain in set(chains)}
    slopes = [known[chain] for chain in chains]
    multiplier, shift = multipliers_of(slopes, shift_for(slopes, bits))
    if max(map(abs, multiplier)) >= 1 << bits - 1:
        return None
    m = np.array(multiplier, np.int64)
    if max(abs(low), abs(high)) >= 1 << 60 - bits:
        return None
    # ascending levels in both directions: level t is reached by the accumulators ``reach``, not by ``miss``
    ordered = np.where(falling[:, None], values[:, ::-1], values)
    always = np.where(falling[:, None], ordered == high + 1, ordered == low)
    never = np.where(falling[:, None], ordered == low, ordered == high + 1)
    first, last = int(always.all(axis=0).sum()), steps - int(never.all(axis=0).sum())
    if last <= first:
        return None  # constant in every channel: thresholds say it in less
    part = slice(first, last)
    ordered, always, never = ordered[:, part], always[:, part], never[:, part]
    reach = np.where(falling[:, None], ordered - 1, ordered)
    miss = np.where(falling[:, None], ordered, ordered - 1)
    codes = base + 1 + np.arange(first, last)
    goal = (codes - zero) * (1 << shift) - ((1 << shift) >> 1)
    huge = np.iinfo(np.int64).max
    least = np.where(never, -huge, goal - reach * m[:, None]).max(axis=1)
    beyond = np.where(always, huge, goal - miss * m[:, None]).min(axis=1)
    if np.any(least >= beyond):
        return None
    open_below, open_above = least == -huge, beyond == huge
    fraction = np.where(open_below, beyond - 1, np.where(open_above, least, least + (beyond - 1 - least) // 2))
    same = np.zeros(channels, np.int64)
    return {"multiplier": m, "shift": same + shift, "offset": same, "fraction": fraction.astype(np.int64),
            "zero_point": zero, "low": base + first, "high": base + last}
