"""The ONNX and QONNX front end: walks a model's operators and writes the Graph.

Constants are folded on the way, and what only rearranges a tensor (shape chains, transposes, reshapes) becomes part of
the view that later operators have of it, so the Graph holds nothing but arithmetic.
"""

from pathlib import Path

import numpy as np
import onnx

from lutloom.errors import ModelError
from lutloom.frontend import (
    onnx_closing,
    onnx_composed,
    onnx_elementwise,
    onnx_file,
    onnx_join,
    onnx_layers,
    onnx_qdq,
    onnx_qlinear,
    onnx_quant,
)
from lutloom.frontend.onnx_integer import integer_graph
from lutloom.frontend.onnx_layout import MOST_VALUES, Relayout, guess_layout, settle, too_large
from lutloom.frontend.onnx_op import Op
from lutloom.frontend.onnx_values import Const, Tensor, fold, infer_shape, map_index
from lutloom.graph import Graph, Node

OPERATORS = {
    **onnx_layers.OPERATORS, **onnx_elementwise.OPERATORS, **onnx_closing.OPERATORS, **onnx_quant.OPERATORS,
    **onnx_join.OPERATORS, **onnx_composed.OPERATORS, **onnx_qdq.OPERATORS, **onnx_qlinear.OPERATORS,
}
ONLY_QUANTISED = {**onnx_qlinear.OPERATORS, **onnx_qdq.OPERATORS}


def load(path):
    """Read an ``.onnx`` file into a Graph; see ``lutloom.frontend.load_graph``."""
    def work(reader):
        for node in reader.live:
            reader.convert(reader.open(node))
        return reader.finish()

    return walk(path, work)


def walk(path, work):
    """``work(reader)`` of a file's Reader; once more with another input layout where a layer asks for one."""
    model, name, layout = onnx_file.read(path), Path(path).stem, None
    for _ in range(3):
        try:
            return work(Reader(model, name, layout))
        except Relayout as wish:
            layout = wish.layout
    raise ModelError(f"model {name!r} reads its input in several layouts; transpose it only once")


