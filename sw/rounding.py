"""Rounding modes, exactly: of a rational number, and where a mode steps from one integer to the next.

The names are QONNX's (the same function under two names there has both here). HALF_CEIL and HALF_FLOOR, which QONNX
lacks, round halves towards plus and minus infinity.
"""

# Ref: qonnx, custom_op/general/intquant.py, resolve_rounding_mode (DOWN is numpy.fix, UP is away from zero).

from fractions import Fraction
from math import ceil, floor

_HALF = Fraction(1, 2)


def _away(x):
    return ceil(x) if x > 0 else floor(x)


def _towards(x):
    return floor(x) if x > 0 else ceil(x)


# mode -> (round a rational, boundary of k: (doubled boundary, whether the boundary itself rounds to k))
_MODES = {
    "ROUND": (round, lambda k: (2 * k - 1, k % 2 == 0)),
    "CEIL": (ceil, lambda k: (2 * k - 2, False)),
    "FLOOR": (floor, lambda k: (2 * k, True)),
    "UP": (_away, lambda k: (2 * k - 2, False) if k >= 1 else (2 * k, True)),
    "DOWN": (_towards, lambda k: (2 * k, True) if k >= 1 else (2 * k - 2, False)),
    "HALF_UP": (lambda x: floor(x + _HALF) if x > 0 else ceil(x - _HALF), lambda k: (2 * k - 1, k >= 1)),
    "HALF_DOWN": (lambda x: ceil(x - _HALF) if x > 0 else floor(x + _HALF), lambda k: (2 * k - 1, k <= 0)),
    "HALF_CEIL": (lambda x: floor(x + _HALF), lambda k: (2 * k - 1, True)),
    "HALF_FLOOR": (lambda x: ceil(x - _HALF), lambda k: (2 * k - 1, False)),
}
_MODES["HALF_EVEN"] = _MODES["ROUND"]
_MODES["ROUND_TO_ZERO"] = _MODES["DOWN"]

MODES = tuple(_MODES)


def _mode(name):
    try:
        return _MODES[name.upper()]
    except (KeyError, AttributeError):
        raise ValueError(f"rounding must be one of {', '.join(MODES)}, not {name!r}") from None


def round_exactly(x, mode):
    """The integer that a rational number rounds to.

    Parameters
    ----------
    x : Fraction or int
    mode : str
        One of ``MODES``, in any case.
    """
    return int(_mode(mode)[0](Fraction(x)))


def boundary(mode):
    """Where a mode steps up: a function of k that gives (twice the boundary, closed).

    Every x that rounds to k or more is x >= boundary where closed, x > boundary otherwise. The boundary is doubled so
    that it is an integer in every mode.
    """
    return _mode(mode)[1]
