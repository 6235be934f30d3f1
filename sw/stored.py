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


CODES = np.array([0, 1, 3])
"""The code (sign and magnitude) of a ternary weight, by its digit: 0, +1, -1."""

PAIRS = np.stack([CODES[np.arange(9) // 3], CODES[np.arange(9) % 3]], axis=1)
"""(9, 2): the codes of two weights."""


def _taken_apart(byte):
    """The codes that a byte stands for; each bit of them is a few LUTs (``lutloom.hw.trits``), unlike of digits.

    Two of the weights are a pair of three bits, eight of nine; the ninth is meant where the top three bits are ones.
    The other three are in five bits that never begin so: two bits are a weight's code, the others a pair, seven of
    nine; the code that no weight has says that it is one of the two others, and the weight is in the others' bits.
    """
    rare = byte >> 5 == 7
    five = byte & 31 if rare else byte >> 3
    first, pair = five & 3, five >> 2
    if first == 2:
        first, pair = (pair >> 1 & 1) << 1 | bool(pair & 3), 7 + (pair >> 2)
    return first, *PAIRS[pair], *PAIRS[8 if rare else byte & 7]


TRITS_OF = np.array([_taken_apart(byte) for byte in range(1 << TRIT_BITS)])
"""(256, 5): the codes that a stored number stands for; of numbers that are never stored, some."""

TERNARY = np.array([0, 1, 0, 2])
"""Digit of a ternary weight's code (there is no -0)."""

POWERS = 3 ** np.arange(TRITS)

BYTES = np.unique(TERNARY[TRITS_OF] @ POWERS, return_index=True)[1]
"""The stored number of every value of five digits, the first weight's the lowest."""
