"""What a user asks for with ``--weights``: one format, or a comma list of ``pattern=format``."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from lutloom.errors import ModelError
from lutloom.weight_format import WeightFormat

SEARCH_DIGITS = 8
"""``bitmask:n`` chooses among patterns of at most so many digits (the sign counted)."""

SCALES = ("one", "layer", "channel")

SPARSE = "+sparse"
"""Behind a format: zeros are not stored, where that is less."""


@dataclass(frozen=True)
class FormatChoice:
    """How one layer's weights are to be quantised.

    Parameters
    ----------
    format : WeightFormat or None
        None: ``fit`` chooses it, by one of the three below.
    scale : "one", "layer" or "channel"
        Real value of integer 1: the format's own unit, or fitted by least squares per layer or per output.
    rounding : "nearest" or "mask"
    search_bits : int or None
        Stored bits of the bitmask pattern to search, 2 to 8.
    entries : int or None
        Of the codebook to find.
    real : bool
        The weights stay real numbers: simulated mode only.
    sparse : bool
        Zeros need not be stored.
    group : int
        Weights that an entry of the codebook stands for.
    """

    format: WeightFormat | None
    scale: str = "channel"
    rounding: str = "nearest"
    search_bits: int | None = None
    entries: int | None = None
    real: bool = False
    sparse: bool = False
    group: int = 1

    def __post_init__(self):
        ways = self.format is not None, self.search_bits is not None, self.entries is not None, self.real
        if sum(ways) != 1:
            raise ValueError("a format choice has a format, search_bits, entries or real, and one of them alone")
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one, layer or channel, not {self.scale!r}")
        if self.rounding not in ("nearest", "mask"):
            raise ValueError(f"rounding must be nearest or mask, not {self.rounding!r}")
        if self.search_bits is not None and not 2 <= self.search_bits <= SEARCH_DIGITS:
            raise ValueError(f"bitmask:BITS takes 2 to {SEARCH_DIGITS} stored bits, not {self.search_bits}")
        if self.format is not None and self.format.kind == "float16" and self.scale != "one":
            raise ValueError("float16 weights are stored as they are, without a scale; leave out the @")

    def __str__(self):
        if self.real:
            return "float"
        if self.format is not None:
            name = str(self.format)
        else:
            name = f"bitmask:{self.search_bits}" if self.entries is None else f"codebook:{self.entries}"
        name += f"x{self.group}" * (self.entries is not None and self.group > 1) + SPARSE * self.sparse
        if name.startswith("float16"):
            return name
        return f"{name}@{1 if self.scale == 'one' else self.scale}"

    @property
    def about(self):
        """The format, or one of the same cost where only weights can tell which it will be."""
        if self.group > 1:
            values = tuple(np.linspace(-100, 100, self.entries * self.group).round().astype(int).tolist())
            return WeightFormat.parse(f"codebook:{self.entries}x{self.group}", values)
        if self.entries is not None:
            entries = np.unique(np.linspace(-100, 100, self.entries).round().astype(int))
            return WeightFormat("codebook", (len(entries) - 1).bit_length(), None, tuple(map(int, entries)))
        if self.format is not None and self.format.kind == "float16":
            return WeightFormat("float16", 16, None, (3, 14))
        return self.format

    @classmethod
    def parse(cls, text, rounding="nearest"):
        """Read ``int:4``, ``bitmask:3@layer``, ``bitmask:X0.0XX`` ...; ValueError for anything else."""
        plain = text.strip().removesuffix(SPARSE)
        name, at, scale = plain.partition("@")
        if plain != text.strip() or name.endswith(SPARSE):
            return _sparse(cls.parse(name.removesuffix(SPARSE) + at + scale, rounding))
        if at and scale not in ("1", "layer", "channel"):
            raise ValueError(f"the scale of a weight format must be @1, @layer or @channel, not @{scale}")
        kind, _, rest = name.partition(":")
        if kind == "bitmask" and rest.isdigit():
            return cls(None, _scale(scale, "channel"), rounding, int(rest))
        if name == "float":
            if at:
                raise ValueError("float weights stay as they are, without a scale; leave out the @")
            return cls(None, real=True)
        format = WeightFormat.parse(name)
        if kind == "codebook":
            entries = int(rest.partition("x")[0])
            return cls(None, _scale(scale, "channel"), rounding, entries=entries, group=format.group)
        return cls(format, _scale(scale, "one" if kind in ("bitmask", "float16") else "channel"), rounding)


DEFAULT = FormatChoice(WeightFormat("int", 8))


@dataclass(frozen=True)
class Spec:
    """A parsed ``--weights``.

    Parameters
    ----------
    entries : tuple of (str, FormatChoice)
        Shell patterns of layer names with what they choose; the first match wins.
    """

    entries: tuple[tuple[str, FormatChoice], ...]

    def __str__(self):
        return ",".join(f"{pattern}={choice}" for pattern, choice in self.entries)

    def choose(self, names):
        """The FormatChoice of every layer: a dict in the order of ``names``.

        Layers that no entry matches are ``int:8``; an entry that matches no layer is a ModelError. An entry whose
        layers were all taken by entries before it is fine.
        """
        names = tuple(names)
        for pattern, _ in self.entries:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ModelError(
                    f"--weights names {pattern!r}, which matches no layer with weights; there are {', '.join(names)}"
                )
        return {name: self.of(name) for name in names}

    def of(self, name):
        """The FormatChoice of one layer."""
        return next((choice for pattern, choice in self.entries if fnmatchcase(name, pattern)), DEFAULT)


def fit_rounding(rounding):
    """How a layer's weights are rounded when they are first fitted, "nearest" or "mask", of what a user chose."""
    return "mask" if rounding == "mask" else "nearest"


