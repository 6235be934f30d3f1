"""A quantised ONNX model as a graph of codes: what stands between quantisers becomes one operator on codes.

The Reader has written real operators with ``quantize`` nodes between them, from QDQ and QOperator files alike. Here
every real operator waits until a quantiser reads it, and becomes the integer operator that onnxruntime runs for the
two together (QLinearConv for a Conv, and so on; see ``lutloom.passes.onnxruntime``).
"""

from dataclasses import dataclass, replace

import numpy as np

from lutloom.errors import ModelError
from lutloom.graph import Graph, Node

JOINS = ("add", "sub", "mul")
POOLS = ("avgpool", "globalpool")
LINEAR = ("conv", "dense")
CLOSINGS = ("softmax", "argmax", "topk")
WAY = "quantise the whole model (onnxruntime.quantization.quantize_static), or give the float model"


def integer_graph(graph, input_quant):
    """The integer graph of one of real operators and quantisers.

    Parameters
    ----------
    graph : Graph
        As the Reader writes it.
    input_quant : TensorQuant or None
        What the codes of an integer input stand for, where the model itself takes codes.

    Raises
    ------
    ModelError
        Something is not between quantisers.
    """
    return _Writer(graph, input_quant).run()


@dataclass(frozen=True)
class _Pending:
    """Real numbers on the way to a quantiser.

    Parameters
    ----------
    node : Node or None
        The operator on codes; None where only steps work on them.
    source : str
        The value that the steps work on, where there is no operator.
    steps : tuple of (str, mapping)
        Functions of one number, in order.
    moves : tuple of Node
        Pools and views behind these, which commute with rounding.
    """

    node: Node | None
    source: str
    steps: tuple = ()
    moves: tuple = ()


