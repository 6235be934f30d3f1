"""What a choice of formats costs: weight bits exactly, LUTs and cycles roughly.

Every layer gets as many products as its work needs within the cycles of a frame; their LUTs are those of
``lutloom.cost.product_luts``. Windows, requantisers and memories are not in it, nor that products come in whole
numbers: this compares formats, and the planner counts.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lutloom.cost import product_luts
from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.planner import LUT_SHARE, MOST_LUTS
from lutloom.weight_format import WeightFormat
from lutloom.weight_groups import stored_bits

PRODUCT_SHARE = 0.5
"""Of the LUTs that a plan may take, what its products take."""

LANES = 4
"""Products of a sum: on ECP5 two share an adder."""

OTHERS = WeightFormat("int", 8)
"""What layers get that are not searched, as without --weights."""

BUDGETS = {"bits": "weight bits", "luts": "LUTs", "cycles": "cycles"}


@dataclass(frozen=True)
class Costs:
    """Of one choice of formats."""

    bits: int
    luts: int
    cycles: int


@dataclass(frozen=True)
class Budget:
    """``--budget``: what of, and how much."""

    of: str
    most: int

    @classmethod
    def parse(cls, text):
        """Read ``bits=100000``, ``luts=3000`` or ``cycles=20000``; None for None."""
        if text is None:
            return None
        of, _, most = text.partition("=")
        if of not in BUDGETS or not most.strip().isdigit() or int(most) < 1:
            raise ModelError(f"--budget must be bits=N, luts=N or cycles=N with a whole number above zero, not "
                             f"{text!r}")
        return cls(of, int(most))

    def __str__(self):
        return f"{self.of}={self.most}"

    def excess(self, costs):
        """By how much costs exceed it; 0 or less where they meet it."""
        return getattr(costs, self.of) - self.most


class CostModel:
    """Costs of formats of a model's layers.

    Parameters
    ----------
    graph : Graph
        Folded, its input taken.
    options : lutloom.passes.options.Options
    activations : int, str or None
        As the user gave them; "float" counts as 16 bits.
    chip : Chip
    """

    def __init__(self, graph, options, activations, chip):
        self._family = chip.family
        self._luts = PRODUCT_SHARE * min(chip.lut4 * LUT_SHARE[chip.family], MOST_LUTS)
        wide = Format("bipolar", 1) if options.activations == "binary" else Format(
            "uint", 16 if activations == "float" else int(options.activations))
        self._layers = {}
        for node in graph.nodes:
            if node.op in ("conv", "dense"):
                size = int(np.prod(node.params["weight"].shape))
                quant = node.params.get("weight_quant")
                own = OTHERS if quant is None else WeightFormat("int", max(int(quant.bits), 1))
                first = node.inputs[0] == graph.input
                work = size * (int(np.prod(graph.shapes[node.output][:2])) if node.op == "conv" else 1)
                x_format = options.input.format if first else wide
                self._layers[node.name] = (node.params["weight"].shape, work, x_format, own)
        self.pace = self._fastest({name: own for name, (*_, own) in self._layers.items()})
        """Cycles of a frame in which LUTs are counted: those of int:8 everywhere on this chip."""

    def of(self, formats):
        """Costs of a dict of layer name to WeightFormat; layers that it lacks keep their own."""
        formats = {name: formats.get(name, own) for name, (*_, own) in self._layers.items()}
        bits = sum(stored_bits(shape, formats[name]) for name, (shape, *_) in self._layers.items())
        return Costs(bits, round(self._products_luts(formats, self.pace)), self._fastest(formats))

    def layer(self, name, format):
        """(weight bits, LUTs) of one layer."""
        shape, work, x_format, _ = self._layers[name]
        luts = product_luts(x_format, format, self._family, LANES) * max(1, Fraction(work, self.pace))
        return stored_bits(shape, format), round(float(luts), 3)

    def _products_luts(self, formats, cycles):
        return sum(product_luts(x_format, formats[name], self._family, LANES) * max(1, work / cycles)
                   for name, (_, work, x_format, _) in self._layers.items())

    def _fastest(self, formats):
        """Fewest cycles of a frame with which products take no more LUTs than there are."""
        low, high = 1, max(work for _, work, *_ in self._layers.values())
        while low < high:
            middle = (low + high) // 2
            if self._products_luts(formats, middle) <= self._luts:
                high = middle
            else:
                low = middle + 1
        return low