def parse_spec(text, rounding="nearest"):
    """Read ``--weights``: ``int:4`` or ``conv1=bitmask:X0.0XX,*=bitmask:4@layer``; ModelError with the choices."""
    parts = [part.strip() for part in text.split(",")]
    entries = []
    for part in parts:
        pattern, equals, name = part.rpartition("=")
        if not part or (equals and not (pattern and name)) or (not equals and len(parts) > 1):
            raise ModelError(
                f"--weights must be one format or a comma list of LAYER=FORMAT, as conv1=int:4,*=int:8, not {text!r}"
            )
        try:
            entries.append((pattern.strip() or "*", FormatChoice.parse(name, rounding)))
        except ValueError as error:
            raise ModelError(f"--weights cannot be {part!r}: {error}") from None
    return Spec(tuple(entries))


def shown(layer, info, sparse=None):
    """Format of a layer's weights in words, without the scale: ``codebook:256x4, 244 used`` where k-means found fewer
    entries than were asked for.

    Parameters
    ----------
    layer : lutloom.network.Conv or Dense
    info : mapping of str to str
        The network's, which holds ``--weights``.
    sparse : bool, optional
        Whether zeros are not stored, where that is not as the weights have it.
    """
    format, end = layer.weights.format, SPARSE * (layer.weights.sparse if sparse is None else sparse)
    asked = info.get("weights") if format.kind == "codebook" else None
    choice = parse_spec(asked).of(layer.name) if asked else None
    if choice is None or choice.entries in (None, format.entries):
        return f"{format}{end}"
    group = f"x{format.group}" if format.group > 1 else ""
    return f"codebook:{choice.entries}{group}{end}, {format.entries} used"


def _sparse(choice):
    """A choice whose zeros need not be stored; ValueError for weights that are not stored, or not one by one, or have
    no zero."""
    if choice.real or choice.group > 1 or (choice.format is not None and choice.format.kind == "binary"):
        raise ValueError(f"{SPARSE} is of weights stored one by one that can be zero, not of {choice}; leave it out")
    return replace(choice, sparse=True)


def _scale(text, default):
    """The scale that @1, @layer, @channel or nothing means."""
    return {"1": "one", "": default}.get(text, text)
