"""Lower an integer model: a graph of codes in the source's arithmetic becomes a network.

Convolutions and dense layers give exact sums of codes; what zero points and biases add is one offset a channel in the
requantiser behind them. The source's arithmetic (``ARITHMETICS``) makes every layer that rounds.
"""

from dataclasses import replace
from fractions import Fraction
from math import lcm
from types import SimpleNamespace

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.intervals import output_range
from lutloom.network import (
    Broadcast,
    Concat,
    Constant,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    Pad,
    Reshape,
    Slice,
    State,
    SumPool,
    Table,
    Tensor,
    TopK,
    Transpose,
    inputs_of,
)
from lutloom.passes import onnxruntime, tflm, tflm_tables
from lutloom.passes.rewire import only_reader
from lutloom.shapes import output_shape

ARITHMETICS = {
    "tflm": SimpleNamespace(
        accumulator_requantiser=tflm.accumulator_requantiser, requantiser=tflm.requantiser, mean=tflm.mean,
        add=tflm.add, sub=tflm.sub, mul=tflm.mul, softmax=tflm.softmax, table=tflm_tables.table,
        average=tflm.average, pool_padding=tflm.pool_padding, is_exact_average=lambda *_: True,
    ),
    "onnxruntime": onnxruntime.RULES,
}
"""What makes the layers that round, by a graph's ``arithmetic``."""


def lower_integer(graph, options):
    """The network of an integer graph (Graph -> Network).

    Parameters
    ----------
    graph : Graph
        Its convolutions and dense layers carry ``quantised`` and ``weight_scale``: see ``weigh_integer``.
    options : Options
    """
    return IntegerLowering(graph, options).run()


class IntegerLowering:
    """Tensors and layers made so far, and which tensor each value of the graph is."""

    def __init__(self, graph, options):
        self.graph, self.options, self.rules = graph, options, ARITHMETICS[graph.arithmetic]
        self.tensors, self.layers, self.names = {}, [], {}
        self.notes, self.closing = {}, ""
        self.states, self.open = {}, {}  # State layers by output, and those whose input is not known yet by state

    def run(self):
        """Every node in order."""
        graph, nodes = self.graph, list(self.graph.nodes)
        shape, name = graph.shapes[graph.input], graph.input
        first = only_reader(graph, name)
        if first is not None and first.op == "reshape" and graph.quants[first.output] == graph.quants[name]:
            nodes.remove(first)  # the input is taken in the shape that it is needed in
            shape, name = graph.shapes[first.output], first.output
        self.tensors[graph.input] = self._tensor(graph.input, graph.quants[graph.input], tuple(map(int, shape)))
        self.names[graph.input] = self.names[name] = graph.input
        for node in nodes:
            getattr(self, f"_{node.op}")(node)
        output = self.names[graph.output]
        layers = [self.states.get(layer.output, layer) for layer in self.layers]
        read = {name for layer in layers for name in inputs_of(layer)} | {output}
        for layer in [layer for layer in layers if isinstance(layer, Constant) and layer.output not in read]:
            layers.remove(layer)
            del self.tensors[layer.output]
        layers = tuple(layers)
        return Network(graph.name, self.tensors, layers, graph.input, output, tuple(graph.input_shape),
                       graph.input_layout, tuple(graph.output_shape), self.closing,
                       {**self.options.info, **self.notes})

    def _tensor(self, name, quant, shape):
        format = quant.format
        return Tensor(name, shape, format, Fraction(float(quant.scale)), Fraction(quant.zero_point), format.code_low,
                      format.code_high)

    def add(self, layer, quant=None):
        """Append a layer and its output tensor; accumulators, where no TensorQuant is given, as wide as they need."""
        sources = [self.tensors[name] for name in inputs_of(layer)]
        try:
            shape = output_shape(layer, *(tensor.shape for tensor in sources))
            low, high = output_range(layer, *sources)
        except ValueError as error:
            raise ModelError(f"layer {layer.name!r} {error}") from None
        if quant is None:
            tensor = Tensor(layer.output, shape, Format.of_range(low, high), Fraction(1), Fraction(0), low, high)
        else:
            tensor = replace(self._tensor(layer.output, quant, shape), low=low, high=high)
        self.tensors[layer.output] = tensor
        self.layers.append(layer)
        return layer.output

    def free(self, wanted):
        """A name that no layer, tensor or value of the graph has."""
        taken = {layer.name for layer in self.layers} | set(self.tensors) | set(self.graph.shapes)
        index = next(i for i in range(len(taken) + 1) if (wanted if not i else f"{wanted}:{i}") not in taken)
        return wanted if not index else f"{wanted}:{index}"

    def given(self, node):
        """(tensor names, TensorQuants) of a node's inputs."""
        return tuple(self.names[name] for name in node.inputs), [self.graph.quants[name] for name in node.inputs]

    def made(self, node):
        """(layer name, tensor name, TensorQuant) for a node's last layer."""
        self.names[node.output] = node.output
        return self.free(node.name), node.output, self.graph.quants[node.output]

    # --- layers that compute ----------------------------------------------------------------------------------------

    def _conv(self, node):
        params, (source,), name = node.params, self.given(node)[0], self.free(node.name)
        stride, dilation, pads = (tuple(map(int, params[key])) for key in ("stride", "dilation", "pads"))
        self._products(node, Conv(name, source, name, params["quantised"], stride, dilation, pads,
                                  int(params["groups"])))

    def _dense(self, node):
        (source,), name = self.given(node)[0], self.free(node.name)
        self._products(node, Dense(name, source, name, node.params["quantised"]))

    def _products(self, node, layer):
        """Add a Conv or Dense and its requantiser."""
        params, (given,) = node.params, self.given(node)[1]
        acc = self.add(layer)
        sums = layer.weights.integers.reshape(len(layer.weights.codes), -1).sum(axis=1, dtype=np.int64)
        offset = -given.zero_point * sums
        if params["bias_codes"] is not None:
            offset = offset + params["bias_codes"]
        _, output, made = self.made(node)
        self.add(self.rules.accumulator_requantiser(
            self.free(f"{node.name}.quant"), self.tensors[acc], output, given, params["weight_scale"], made, offset,
            params["low"], params["high"]), made)

    def _broadcast(self, sources):
        """Tensor names of a join's inputs, all of one shape."""
        shapes = [self.tensors[name].shape for name in sources]
        try:
            shape = tuple(map(int, np.broadcast_shapes(*shapes)))
        except ValueError:
            return sources  # which the join itself refuses
        return tuple(name if own == shape else self._spread(name, shape)
                     for name, own in zip(sources, shapes, strict=True))

    def _spread(self, source, shape):
        """A tensor as often as a shape takes: of a constant, a larger constant."""
        tensor, name = self.tensors[source], self.free(f"{source}.broadcast")
        giver = next((layer for layer in self.layers if layer.output == source), None)
        constant = isinstance(giver, Constant)
        layer = (Constant(name, name, np.ascontiguousarray(np.broadcast_to(giver.codes, shape))) if constant
                 else Broadcast(name, source, name, shape))
        self.tensors[name] = replace(tensor, name=name, shape=shape)
        self.layers.append(layer)
        return name

    def _joined(self, node):
        (sources, given), (name, output, made) = self.given(node), self.made(node)
        sources = self._broadcast(sources)
        rule = getattr(self.rules, node.op)
        found = rule(name, sources, output, given, made, node.params["low"], node.params["high"])
        if isinstance(found, tuple):  # accumulators, and what makes their requantiser
            layer, requantiser = found
            acc = self.add(layer)
            found = requantiser(self.free(f"{node.name}.quant"), self.tensors[acc], output)
        self.add(found, made)

    _add = _sub = _mul = _joined

    def _maxpool(self, node):
        (source,), (given,) = self.given(node)
        name, output, made = self.made(node)
        low, high = node.params["low"], node.params["high"]
        whole = made.format.code_low, made.format.code_high
        clamped = (low, high) != whole
        pooled = name if clamped else output
        kernel, stride, pads = (tuple(map(int, node.params[key])) for key in ("kernel", "stride", "pads"))
        self.add(MaxPool(name, source, pooled, kernel, stride, pads), given if clamped else made)
        if clamped:
            codes = np.clip(np.arange(whole[0], whole[1] + 1, dtype=np.int64), low, high)
            self.add(Table(self.free(f"{node.name}.clamp"), pooled, output, codes, "clamp"), made)

    def _avgpool(self, node):
        params, (source,) = node.params, self.given(node)[0]
        kernel, stride, pads = (tuple(map(int, params[key])) for key in ("kernel", "stride", "pads"))
        divisor = np.asarray(params["divisor"], np.int64)
        whole, name = lcm(*map(int, np.unique(divisor))), self.free(node.name)
        given, made = self.given(node)[1][0], self.graph.quants[node.output]
        inside = _inside(self.tensors[source].shape, divisor.shape, kernel, stride, pads)
        code, zero = self.rules.pool_padding(node.name, given, made, inside, divisor, kernel)
        acc = self.add(SumPool(name, source, name, kernel, stride, pads, whole // divisor, code))
        _, output, made = self.made(node)
        self.add(self.rules.average(self.free(f"{node.name}.quant"), self.tensors[acc], output, given, made, zero,
                                    whole, params["low"], params["high"]), made)
        if not self.rules.is_exact_average(given, made, divisor):
            self._note("within one step", node.name)

    def _note(self, what, name):
        """Say of a layer in the network's info that the source does not compute it exactly."""
        self.notes[what] = f"{self.notes[what]}, {name}" if what in self.notes else name

    def _mean(self, node):
        (source,), (given,) = self.given(node)
        name, kernel, shape = self.free(node.name), tuple(node.params["kernel"]), self.graph.shapes[node.output]
        acc = self.add(SumPool(name, source, name, kernel, (1, 1), (0, 0, 0, 0), np.ones(shape[:2], np.int64)))
        _, output, made = self.made(node)
        low, high = node.params.get("low", made.format.code_low), node.params.get("high", made.format.code_high)
        layer = self.rules.mean(self.free(f"{node.name}.quant"), self.tensors[acc], output, given, made,
                                kernel[0] * kernel[1], low, high)
        self.add(layer, made)

    def _requantize(self, node):
        ((source,), (given,)), (name, output, made) = self.given(node), self.made(node)
        channels = self.tensors[source].shape[-1]
        self.add(self.rules.requantiser(name, source, output, given, made, channels), made)

    def _table(self, node):
        ((source,), (given,)), (name, output, made) = self.given(node), self.made(node)
        self.add(self.rules.table(name, source, output, node.params["function"], node.params, given, made), made)

    def _softmax(self, node):
        if node.output not in self.graph.quants:  # of real numbers, at the end: the host computes it
            self.names[node.output], self.closing = self.names[node.inputs[0]], "softmax"
            return
        ((source,), (given,)), (name, output, made) = self.given(node), self.made(node)
        self.add(self.rules.softmax(name, source, output, given, made, node.params["beta"]), made)

    def _argmax(self, node):
        (source,), name = (self.names[value] for value in node.inputs), self.free(node.name)
        self.names[node.output] = self.add(TopK(name, source, name, int(node.params.get("k", 1))))

    _topk = _argmax

    # --- layers that move -------------------------------------------------------------------------------------------

    def _reshape(self, node):
        (source,), (name, output, made) = self.given(node)[0], self.made(node)
        shape = tuple(map(int, self.graph.shapes[node.output]))
        flat = len(shape) == 1 and len(self.tensors[source].shape) == 3
        self.add(Flatten(name, source, output) if flat else Reshape(name, source, output, shape), made)

    def _transpose(self, node):
        (source,), (name, output, made) = self.given(node)[0], self.made(node)
        self.add(Transpose(name, source, output, tuple(node.params["order"])), made)

    def _concat(self, node):
        sources, (name, output, made) = self.given(node)[0], self.made(node)
        self.add(Concat(name, sources, output, int(node.params["axis"])), made)

    def _slice(self, node):
        (source,), (name, output, made) = self.given(node)[0], self.made(node)
        self.add(Slice(name, source, output, *(node.params[key] for key in ("begin", "sizes", "steps"))), made)

    def _pad(self, node):
        (source,), (name, output, made) = self.given(node)[0], self.made(node)
        self.add(Pad(name, source, output, *(node.params[key] for key in ("before", "after", "code"))), made)

    def _constant(self, node):
        name, output, made = self.made(node)
        self.add(Constant(name, output, node.params["codes"]), made)

    def _read(self, node):
        name, output, made = self.made(node)
        layer = State(name, output, output, node.params["reset"])  # its input is known once the write is met
        self.tensors[output] = self._tensor(output, made, tuple(node.params["reset"].shape))
        self.layers.append(layer)
        self.open[node.params["state"]] = layer

    def _write(self, node):
        layer = self.open[node.params["state"]]
        self.states[layer.output] = replace(layer, input=self.given(node)[0][0])


def _inside(shape, outputs, kernel, stride, pads):
    """(OH, OW) integers: how many taps of each window lie inside an (H, W, C) tensor."""
    counts = []
    for axis in (0, 1):
        start = np.arange(outputs[axis]) * stride[axis] - pads[axis]
        counts.append(np.minimum(start + kernel[axis], shape[axis]) - np.maximum(start, 0))
    return np.outer(*counts)
