"""Formats of weights: how many bits are stored, and which integers they stand for.

=====================  =============================  ==========================================
format                 stored bits a weight           decodes to
=====================  =============================  ==========================================
``int:b``              b                              two's complement
``bitmask:PATTERN``    1 + number of X after the      sign and magnitude, masked bits zero;
                       sign                           the sign is the top bit of a code
``binary``             1                              0 is -1, 1 is +1
``ternary``            2                              sign and magnitude: -1, 0, +1
``pow2:b``             b                              a sign and an exponent e: ±2**(e - 1), 0 where e is 0
``codebook:k``         ⌈log2 k⌉                       entry of a table, which a layer has of its own
``codebook:kxg``       ⌈log2 k⌉ a group of g          entry of g integers of such a table, one a weight of the group
``float16``            16                             IEEE half, exactly, as an integer of the layer's least exponent
=====================  =============================  ==========================================
"""

# Ref: 土居 拓矢, "量子化による認識精度低下を抑制する深層学習向け重み正規化手法", 高知工科大学 (the patterns)

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import sha256

import numpy as np

MAX_BITS = 16
"""Widest code and widest pattern: codes are kept as uint16."""

SUPPORTED = ("int:BITS, bitmask:PATTERN (as X0.0XX or 5_2_0_1_0), bitmask:BITS (the pattern is searched), binary, "
             "ternary, pow2:BITS, codebook:ENTRIES, codebook:ENTRIESxGROUP, float16, or float (in simulated mode)")
"""What ``--weights`` takes. A WeightFormat is none of the searched patterns, and not ``float``."""

KINDS = "int", "bitmask", "binary", "ternary", "pow2", "codebook", "float16"

POW2_BITS = range(2, 6)
"""Of pow2: 5 bits reach 2**14."""

ENTRIES = range(2, 257)
"""Of a codebook."""

GROUPS = 2, 4, 8
"""Weights that share an entry of a codebook of groups."""

ENTRY_BITS = 8
"""A codebook's entries are integers of so many bits, two's complement."""

HALF_BITS = 11
"""Significant bits of a half."""


