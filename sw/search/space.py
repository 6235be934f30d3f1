"""What a search tries: candidates of every layer, and combinations of the best of them.

``--formats`` is a list of formats, or such lists for layers apart: ``conv*=bitmask:3;*=int:2..8,binary``.
``int:2..8`` stands for ``int:2`` to ``int:8``; ``bitmask:3`` for every pattern of 3 stored bits within 8 digits.
"""

import glob
import itertools
import math
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from lutloom.errors import ModelError
from lutloom.passes.weigh import choose
from lutloom.weight_fit import candidates as patterns
from lutloom.weight_spec import SPARSE, FormatChoice, parse_spec

DEFAULT_FORMATS = "int:2..8,bitmask:2..4@channel,binary,ternary,pow2:3..4,codebook:4,codebook:16"

MOST_COMBINATIONS = 400
"""Where the combinations of the best are more, formats are lowered step by step instead."""


@dataclass(frozen=True)
class Candidate:
    """A format of one layer.

    Parameters
    ----------
    text : str
        As ``--weights`` takes it, with its scale.
    choice : FormatChoice
    """

    text: str
    choice: FormatChoice


def candidates(formats, layers, graph, options):
    """What is tried for each layer.

    Parameters
    ----------
    formats : str
        ``--formats``.
    layers : str or None
        ``--layers``: a comma list of shell patterns of names; None for all that ``formats`` names.
    graph : Graph
        Folded.
    options : lutloom.passes.options.Options
        For the rounding.

    Returns
    -------
    dict of str to tuple of Candidate
        By layer, in the order of the graph; layers that are not searched are not in it.

    Raises
    ------
    ModelError
    """
    free = [node for node in graph.nodes if node.op in ("conv", "dense") and node.params.get("weight_quant") is None]
    if not free:
        raise ModelError(f"model {graph.name!r} has no layer with weights that are real numbers, so that there is "
                         "nothing to search")
    names = [node.name for node in free]
    wanted = _restricted(layers, names)
    found = {}
    for pattern, texts in _entries(formats):
        taken = [name for name in names if fnmatchcase(name, pattern)]
        if not taken:
            raise ModelError(f"--formats names {pattern!r}, which matches no layer with weights; there are "
                             f"{', '.join(names)}")
        here = [name for name in taken if name in wanted and name not in found]
        choices = [choose(graph, free, replace(options, weights=text)) for text in texts] if here else []
        for name in here:
            found[name] = _expanded(choice[name] for choice in choices)
    for node in free:
        sparse = [one.text for one in found.get(node.name, ()) if one.choice.sparse]
        if sparse and "kept" not in node.params:
            raise ModelError(f"layer {node.name!r} is not pruned, so that what {sparse[0]} saves is not known; leave "
                             f"out {SPARSE}, give --prune, or name the pruned layers with --layers")
        if "kept" in node.params and node.name in found:
            able = tuple(one for one in found[node.name] if _has_zero(one.choice))
            if able != found[node.name] and formats != DEFAULT_FORMATS:
                other = next(one for one in found[node.name] if one not in able)
                raise ModelError(f"layer {node.name!r} is pruned, and {other.text} cannot hold single zeros; leave it "
                                 "out of --formats, or the layer out of --prune")
            found[node.name] = able
    if not found:
        raise ModelError(f"--formats and --layers have no layer in common; there are {', '.join(names)}")
    return {name: found[name] for name in names if name in found}


def _has_zero(choice):
    """Whether a weight in a format can be zero whatever stands beside it."""
    return choice.group == 1 and (choice.format is None or choice.format.kind != "binary")


def _restricted(layers, names):
    """Names that ``--layers`` lets through."""
    if layers is None:
        return set(names)
    found = set()
    for pattern in (part.strip() for part in layers.split(",")):
        taken = {name for name in names if fnmatchcase(name, pattern)}
        if not taken:
            raise ModelError(f"--layers names {pattern!r}, which matches no layer with weights; there are "
                             f"{', '.join(names)}")
        found |= taken
    return found


def _entries(formats):
    """(pattern, list of formats as ``--weights`` takes them) of ``--formats``."""
    for entry in formats.split(";"):
        pattern, equals, listed = entry.rpartition("=")
        if not entry.strip() or (equals and not pattern.strip()):
            raise ModelError(f"--formats must be a comma list of formats, or such lists as "
                             f"'conv*=bitmask:3;*=int:2..8', not {formats!r}")
        texts = []
        for part in listed.split(","):
            texts += _ranged(part.strip())
        for text in texts:
            try:
                FormatChoice.parse(text)
            except ValueError as error:
                raise ModelError(f"--formats cannot hold {text!r}: {error}") from None
        yield pattern.strip() or "*", texts


