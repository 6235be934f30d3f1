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
from lutloom.passes.compensate_groups import choose_groups, fitted_table
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

DAMPING = 0.01
"""Of the mean power of the inputs, added to each: keeps directions that the data do not show from growing."""

ROUNDS = 2
"""Times that codes are chosen; in between scales are fitted to them."""

MOST_WORK = 1e12
"""Steps of solving for the weights that are left of a pruned layer, at most."""

STEP = 2048
"""Rows that are multiplied at once."""

BLOCK = 64
"""Inputs whose errors are held back before they reach the inputs behind."""

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
            node = changes[node.output] = _compensated(node, *walk.inputs(node))
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
    if real is None or weights is None or node.params.get("signs"):
        return False
    narrow = (weights.format.index_bits <= MOST_BITS * weights.format.group or options.rounding == "compensated"
              or "kept" in node.params)
    return narrow and weights.format.kind != "float16" and int(np.prod(real.shape[1:])) <= MOST_INPUTS


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


def _compensated(node, was, now):
    """A layer with other codes, by what it takes."""
    params = node.params
    real, weights = np.asarray(params["real_weight"], np.float64), params["quantised"]
    groups = int(params["groups"]) if node.op == "conv" else 1
    rows, each = real.reshape(len(real), -1), len(real) // groups
    scale = np.broadcast_to(np.array([float(unit) for unit in weights.scale]), len(real)).copy()
    codes, bias = weights.codes.reshape(rows.shape).copy(), np.zeros(len(real))
    kept = params["kept"].reshape(rows.shape) if "kept" in params else None
    format, best = weights.format, ()
    shared = len(weights.scale) == 1
    parts = []
    for group in range(groups):
        mine = slice(group * each, (group + 1) * each)
        before = _columns(node, was, group, groups)
        data = _Data(before, before if was is now else _columns(node, now, group, groups))
        target = data.target(rows[mine])
        parts.append((mine, data, target if kept is None else data.supported(target, kept[mine])))
    fixed = shared and weights.scale[0] == weights.format.unit  # @1
    for turn in range(ROUNDS):
        if turn and not fixed:
            scale = _refitted(parts, format, codes, scale, shared)
        if turn and format.group > 1:
            format, codes = fitted_table([(mine, data.power, target) for mine, data, target in parts], format, codes,
                                         scale, real.shape)
        found = codes.copy()
        for mine, data, target in parts:
            left = None if kept is None else kept[mine]
            found[mine] = data.choose(target, format, scale[mine], (each, *real.shape[1:]), left)
        old, new = (sum(data.error(rows[mine], _reals(format, each_codes[mine], scale[mine]))
                        for mine, data, _ in parts) for each_codes in (codes, found))
        if new < old:
            codes = found
        if format.group > 1:  # a table's integers may be worse than what they are rounded from
            best = [min([*best, (min(old, new), turn, format, codes, scale)], key=lambda way: way[:2])]
    if best:
        *_, format, codes, scale = best[0]
    for mine, data, _ in parts:
        bias[mine] = data.shift(rows[mine], _reals(format, codes[mine], scale[mine]))
    scales = scale[:1] if shared else scale
    scale_kept = weights.scale if np.array_equal(scales, [float(unit) for unit in weights.scale]) else tuple(
        Fraction(float(unit)) for unit in scales)
    made = replace(weights, codes=codes.reshape(real.shape), format=format, scale=scale_kept)
    before = np.zeros(len(real)) if params["real_bias"] is None else np.asarray(params["real_bias"], np.float64)
    exact = {key: value for key, value in params.get("exact", {}).items() if key != "bias"}
    return node.with_params(quantised=made, weight=_reals(format, codes, scale).reshape(real.shape),
                            bias=before + bias, exact=exact)


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
    for mine, data, target in parts:
        integers = format.decode(codes[mine]).astype(np.float64)
        cross, norm = data.moments(target, integers)
        above, below = above + cross.sum(), below + norm.sum()
        fits = (cross > 0) & (norm > 0)
        found[mine] = np.where(fits, cross / np.where(fits, norm, 1), scale[mine])
    if shared:
        return np.full_like(scale, above / below) if above > 0 and below > 0 else scale
    return found


