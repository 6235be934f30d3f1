"""Compensate: round weights so that what a layer gives for real data changes least, not each weight by itself.

Of a layer's inputs X (of the model as it is) and X' (of the quantised layers in front of it), the codes are chosen one
input after the other; the error of each is made good by the weights that are still free (Hessian X'X'^T, as optimal
brain surgeon does it, in the order of decreasing power of the inputs). What is left on average goes into the bias.
No labels and no training; codes stay what they were where the error on these data is no smaller.
"""

# Ref: Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1993; Frantar et al.,
# "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2023 (the order of columns, the
# Cholesky form); Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", 2019.

from dataclasses import replace
from fractions import Fraction

import numpy as np

from lutloom.errors import DataError, ModelError
from lutloom.floating import OPERATORS, chunk_size
from lutloom.golden.conv import pad, windows
from lutloom.passes.compensate_groups import fitted_table
from lutloom.passes.compensate_outputs import Outputs
from lutloom.passes.rewire import CLOSINGS, LINEAR, with_nodes

FRAMES, LEAST_FRAMES = 4096, 16
"""Of the calibration data, at most; fewer where values are large."""

PAYS_FRAMES = 100
"""With fewer, weights fit the frames rather than the data: nothing is compensated where nobody asked for it."""

MOST_VALUES = 1 << 25
"""Numbers of one value that are held, at most."""

ROWS = 16384
"""Windows of a layer that are looked at, at most (4 times its inputs where that is more)."""

MOST_INPUTS = 4096
"""Layers with more inputs an output keep their weights: the matrix of so many is too large."""

ROUNDS = 2
"""Times that codes are chosen; in between scales are fitted to them."""

MOST_BITS = 6
"""Wider weights gain nothing that one sees."""


def compensate(graph, options):
    """The graph with other codes, scales and biases in its convolutions and dense layers (Graph -> Graph).

    Raises
    ------
    DataError
        ``options.rounding`` is "compensated" and there are no calibration data, or too few.
    """
    layers = [node for node in graph.nodes if node.op in LINEAR and _is_ours(node, options)]
    if options.rounding == "compensated" and not layers:
        raise ModelError(f"model {graph.name!r} has no layer whose weights can be compensated: real ones that are "
                         f"neither binarised nor become float16, of at most {MOST_INPUTS:,} inputs; leave out "
                         "--rounding")
    if options.rounding not in ("auto", "compensated") or not layers:
        return graph
    if options.frames is None:
        if options.rounding == "compensated":
            raise DataError("weights can only be compensated with calibration data; give them with --calibrate")
        return graph
    if len(options.frames) < (LEAST_FRAMES if options.rounding == "compensated" else PAYS_FRAMES):
        if options.rounding == "compensated":
            raise DataError(f"weights can only be compensated with {LEAST_FRAMES} frames of calibration data, not "
                            f"{len(options.frames)}; give some hundred with --calibrate")
        return graph
    walk, changes = _Walk(graph, options.frames), {}
    last = layers[-1].output
    for node in graph.nodes:
        if node in layers:
            options.progress(f"compensate {node.name}")
            node = changes[node.output] = compensated(node, outputs(node, *walk.inputs(node)))
        if node.output == last:
            break
        walk.step(node)
    return with_nodes(graph, changes)


def is_compensated(node, options):
    """Whether a layer's weights will be others than they are now, such that it gives what its real weights give."""
    if options.rounding not in ("auto", "compensated") or options.frames is None or node.op not in LINEAR:
        return False
    least = LEAST_FRAMES if options.rounding == "compensated" else PAYS_FRAMES
    return len(options.frames) >= least and _is_ours(node, options)


def as_it_was(node):
    """A layer with its real weights and bias."""
    if "real_weight" not in node.params:
        return node
    return node.with_params(weight=node.params["real_weight"], bias=node.params["real_bias"])


def _is_ours(node, options):
    """Whether a layer's weights were brought into a format here, from real ones, and may gain by it."""
    weights, real = node.params.get("quantised"), node.params.get("real_weight")
    if real is None or weights is None or not can_be_compensated(node, weights.format):
        return False
    return (weights.format.index_bits <= MOST_BITS * weights.format.group or options.rounding == "compensated"
            or "kept" in node.params)


def can_be_compensated(node, format):
    """Whether the weights of a layer can be chosen by what it gives, in a format."""
    inputs = int(np.prod(np.shape(node.params["weight"])[1:]))
    return not node.params.get("signs") and format.kind != "float16" and inputs <= MOST_INPUTS


def taken(graph, name, frames):
    """What a layer takes of frames, as many as are looked at: float32 array (rows, ...)."""
    walk = _Walk(graph, frames)
    for node in graph.nodes:
        if node.name == name:
            return walk.inputs(node)[0]
        walk.step(node)
    raise KeyError(name)


class _Walk:
    """Values of the graph as it is quantised, and as it was, node by node."""

    def __init__(self, graph, frames):
        self._graph = graph
        largest = max(int(np.prod(shape)) for shape in graph.shapes.values())
        self._frames = frames[:max(LEAST_FRAMES, min(FRAMES, MOST_VALUES // largest))]
        self._left = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._left[name] = self._left.get(name, 0) + 1
        x = np.asarray(self._frames, np.float32)
        self._values = {graph.input: (x, x)}
        self._chunk = chunk_size(graph)

    def inputs(self, node):
        """(as it was, as it is quantised) of what a layer takes."""
        return self._values[node.inputs[0]]

    def step(self, node):
        """Compute a node in both ways."""
        if node.op in CLOSINGS:
            return
        given = [self._values[name] for name in node.inputs]
        own = node.params.get("own")
        was = given[0][0] if own else self._run(as_it_was(node), [pair[0] for pair in given])
        same = all(a is b for a, b in given) and not own and "real_weight" not in node.params
        now = was if same else self._run(node, [pair[1] for pair in given])
        self._values[node.output] = was, now
        for name in node.inputs:
            self._left[name] -= 1
            if not self._left[name]:
                del self._values[name]

    def _run(self, node, given):
        """A node's output, in chunks."""
        step, shape = self._chunk, self._graph.shapes[node.output]
        y = np.empty((len(given[0]), *shape), np.float32)
        for at in range(0, len(y), step):
            part = OPERATORS[node.op](node.params, *(x[at:at + step] for x in given))
            y[at:at + step] = part.reshape(len(part), *shape)  # a reshape moves nothing, and is not done before
        return y


def outputs(node, was, now):
    """Outputs of a layer with ``real_weight``, by what it takes, a group each."""
    real = np.asarray(node.params["real_weight"], np.float64)
    groups = int(node.params["groups"]) if node.op == "conv" else 1
    rows, each = real.reshape(len(real), -1), len(real) // groups
    kept = node.params["kept"].reshape(rows.shape) if "kept" in node.params else None
    parts = []
    for group in range(groups):
        mine = slice(group * each, (group + 1) * each)
        before = _columns(node, was, group, groups)
        after = before if was is now else _columns(node, now, group, groups)
        parts.append(Outputs(mine, before, after, rows[mine], None if kept is None else kept[mine]))
    return parts


def compensated(node, parts):
    """A layer with other codes, scales and bias, by its ``outputs``."""
    params = node.params
    weights, shape = params["quantised"], np.shape(params["real_weight"])
    scale = np.broadcast_to(np.array([float(unit) for unit in weights.scale]), shape[0]).copy()
    codes, bias = weights.codes.reshape(shape[0], -1).copy(), np.zeros(shape[0])
    format, best = weights.format, ()
    shared = len(weights.scale) == 1
    fixed = shared and weights.scale[0] == weights.format.unit  # @1
    for turn in range(ROUNDS):
        if turn and not fixed:
            scale = _refitted(parts, format, codes, scale, shared)
        if turn and format.group > 1:
            format, codes = fitted_table([(part.mine, part.power, part.target) for part in parts], format, codes,
                                         scale, shape)
        found = codes.copy()
        for part in parts:
            found[part.mine] = part.choose(format, scale[part.mine], (len(part.target), *shape[1:]))
        old, new = (sum(part.error(_reals(format, each[part.mine], scale[part.mine])) for part in parts)
                    for each in (codes, found))
        if new < old:
            codes = found
        if format.group > 1:  # a table's integers may be worse than what they are rounded from
            best = [min([*best, (min(old, new), turn, format, codes, scale)], key=lambda way: way[:2])]
    if best:
        *_, format, codes, scale = best[0]
    for part in parts:
        bias[part.mine] = part.shift(_reals(format, codes[part.mine], scale[part.mine]))
    scales = scale[:1] if shared else scale
    scale_kept = weights.scale if np.array_equal(scales, [float(unit) for unit in weights.scale]) else tuple(
        Fraction(float(unit)) for unit in scales)
    made = replace(weights, codes=codes.reshape(shape), format=format, scale=scale_kept)
    before = 0.0 if params["real_bias"] is None else np.asarray(params["real_bias"], np.float64)
    exact = {key: value for key, value in params.get("exact", {}).items() if key != "bias"}
    return node.with_params(quantised=made, weight=_reals(format, codes, scale).reshape(shape), bias=before + bias,
                            exact=exact)


def _reals(format, codes, scale):
    """Real weights of codes."""
    return format.decode(codes) * scale[:, None]


def _columns(node, x, group, groups):
    """What the outputs of a group are sums of, for some of a layer's windows: (rows, inputs)."""
    if node.op == "dense":
        return x[_some(len(x), x.shape[1])]
    params = node.params
    kernel = np.asarray(params["weight"]).shape[1:3]
    depth = x.shape[-1] // groups
    inputs = kernel[0] * kernel[1] * depth
    padded = pad(x[..., group * depth:(group + 1) * depth], params["pads"], 0.0, np.dtype(np.float32))
    patches = windows(padded, kernel, params["stride"], params["dilation"])
    batch, height, width = patches.shape[:3]
    frame, row, column = np.unravel_index(_some(batch * height * width, inputs), (batch, height, width))
    return patches[frame, row, column].reshape(len(frame), -1)


def _some(count, inputs):
    """Places of the windows that are looked at, spread evenly by chance that is the same each time."""
    most = max(ROWS, 4 * inputs)
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, most, replace=False))


def _refitted(parts, format, codes, scale, shared):
    """Scales by least squares of what the layer gives, for the codes as they are; never below 0."""
    found, above, below = scale.copy(), 0.0, 0.0
    for part in parts:
        cross, norm = part.moments(format.decode(codes[part.mine]).astype(np.float64))
        above, below = above + cross.sum(), below + norm.sum()
        fits = (cross > 0) & (norm > 0)
        found[part.mine] = np.where(fits, cross / np.where(fits, norm, 1), scale[part.mine])
    if shared:
        return np.full_like(scale, above / below) if above > 0 and below > 0 else scale
    return found