def _ranged(text):
    """``int:2..4@layer`` as int:2@layer, int:3@layer, int:4@layer; patterns of N bits in their own units as well."""
    match = re.fullmatch(r"([a-z0-9]+):(\d+)\.\.(\d+)(.*)", text)
    if match:
        kind, first, last, rest = match.groups()
        if int(first) > int(last):
            raise ModelError(f"--formats cannot hold {text!r}: a range goes upwards, as {kind}:{last}..{first}")
        return list(itertools.chain(*(_ranged(f"{kind}:{bits}{rest}") for bits in range(int(first), int(last) + 1))))
    return [f"{text}@1", text] if re.fullmatch(r"bitmask:\d+", text) else [text]


def _expanded(choices):
    """The candidates of one layer, each once."""
    found = {}
    for choice in choices:
        if choice.real:
            raise ModelError("--formats cannot hold 'float', which is what every trial is compared with; leave it out")
        each = [choice] if choice.search_bits is None else [
            FormatChoice(format, choice.scale, choice.rounding) for format in patterns(choice)]
        for one in each:
            found[str(one)] = Candidate(str(one), one)
    return tuple(found.values())


def weights_line(choices):
    """The ``--weights`` that gives each layer its format: a dict of name to text."""
    return ",".join(f"{_pattern(name)}={text}" for name, text in choices.items())


def _pattern(name):
    """A shell pattern that matches a layer's name, without a comma."""
    return glob.escape(name).replace(",", "?")


def checked_line(choices, names, rounding):
    """``weights_line``, after making sure that ``--weights`` reads it as it is meant."""
    line = weights_line(choices)
    read = parse_spec(line, rounding).choose(names)
    wrong = [name for name, text in choices.items() if str(read[name]) != text]
    if wrong:
        raise ModelError(f"layer {wrong[0]!r} cannot be told from others in --weights; give the layers other names")
    return line


@dataclass(frozen=True)
class Measured:
    """What a candidate does to one layer while the others are float.

    Parameters
    ----------
    candidate : Candidate
    accuracy, score, error : float
        The score is the accuracy, or the float model's where that is less: more is luck.
    costs : tuple
        What fewer is better of: weight bits, LUTs.
    """

    candidate: Candidate
    accuracy: float
    score: float
    error: float
    costs: tuple

    @property
    def rank(self):
        """Sorts the best first."""
        return -self.score, self.error, self.costs


def shortlist(measured, best):
    """The best of every cost of one layer, best first, without those that another beats in all respects.

    A frame more is luck: what changes the outputs less stays, though another gives that frame.

    Parameters
    ----------
    measured : list of Measured
    best : int
        So many of every cost.
    """
    kept = []
    for costs in sorted({one.costs for one in measured}):
        same = sorted((one for one in measured if one.costs == costs), key=lambda one: one.rank)
        if not any(other.score >= same[0].score and other.error <= same[0].error and _no_dearer(other.costs, costs)
                   for other in kept):
            kept += same[:best]
    return sorted(kept, key=lambda one: one.rank)


def _no_dearer(costs, others):
    return all(mine <= theirs for mine, theirs in zip(costs, others, strict=True))


def combinations(lists):
    """What to try of all layers together: tuples of Measured, one a layer.

    All of them while they are few; else the walks from the best of every layer to the cheapest, for each cost one,
    where each step lowers the layer that loses least accuracy for what it saves.
    """
    if math.prod(len(one) for one in lists) <= MOST_COMBINATIONS:
        return list(itertools.product(*lists))
    walks = [step for cost in range(len(lists[0][0].costs)) for step in _walk(lists, cost)]
    return list(dict.fromkeys(walks))


def _walk(lists, cost):
    """From the best of every layer to the cheapest in one cost."""
    here = tuple(min(one, key=lambda each: each.error) for one in lists)
    yield here
    while True:
        steps = [(max(lower.error - here[layer].error, 0) / (here[layer].costs[cost] - lower.costs[cost]), layer, lower)
                 for layer, one in enumerate(lists) for lower in one if lower.costs[cost] < here[layer].costs[cost]]
        if not steps:
            return
        _, layer, lower = min(steps, key=lambda step: (step[0], step[1], step[2].costs[cost]))
        here = (*here[:layer], lower, *here[layer + 1:])
        yield here


def neighbours(here, lists):
    """Combinations that differ from one in a single layer."""
    return [(*here[:layer], other, *here[layer + 1:])
            for layer, one in enumerate(lists) for other in one if other is not here[layer]]
