"""What a word of a stage's weight ROM holds: codes side by side, one index a group of weights, or five trits a byte.

``lutloom.rom`` puts the codes of a layer in the order of the folds; here the codes of each word become what is stored,
and back. Which of the forms a ROM has is said by its format and by the plan.
"""

from dataclasses import dataclass

import numpy as np

TRITS, TRIT_BITS = 5, 8
"""So many ternary weights are packed in so many bits: 3**5 = 243 of 256 codes."""


@dataclass(frozen=True)
class Stored:
    """How the codes of a word are stored.

    Parameters
    ----------
    form : "codes", "indices" or "trits"
    lanes, units : int
        A word has the codes of so many lanes for each unit, those of a unit side by side.
    bits : int
        Of each number that is stored.
    group : int
        Of indices: lanes that share one; a unit's last index may have fewer.
    """

    form: str
    lanes: int
    units: int
    bits: int
    group: int = 1

    @classmethod
    def of(cls, format, lanes, units, packed=False):
        """How weights of a format are stored; ``packed``: ternary ones five in a byte."""
        if format.group > 1:
            return cls("indices", lanes, units, format.index_bits, format.group)
        if not packed:
            return cls("codes", lanes, units, format.bits)
        if format.kind != "ternary":
            raise ValueError(f"only ternary weights can be packed, not {format}")
        return cls("trits", lanes, units, TRIT_BITS)

    @property
    def numbers(self):
        """Numbers a word."""
        if self.form == "indices":
            return self.units * -(-self.lanes // self.group)
        codes = self.units * self.lanes
        return codes if self.form == "codes" else -(-codes // TRITS)

    @property
    def width(self):
        """Bits a word."""
        return self.numbers * self.bits

    def numbers_of(self, codes):
        """What is stored of codes (words, units·lanes): an integer array (words, numbers)."""
        codes = np.asarray(codes)
        if self.form == "codes":
            return codes
        if self.form == "indices":
            first = codes.reshape(len(codes), self.units, self.lanes)[:, :, ::self.group]
            return first.reshape(len(codes), -1) // self.group
        spare = -codes.shape[1] % TRITS
        return BYTES[TERNARY[np.pad(codes, ((0, 0), (0, spare)))].reshape(len(codes), -1, TRITS) @ POWERS]

    def codes_of(self, numbers):
        """The inverse of ``numbers_of``; members of a group that no lane has are left out."""
        numbers = np.asarray(numbers, np.int64)
        if self.form == "codes":
            return numbers
        if self.form == "indices":
            codes = numbers[:, :, None] * self.group + np.arange(self.group)
            codes = codes.reshape(len(numbers), self.units, -1)[:, :, :self.lanes]
        else:
            codes = TRITS_OF[numbers]
        return codes.reshape(len(numbers), -1)[:, :self.units * self.lanes]


TERNARY = np.array([0, 1, 0, 2])
"""Digit of a ternary weight's code (sign and magnitude; there is no -0)."""

CODES = np.array([0, 1, 3])
"""The code of each digit."""

POWERS = 3 ** np.arange(TRITS)

BYTES = np.arange(3**TRITS)
"""The stored number of every value of five digits, the first weight's the lowest."""

TRITS_OF = CODES[np.arange(1 << TRIT_BITS)[:, None] // POWERS % 3]
"""(256, 5): the codes that a stored number stands for."""
