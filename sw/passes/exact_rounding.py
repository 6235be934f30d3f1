"""Rounding modes on rational numbers: the integer, and where a mode steps from one integer to the next.

The names are those of ``lutloom.rounding`` (QONNX's), the aliases included.
"""

from fractions import Fraction
from math import ceil, floor

_HALF = Fraction(1, 2)


def _away(x):
    return ceil(x) if x > 0 else floor(x)


# mode -> (round a rational, boundary of k: (doubled boundary, whether the boundary itself rounds to k))
_MODES = {
    "ROUND": (round, lambda k: (2 * k - 1, k % 2 == 0)),
    "CEIL": (ceil, lambda k: (2 * k - 2, False)),
    "FLOOR": (floor, lambda k: (2 * k, True)),
    "UP": (_away, lambda k: (2 * k - 2, False) if k >= 1 else (2 * k, True)),
    "DOWN": (int, lambda k: (2 * k, True) if k >= 1 else (2 * k - 2, False)),
    "HALF_UP": (lambda x: floor(x + _HALF) if x > 0 else ceil(x - _HALF), lambda k: (2 * k - 1, k >= 1)),
    "HALF_DOWN": (lambda x: ceil(x - _HALF) if x > 0 else floor(x + _HALF), lambda k: (2 * k - 1, k <= 0)),
}
_MODES["HALF_EVEN"] = _MODES["ROUND"]
_MODES["ROUND_TO_ZERO"] = _MODES["DOWN"]

TO_NEAREST = ("ROUND", "HALF_EVEN", "HALF_UP", "HALF_DOWN")
"""Modes that differ from each other in ties alone."""


def _mode(name):
    try:
        return _MODES[name.upper()]
    except (KeyError, AttributeError):
        raise ValueError(f"rounding must be one of {', '.join(_MODES)}, not {name!r}") from None


def round_exactly(x, mode):
    """The integer that a rational number rounds to.

    Parameters
    ----------
    x : Fraction or int
    mode : str
        In any case.
    """
    return int(_mode(mode)[0](Fraction(x)))


def boundary(mode):
    """Where a mode steps up: a function of k that gives (twice the boundary, closed).

    Every x that rounds to k or more is x >= boundary where closed, x > boundary otherwise. The boundary is doubled so
    that it is an integer in every mode.
    """
    return _mode(mode)[1]
