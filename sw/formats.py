"""Formats of activations: what a code of so many bits stands for."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Format:
    """Number format of a tensor's codes.

    Parameters
    ----------
    kind : "uint", "int" or "bipolar"
        Unsigned, two's complement, or one bit with 0 for -1 and 1 for +1.
    bits : int
        Bits a code; 1 for bipolar. Activations take 1 to 16, accumulators as many as their range needs.
    """

    kind: str
    bits: int

    def __post_init__(self):
        if self.kind not in ("uint", "int", "bipolar"):
            raise ValueError(f"format kind must be uint, int or bipolar, not {self.kind!r}")
        if not (isinstance(self.bits, int) and 1 <= self.bits <= 64):
            raise ValueError(f"format bits must be 1 to 64, not {self.bits!r}")
        if self.kind == "bipolar" and self.bits != 1:
            raise ValueError(f"a bipolar format has 1 bit, not {self.bits}")

    def __str__(self):
        return "bipolar" if self.kind == "bipolar" else f"{self.kind}:{self.bits}"

    @classmethod
    def parse(cls, text):
        """The format that ``str`` gave."""
        if text == "bipolar":
            return cls("bipolar", 1)
        kind, _, bits = text.partition(":")
        if not bits.isdigit():
            raise ValueError(f"format must be uint:BITS, int:BITS or bipolar, not {text!r}")
        return cls(kind, int(bits))

    @classmethod
    def of_range(cls, low, high):
        """The narrowest integer format that holds every integer from low to high."""
        if low >= 0:
            return cls("uint", max(1, int(high).bit_length()))
        return cls("int", max(int(high).bit_length(), int(-low - 1).bit_length()) + 1)

    @property
    def code_low(self):
        """The least code."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def code_high(self):
        """The greatest code."""
        return (1 << (self.bits - 1)) - 1 if self.kind == "int" else (1 << self.bits) - 1

    @property
    def value_low(self):
        """The least integer that a code stands for (zero point aside)."""
        return -1 if self.kind == "bipolar" else self.code_low

    @property
    def value_high(self):
        """The greatest integer that a code stands for (zero point aside)."""
        return 1 if self.kind == "bipolar" else self.code_high

    @property
    def signed(self):
        """Whether codes are two's complement."""
        return self.kind == "int"

    def values(self, codes):
        """The integers that codes stand for: 2·code - 1 for bipolar, the codes themselves otherwise."""
        codes = np.asarray(codes)
        return 2 * codes.astype(np.int64) - 1 if self.kind == "bipolar" else codes

    def dtype(self):
        """The smallest numpy integer type that holds the codes."""
        for size in (8, 16, 32, 64):
            if self.bits <= size:
                return np.dtype(("int" if self.signed else "uint") + str(size))
        raise AssertionError(self.bits)
