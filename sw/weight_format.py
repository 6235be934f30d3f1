"""Formats of weights: how many bits are stored, and which integers they stand for.

=====================  =============================  ==========================================
format                 stored bits a weight           decodes to
=====================  =============================  ==========================================
``int:b``              b                              two's complement
``bitmask:PATTERN``    1 + number of X after the      sign and magnitude, masked bits zero;
                       sign                           the sign is the top bit of a code
``binary``             1                              0 is -1, 1 is +1
=====================  =============================  ==========================================
"""

# Ref: 土居 拓矢, "量子化による認識精度低下を抑制する深層学習向け重み正規化手法", 高知工科大学 (the patterns)

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

MAX_BITS = 16
"""Widest code and widest pattern: codes are kept as uint16."""

SUPPORTED = "int:BITS, binary, bitmask:PATTERN (as X0.0XX or 5_2_0_1_0)"


@dataclass(frozen=True)
class WeightFormat:
    """Number format of stored weights.

    Parameters
    ----------
    kind : "int", "bitmask" or "binary"
    bits : int
        Stored bits a weight, 1 to 16.
    pattern : str or None
        Of bitmask: sign, integer bit of weight 1, point, bits of weight 1/2, 1/4, ...; X is stored, 0 masked.
    """

    kind: str
    bits: int
    pattern: str | None = None

    def __post_init__(self):
        if self.kind not in ("int", "bitmask", "binary"):
            raise ValueError(f"weight format kind must be int, bitmask or binary, not {self.kind!r}")
        if not (isinstance(self.bits, int) and 1 <= self.bits <= MAX_BITS):
            raise ValueError(f"weight format bits must be 1 to {MAX_BITS}, not {self.bits!r}")
        if (self.pattern is not None) != (self.kind == "bitmask"):
            raise ValueError(f"a bitmask format has a pattern, others have none, not {self.kind} with {self.pattern!r}")
        if self.kind == "binary" and self.bits != 1:
            raise ValueError(f"a binary format stores 1 bit, not {self.bits}")
        if self.kind == "bitmask":
            _check_pattern(self.pattern)
            if self.bits != self.pattern.count("X"):
                raise ValueError(f"pattern {self.pattern} stores {self.pattern.count('X')} bits, not {self.bits}")

    def __str__(self):
        if self.kind == "bitmask":
            return f"bitmask:{self.pattern}"
        return "binary" if self.kind == "binary" else f"int:{self.bits}"

    @classmethod
    def parse(cls, text):
        """Read ``int:4``, ``bitmask:X0.0XX``, ``bitmask:5_2_0_1_0`` or ``binary``; ValueError for anything else."""
        kind, colon, rest = text.partition(":")
        if text == "binary":
            return cls("binary", 1)
        if kind == "int" and re.fullmatch("[0-9]{1,3}", rest):
            if not 1 <= int(rest) <= MAX_BITS:
                raise ValueError(f"weight format int:BITS takes 1 to {MAX_BITS} bits, not {rest}")
            return cls("int", int(rest))
        if kind == "bitmask" and colon:
            return cls.bitmask(rest)
        raise ValueError(f"weight format must be {SUPPORTED}, not {text!r}")

    @classmethod
    def bitmask(cls, pattern):
        """The format of a pattern in either notation."""
        if re.fullmatch(r"[0-9]+(_[0-9]+)+", pattern):
            pattern = _from_numeric(pattern)
        _check_pattern(pattern)
        return cls("bitmask", pattern.count("X"), pattern)

    @property
    def numeric(self):
        """The paper's numeric form of a bitmask pattern: digits, number of masked bits, their positions, 0."""
        masked = [place for place, digit in enumerate(_magnitude_digits(self.pattern)) if digit == "0"]
        return "_".join(str(part) for part in (len(self.pattern.replace(".", "")), len(masked), *masked, 0))

    @property
    def unit(self):
        """Real value of integer 1 at scale ``@1``, a Fraction."""
        if self.kind == "binary":
            return Fraction(1)
        digits = self.bits if self.kind == "int" else len(_magnitude_digits(self.pattern))
        return Fraction(1, 1 << (digits - (self.kind == "bitmask") - (self.kind == "int")))

    @property
    def shifts(self):
        """Bit position of every stored magnitude bit, most significant first: X0.0XX gives (1, 0)."""
        if self.kind != "bitmask":
            raise ValueError(f"only bitmask formats have shifts, not {self}")
        digits = _magnitude_digits(self.pattern)
        return tuple(len(digits) - 1 - place for place, digit in enumerate(digits) if digit == "X")

    @property
    def low(self):
        """The least integer that a code stands for."""
        return int(self.levels[0])

    @property
    def high(self):
        """The greatest integer that a code stands for."""
        return int(self.levels[-1])

    @cached_property
    def levels(self):
        """Sorted int32 array of the integers that codes stand for."""
        return _frozen(np.unique(self._decoder))

    @cached_property
    def _decoder(self):
        """int32 array: the integer of every code."""
        codes = np.arange(1 << self.bits, dtype=np.int32)
        if self.kind == "binary":
            return _frozen(2 * codes - 1)
        half = 1 << (self.bits - 1)
        if self.kind == "int":
            return _frozen(np.where(codes >= half, codes - 2 * half, codes))
        magnitude = np.zeros_like(codes)
        for place, shift in enumerate(reversed(self.shifts)):
            magnitude |= (codes >> place & 1) << shift
        return _frozen(np.where(codes >= half, -magnitude, magnitude))

    @cached_property
    def _encoder(self):
        """int32 array: the code of integer ``low + index``, -1 where there is none."""
        encoder = np.full(self.high - self.low + 1, -1, dtype=np.int32)
        codes = np.arange((1 << self.bits) - 1, -1, -1)  # descending, so that +0 is written after -0
        encoder[self._decoder[codes] - self.low] = codes
        return _frozen(encoder)

    def decode(self, codes):
        """int32 array of the integers that codes stand for."""
        return self._decoder[codes]

    def encode(self, integers):
        """uint16 codes of integers; ValueError if one is not a level of the format. Zero becomes +0."""
        integers = np.asarray(integers)
        inside = (integers >= self.low) & (integers <= self.high)
        codes = self._encoder[np.where(inside, integers - self.low, 0)]
        bad = ~inside | (codes < 0)
        if bad.any():
            raise ValueError(f"weight integers must be levels of {self}, not {int(integers[bad].flat[0])}")
        return codes.astype(np.uint16)

    def quantise(self, real, scale, rounding="nearest"):
        """Codes of real weights.

        Parameters
        ----------
        real : float array
        scale : float, Fraction or array that broadcasts against ``real``
            Real value of integer 1, positive.
        rounding : "nearest" or "mask"
            nearest: the nearest level, ties away from zero. mask: round to the pattern's full width, half away from
            zero, saturate, then clear the masked bits. They differ for bitmask formats only.

        Returns
        -------
        uint16 array of the shape of ``real``
        """
        if isinstance(scale, Fraction):
            scale = float(scale)
        real = np.asarray(real, dtype=np.float64)
        if self.kind == "binary":
            return (real >= 0).astype(np.uint16)
        halves = np.abs(real) / (np.asarray(scale, dtype=np.float64) / 2)
        above, below = self._rounders[_check_rounding(rounding)]
        index = np.minimum(halves, len(above) - 1).astype(np.intp)
        return np.where(real < 0, below[index], above[index])

    def steps(self, rounding="nearest"):
        """The rounding as a staircase: boundaries (float64, ascending) and the integer in front of and after each.

        Returns
        -------
        boundaries : float64 array (B,)
            Of real / scale.
        integers : int64 array (B + 1,)
        """
        if self.kind == "binary":
            return np.zeros(1), np.array([-1, 1])
        above, below = (self._decoder[table].astype(np.int64) for table in self._rounders[_check_rounding(rounding)])
        integers = np.concatenate([below[::-1], above])
        boundaries = np.arange(1 - len(above), len(above)) / 2
        jumps = np.flatnonzero(np.diff(integers))
        return boundaries[jumps], integers[np.concatenate([jumps, [len(integers) - 1]])]

    @cached_property
    def _rounders(self):
        """rounding -> (codes for weights >= 0, codes for weights < 0), each by floor(2·|real|/scale)."""
        if self.kind == "int":
            magnitudes = (np.arange(2 * -self.low + 2) + 1) // 2
            tables = {"nearest": magnitudes, "mask": magnitudes}
        else:
            full = (1 << len(_magnitude_digits(self.pattern))) - 1
            halves = np.arange(2 * full + 1)
            positive = self.levels[self.levels >= 0].astype(np.int64)
            nearest = positive[np.searchsorted(positive[1:] + positive[:-1], halves, side="right")]
            tables = {"nearest": nearest, "mask": np.minimum((halves + 1) // 2, full) & self.high}
        return {
            name: tuple(_frozen(self.encode(np.clip(side * table, self.low, self.high))) for side in (1, -1))
            for name, table in tables.items()
        }


def _frozen(array):
    """The array, read-only."""
    array.flags.writeable = False
    return array


def _check_rounding(rounding):
    """The rounding, or ValueError."""
    if rounding not in ("nearest", "mask"):
        raise ValueError(f"rounding must be nearest or mask, not {rounding!r}")
    return rounding


def _magnitude_digits(pattern):
    """Digits after the sign, without the point."""
    return pattern.replace(".", "")[1:]


def _check_pattern(pattern):
    """ValueError unless the pattern is one."""
    if not re.fullmatch(r"X[X0](\.[X0]+)?", pattern) or "X" not in pattern[1:]:
        raise ValueError(
            f"a bitmask pattern is a sign X, an integer bit, a point and fraction bits, with an X after the sign, "
            f"such as X0.0XX (or its numeric form 5_2_0_1_0), not {pattern!r}"
        )
    if len(pattern.replace(".", "")) > MAX_BITS:
        raise ValueError(f"a bitmask pattern has at most {MAX_BITS} digits, not {len(pattern.replace('.', ''))}")


def _from_numeric(text):
    """X0.0XX for 5_2_0_1_0: digits, number of masked bits, their positions from the bit after the sign, 0."""
    digits, count, *places, end = (int(part) for part in text.split("_"))
    if len(places) != count or places != sorted(set(places)) or end != 0 or any(p >= digits - 1 for p in places):
        raise ValueError(
            f"a numeric bitmask pattern is digits, number of masked bits, their ascending positions counted from the "
            f"bit after the sign, and 0, such as 5_2_0_1_0 for X0.0XX, not {text!r}"
        )
    if not 2 <= digits <= MAX_BITS:
        raise ValueError(f"a bitmask pattern has 2 to {MAX_BITS} digits, not {digits}")
    magnitude = "".join("0" if place in places else "X" for place in range(digits - 1))
    return "X" + magnitude[0] + ("." + magnitude[1:] if digits > 2 else "")
