"""Weights of layers in the formats of trials: rounded as ``quantize`` would, compensated on one half of the data.

Compensated weights suit the frames that they were fitted to better than others. So they are fitted twice, to each half,
and scored on the other: no frame scores what it had a part in.
"""

import numpy as np

from lutloom.errors import ModelError
from lutloom.network import Weights
from lutloom.passes.compensate import compensated, is_compensated, outputs, taken
from lutloom.passes.weigh import with_zeros
from lutloom.search.runner import operator_of, single
from lutloom.weight_fit import fit
from lutloom.weight_spec import SPARSE, FormatChoice, fit_rounding

MOST_FITS = 8
"""Fitted weights that are kept, for each layer."""

MOST_BYTES = 1 << 29
"""Of sums that compensation needs, which are kept."""


class Fits:
    """Fitted weights, the last ones kept.

    Parameters
    ----------
    graph : Graph
        The float model, its layers as they will be quantised.
    options : sequence of lutloom.passes.options.Options
        One for each half of the data, with the frames of the other one.
    """

    def __init__(self, graph, options):
        self._graph, self._options = graph, options
        self._places = {node.name: node for node in graph.nodes}
        self._kept, self._outputs = {}, {}

    def operators(self, name, text):
        """Functions of float32 arrays that compute a layer with its weights in a format, one for each half.

        Raises
        ------
        ModelError
            The layer cannot take the format.
        """
        kept, text = self._kept.setdefault(name, {}), text.replace(SPARSE, "")  # which changes no weight
        if text not in kept:
            while len(kept) >= MOST_FITS:
                kept.pop(next(iter(kept)))
            node = self._fitted(self._places[name], text)
            if is_compensated(node, self._options[0]):
                kept[text] = [operator_of(single(compensated(node, self._outputs_of(node, half))))
                              for half in range(len(self._options))]
            else:
                kept[text] = [operator_of(single(node))] * len(self._options)
        return kept[text]

    def _fitted(self, node, text):
        """A layer with its weights rounded each by itself."""
        choice = FormatChoice.parse(text, fit_rounding(self._options[0].rounding))
        real, pruned = np.asarray(node.params["weight"], np.float64), "kept" in node.params
        try:
            format, scale, codes = fit(choice.format, real, choice, zero=pruned)
            if pruned:
                format, codes = with_zeros(format, codes, node.params["kept"])
        except ValueError as error:
            raise ModelError(f"layer {node.name!r} cannot take {text}: {error}; leave it out of --formats") from None
        units = np.array([float(unit) for unit in scale]).reshape((-1,) + (1,) * (codes.ndim - 1))
        return node.with_params(quantised=Weights(codes, format, scale), weight=format.decode(codes) * units,
                                real_weight=node.params.get("unpruned", real), real_bias=node.params["bias"])

    def _outputs_of(self, node, half):
        """What compensation knows of a layer, by what it takes in the float model."""
        key = node.name, half
        if key not in self._outputs:
            x = taken(self._graph, node.name, self._options[half].frames)
            found = outputs(node, x, x)
            size = sum(part.nbytes for part in found)
            while self._outputs and size + sum(each for _, each in self._outputs.values()) > MOST_BYTES:
                self._outputs.pop(next(iter(self._outputs)))
            self._outputs[key] = found, size
        return self._outputs[key][0]
