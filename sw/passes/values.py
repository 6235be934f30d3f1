"""What a value of the graph is while it is lowered: integers of the network, and an exact chain to real numbers."""

from dataclasses import dataclass
from fractions import Fraction

from lutloom.passes.requantise import Count, Grid, Linear, Round, chained, grid_of, is_rising


@dataclass(frozen=True)
class Value:
    """A tensor's integer codes, and the chain that turns each into the real number it stands for.

    Parameters
    ----------
    tensor : str
        Name of a network tensor.
    chains : tuple of chains
        One for all channels, or one a channel; each begins with a Linear.
    """

    tensor: str
    chains: tuple

    def then(self, steps):
        """The value after element-wise steps: a list of tuples of primitives, one or one a channel."""
        size = max(len(self.chains), len(steps))
        chains = self.chains * size if len(self.chains) == 1 else self.chains
        steps = list(steps) * size if len(steps) == 1 else steps
        known = {}
        for pair in zip(chains, steps, strict=True):
            if pair not in known:
                known[pair] = chained(pair[0], *pair[1])
        return Value(self.tensor, tuple(known[pair] for pair in zip(chains, steps, strict=True)))

    def tiled(self, times):
        """The value after flattening: channels repeat for every pixel."""
        return self if len(self.chains) == 1 else Value(self.tensor, self.chains * times)

    @property
    def is_plain(self):
        """Whether codes and real numbers differ by an affine step alone."""
        return all(len(chain) == 1 and isinstance(chain[0], Linear) for chain in self.chains)

    @property
    def is_rising(self):
        """Whether no channel falls."""
        return all(is_rising(chain) for chain in self.chains)

    @property
    def is_quantised(self):
        """Whether every chain ends on a grid by rounding or counting."""
        return all(any(isinstance(step, (Round, Count)) for step in chain) for chain in self.chains)

    def common_linear(self):
        """(scale, offset) of a plain value with one for all channels; None otherwise."""
        if not self.is_plain or len(set(self.chains)) != 1:
            return None
        return self.chains[0][0].scale, self.chains[0][0].offset

    def grid(self, low, high):
        """The one Grid of all channels, for codes low..high; None where there is none."""
        grids = {grid_of(chain, low, high) for chain in set(self.chains)}
        if len(grids) != 1:
            return None
        return grids.pop()


def plain(tensor, scale, offset):
    """The value of codes that stand for scale·code + offset."""
    return Value(tensor, ((Linear(Fraction(scale), Fraction(offset)),),))


def shifted(grid, by):
    """The same numbers with codes lower by an integer."""
    return Grid(grid.scale, grid.zero - by, grid.low - by, grid.high - by)
