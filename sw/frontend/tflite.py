"""The TFLite front end: walks a model's operators and writes a Graph in the arithmetic of TFLite Micro."""

from math import prod

import numpy as np

from lutloom.errors import ModelError
from lutloom.frontend import tflite_elementwise, tflite_file, tflite_layers, tflite_layout, tflite_state
from lutloom.frontend.tflite_file import FLOATS
from lutloom.frontend.tflite_op import Op, placed
from lutloom.graph import Graph, Node

OPERATORS = {
    **tflite_layers.OPERATORS, **tflite_elementwise.OPERATORS, **tflite_layout.OPERATORS, **tflite_state.OPERATORS,
}


def load(path):
    """Read a ``.tflite`` file into a Graph; see ``lutloom.frontend.load_graph``."""
    def work(reader):
        for node in reader.live:
            reader.convert(reader.open(node))
        return reader.finish()

    return walk(path, work)


def walk(path, work):
    """``work(reader)`` of a file's Reader."""
    return work(Reader(*tflite_file.read(path)))


class Reader:
    """State of reading one model.

    ``values`` holds, by index of the file's tensor, the name of a value of the graph, or the Resource that it names;
    ``states`` what each variable holds at this point of the frame; ``unknown`` the tensors that operators which are
    not supported would have made.
    """

    def __init__(self, name, subgraphs):
        self.model_name, self.subgraphs, self.tensors = name, subgraphs, subgraphs[0].tensors
        self.nodes, self.shapes, self.quants, self.values = [], {}, {}, {}
        self.states, self.reads, self.resets, self.unknown = {}, {}, {}, set()
        self._counts, self._views = {}, {}
        main = subgraphs[0]
        for what, ends in (("input", main.inputs), ("output", main.outputs)):
            if len(ends) != 1:
                names = ", ".join(repr(self.tensors[index].name) for index in ends)
                raise ModelError(f"model {name!r} must have one {what}, not {len(ends)} ({names}); cut it down to one")
        self.input_index, self.output_index = main.inputs[0], main.outputs[0]
        self.output = self.tensors[self.output_index].name
        self._readers = {index for op in main.operators for index in op.inputs} | {self.output_index}
        self.live = self._live_nodes(main.operators)
        self._refuse_float()
        self.input, self.real_inputs = None, set()
        info = self.tensors[self.input_index]
        if info.type in FLOATS:
            self.real_inputs.add(info.index)
        elif self.live:
            self.open_input(Op(self, self.live[0]), info)
            self._counts.clear()

    def _live_nodes(self, operators):
        """Operators that the output or a variable depends on, in the file's order."""
        wanted, live = {self.output_index}, []
        for node in reversed(operators):
            if wanted.intersection(node.outputs) or node.type in ("ASSIGN_VARIABLE", "CALL_ONCE"):
                wanted.update(node.inputs)
                live.append(node)
        return live[::-1]

    def _refuse_float(self):
        """A model that computes in real numbers has another way in."""
        for node in self.live:
            made = [self.tensors[index] for index in node.outputs if index >= 0]
            if node.type != "DEQUANTIZE" and any(info.type in FLOATS for info in made):
                raise ModelError(
                    f"model {self.model_name!r} computes in real numbers ({node.type} gives {made[0].type}), but a "
                    ".tflite file must be quantised to int8: convert it so, or give the float model as .onnx, which "
                    "'lutloom quantize' turns into integers")

    def open_input(self, op, info):
        """The graph's input, with the codes of a tensor of the file."""
        given = self.tensors[self.input_index]
        shape = placed(given.shape)
        if self.input is not None or shape is None or prod(shape) == 0:
            raise ModelError(f"input {given.name!r} of model {self.model_name!r} has shape {given.shape}; it must have "
                             "a batch of 1, at most three sides and one QUANTIZE behind it at most")
        self.input = self._unique(given.name)
        self.shapes[self.input], self.quants[self.input] = shape, op.quant(info)
        self.values[given.index] = self.values[info.index] = self.input

    def open(self, node):
        """The operator of a node."""
        op = Op(self, node)
        if op.hidden:
            self.unknown.update(info.index for info in op.outputs if info is not None)
        return op

    def convert(self, op):
        """Convert one operator, which sets what its outputs stand for."""
        handler = OPERATORS.get(op.type)
        if handler is None:
            raise op.error(f"is an operator that is not supported; supported are {', '.join(sorted(OPERATORS))}")
        handler(op)

    def assume(self, op):
        """Stand in for an operator that is not supported; gives the shape of what it would make, or None."""
        shapes = []
        for info in filter(None, op.outputs):
            try:
                quant, shape = op.quant(info), op.shape(info)
            except ModelError:  # no tensor of codes
                self.unknown.add(info.index)
                continue
            name = self._unique(info.name)
            self.shapes[name], self.quants[name], self.values[info.index] = shape, quant, name
            shapes.append(shape)
        return shapes[0] if shapes else None

    def count(self, kind):
        """How many of a kind came before."""
        self._counts[kind] = self._counts.get(kind, -1) + 1
        return self._counts[kind]

    def is_read(self, index):
        """Whether any operator reads a tensor, or it is the output."""
        return index in self._readers

    def value(self, op, info):
        """Name of the graph's value of a tensor; a constant gets a node of its own."""
        given = self.values.get(info.index)
        if isinstance(given, str):
            return given
        if given is not None or info.data is None:
            raise op.error(f"reads tensor {info.name!r}, which nothing has given; the file is damaged")
        quant, shape = op.quant(info), op.shape(info)
        codes = info.data.astype(np.int64).reshape(shape)
        self.values[info.index] = self.write(op, "constant", (), {"codes": codes}, shape, quant, info.name)
        return self.values[info.index]

    def view(self, op, value, shape):
        """The same codes in another shape; one reshape serves all that read it so."""
        shape = tuple(int(size) for size in shape)
        if self.shapes[value] == shape:
            return value
        if (value, shape) not in self._views:
            self._views[value, shape] = self.write(op, "reshape", (value,), {}, shape, self.quants[value],
                                                   f"{value}:{'x'.join(map(str, shape))}")
        return self._views[value, shape]

    def write(self, op, kind, inputs, params, shape, quant, wanted):
        """Append a node and give the name of its value."""
        output = self._unique(wanted)
        first = all(node.name != op.name for node in self.nodes)
        name = op.name if first and kind not in ("reshape", "constant", "requantize") else f"{kind}_{self.count(kind)}"
        self.nodes.append(Node(kind, name, inputs, output, params))
        self.shapes[output], self.quants[output] = shape, quant
        return output

    def _unique(self, wanted):
        wanted = wanted or "tensor"
        number, name = 1, wanted
        while name in self.shapes:
            name, number = f"{wanted}:{number}", number + 1
        return name

    def finish(self):
        """The Graph, once every operator is converted."""
        output = self.values.get(self.output_index)
        if self.input is None or not isinstance(output, str) or not self.nodes:
            raise ModelError(f"output {self.output!r} of model {self.model_name!r} does not depend on its input "
                             "through any layer; convert the model again")
        self._write_states()
        own = [_without_batch(self.tensors[index].shape) for index in (self.input_index, self.output_index)]
        layouts = ["NHWC" if len(shape) == 3 else "NC" for shape in own]
        return Graph(self.model_name, self.input, output, tuple(self.nodes), dict(self.shapes), own[0], layouts[0],
                     own[1], layouts[1], "tflm", dict(self.quants))

    def _write_states(self):
        """What each variable that is read starts from, and what it is given at the end of a frame."""
        resets = {}
        for variable, value in self.reads.items():
            shape, quant = self.shapes[value], self.quants[value]
            reset = self.resets.get(variable, np.full(shape, quant.zero_point, np.int64))
            inside = reset.size == prod(shape) and quant.format.code_low <= reset.min() <= reset.max() <= \
                quant.format.code_high
            last = self.states[variable]
            if not inside or prod(self.shapes[last]) != prod(shape) or self.quants[last] != quant:
                raise ModelError(f"variable {variable!r} of model {self.model_name!r} is set to another shape or scale "
                                 f"than it is read with; convert the model again")
            resets[variable] = reset.reshape(shape)
        self.nodes = [node.with_params(reset=resets[node.params["state"]]) if node.op == "read" else node
                      for node in self.nodes]
        for index, (variable, value) in enumerate(self.reads.items()):
            last = self.states[variable]
            if self.shapes[last] != self.shapes[value]:
                last = self.view(_Named(f"state_{index}"), last, self.shapes[value])
            output = self._unique(f"{value}:next")
            self.nodes.append(Node("write", f"write_{index}", (last,), output, {"state": variable}))
            self.shapes[output], self.quants[output] = self.shapes[value], self.quants[value]


class _Named:
    """Stands for an operator where only a name is asked for."""

    def __init__(self, name):
        self.name = name


def _without_batch(shape):
    return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape) or (1,)