class Reader:
    """State of reading one model."""

    def __init__(self, model, name, layout):
        self.model, self.model_name = model, name
        self.opset = onnx_file.opset(model)
        self.nodes, self.shapes, self.values = [], {}, {}
        self._names, self._counts = set(), {}
        self.quantised, self.input_quant = onnx_qdq.is_quantised(model), None
        onnx_qdq.refuse_dynamic(model, name)
        graph = model.graph
        self._raw = {tensor.name: tensor for tensor in graph.initializer}
        self._open_input(layout)
        if len(graph.output) != 1:
            raise ModelError(f"model {name!r} must have one output, not {len(graph.output)} "
                             f"({', '.join(value.name for value in graph.output)}); cut it down to one")
        self.output = graph.output[0].name
        self.live = self._live_nodes()

    def _open_input(self, layout):
        inputs = [value for value in self.model.graph.input if value.name not in self._raw]
        if len(inputs) != 1:
            raise ModelError(f"model {self.model_name!r} must have one input, not {len(inputs)} "
                             f"({', '.join(value.name for value in inputs)}); cut it down to one")
        value = inputs[0]
        self.input = value.name
        kind = value.type.tensor_type
        if not kind.HasField("shape") or len(kind.shape.dim) < 2:
            raise ModelError(f"input {self.input!r} must have a shape of a batch and at least one dimension; export "
                             "the model with a fixed input shape")
        dims = kind.shape.dim
        for position, dim in enumerate(dims[1:], 1):
            if dim.dim_value <= 0:
                raise ModelError(f"input {self.input!r} has an open dimension {dim.dim_param or '?'!r} at position "
                                 f"{position}; only the batch may be open, so export the model with a fixed input size")
        self.batch = max(dims[0].dim_value, 1)
        own = tuple(dim.dim_value for dim in dims[1:])
        if too_large(own):
            raise ModelError(f"input {self.input!r} of shape {own} has more than {MOST_VALUES} values; use a smaller "
                             "one")
        self.layout, shape = layout or guess_layout(self.input, own)
        index = map_index(shape) if self.layout == "NCHW" else np.arange(np.prod(own))
        integer = kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
        self.own_input = own
        self.shapes[self.input] = shape
        self.values[self.input] = Tensor(self.input, index.reshape(own), integer)
        self.rooted = {self.input}

    def _live_nodes(self):
        """Operators that the output depends on, in the file's order."""
        wanted, live = {self.output}, []
        for node in reversed(self.model.graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                live.append(node)
        self.wanted = wanted
        return live[::-1]

    def resolve(self, name):
        """What a name stands for: Const, Tensor, or None for an input left out (or of unknown shape, in a check)."""
        if name and name not in self.values and name in self._raw:
            self.values[name] = Const(onnx_file.array(self._raw[name]), name)
        return self.values.get(name)

    def open(self, node):
        """The operator of a node, inputs resolved."""
        return Op(self, node, [self.resolve(name) for name in node.input])

    def convert(self, op):
        """Convert one operator, which sets what its outputs stand for."""
        qonnx = op.domain in onnx_file.QONNX_DOMAINS
        computed = any(isinstance(given, Tensor) for given in op.inputs)
        if not op.domain and not computed and (op.domain, op.type) not in onnx_qdq.OPERATORS:
            results = fold(op, self.opset)
        else:
            handler = OPERATORS.get(("qonnx" if qonnx else op.domain, op.type))
            if handler is None:
                domain = f" of domain {op.domain!r}" if op.domain else ""
                known = [key for key in OPERATORS if self.quantised or key not in ONLY_QUANTISED]
                names = sorted({key[1] for key in known if key[1] not in ("Shape", "Size")})
                raise op.error(f"is an operator{domain} that is not supported; supported are {', '.join(names)}")
            results = handler(op)
        results = results if isinstance(results, list) else [results]
        for name, result in zip(op.node.output, results, strict=False):
            if name:
                self.values[name] = result

    def count(self, kind):
        """How many of a kind came before."""
        self._counts[kind] = self._counts.get(kind, -1) + 1
        return self._counts[kind]

    def reserve(self, name):
        """The name, with a number behind it where it is taken."""
        return _unique(name, self._names)

    def constant(self, op, const, codes, index):
        """Write a node of constant codes, which a Const knows; gives its Tensor."""
        output = self.reserve(f"{const.origin or op.name}:codes")
        quant = onnx_qdq.constant_quant(op, const)
        self.nodes.append(Node("constant", self.reserve(f"constant_{self.count('constant')}"), (), output,
                               {"codes": codes, "quant": quant}))
        self.shapes[output] = codes.shape
        return Tensor(output, index)

    def emit(self, op, kind, tensor, params=None, *, shape=None, index=None, part="", integer=False, others=()):
        """Write one Graph node that reads a tensor's value; gives the Tensor of what it computes.

        Parameters
        ----------
        shape, index
            Of the new value, and of the ONNX tensor's view of it; those of the tensor read where left out.
        part : str
            Names a step that comes before the operator's last one.
        others : tuple of str
            Values that it reads besides.
        """
        output = f"{op.node.output[0]}:{part}" if part else op.node.output[0]
        while output in self.shapes:
            output += "'"
        same = shape is None
        shape = self.shapes[tensor.value] if same else tuple(int(size) for size in shape)
        name = self.reserve(f"{op.name}_{part}") if part else op.name
        self.nodes.append(Node(kind, name, (tensor.value, *others), output, params or {}))
        self.shapes[output] = shape
        integer = integer or (tensor.integer and kind in onnx_qdq.MOVING)
        if same and tensor.value in self.rooted:
            self.rooted.add(output)
        return Tensor(output, tensor.index if index is None else index, integer)

    def assume(self, op):
        """Stand in for an operator that is not supported: a value of the shape that it would make.

        Gives that shape in NHWC, None where onnx does not know it.
        """
        first = next((given for given in op.inputs if isinstance(given, Tensor)), None)
        own = infer_shape(op, self.batch)
        if own is None and first is not None and op.domain in onnx_file.QONNX_DOMAINS:
            own = (self.batch, *first.shape)
        if own is None or len(own) not in (2, 3, 4) or 0 in own or too_large(own):
            return None
        _, *own = own
        shape = (*((1,) * (3 - len(own))), *own[1:], own[0]) if len(own) > 1 else tuple(own)
        index = map_index(shape) if len(own) > 1 else np.arange(own[0])
        self.shapes[op.node.output[0]] = shape
        self.values[op.node.output[0]] = Tensor(op.node.output[0], index.reshape(own))
        return shape

    def flat(self, tensor):
        """The same tensor as a view of a (C,) value."""
        shape = self.shapes[tensor.value]
        if len(shape) == 1:
            return tensor
        known = next((node for node in self.nodes if node.op == "flatten" and node.inputs == (tensor.value,)), None)
        if known is None:
            output = f"{tensor.value}:flat"
            self.nodes.append(Node("flatten", self.reserve(f"flatten_{self.count('flatten')}"), (tensor.value,), output,
                                   {}))
            self.shapes[output] = (int(np.prod(shape)),)
        else:
            output = known.output
        return Tensor(output, tensor.index, tensor.integer)

    def finish(self):
        """The Graph, once every operator is converted."""
        tensor = self.resolve(self.output)
        if not isinstance(tensor, Tensor) or not self.nodes:
            raise ModelError(f"output {self.output!r} of model {self.model_name!r} does not depend on its input "
                             "through any layer; export the model again")
        tensor = settle(self, tensor, lambda text: ModelError(f"output {self.output!r} is {text}"))
        nodes, shape = self.nodes, self.shapes[tensor.value]
        if tensor.in_order:
            layout = "NHWC" if len(shape) == 3 else "NC"
            if len(shape) == 3 and len(tensor.shape) < 2:
                tensor, layout = self.flat(tensor), "NC"
        elif len(shape) == 3 and (tensor.index.ravel() == map_index(shape).ravel()).all() and len(tensor.shape) > 1:
            layout = "NCHW"
        else:
            raise ModelError(f"output {self.output!r} is a map of shape {shape} (NHWC) flattened or transposed into "
                             f"{tensor.shape}, which is not supported; end the model before that step")
        _check_ends(nodes)
        graph = Graph(self.model_name, self.input, tensor.value, tuple(nodes), dict(self.shapes), self.own_input,
                      self.layout, tensor.shape, layout)
        return integer_graph(graph, self.input_quant) if self.quantised else graph


def _check_ends(nodes):
    for end in nodes:
        if end.op in ("softmax", "argmax", "topk"):
            for node in nodes:
                if end.output in node.inputs and (node.op not in ("argmax", "topk") or end.op != "softmax"):
                    raise ModelError(f"{end.op} {end.name!r} must be at the end of the model, but {node.op} "
                                     f"{node.name!r} reads it; cut the model behind it")


def _unique(name, taken):
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate
