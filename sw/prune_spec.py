"""What a user asks for with ``--prune``: which share of the weights becomes zero, and among which they compete."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from lutloom.errors import ModelError

SCOPES = ("global", "magnitude", "layer", "output")
WAYS = ("--prune must be a share such as 0.9, layer:0.9 or output:0.9, or a comma list of LAYER=SHARE, as "
        "conv*=0.5,ip1=0.95")


@dataclass(frozen=True)
class Pruning:
    """One entry of ``--prune``.

    Parameters
    ----------
    pattern : str
        Shell pattern of layer names.
    share : float
        Of the weights that become zero, at least 0 and below 1.
    scope : "global", "magnitude", "layer" or "output"
        global: of all layers that match together, those that matter least beside the larger ones of their layer (then
        no layer of small weights is emptied). magnitude: the smallest of all these layers. layer: the smallest of
        each. output: the smallest of each output of each layer (then the outputs have as many weights each, and units
        that skip zeros do not wait for one another).
    """

    pattern: str
    share: float
    scope: str = "global"

    def __str__(self):
        scope = "" if self.scope == "global" else f"{self.scope}:"
        return f"{self.pattern}={scope}{self.share:g}"


def parse_pruning(text):
    """Read ``--prune``: ``0.9``, ``layer:0.9``, ``conv*=0.5,ip1=output:0.95``; ModelError for anything else.

    Returns
    -------
    tuple of Pruning
    """
    parts = [part.strip() for part in str(text).split(",")]
    entries = []
    for part in parts:
        pattern, equals, choice = part.rpartition("=")
        if (equals and not pattern.strip()) or (not equals and len(parts) > 1):
            raise ModelError(f"{WAYS}, not {text!r}")
        scope, colon, share = choice.strip().rpartition(":")
        if colon and scope not in SCOPES:
            raise ModelError(f"{WAYS}, not {part!r}: in front of the colon stands {', '.join(SCOPES[:-1])} or "
                             f"{SCOPES[-1]}, not {scope!r}")
        try:
            number = float(share)
        except ValueError:
            raise ModelError(f"{WAYS}, not {part!r}") from None
        if not 0 <= number < 1:
            raise ModelError(f"--prune takes shares of at least 0 and below 1, not {share}")
        entries.append(Pruning(pattern.strip() or "*", number, scope or "global"))
    return tuple(entries)


def chosen(entries, names):
    """The entry of every layer that one matches, the first that does: a dict by name.

    Raises
    ------
    ModelError
        For an entry that matches no layer.
    """
    for entry in entries:
        if not any(fnmatchcase(name, entry.pattern) for name in names):
            raise ModelError(f"--prune names {entry.pattern!r}, which matches no layer with weights that can be "
                             f"pruned; there are {', '.join(names)}")
    found = {name: next((entry for entry in entries if fnmatchcase(name, entry.pattern)), None) for name in names}
    return {name: entry for name, entry in found.items() if entry is not None}
