"""Values of a graph for the calibration data, node by node as the graph becomes what it will be."""

from dataclasses import replace

import numpy as np

from lutloom.errors import DataError, ModelError
from lutloom.floating import chunk_size, run_part
from lutloom.passes.compensate import as_it_was, is_compensated

MOST_VALUES = 1 << 25
"""So many numbers of one value are looked at, at most; of larger data the first frames are."""


class Activations:
    """Values of a graph for the calibration data, computed from the nearest quantised value that is known.

    Layers whose weights will be compensated give what they give with their real weights: that is what they will be
    near to.
    """

    def __init__(self, graph, options):
        self._options, self._known = options, {}

    def of(self, graph, value, reader):
        """float32 array (frames, ...) of a value."""
        options = self._options
        if options.frames is None:
            raise DataError(f"layer {reader.name!r} takes real numbers, so its input must be calibrated; give data for "
                            "it with --calibrate")
        if graph.input not in self._known:
            self._known[graph.input] = options.frames
        sources, nodes = self._segment(graph, value)
        nodes = tuple(as_it_was(node) if is_compensated(node, options) else node for node in nodes)
        given = {name: self._known[name] for name in sources}
        size = int(np.prod(graph.shapes[value]))
        count = max(1, min(*map(len, given.values()), len(options.frames), MOST_VALUES // size))
        part = replace(graph, nodes=nodes, output=value)
        step = max(1, min(count, 256, chunk_size(part)))
        y = np.empty((count, *graph.shapes[value]), np.float32)
        for i in range(0, count, step):
            y[i : i + step] = run_part(part, {name: x[i : min(i + step, count)] for name, x in given.items()})
        if not np.isfinite(y).all():
            raise ModelError(f"model {graph.name!r} gives NaN or infinite values in front of layer {reader.name!r}")
        self._known[value] = y
        needed = self._segment(graph, graph.output)[0]
        self._known = {name: x for name, x in self._known.items() if name in needed or name == value}
        return y

    def _segment(self, graph, value):
        """(known values, nodes from them to ``value``), all of the way back."""
        wanted, sources = {value}, []
        nodes = []
        for node in reversed(graph.nodes):
            if node.output in wanted and node.output not in self._known:
                nodes.insert(0, node)
                wanted.update(node.inputs)
        sources = [name for name in wanted if name in self._known]
        return sources, tuple(nodes)
