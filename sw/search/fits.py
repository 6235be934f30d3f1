"""Weights of layers in the formats of trials: rounded as ``quantize`` would, compensated on one half of the data.

Compensated weights suit the frames that they were fitted to better than others. So they are fitted twice, to each half,
and scored on the other: no frame scores what it had a part in.
"""

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.passes.compensate import compensated, is_compensated, outputs, taken
from lutloom.passes.weigh import switched, weighed
from lutloom.search.runner import operator_of, single
from lutloom.weight_spec import SPARSE, FormatChoice, fit_rounding

MOST_FITTED = 1 << 28
"""Bytes of fitted weights that are kept, in each process."""

MOST_BYTES = 1 << 29
"""Of sums that compensation needs, which are kept; those of one layer whatever their size."""

NEEDED = "weight", "bias", "stride", "dilation", "pads", "groups"
"""Of what a layer has, all that computes it."""


class Fits:
    """Fitted weights, the last ones used kept.

    Parameters
    ----------
    graph : Graph
        The float model.
    layers : dict of str to Node
        Layers as they will be quantised: pruned ones are.
    options : sequence of lutloom.passes.options.Options
        One for each half of the data, with the frames of the other one.
    """

    def __init__(self, graph, layers, options):
        self._graph, self._layers, self._options = graph, layers, options
        self._kept, self._outputs = OrderedDict(), {}

    def operators(self, name, text):
        """Functions of float32 arrays that compute a layer with its weights in a format, one for each half.

        Raises
        ------
        ModelError
            The layer cannot take the format.
        """
        key = name, text.replace(SPARSE, "")  # which changes no weight
        if key not in self._kept:
            found = self._fitted(*key)
            size = len({id(each) for each in found}) * 4 * self._layers[name].params["weight"].size
            while self._kept and size + sum(each for _, each in self._kept.values()) > MOST_FITTED:
                self._kept.popitem(last=False)
            self._kept[key] = found, size
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _fitted(self, name, text):
        choice = FormatChoice.parse(text, fit_rounding(self._options[0].rounding))
        live, switch = switched(self._layers[name], choice.format)
        try:
            node = weighed(live, choice)
        except ValueError as error:
            raise ModelError(f"layer {name!r} cannot take {text}: {error}; leave it out of --formats") from None
        if is_compensated(node, self._options[0]):
            return [_operator(compensated(node, self._outputs_of(node, half)), switch)
                    for half in range(len(self._options))]
        return [_operator(node, switch)] * len(self._options)

    def _outputs_of(self, node, half):
        """What compensation knows of a layer, by what it takes in the float model."""
        key = node.name, half
        if key not in self._outputs:
            x = taken(self._graph, node.name, self._options[half].frames)
            found = outputs(node, x, x)
            size = sum(part.nbytes for part in found)
            while self._outputs and size + sum(each for _, each in self._outputs.values()) > MOST_BYTES:
                other = next((each for each in self._outputs if each[0] != node.name), None)
                if other is None:
                    break
                del self._outputs[other]
            self._outputs[key] = found, size
        return self._outputs[key][0]


def _operator(node, switch):
    """A function of float32 arrays that computes a layer, and what switches dead outputs off behind it."""
    params = {key: value for key, value in node.params.items() if key in NEEDED}
    layer = operator_of(single(replace(node, params=params)))
    if switch is None:
        return layer
    scale, offset = (switch.params[key].astype(np.float32) for key in ("scale", "offset"))
    return lambda x: layer(x) * scale + offset