def _moments(a, b, a_mean, b_mean):
    """Mean of the products of two arrays (rows, inputs) about their means.

    In float64, which numbers of threads and orders of sums change so little that codes stay the same.
    """
    total = np.zeros((a.shape[1], b.shape[1]))
    for at in range(0, len(a), STEP):
        total += (a[at:at + STEP] - a_mean).T @ (b[at:at + STEP] - b_mean)
    return total / len(a)


class _Data:
    """Second moments of a group's inputs, ``was`` and ``now`` (rows, inputs), about their means: a bias sees to it."""

    def __init__(self, was, now):
        self._mean = [x.mean(axis=0, dtype=np.float64) for x in (was, now)]
        same = was is now
        self._power = _moments(now, now, *self._mean[1:] * 2)
        self._cross = self._power if same else _moments(was, now, *self._mean)
        self._square = self._power if same else _moments(was, was, *self._mean[:1] * 2)
        damping = DAMPING * np.diag(self._power).mean()
        self._damped = self._power + np.eye(len(self._power)) * (damping or 1.0)

    def target(self, real):
        """Weights of real numbers for ``now`` that give most nearly what ``real`` gives for ``was``."""
        # Damped towards the weights themselves.
        wanted = real @ self._cross + real @ (self._damped - self._power)
        return np.linalg.solve(self._damped, wanted.T).T

    def supported(self, target, kept):
        """Weights that are zero where they are not ``kept`` and give most nearly what ``target`` gives."""
        if (kept.sum(axis=1, dtype=np.float64) ** 3).sum() > MOST_WORK:
            return target  # what is chosen one after the other makes up for a part of it
        wanted, found = target @ self._damped, np.zeros_like(target)
        for row, mine in enumerate(kept):
            places = np.flatnonzero(mine)
            if len(places):
                found[row, places] = np.linalg.solve(self._damped[np.ix_(places, places)], wanted[row, places])
        return found

    def moments(self, target, integers):
        """Σ target·integer and Σ integer² in the metric of the data, a row each."""
        weighted = integers @ self._damped
        return (weighted * target).sum(axis=1), (weighted * integers).sum(axis=1)

    def error(self, real, quantised):
        """Variance of what the outputs differ by, summed over the outputs."""
        difference = ((real @ self._square) * real).sum() - 2 * ((real @ self._cross) * quantised).sum()
        return difference + ((quantised @ self._power) * quantised).sum()

    def shift(self, real, quantised):
        """What the outputs are too small by on average."""
        return real @ self._mean[0] - quantised @ self._mean[1]

    @property
    def power(self):
        """Second moments, damped."""
        return self._damped

    def choose(self, target, format, scale, shape=None, kept=None):
        """Codes (N, inputs), one input after the other; zero where a weight is not ``kept``; groups, in codes of a
        ``shape``, as a whole."""
        if format.group > 1:
            return choose_groups(self._damped, target, format, scale, shape or target.shape)
        order = np.argsort(-np.diag(self._damped), kind="stable")
        inverse = np.linalg.inv(self._damped[np.ix_(order, order)])
        upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
        free, codes = target[:, order].copy(), np.zeros(target.shape, np.uint16)
        zero = None if kept is None else format.encode(np.zeros(1, int))[0]
        for begin in range(0, len(order), BLOCK):
            end = min(begin + BLOCK, len(order))
            errors = np.zeros((len(target), end - begin))
            for at in range(begin, end):
                column = format.quantise(free[:, at], scale)
                if kept is not None:
                    column = np.where(kept[:, order[at]], column, zero)
                codes[:, at] = column
                error = (free[:, at] - format.decode(column) * scale) / upper[at, at]
                errors[:, at - begin] = error
                free[:, at + 1:end] -= np.outer(error, upper[at, at + 1:end])
            free[:, end:] -= errors @ upper[begin:end, end:]
        found = np.empty_like(codes)
        found[:, order] = codes
        return found
