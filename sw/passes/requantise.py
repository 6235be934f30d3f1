"""Exact integer thresholds of any monotone chain of affine steps, clamps, roundings and counts.

A chain is a tuple of the primitives below; it maps an integer code to a real number, in rationals. For every level of
the chain's result the set of codes that reach it is a half-line; it is found by pulling the half-line back through the
chain, last primitive first, so no code is ever tried and nothing is approximated: (numerators, one common denominator,
open or closed ends) are integers all the way.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm

import numpy as np

from lutloom.passes.exact_rounding import boundary, round_exactly

ALL, NONE = True, False  # half-lines that hold every number, or none


@dataclass(frozen=True)
class Rays:
    """Half-lines of one direction: x >= n/d (or x <= n/d), closed or open.

    Parameters
    ----------
    ends : list of (n, closed), or ALL, or NONE
    denominator : int
        d, common to all ends, positive.
    rising : bool
        Whether the half-lines go up.
    """

    ends: list
    denominator: int
    rising: bool = True


@dataclass(frozen=True)
class Linear:
    """y = scale·x + offset."""

    scale: Fraction
    offset: Fraction

    def forward(self, x):
        return self.scale * x + self.offset

    def after(self, first):
        """The one step that does what ``first`` and then this one do."""
        return Linear(self.scale * first.scale, self.scale * first.offset + self.offset)

    def pull(self, rays):
        a, o, d = self.scale, self.offset, rays.denominator
        if a == 0:
            at = o.numerator * d  # o compared with n/d, both times d times o's denominator
            return Rays([end if end in (ALL, NONE) else _holds(at, end[0] * o.denominator, end[1], rays.rising)
                         for end in rays.ends], 1, rays.rising)
        # x = (n/d - o) / a = (n·times - less) / below
        times = o.denominator * a.denominator
        less = o.numerator * d * a.denominator
        below = d * o.denominator * a.numerator
        common = gcd(gcd(times, less), below) * (-1 if below < 0 else 1)
        times, less, below = times // common, less // common, below // common
        ends = [end if end in (ALL, NONE) else (end[0] * times - less, end[1]) for end in rays.ends]
        return Rays(ends, below, rays.rising == (a > 0))


@dataclass(frozen=True)
class Maximum:
    """y = max(x, bound); relu is Maximum(0)."""

    bound: Fraction

    def forward(self, x):
        return max(x, self.bound)

    def pull(self, rays):
        at, by = self.bound.numerator * rays.denominator, self.bound.denominator

        def end_of(end):
            if end in (ALL, NONE):
                return end
            n, closed = end[0] * by, end[1]
            if rays.rising:
                return ALL if n < at or (n == at and closed) else end
            return NONE if n < at or (n == at and not closed) else end

        return Rays([end_of(end) for end in rays.ends], rays.denominator, rays.rising)


@dataclass(frozen=True)
class Minimum:
    """y = min(x, bound)."""

    bound: Fraction

    def forward(self, x):
        return min(x, self.bound)

    def pull(self, rays):
        at, by = self.bound.numerator * rays.denominator, self.bound.denominator

        def end_of(end):
            if end in (ALL, NONE):
                return end
            n, closed = end[0] * by, end[1]
            if rays.rising:
                return NONE if n > at or (n == at and not closed) else end
            return ALL if n > at or (n == at and closed) else end

        return Rays([end_of(end) for end in rays.ends], rays.denominator, rays.rising)


@dataclass(frozen=True)
class Round:
    """y = x rounded to an integer and clamped to low..high (None: open)."""

    mode: str
    low: int | None = None
    high: int | None = None

    def forward(self, x):
        y = round_exactly(x, self.mode)
        y = y if self.low is None else max(y, self.low)
        return Fraction(y if self.high is None else min(y, self.high))

    def pull(self, rays):
        step = boundary(self.mode)

        def end_of(end):
            if end in (ALL, NONE):
                return end
            k = _reached(end, rays)  # y >= k, or not (y >= k) where falling
            if self.low is not None and k <= self.low:
                return rays.rising
            if self.high is not None and k > self.high:
                return not rays.rising
            n, closed = step(k)
            return (n, closed == rays.rising)

        return Rays([end_of(end) for end in rays.ends], 2, rays.rising)


@dataclass(frozen=True)
class Count:
    """y = how many steps x has reached.

    Parameters
    ----------
    steps : tuple of (Fraction, closed)
        Ascending; a closed step is reached at its boundary, an open one above it.
    """

    steps: tuple

    def forward(self, x):
        return Fraction(sum(x >= at if closed else x > at for at, closed in self.steps))

    @cached_property
    def _integers(self):
        d = lcm(*(at.denominator for at, _ in self.steps))
        return d, [int(at * d) for at, _ in self.steps]

    def pull(self, rays):
        d, numerators = self._integers

        def end_of(end):
            if end in (ALL, NONE):
                return end
            k = _reached(end, rays)
            if k <= 0:
                return rays.rising
            if k > len(self.steps):
                return not rays.rising
            return (numerators[k - 1], self.steps[k - 1][1] == rays.rising)

        return Rays([end_of(end) for end in rays.ends], d, rays.rising)


def _holds(x, n, closed, rising):
    """Whether x lies on the half-line that ends at n."""
    return (x >= n if closed else x > n) if rising else (x <= n if closed else x < n)


def _reached(end, rays):
    """The integer k with: y on the half-line <=> y >= k where rising, not y >= k where falling (y an integer)."""
    n, closed = end
    whole, rest = divmod(n, rays.denominator)
    if rays.rising:
        return whole + 1 if rest or not closed else whole
    return whole + 1 if rest or closed else whole


def run_chain(chain, x):
    """What a chain gives for one number, exactly."""
    x = Fraction(x)
    for step in chain:
        x = step.forward(x)
    return x


def chained(chain, *steps):
    """The chain with more steps behind it; neighbouring Linear steps become one."""
    chain = list(chain)
    for step in steps:
        if isinstance(step, Linear) and chain and isinstance(chain[-1], Linear):
            chain[-1] = step.after(chain[-1])
        else:
            chain.append(step)
    return tuple(chain)


def is_rising(chain):
    """Whether a chain never falls: its Linear steps have an even number of negative scales."""
    return sum(isinstance(step, Linear) and step.scale < 0 for step in chain) % 2 == 0


@dataclass(frozen=True)
class Grid:
    """The real numbers scale·(k - zero), k = low..high, which a chain that ends in a quantiser gives.

    Parameters
    ----------
    scale : Fraction
        Positive.
    zero : Fraction
    low, high : int
    """

    scale: Fraction
    zero: Fraction
    low: int
    high: int


def grid_of(chain, low, high):
    """The grid that a chain's results lie on, for codes low..high in front of it; None where it ends in real numbers.

    Without any step of rounding or counting the grid is that of the codes themselves.
    """
    scale, zero, lost = Fraction(1), Fraction(0), False
    ends = (Fraction(low), Fraction(high))
    for step in chain:
        ends = tuple(sorted(step.forward(end) for end in ends))
        if isinstance(step, (Round, Count)):
            scale, zero, lost = Fraction(1), Fraction(0), False
            if isinstance(step, Count):
                ends = (0, len(step.steps))
            else:  # the quantiser's whole range, whether reached or not
                ends = tuple(end if bound is None else bound
                             for end, bound in zip(ends, (step.low, step.high), strict=True))
        elif isinstance(step, Linear):
            if step.scale == 0:
                lost = True
                continue
            if step.scale < 0:  # turns the grid round: k becomes -k
                zero = -zero
            scale *= abs(step.scale)
            zero -= step.offset / scale
        elif (step.bound / scale + zero).denominator != 1:
            lost = True  # a clamp between two points of the grid
    if lost:
        return None
    return Grid(scale, zero, *(int(end / scale + zero) for end in ends))


def thresholds_of(chain, levels, low, high):
    """Integer thresholds of one channel.

    Parameters
    ----------
    chain : tuple of primitives
        From a code to a real number.
    levels : sequence of Fraction
        Real numbers, ascending: level t is reached where the chain's result is at least levels[t].
    low, high : int
        The codes that can occur.

    Returns
    -------
    values : list of int, ascending
        In low..high + 1: level reached <=> code >= value; in a falling channel counted from the last level down,
        level reached <=> code < value.
    falling : bool
    """
    d = lcm(*(level.denominator for level in levels)) if levels else 1
    rays = Rays([(level.numerator * (d // level.denominator), True) for level in levels], d)
    for step in reversed(chain):
        rays = step.pull(rays)
    d = rays.denominator
    values = []
    for end in rays.ends:
        if end is ALL:
            value = low if rays.rising else high + 1
        elif end is NONE:
            value = high + 1 if rays.rising else low
        else:
            n, closed = end
            value = -(-n // d) if closed == rays.rising else n // d + 1
        values.append(min(max(value, low), high + 1))
    return (values, False) if rays.rising else (values[::-1], True)


def threshold_table(chains, levels, low, high):
    """Thresholds of every channel; equal chains are worked out once.

    Returns
    -------
    values : int64 array (C, T)
    falling : bool array (C,)
    """
    known, rows, falling = {}, [], []
    for chain in chains:
        if chain not in known:
            known[chain] = thresholds_of(chain, levels, low, high)
        values, falls = known[chain]
        rows.append(values)
        falling.append(falls)
    return np.array(rows, np.int64).reshape(len(rows), len(levels)), np.array(falling, bool)
