"""Lower: a graph whose weights and activations are quantised becomes a network of integers.

Every value of the graph is kept as integer codes of the network with an exact chain of steps to real numbers
(``lutloom.passes.values``). Convolutions and pools add to the chain; a layer that needs codes makes the chain a
requantiser, with exact thresholds, or a multiplier that equals them.
"""

from fractions import Fraction
from math import lcm

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Network, SumPool, Tensor, Thresholds, inputs_of
from lutloom.passes.closing import close
from lutloom.passes.lower_branches import BRANCHES, table
from lutloom.passes.multiplier import multiply_directly, multiply_for
from lutloom.passes.requantise import Count, Grid, Linear, threshold_table
from lutloom.passes.rewire import CLOSINGS, ELEMENTWISE, only_reader, rationals
from lutloom.passes.steps import steps_of
from lutloom.passes.values import Value, plain, shifted
from lutloom.shapes import output_shape

COMPARED_BITS = 4
"""Outputs of so many bits and fewer are requantised by thresholds; wider ones by a multiplier where one is exact."""

MAX_THRESHOLDS = 4095
"""More thresholds a channel than this are refused."""


def lower(graph, options):
    """The network of a graph (Graph -> Network).

    Parameters
    ----------
    graph : Graph
        Its convolutions and dense layers carry ``quantised`` (a network's Weights).
    options : Options
        Input tensor, choice of requantisers, what ``info`` says.
    """
    return Lowering(graph, options).run()


