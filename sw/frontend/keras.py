"""The Keras front end: walks the layers of a ``.keras`` or ``.h5`` file and writes the Graph, without Keras."""

from math import prod

from lutloom.errors import ModelError
from lutloom.frontend import keras_file, keras_joins, keras_layers, keras_moves
from lutloom.frontend.keras_calls import foreign, model_of
from lutloom.frontend.keras_op import MOST_VALUES, Op, View
from lutloom.graph import Graph, Node

LAYERS = {**keras_layers.LAYERS, **keras_moves.LAYERS, **keras_joins.LAYERS}
SUPPORTED = ", ".join(sorted(name for name in LAYERS if not name.endswith("1D") and name not in keras_layers.UNCHANGED)
                      ) + ", their 1D forms, and layers that act in training alone"
ENDS = ("softmax",)


def load(path):
    """Read a Keras file into a Graph; see ``lutloom.frontend.load_graph``."""
    def work(reader):
        for call in reader.live:
            reader.convert(reader.open(call))
        return reader.finish()

    return walk(path, work)


def walk(path, work):
    """``work(reader)`` of a file's Reader."""
    return work(Reader(*keras_file.read(path)))


class Reader:
    """State of reading one model; ``values`` holds, by key of the calls, a View of a value of the Graph."""

    def __init__(self, name, config, version, weights):
        self.model_name, self.weights = name, weights
        self.is_keras_2 = version.startswith("2.") or version.startswith("1.")
        self.model = model_of(name, config)
        self.live, self.output = self.model.calls, self.model.output.rpartition(":")[0]
        self.nodes, self.shapes, self.values = [], {}, {}
        self._names, self._counts, self._views = set(), {}, {}
        self._open_input()

    def _open_input(self):
        model = self.model
        shape = model.input_shape
        if not isinstance(shape, list) or len(shape) < 2:
            raise ModelError(f"input {model.input_name!r} must have a shape of a batch and at least one dimension; "
                             "save the model with a fixed input shape")
        for position, size in enumerate(shape[1:], 1):
            if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
                raise ModelError(f"input {model.input_name!r} has an open dimension at position {position}; only the "
                                 "batch may be open, so save the model with a fixed input size")
        own = tuple(shape[1:])
        if len(own) > 3 or prod(own) > MOST_VALUES:
            raise ModelError(f"input {model.input_name!r} has shape {own}, but at most 3 dimensions and {MOST_VALUES} "
                             "values are supported; use a smaller one")
        self.own_input, self.input = own, model.input_name
        placed = own if len(own) != 2 else (*own, 1)
        self.shapes[self.input] = placed
        self.values[model.input] = View(self.input, own)

    def open(self, call):
        """A call with its inputs resolved."""
        return Op(self, call, [self.values.get(key) for key in call.inputs])

    def convert(self, op):
        """Convert one call, which sets what its key stands for."""
        if op.call.problem:
            raise op.error(op.call.problem)
        if op.type == "Lambda":
            raise op.error("is Python code, which is not run; use layers of Keras instead")
        handler = LAYERS.get(op.type)
        if handler is None:
            raise op.error(f"is a layer that is not supported; supported are {SUPPORTED}")
        try:
            self._check_policy(op)
            self.values[op.call.output] = handler(op)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
            raise op.error(f"has a config that Keras does not write ({reason}); save the model again") from None

    def _check_policy(self, op):
        policy = op.config.get("dtype")
        if not isinstance(policy, dict):
            return
        kind = policy.get("class_name")
        if foreign(policy) or kind not in ("DTypePolicy", "Policy"):
            raise op.error(f"has dtype policy {kind!r}, which is not supported; save the model in float32")

    def assume(self, op):
        """Stand in for a layer that is not supported: of the shape that those behind it say they take, or None."""
        shape = self.model.said.get(op.call.output)
        sound = isinstance(shape, list) and 2 <= len(shape) <= 4 and all(
            isinstance(size, int) and size > 0 for size in shape[1:]) and prod(shape[1:]) <= MOST_VALUES
        if not sound:
            return None
        own = tuple(shape[1:])
        name = self._value(op.name)
        self.shapes[name] = own if len(own) != 2 else (1, *own)
        self.values[op.call.output] = View(name, own)
        return self.shapes[name]

    def reserve(self, wanted):
        """A layer's name, with a number behind it where it is taken."""
        name, number = wanted, 0
        while name in self._names:
            number += 1
            name = f"{wanted}_{number}"
        self._names.add(name)
        return name

    def _value(self, wanted):
        name, number = wanted, 1
        while name in self.shapes:
            name, number = f"{wanted}:{number}", number + 1
        return name

    def emit(self, op, kind, inputs, params=None, *, shape, part=""):
        """Write one Graph node; gives the name of its value. ``part`` names a step beside the layer's own."""
        name = self.reserve(f"{op.name}_{part}" if part else op.name)
        shape = tuple(int(size) for size in shape)
        if prod(shape) > MOST_VALUES or min(shape) < 1:
            raise op.error(f"makes a tensor of shape {shape}, which must have 1 to {MOST_VALUES} values; use another "
                           "input size")
        output = self._value(name)
        self.nodes.append(Node(kind, name, tuple(inputs), output, params or {}))
        self.shapes[output] = shape
        return output

    def shaped(self, value, shape):
        """The same numbers, in raster order, in another shape; one view serves all that read it so."""
        shape = tuple(int(size) for size in shape)
        if self.shapes[value] == shape:
            return value
        if (value, shape) not in self._views:
            kind = "flatten" if len(shape) == 1 else "reshape"
            self._counts[kind] = self._counts.get(kind, -1) + 1
            output = self._value(f"{value}:{'x'.join(map(str, shape))}")
            self.nodes.append(Node(kind, self.reserve(f"{kind}_{self._counts[kind]}"), (value,), output, {}))
            self.shapes[output] = shape
            self._views[value, shape] = output
        return self._views[value, shape]

    def finish(self):
        """The Graph, once every layer is converted."""
        view = self.values.get(self.model.output)
        if view is None or not self.nodes:
            raise ModelError(f"output {self.output!r} of model {self.model_name!r} does not depend on its input "
                             "through any layer; save the model again")
        for end in self.nodes:
            reader = next((node for node in self.nodes if end.op in ENDS and end.output in node.inputs), None)
            if reader is not None:
                raise ModelError(f"{end.op} {end.name!r} must be at the end of the model, but {reader.op} "
                                 f"{reader.name!r} reads it; cut the model behind it")
        value = self.shaped(view.value, view.shape) if len(view.shape) in (1, 3) else view.value
        layouts = ["NC" if len(shape) == 1 else "NHWC" for shape in (self.own_input, view.shape)]
        return Graph(self.model_name, self.input, value, tuple(self.nodes), dict(self.shapes), self.own_input,
                     layouts[0], view.shape, layouts[1])