class _Writer:
    """The graph of codes, written node by node."""

    def __init__(self, graph, input_quant):
        self._graph, self._nodes, self._shapes, self._quants = graph, [], {}, {}
        self._codes = {}  # value of the real graph -> value of codes
        self._pending = {}
        self._raw = {graph.input: graph.input}  # values that are the real input, in some shape
        self._shapes[graph.input] = graph.shapes[graph.input]
        if input_quant is not None:
            self._quants[graph.input] = input_quant
            self._codes[graph.input], self._raw = graph.input, {}

    def run(self):
        """The Graph."""
        graph = self._graph
        for node in graph.nodes:
            if node.op in CLOSINGS:
                self._close(node)
            else:
                getattr(self, f"_{node.op}", self._unknown)(node)
        if graph.output in self._pending:
            raise self._unquantised(self._pending[graph.output], "the model's output")
        if graph.output not in self._codes:
            raise ModelError(f"output {graph.output!r} of model {graph.name!r} is not quantised; {WAY}")
        return Graph(graph.name, graph.input, self._codes[graph.output], tuple(self._nodes), self._shapes,
                     graph.input_shape, graph.input_layout, graph.output_shape, graph.output_layout, "onnxruntime",
                     self._quants)

    def _write(self, op, name, inputs, output, params, shape, quant):
        """Append a node of codes; gives its output."""
        wanted, number = output, 1
        while output in self._shapes:
            output, number = f"{wanted}:{number}", number + 1
        names = {node.name for node in self._nodes}
        free = next(name if not i else f"{name}:{i}" for i in range(len(names) + 1)
                    if (name if not i else f"{name}:{i}") not in names)
        self._nodes.append(Node(op, free, tuple(inputs), output, params))
        self._shapes[output] = tuple(int(size) for size in shape)
        if quant is not None:
            self._quants[output] = quant
        return output

    def _unknown(self, node):
        raise ModelError(f"layer {node.name!r} ({node.op}) is not supported in a quantised model; {WAY}")

    def _unquantised(self, pending, reader):
        name = pending.node.name if pending.node is not None else pending.source
        return ModelError(f"layer {name!r} gives real numbers to {reader} with no quantiser between, which is not "
                          f"supported; {WAY}")

    def _source(self, node, position=0):
        """The value of codes that a node reads."""
        value = node.inputs[position]
        if value in self._pending:
            raise self._unquantised(self._pending[value], f"layer {node.name!r}")
        if value not in self._codes:
            raise ModelError(f"layer {node.name!r} takes the model's input as real numbers, with no quantiser in "
                             f"front; {WAY}")
        return self._codes[value]

    # --- quantisers ---------------------------------------------------------------------------------------------------

    def _quantize(self, node):
        value, quant = node.inputs[0], node.params["quant"]
        if value in self._raw:
            self._codes[node.output] = self._take_input(node, value, quant)
        elif value in self._codes:
            source = self._codes[value]
            same = self._quants[source] == quant
            self._codes[node.output] = source if same else self._table(node.name, source, node.output, (), quant)
        else:
            self._codes[node.output] = self._finished(self._pending[value], node.output, quant)

    def _take_input(self, node, value, quant):
        graph = self._graph
        known = self._quants.setdefault(graph.input, quant)
        if known != quant:
            raise ModelError(f"input {graph.input!r} of model {graph.name!r} is quantised in two ways, which is not "
                             "supported; quantise it once")
        shape = graph.shapes[value]
        if shape == graph.shapes[graph.input]:
            return graph.input
        return self._write("reshape", f"{node.name}.view", [graph.input], node.output, {}, shape, quant)

    def _table(self, name, source, output, steps, quant):
        """A function of one code: what it stands for, through the steps, as another code."""
        function = steps[-1][0] if steps else "requantize"
        return self._write("table", name, [source], output, {"function": function, "steps": steps},
                           self._shapes[source], quant)

    def _finished(self, pending, output, quant):
        """Write the integer operator of real ones that a quantiser ends; gives its value of codes."""
        if pending.node is None:
            name = self._table(pending.steps[-1][1]["name"], pending.source, output, pending.steps, quant)
        else:
            name = getattr(self, f"_finish_{pending.node.op}")(pending, output, quant)
        for move in pending.moves:
            name = self._moved(move, name, f"{output}:{move.op}")
        return name

    def _clamp(self, pending, quant):
        """{low, high}: the codes that activations behind an operator leave."""
        low, high = quant.format.code_low, quant.format.code_high
        for function, params in pending.steps:
            if function not in ("relu", "clip"):
                raise ModelError(f"layer {params['name']!r} ({function}) follows layer {pending.node.name!r} with no "
                                 "quantiser between, which is supported only of Relu and Clip; quantise what stands "
                                 "between them")
            least, most = (0.0, np.inf) if function == "relu" else (params["low"], params["high"])
            low, high = (min(max(code, self._code(least, quant)), self._code(most, quant)) for code in (low, high))
        return {"low": low, "high": high}

    @staticmethod
    def _code(real, quant):
        """The code of a real number, as QuantizeLinear gives it."""
        steps = np.float32(np.clip(real, -1e30, 1e30)) / quant.scale
        low, high = quant.format.code_low - quant.zero_point, quant.format.code_high - quant.zero_point
        return int(np.rint(np.clip(steps, low, high))) + quant.zero_point

    # --- operators that wait for a quantiser --------------------------------------------------------------------------

    def _wait(self, node):
        for position in range(len(node.inputs)):
            self._source(node, position)
        self._pending[node.output] = _Pending(node, node.inputs[0])

    _conv = _dense = _avgpool = _globalpool = _add = _sub = _mul = _wait

    def _finish_linear(self, pending, output, quant):
        node, source = pending.node, self._codes[pending.node.inputs[0]]
        weight = node.params["weight_quant"]
        if weight is None:
            raise ModelError(f"layer {node.name!r} has weights of real numbers between quantisers; {WAY}")
        bias, codes = node.params["bias"], None
        if bias is not None:
            unit = self._quants[source].scale * np.asarray(weight.scale, np.float32)
            codes = np.rint(np.asarray(bias, np.float64) / unit.astype(np.float64))
            if not (np.abs(codes) < 1 << 31).all():
                raise ModelError(f"layer {node.name!r} has a bias of {float(np.abs(codes).max()):g} in units of its "
                                 "input's scale times its weights', which 32 bits do not hold; quantise the model "
                                 "again")
            codes = codes.astype(np.int64)
        params = {**node.params, "bias_codes": codes, **self._clamp(pending, quant)}
        return self._write(node.op, node.name, [source], output, params, self._graph.shapes[node.output], quant)

    _finish_conv = _finish_dense = _finish_linear

    def _finish_avgpool(self, pending, output, quant):
        node, source = pending.node, self._codes[pending.node.inputs[0]]
        params = {**node.params, **self._clamp(pending, quant)}
        return self._write("avgpool", node.name, [source], output, params, self._graph.shapes[node.output], quant)

    def _finish_globalpool(self, pending, output, quant):
        node, source = pending.node, self._codes[pending.node.inputs[0]]
        height, width, channels = self._shapes[source]
        params = {"kernel": (height, width), **self._clamp(pending, quant)}
        made = self._write("mean", node.name, [source], f"{output}:map", params, (1, 1, channels), quant)
        return self._write("reshape", f"{node.name}.view", [made], output, {}, (channels,), quant)

    def _finish_join(self, pending, output, quant):
        node = pending.node
        sources = [self._codes[name] for name in node.inputs]
        return self._write(node.op, node.name, sources, output, self._clamp(pending, quant),
                           self._graph.shapes[node.output], quant)

    _finish_add = _finish_sub = _finish_mul = _finish_join

    def _finish_concat(self, pending, output, quant):
        node, sources = pending.node, []
        if pending.steps:
            self._clamp(pending, quant)
            raise ModelError(f"layer {node.name!r} joins tensors in front of a Relu or Clip with no quantiser between, "
                             "which is not supported; quantise what stands between them")
        for position, value in enumerate(node.inputs):
            source = self._codes[value]
            if self._quants[source] != quant:
                source = self._table(f"{node.name}.input{position}", source, f"{output}:input{position}", (), quant)
            sources.append(source)
        return self._write("concat", node.name, sources, output, dict(node.params), self._graph.shapes[node.output],
                           quant)

    # --- functions of one number --------------------------------------------------------------------------------------

    def _step(self, node, function, params=None):
        value, step = node.inputs[0], (function, {"name": node.name, **(params or {})})
        if value in self._pending:
            pending = self._pending[value]
            if pending.moves and function not in ("relu", "clip"):
                raise self._unquantised(pending, f"layer {node.name!r}")
        else:
            pending = _Pending(None, self._source(node))
        self._pending[node.output] = replace(pending, steps=(*pending.steps, step))

    def _relu(self, node):
        self._step(node, "relu")

    def _clip(self, node):
        self._step(node, "clip", dict(node.params))

    def _function(self, node):
        self._step(node, node.params["function"], {key: node.params[key] for key in node.params if key != "function"})

    def _affine(self, node):
        """A constant added or multiplied: a bias behind a linear layer, else a step where it is one number."""
        scale, offset = node.params["scale"], node.params["offset"]
        pending = self._pending.get(node.inputs[0])
        if pending is not None and pending.node is not None:
            layer = pending.node
            if layer.op not in LINEAR or pending.steps or pending.moves or np.any(scale != 1):
                raise self._unquantised(pending, f"layer {node.name!r}")
            outputs = len(layer.params["weight"])
            bias = np.zeros(outputs) if layer.params["bias"] is None else layer.params["bias"]
            layer = layer.with_params(bias=bias + np.broadcast_to(offset, outputs))
            self._pending[node.output] = replace(pending, node=layer)
            return
        if np.ndim(scale) or np.ndim(offset):
            raise ModelError(f"layer {node.name!r} joins constants that are not quantised and differ by channel, which "
                             "is not supported in a quantised model; quantise them")
        self._step(node, "affine", {"scale": float(scale), "offset": float(offset)})

    # --- operators that move codes ------------------------------------------------------------------------------------

    def _move(self, node):
        value = node.inputs[0]
        if value in self._raw and node.op in ("flatten", "reshape"):
            self._raw[node.output] = node.output
        elif value in self._pending:
            pending = self._pending[value]
            self._pending[node.output] = replace(pending, moves=(*pending.moves, node))
        else:
            self._codes[node.output] = self._moved(node, self._source(node), node.output)

    _maxpool = _flatten = _reshape = _transpose = _slice = _pad = _move

    def _moved(self, node, source, output):
        """A pool, view, slice or pad of codes."""
        quant, params, op = self._quants[source], dict(node.params), node.op
        if op == "maxpool":
            params |= {"low": quant.format.code_low, "high": quant.format.code_high}
        if op == "pad":
            params["code"] = self._code(params.pop("value"), quant)
        return self._write("reshape" if op == "flatten" else op, node.name, [source], output, params,
                           self._graph.shapes[node.output], quant)

    def _concat(self, node):
        sources = [self._source(node, position) for position in range(len(node.inputs))]
        quants = [self._quants[source] for source in sources]
        if all(quant == quants[0] for quant in quants):
            self._codes[node.output] = self._write("concat", node.name, sources, node.output, dict(node.params),
                                                   self._graph.shapes[node.output], quants[0])
        else:
            self._pending[node.output] = _Pending(node, node.inputs[0])

    def _constant(self, node):
        self._codes[node.output] = self._write("constant", node.name, [], node.output,
                                               {"codes": np.asarray(node.params["codes"], np.int64)},
                                               self._graph.shapes[node.output], node.params["quant"])

    def _close(self, node):
        """What a model of codes ends with in real numbers, or picks by order."""
        source = self._source(node)
        self._codes[node.output] = self._write(node.op, node.name, [source], node.output, dict(node.params),
                                               self._graph.shapes[node.output], None)