class Lowering:
    """Tensors and layers made so far, what each value of the graph is, and notes for the network's ``info``."""

    def __init__(self, graph, options):
        self.graph, self.options = graph, options
        self.tensors, self.layers, self.values, self.codes_of, self.notes = {}, [], {}, {}, {}

    def run(self):
        """Every node in order, then the output."""
        graph, given = self.graph, self.options.input
        nodes, name = list(graph.nodes), graph.input
        while nodes and nodes[0].op in ("flatten", "reshape") and only_reader(graph, name) is nodes[0]:
            name = nodes.pop(0).output  # the input is taken in the shape that it is needed in
        shape = tuple(map(int, graph.shapes[name]))
        self.tensors[graph.input] = Tensor(graph.input, shape, given.format, given.scale, given.zero_point,
                                           given.low, given.high)
        self.values[name] = plain(graph.input, given.scale, -given.scale * given.zero_point)
        for node in nodes:
            if node.op not in CLOSINGS:
                self.values[node.output] = self.lower_node(node)
        return close(self)

    def lower_node(self, node):
        """The value that a node gives."""
        if node.op in BRANCHES:
            return BRANCHES[node.op](self, node)
        value = self.values[node.inputs[0]]
        if node.op == "quant":
            before = self.graph.producer(node.inputs[0])
            if before is not None and before.op == "table":
                return table(self, before, node)
            if value.is_quantised and len(self.graph.consumers(node.inputs[0])) > 1:
                value = self.codes(value, node.name)  # which others take too
        if node.op in ELEMENTWISE:
            return value.then(steps_of(node))
        method = getattr(self, f"_{node.op}", None)
        if method is None:
            raise ModelError(f"layer {node.name!r} is a {node.op}, which has no place in front of other layers")
        return method(node, value)

    def add(self, layer, format=None, scale=Fraction(1), zero_point=Fraction(0)):
        """Append a layer and its output tensor (of the format its range needs, unless one is given)."""
        sources = [self.tensors[name] for name in inputs_of(layer)]
        try:
            shape = output_shape(layer, *(source.shape for source in sources))
            low, high = output_range(layer, *sources)
        except ValueError as error:
            raise ModelError(f"layer {layer.name!r} {error}") from None
        format = Format.of_range(low, high) if format is None else format
        self.tensors[layer.output] = Tensor(layer.output, shape, format, Fraction(scale), Fraction(zero_point), low,
                                            high)
        self.layers.append(layer)
        return layer.output

    def name(self, wanted):
        """A layer's name that is not taken yet."""
        taken = {layer.name for layer in self.layers} | set(self.tensors)
        index = next(i for i in range(len(taken) + 1) if (wanted if not i else f"{wanted}_{i}") not in taken)
        return wanted if not index else f"{wanted}_{index}"

    # --- codes ------------------------------------------------------------------------------------------------------

    def codes(self, value, reader):
        """The value as codes of a tensor alone: a requantiser is added where the chain holds more than a grid."""
        if value.is_plain:
            if value.common_linear() is None:
                raise ModelError(f"layer {reader!r} takes values whose scale or offset differs by channel; "
                                 f"a quantiser with one scale must stand in front of it")
            return value
        if value not in self.codes_of:
            self.codes_of[value] = self.requantise(value, reader)
        return self.codes_of[value]

    def requantise(self, value, reader):
        """Add the Thresholds or Multiply of a value's chains."""
        tensor = self.tensors[value.tensor]
        grid = value.grid(tensor.low, tensor.high)
        if grid is None:
            why = ("its quantiser's scale differs by channel" if value.is_quantised
                   else "no quantiser stands in front of it")
            raise ModelError(f"layer {reader!r} cannot take its input as integers: {why}")
        if grid.high == grid.low:
            raise ModelError(f"layer {reader!r} takes a constant: what stands in front of it gives one value only")
        channels = tensor.shape[-1]
        chains = value.chains * channels if len(value.chains) == 1 else value.chains
        name = self.name(f"{value.tensor}.quant")
        counted = any(isinstance(step, Count) for step in chains[0])
        if not counted and self._multiplies(grid):
            found = multiply_directly(chains, grid, tensor.low, tensor.high)
            if found is not None:
                format = Format.of_range(grid.low, grid.high)
                self.add(Multiply(name, value.tensor, name, **found), format, grid.scale, grid.zero)
                return plain(name, grid.scale, -grid.scale * grid.zero)
        if grid.high - grid.low > MAX_THRESHOLDS:
            raise ModelError(f"layer {name!r} needs {grid.high - grid.low} thresholds a channel, and no multiplier "
                             f"equals them; at most {MAX_THRESHOLDS} are supported: use fewer bits")
        levels = [grid.scale * (k - grid.zero) for k in range(grid.low + 1, grid.high + 1)]
        values, falling = threshold_table(chains, levels, tensor.low, tensor.high)
        grid, values = _tidied(grid, values) if counted else (grid, values)
        bipolar = grid.high - grid.low == 1 and grid.zero == grid.low + Fraction(1, 2)
        if bipolar:
            grid = shifted(grid, grid.low)
        layer = Thresholds(name, value.tensor, name, values, falling, grid.low)
        if not bipolar and self._multiplies(grid):
            found = multiply_for(chains, grid, values, falling, grid.low, tensor.low, tensor.high)
            layer = layer if found is None else Multiply(name, value.tensor, name, **found)
        format = Format("bipolar", 1) if bipolar else Format.of_range(grid.low, grid.high)
        scale, zero = (grid.scale / 2, Fraction(0)) if bipolar else (grid.scale, grid.zero)
        self.add(layer, format, scale, zero)
        return plain(name, grid.scale, -grid.scale * grid.zero)

    def _multiplies(self, grid):
        """Whether codes of a grid shall come from a multiplier, if one is exact."""
        wide = Format.of_range(grid.low, grid.high).bits > COMPARED_BITS
        return self.options.requantiser == "multiply" or (self.options.requantiser == "auto" and wide)

    # --- layers -----------------------------------------------------------------------------------------------------

    def _conv(self, node, value):
        params = node.params
        pads = tuple(int(pad) for pad in params["pads"])
        value = self._operand(node, value, any(pads))
        name = self.name(node.name)
        layer = Conv(name, value.tensor, name, params["quantised"], tuple(map(int, params["stride"])),
                     tuple(map(int, params["dilation"])), pads, int(params["groups"]))
        return self._products(node, layer, value)

    def _dense(self, node, value):
        value = self._operand(node, value, False)
        name = self.name(node.name)
        return self._products(node, Dense(name, value.tensor, name, node.params["quantised"]), value)

    def _operand(self, node, value, padded):
        """The input of a convolution or dense layer, as codes whose zero can be padded with."""
        value = self.codes(value, node.name)
        tensor = self.tensors[value.tensor]
        if tensor.format.kind == "bipolar" and node.params["quantised"].format.kind == "float16":
            raise ModelError(f"layer {node.name!r} has float16 weights and binary activations, for which there is no "
                             "arithmetic; take int:8 weights or activations of bits")
        if tensor.format.bits > 16:
            raise ModelError(f"layer {node.name!r} takes accumulators of {tensor.format.bits} bits: "
                             "no quantiser stands in front of it")
        scale, offset = value.common_linear()
        zero = -offset / scale
        if not padded or (tensor.format.kind == "bipolar" and zero == Fraction(1, 2)):
            return value
        if zero.denominator != 1 or not tensor.format.code_low <= zero <= tensor.format.code_high:
            raise ModelError(f"layer {node.name!r} pads with zero, but its input has no code for zero "
                             f"(zero point {float(zero):g}, {tensor.format}); change --input-zero or the padding")
        if tensor.zero_point != zero:
            raise ModelError(f"layer {node.name!r} pads with zero, which is code {zero} for it, but other layers take "
                             f"code {tensor.zero_point} of the same values for zero")
        return value

    def _products(self, node, layer, value):
        """Add a Conv or Dense; its accumulators' chains hold scales, bias and what the zero point contributes."""
        scale, offset = value.common_linear()
        if self.tensors[value.tensor].format.kind == "bipolar":  # products are of 2·code - 1
            scale, offset = scale / 2, scale / 2 + offset
        weights = layer.weights
        sums = weights.integers.reshape(len(weights.codes), -1).sum(axis=1, dtype=np.int64)
        bias = rationals(node, "bias") if node.params["bias"] is not None else [Fraction(0)]
        bias = bias * len(sums) if len(bias) == 1 else bias
        units = weights.scale * len(sums) if len(weights.scale) == 1 else weights.scale
        chains = tuple((Linear(scale * unit, offset * unit * int(total) + b),)
                       for unit, total, b in zip(units, sums, bias, strict=True))
        slopes = {chain[0].scale for chain in chains}
        self.add(layer, scale=slopes.pop() if len(slopes) == 1 else Fraction(1))
        return Value(layer.output, chains)

    def _maxpool(self, node, value):
        if not value.is_plain and (value.is_quantised or not value.is_rising):
            value = self.codes(value, node.name)
        if not value.is_rising:
            raise ModelError(f"layer {node.name!r} takes the maximum of values that fall where accumulators rise; "
                             f"put the quantiser in front of the pool")
        params, name = node.params, self.name(node.name)
        source = self.tensors[value.tensor]
        self.add(MaxPool(name, value.tensor, name, *_window(params)), source.format, source.scale, source.zero_point)
        return Value(name, value.chains)

    def _avgpool(self, node, value):
        kernel, stride, pads = _window(node.params)
        return self._sum(node, value, kernel, stride, pads, np.asarray(node.params["divisor"], np.int64))

    def _globalpool(self, node, value):
        height, width, _ = self.graph.shapes[node.inputs[0]]
        value = self._sum(node, value, (height, width), (1, 1), (0, 0, 0, 0), np.array([[height * width]]))
        return self._flatten(node, value)

    def _sum(self, node, value, kernel, stride, pads, divisor):
        """Add a SumPool; the divisor stays in the chain."""
        if not value.is_plain:
            value = self.codes(value, node.name)
        source, taps = self.tensors[value.tensor], kernel[0] * kernel[1]
        whole = lcm(*map(int, np.unique(divisor)))
        factors = whole // divisor
        steps = [chain[0] for chain in value.chains]
        if source.format.kind == "bipolar":
            steps = [Linear(step.scale / 2, step.scale / 2 + step.offset) for step in steps]
        zeros = {Fraction(0) if step.scale == 0 else -step.offset / step.scale for step in steps}
        pad_code = 0
        if any(pads):
            if len(zeros) != 1 or next(iter(zeros)).denominator != 1:
                raise ModelError(f"layer {node.name!r} averages over padding, but its input has no code for zero; "
                                 f"a quantiser with an integer zero point must stand in front of it")
            pad_code = int(zeros.pop())
        if len(np.unique(factors)) > 1 and any(step.offset for step in steps):
            raise ModelError(f"layer {node.name!r} divides by {', '.join(map(str, np.unique(divisor)))} at different "
                             f"places, which needs an input whose zero point is 0")
        name = self.name(node.name)
        self.add(SumPool(name, value.tensor, name, kernel, stride, pads, factors, pad_code))
        share = Fraction(taps, int(divisor.flat[0]))
        return Value(name, tuple((Linear(step.scale / whole, step.offset * share),) for step in steps))

    def _flatten(self, node, value):
        if value.is_quantised:
            value = self.codes(value, node.name)
        source = self.tensors[value.tensor]
        if len(source.shape) == 1:
            return value
        name = self.name(node.name if node.op == "flatten" else f"{node.name}.flatten")
        self.add(Flatten(name, value.tensor, name), source.format, source.scale, source.zero_point)
        return Value(name, value.tiled(source.shape[0] * source.shape[1]).chains)

    def network(self, output, closing):
        """What was made, as a Network."""
        graph = self.graph
        return Network(graph.name, self.tensors, tuple(self.layers), graph.input, output, tuple(graph.input_shape),
                       graph.input_layout, tuple(graph.output_shape), closing,
                       {**self.options.info, **self.notes})


def _window(params):
    """(kernel, stride, pads) of a pool in Python's integers."""
    return tuple(tuple(int(number) for number in params[key]) for key in ("kernel", "stride", "pads"))


def _tidied(grid, values):
    """Counts as codes: zero at code 0 where it can be, and a sign that is never zero as two levels."""
    if grid.high - grid.low == 2 and np.array_equal(values[:, 0], values[:, 1]):
        return Grid(2 * grid.scale, (grid.zero - grid.low) / 2, 0, 1), values[:, :1]
    return (shifted(grid, int(grid.zero)) if grid.zero.denominator == 1 else grid), values
