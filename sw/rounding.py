"""Rounding modes of qonnx's quantisers."""

import numpy as np

MODES = {
    "ROUND": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}
ALIASES = {"HALF_EVEN": "ROUND", "ROUND_TO_ZERO": "DOWN"}


def canonical(mode):
    """The name in ``MODES`` of a rounding mode; KeyError where there is none."""
    mode = ALIASES.get(mode.upper(), mode.upper())
    if mode not in MODES:
        raise KeyError(mode)
    return mode


def code_range(bits, signed, narrow):
    """The least and the greatest integer of a quantiser of so many bits."""
    if signed:
        return -(1 << (bits - 1)) + bool(narrow), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - bool(narrow)
