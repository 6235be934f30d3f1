"""What a choice of formats costs: weight bits exactly, LUTs and cycles roughly.

Every layer gets as many products as its work needs within the cycles of a frame; their LUTs are those of
``lutloom.cost.product_luts``. Windows, requantisers and memories are not in it, nor that products come in whole
numbers: this compares formats, and the planner counts. Of weights that are stored without their zeros, those that
pruning left are counted, as if one lane skipped the others.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lutloom.cost import product_luts
from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.network import Weights
from lutloom.planner import LUT_SHARE, MOST_LUTS
from lutloom.sparse import least_bits
from lutloom.weight_format import WeightFormat
from lutloom.weight_groups import stored_bits
from lutloom.weight_spec import FormatChoice

PRODUCT_SHARE = 0.5
"""Of the LUTs that a plan may take, what its products take."""

LANES = 4
"""Products of a sum: on ECP5 two share an adder."""

OTHERS = FormatChoice(WeightFormat("int", 8))
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
        self._layers, self._bits_of = {}, {}
        for node in graph.nodes:
            if node.op in ("conv", "dense"):
                size = int(np.prod(node.params["weight"].shape))
                quant = node.params.get("weight_quant")
                own = OTHERS if quant is None else FormatChoice(WeightFormat("int", max(int(quant.bits), 1)))
                first = node.inputs[0] == graph.input
                work = size * (int(np.prod(graph.shapes[node.output][:2])) if node.op == "conv" else 1)
                x_format = options.input.format if first else wide
                kept = np.asarray(node.params.get("kept", np.ones(node.params["weight"].shape, bool)))
                self._layers[node.name] = (kept, work, x_format, own)
        self.pace = self._fastest({name: own for name, (*_, own) in self._layers.items()})
        """Cycles of a frame in which LUTs are counted: those of int:8 everywhere on this chip."""

    def of(self, choices):
        """Costs of a dict of layer name to FormatChoice; layers that it lacks keep their own."""
        choices = {name: choices.get(name, own) for name, (*_, own) in self._layers.items()}
        bits = sum(self._bits(name, choice) for name, choice in choices.items())
        return Costs(bits, round(self._products_luts(choices, self.pace)), self._fastest(choices))

    def layer(self, name, choice):
        """(weight bits, LUTs) of one layer in a FormatChoice."""
        luts = self._product(name, choice) * max(1, self._work(name, choice) / Fraction(self.pace))
        return self._bits(name, choice), round(float(luts), 3)

    def _bits(self, name, choice):
        """Of the weights; without the zeros of pruning where that is less, and they need not be stored."""
        kept, format = self._layers[name][0], choice.about
        if not choice.sparse:
            return stored_bits(kept.shape, format)
        key = name, format.index_bits
        if key not in self._bits_of:
            self._bits_of[key] = least_bits(Weights(kept.astype(np.uint16), WeightFormat("int", format.index_bits),
                                                    (Fraction(1),), sparse=True))
        return self._bits_of[key]

    def _work(self, name, choice):
        """Products of a frame."""
        kept, work, *_ = self._layers[name]
        return work * Fraction(int(kept.sum()), kept.size) if choice.sparse else Fraction(work)

    def _product(self, name, choice):
        """LUTs of one."""
        return product_luts(self._layers[name][2], choice.about, self._family, LANES)

    def _products_luts(self, choices, cycles):
        return sum(self._product(name, choices[name]) * max(1, float(self._work(name, choices[name])) / cycles)
                   for name in self._layers)

    def _fastest(self, choices):
        """Fewest cycles of a frame with which products take no more LUTs than there are."""
        low, high = 1, max(work for _, work, *_ in self._layers.values())
        while low < high:
            middle = (low + high) // 2
            if self._products_luts(choices, middle) <= self._luts:
                high = middle
            else:
                low = middle + 1
        return low