@dataclass(frozen=True)
class WeightFormat:
    """Number format of stored weights.

    Parameters
    ----------
    kind : of ``KINDS``
    bits : int
        Of a code, 1 to 16; stored ones, but where a group shares an index (``index_bits``).
    pattern : str or None
        Of bitmask: sign, integer bit of weight 1, point, bits of weight 1/2, 1/4, ...; X is stored, 0 masked.
    values : tuple of int
        Of codebook: the entries, ascending, code 0 first; none while they are not chosen. Of a codebook of groups one
        entry after the other: member m of entry k has code k·group + m. Of float16: the least and the greatest
        exponent (1 to 30) of the layer's weights, of which integer 1 is the last place of the least.
    group : int
        Of codebook: weights that share an index (``lutloom.weight_groups`` says which).
    """

    kind: str
    bits: int
    pattern: str | None = None
    values: tuple[int, ...] = ()
    group: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"weight format kind must be {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {self.kind!r}")
        if not (isinstance(self.bits, int) and 1 <= self.bits <= MAX_BITS):
            raise ValueError(f"weight format bits must be 1 to {MAX_BITS}, not {self.bits!r}")
        if (self.pattern is not None) != (self.kind == "bitmask"):
            raise ValueError(f"a bitmask format has a pattern, others have none, not {self.kind} with {self.pattern!r}")
        if self.kind == "binary" and self.bits != 1:
            raise ValueError(f"a binary format stores 1 bit, not {self.bits}")
        if self.kind in ("ternary", "float16") and self.bits != (2 if self.kind == "ternary" else 16):
            raise ValueError(f"a {self.kind} format stores {2 if self.kind == 'ternary' else 16} bits, not {self.bits}")
        if self.kind == "pow2" and self.bits not in POW2_BITS:
            raise ValueError(f"weight format pow2:BITS takes {POW2_BITS[0]} to {POW2_BITS[-1]} bits, not {self.bits}")
        self._check_values()
        if self.kind == "bitmask":
            _check_pattern(self.pattern)
            if self.bits != self.pattern.count("X"):
                raise ValueError(f"pattern {self.pattern} stores {self.pattern.count('X')} bits, not {self.bits}")

    def _check_values(self):
        """ValueError unless the values are what the kind takes."""
        values = self.values
        if self.group != 1:
            self._check_group()
        elif self.kind == "codebook":
            reach = 1 << ENTRY_BITS - 1
            if values and (list(values) != sorted(set(values)) or -reach > values[0] or values[-1] >= reach):
                raise ValueError(f"codebook entries must ascend within {ENTRY_BITS} bits, not {values}")
            if values and (len(values) not in ENTRIES or (len(values) - 1).bit_length() > self.bits):
                raise ValueError(f"a codebook has {ENTRIES[0]} to {ENTRIES[-1]} entries, not {len(values)}")
        elif self.kind == "float16":
            if values and not (len(values) == 2 and 1 <= values[0] <= values[1] <= 30):
                raise ValueError(f"float16 values must be a least and a greatest exponent of 1 to 30, not {values}")
        elif values:
            raise ValueError(f"weight format {self.kind} has no values, not {values}")

    def _check_group(self):
        """ValueError unless this is a codebook of groups."""
        reach, count = 1 << ENTRY_BITS - 1, len(self.values) // self.group
        if self.kind != "codebook" or self.group not in GROUPS:
            raise ValueError(f"a codebook has groups of {_listed(GROUPS)} weights, not {self.kind} of {self.group!r}")
        if self.values and (count not in ENTRIES or len(self.values) % self.group):
            raise ValueError(f"a codebook of groups has {ENTRIES[0]} to {ENTRIES[-1]} entries of {self.group}, not "
                             f"{len(self.values)} integers")
        if self.values and (min(self.values) < -reach or max(self.values) >= reach):
            raise ValueError(f"codebook entries must be within {ENTRY_BITS} bits, not {min(self.values)} to "
                             f"{max(self.values)}")
        if self.values and (len(self.values) - 1).bit_length() > self.bits:
            raise ValueError(f"codes of {len(self.values)} integers take more than {self.bits} bits")

    def __str__(self):
        match self.kind:
            case "bitmask":
                return f"bitmask:{self.pattern}"
            case "codebook" if self.group > 1:
                return f"codebook:{self.entries}x{self.group}"
            case "codebook":
                return f"codebook:{len(self.values) or 1 << self.bits}"
            case "int" | "pow2":
                return f"{self.kind}:{self.bits}"
        return self.kind

    @property
    def key(self):
        """A word of its own for each format, its values included."""
        word = str(self).replace(":", "").replace(".", "p")
        digest = sha256(repr(self.values).encode()).hexdigest()[:8]
        return f"{word}_{digest}" if self.kind == "codebook" else "_".join([word, *map(str, self.values)])

    @classmethod
    def parse(cls, text, values=()):
        """Read ``int:4``, ``bitmask:X0.0XX``, ``ternary``, ``codebook:16`` ...; ValueError for anything else."""
        kind, colon, rest = text.partition(":")
        if text in FIXED_BITS:
            return cls(text, FIXED_BITS[text], None, tuple(values))
        if kind == "pow2" and re.fullmatch("[0-9]{1,3}", rest):
            return cls("pow2", int(rest))
        if kind == "codebook" and re.fullmatch("[0-9]{1,4}", rest):
            if int(rest) not in ENTRIES:
                raise ValueError(f"weight format codebook:ENTRIES takes {ENTRIES[0]} to {ENTRIES[-1]}, not {rest}")
            return cls("codebook", max(1, (int(rest) - 1).bit_length()), None, tuple(values))
        if kind == "codebook" and re.fullmatch("[0-9]{1,4}x[0-9]{1,4}", rest):
            entries, group = map(int, rest.split("x"))
            if entries not in ENTRIES or group not in GROUPS:
                raise ValueError(f"weight format codebook:ENTRIESxGROUP takes {ENTRIES[0]} to {ENTRIES[-1]} entries of "
                                 f"{_listed(GROUPS)} weights, not {rest}")
            return cls("codebook", (entries * group - 1).bit_length(), None, tuple(values), group)
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
    def entries(self):
        """Entries of a codebook of groups; so many as its codes allow while they are not chosen."""
        return (len(self.values) or 1 << self.bits) // self.group

    @property
    def index_bits(self):
        """Bits that are stored for a group of weights: an index; of other formats, for a weight."""
        return max(1, (self.entries - 1).bit_length()) if self.group > 1 else self.bits

    @property
    def bounds(self):
        """(least, greatest) integer of any weights of this kind: a table of groups may be put in anew."""
        return (-1 << ENTRY_BITS - 1, (1 << ENTRY_BITS - 1) - 1) if self.group > 1 else (self.low, self.high)

    @property
    def decoded(self):
        """The format that a multiplier takes: of a codebook of groups the integers of its table, else this one."""
        if self.group == 1:
            return self
        return WeightFormat("int", max(2, 1 + max(self.high, 0).bit_length(), 1 + (~min(self.low, -1)).bit_length()))

    @property
    def numeric(self):
        """The paper's numeric form of a bitmask pattern: digits, number of masked bits, their positions, 0."""
        masked = [place for place, digit in enumerate(_magnitude_digits(self.pattern)) if digit == "0"]
        return "_".join(str(part) for part in (len(self.pattern.replace(".", "")), len(masked), *masked, 0))

    @property
    def unit(self):
        """Real value of integer 1 at scale ``@1``, a Fraction."""
        match self.kind:
            case "binary" | "ternary":
                return Fraction(1)
            case "pow2":
                return Fraction(1, self.high)
            case "codebook":
                return Fraction(1, 1 << ENTRY_BITS - 1)
            case "float16":
                return Fraction(2) ** (self.values[0] - 14 - HALF_BITS)
        digits = self.bits if self.kind == "int" else len(_magnitude_digits(self.pattern))
        return Fraction(1, 1 << (digits - (self.kind == "bitmask") - (self.kind == "int")))

    @property
    def shifts(self):
        """Bit position of every stored magnitude bit, most significant first: X0.0XX gives (1, 0)."""
        if self.kind == "ternary":
            return (0,)
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
        """Sorted integer array of the integers that codes stand for."""
        return _frozen(np.unique(self._decoder))

    @cached_property
    def _decoder(self):
        """int32 array, of float16 int64: the integer of every code; of codes that stand for none that of code 0."""
        codes = np.arange(1 << self.bits, dtype=np.int32)
        if self.kind == "binary":
            return _frozen(2 * codes - 1)
        if self.kind == "codebook":
            entries = np.array(self.values, np.int32)
            return _frozen(np.where(codes < len(entries), entries[codes % len(entries)], entries[0]))
        if self.kind == "float16":
            return _frozen(self._halves(codes.astype(np.int64)))
        half = 1 << (self.bits - 1)
        if self.kind == "int":
            return _frozen(np.where(codes >= half, codes - 2 * half, codes))
        magnitude = np.zeros_like(codes)
        if self.kind == "pow2":
            exponent = codes % half
            magnitude = np.where(exponent > 0, 1 << np.maximum(exponent - 1, 0), 0).astype(np.int32)
        else:
            for place, shift in enumerate(reversed(self.shifts)):
                magnitude |= (codes >> place & 1) << shift
        return _frozen(np.where(codes >= half, -magnitude, magnitude))

    def _halves(self, codes):
        """int64: halves in units of the last place of the least exponent; 0 where they are none of the span."""
        least, greatest = self.values or (1, 30)
        exponent, fraction = codes >> HALF_BITS - 1 & 31, codes & (1 << HALF_BITS - 1) - 1
        significand = fraction + ((exponent > 0).astype(np.int64) << HALF_BITS - 1)
        shift = np.maximum(exponent, 1) - least
        inside = (shift >= 0) & (exponent <= greatest)
        integers = np.where(inside, significand << np.where(inside, shift, 0), 0)
        return np.where(codes >> 15 == 1, -integers, integers)

    @cached_property
    def _first_codes(self):
        """int32 array: the least code of each level."""
        return _frozen(np.unique(self._decoder, return_index=True)[1].astype(np.int32))

    def decode(self, codes):
        """Integer array of what codes stand for."""
        return self._decoder[codes]

    def encode(self, integers):
        """uint16 codes of integers; ValueError if one is not a level of the format. Zero becomes +0."""
        self._check_single()
        integers = np.asarray(integers)
        place = np.minimum(np.searchsorted(self.levels, integers), len(self.levels) - 1)
        bad = self.levels[place] != integers
        if bad.any():
            raise ValueError(f"weight integers must be levels of {self}, not {int(integers[bad].flat[0])}")
        return self._first_codes[place].astype(np.uint16)

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
        self._check_single()
        if isinstance(scale, Fraction):
            scale = float(scale)
        real = np.asarray(real, dtype=np.float64)
        if self.kind == "binary":
            return (real >= 0).astype(np.uint16)
        if self.kind not in ("int", "bitmask"):
            _check_rounding(rounding)
            real = real / np.asarray(scale, dtype=np.float64)
            place = np.where(real >= 0, np.searchsorted(self._middles, real, "right"),
                             np.searchsorted(self._middles, real, "left"))
            return self._first_codes[place].astype(np.uint16)
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
        if self.kind not in ("int", "bitmask"):
            return self._middles, self.levels.astype(np.int64)
        above, below = (self._decoder[table].astype(np.int64) for table in self._rounders[_check_rounding(rounding)])
        integers = np.concatenate([below[::-1], above])
        boundaries = np.arange(1 - len(above), len(above)) / 2
        jumps = np.flatnonzero(np.diff(integers))
        return boundaries[jumps], integers[np.concatenate([jumps, [len(integers) - 1]])]

    def _check_single(self):
        """ValueError where single weights have no code of their own."""
        if self.group > 1:
            raise ValueError(f"weights of {self} are chosen by groups, not one by one")

    @cached_property
    def _middles(self):
        """float64 array: half-way between levels."""
        return _frozen((self.levels[1:] + self.levels[:-1]) / 2)

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


FIXED_BITS = {"binary": 1, "ternary": 2, "float16": 16}
"""Formats without a parameter, and their stored bits."""


def _frozen(array):
    """The array, read-only."""
    array.flags.writeable = False
    return array


def _listed(numbers):
    """2, 4 or 8."""
    *some, last = map(str, numbers)
    return f"{', '.join(some)} or {last}"


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
