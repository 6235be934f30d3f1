"""The calls that a Keras config describes: Sequential and functional models, nested ones opened up, in order."""

# Ref: keras/src/models/functional.py, keras/src/ops/node.py (Keras 3); keras/engine/functional.py (Keras 2)

from collections import Counter
from dataclasses import dataclass

from lutloom.errors import ModelError
from lutloom.frontend.keras_weights import snake_case

MODULES = ("keras", "tf_keras", "builtins")
MODELS = ("Sequential", "Functional", "Model")
MOST_CALLS = 10000
DEEPEST = 8
"""Models within models."""


@dataclass(frozen=True)
class Step:
    """A layer among its siblings: its class, how many of that class (in Keras's file names) came before, its name."""

    type: str
    count: int
    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """One use of a layer: the values that it reads and the one that it gives, by key.

    Parameters
    ----------
    type, name : str
    config : dict
    inputs : tuple of str
    output : str
    place : tuple of Step
        Where its weights lie.
    problem : str
        What of the call is not supported.
    """

    type: str
    name: str
    config: dict
    inputs: tuple[str, ...]
    output: str
    place: tuple[Step, ...]
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """All calls that the output depends on, in an order in which they can be made.

    Parameters
    ----------
    input, output : str
        Keys of values.
    input_name : str
    input_shape : list
        With the batch, as the file has it.
    said : dict of str to list
        Shapes that the file says of values, with the batch.
    """

    name: str
    calls: tuple[Call, ...]
    input: str
    input_name: str
    input_shape: list
    output: str
    said: dict


def model_of(name, config):
    """The Model of a config; ModelError where it is none, or holds code."""
    try:
        return _Opener(name).model(config)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())[:100]
        raise ModelError(f"model {name!r} has a config that Keras does not write ({reason}); save it again") from None


def foreign(entry):
    """Why an object of a config is not Keras's own, or ""."""
    module, registered, kind = (entry.get(key) for key in ("module", "registered_name", "class_name"))
    if module is not None and str(module).partition(".")[0] not in MODULES:
        return f"is an object of module {module!r}, whose code is not run; only layers of Keras itself are supported"
    registered = kind if registered is None and ">" in str(kind) else registered  # as files of HDF5 have it
    if registered is not None and (registered != kind or ">" in str(kind)):
        return (f"is a custom object, registered as {registered!r}, whose code is not run; only layers of Keras "
                "itself are supported")
    return ""


class _Opener:
    def __init__(self, name):
        self.name, self.calls, self.said = name, {}, {}
        self.input = None  # (key, name, shape with the batch)

    def model(self, config):
        if foreign(config) or config.get("class_name") not in MODELS:
            what = foreign(config) or f"is a {config.get('class_name')!r}, but must be Sequential or functional"
            raise ModelError(f"model {self.name!r} {what}; save one built of Keras's own layers")
        output = self.expand(config, "", None, ())
        calls = self.ordered(output)
        if self.input is None:
            raise ModelError(f"model {self.name!r} has no input of known shape; begin it with an Input")
        key, name, shape = self.input
        return Model(self.name, tuple(calls), key, name, shape, output, self.said)

    def expand(self, entry, prefix, given, place):
        """Calls of a model's layers; the key of its output. ``given``: key of its input, None for the file's own."""
        if len(place) > DEEPEST:
            raise ModelError(f"model {self.name!r} has models more than {DEEPEST} deep in each other; flatten it")
        config = entry["config"]
        layers = config if isinstance(config, list) else config["layers"]
        if len(layers) + len(self.calls) > MOST_CALLS:
            raise ModelError(f"model {self.name!r} has more than {MOST_CALLS} layers; use a smaller model")
        counts, steps = Counter(), []
        for layer in layers:
            kind, name = str(layer["class_name"]), str(layer["config"].get("name", layer.get("name")))
            steps.append((*place, Step(kind, counts[snake_case(kind)], name)))
            counts[snake_case(kind)] += 1
        if entry["class_name"] == "Sequential":
            return self.sequential(entry, layers, steps, prefix, given)
        return self.functional(config, layers, steps, prefix, given)

    def sequential(self, entry, layers, steps, prefix, given):
        key = given
        for index, (layer, step) in enumerate(zip(layers, steps, strict=True)):
            config, is_input = layer["config"], layer["class_name"] == "InputLayer"
            if key is None and self.input is None:
                shape = _shape_of(config) or _first(entry, layer, "input_shape")
                if shape is not None:
                    name = step[-1].name if is_input else "input"
                    key = f"{prefix}{name}:input"
                    self.input = key, name, shape
            if not is_input:
                key = self.call(layer, f"{prefix}{step[-1].name}:{index}", [key], step, "")
        return key

    def functional(self, config, layers, steps, prefix, given):
        ends = {"input": _ends(config["input_layers"]), "output": _ends(config["output_layers"])}
        for what, found in ends.items():
            if len(found) != 1:
                names = ", ".join(str(end[0]) for end in found)
                raise ModelError(f"model {self.name!r} must have one {what}, not {len(found)} ({names}); cut it down "
                                 "to one")
        own, known, waiting = {}, {}, []
        for layer, step in zip(layers, steps, strict=True):
            name = step[-1].name
            if layer["class_name"] == "InputLayer":
                if name != ends["input"][0][0]:
                    raise ModelError(f"model {self.name!r} must have one input, not {name!r} besides "
                                     f"{ends['input'][0][0]!r}; cut it down to one")
                key = f"{prefix}{name}:input" if given is None else given
                if given is None:
                    self.input = key, name, _shape_of(layer["config"])
                own[name, 0] = key
                continue
            for index, node in enumerate(layer["inbound_nodes"]):
                known[name, index] = None
                waiting.append((layer, step, index, *_node(node)))
        late = []
        for layer, step, index, tensors, problem in waiting:
            name = step[-1].name
            own[name, index] = f"{prefix}{name}:{index}"
            late.append((layer, step, index, tensors, problem))

        def resolve(history):
            source, index = str(history[0]), int(history[1])
            if (source, index) not in own and (source, index - 1) in own:
                index -= 1  # Keras 2 counts the node that a nested model was made with
            if (source, index) not in own or int(history[2]):
                raise ValueError(f"no value {history}")
            return own[source, index]

        # nested models give the key of what is inside them, so they are opened in the order of their inputs
        while late:
            rest = []
            nested = {own[step[-1].name, index] for layer, step, index, _, _ in late if layer["class_name"] in MODELS}
            for item in late:
                layer, step, index, tensors, problem = item
                inputs = [resolve(tensor["history"]) for tensor in tensors]
                if any(key in nested and key != own[step[-1].name, index] for key in inputs):
                    rest.append(item)
                    continue
                for key, tensor in zip(inputs, tensors, strict=True):
                    if tensor["shape"] is not None:
                        self.said[key] = tensor["shape"]
                key = own[step[-1].name, index]
                own[step[-1].name, index] = self.call(layer, key, inputs, step, problem)
            if len(rest) == len(late):
                raise ValueError("models that depend on each other")
            late = rest
        return resolve(ends["output"][0])

    def call(self, layer, key, inputs, step, problem):
        """Note a call, or those inside a nested model; the key of its value."""
        kind, name = str(layer["class_name"]), step[-1].name
        problem = foreign(layer) or problem
        layer, kind, problem = _operation(layer, kind, problem)
        if kind in MODELS and not problem:
            if len(inputs) != 1:
                raise ModelError(f"model {name!r} inside model {self.name!r} must have one input, not {len(inputs)}; "
                                 "take its layers out")
            return self.expand(layer, f"{key}/", inputs[0], step)
        if not isinstance(layer["config"], dict):
            raise TypeError(f"config of {name!r}")
        self.calls[key] = Call(kind, name, layer["config"], tuple(inputs), key, step, problem)
        return key

    def ordered(self, output):
        """The calls that the output depends on, each behind those that it reads, else in the file's order."""
        wanted, stack = set(), [output]
        while stack:
            key = stack.pop()
            if key in self.calls and key not in wanted:
                wanted.add(key)
                stack.extend(self.calls[key].inputs)
        left, done, found = [call for key, call in self.calls.items() if key in wanted], set(), []
        while left:
            rest = []
            for call in left:
                ready = all(key in done or key not in self.calls for key in call.inputs)
                (found if ready else rest).append(call)
                if ready:
                    done.add(call.output)
            if len(rest) == len(left):
                raise ModelError(f"model {self.name!r} has layers that read each other in a circle, as "
                                 f"{rest[0].name!r}; save it again")
            left = rest
        return found


def _operation(layer, kind, problem):
    """(layer, class, problem) of a call of ``keras.ops``: arguments are not in its config, so few are known by name."""
    if kind in ACTIVATIONS:  # no layer is called so
        return {**layer, "config": {**layer["config"], "activation": kind.lower()}}, "Activation", problem
    if str(layer.get("module")).startswith(("keras.src.ops.", "keras.ops")) and kind not in JOINS:
        known = ", ".join(sorted((*JOINS, *ACTIVATIONS)))
        problem = f"is an operation of keras.ops, of which {known} are supported; use a layer of Keras"
    return layer, kind, problem


JOINS = ("Add", "Subtract", "Multiply", "Concatenate", "Softmax")
ACTIVATIONS = ("Relu", "Relu6", "Sigmoid", "Tanh", "Softplus")
"""Operations of keras.ops that are no layers, but take tensors alone; JOINS are as the layers of that name."""


def _first(entry, layer, key):
    """A shape that Keras noted when it built a model: the input's."""
    for build in (entry.get("build_config"), layer.get("build_config")):
        if isinstance(build, dict) and isinstance(build.get(key), list):
            return build[key]
    noted = entry["config"].get("build_input_shape") if isinstance(entry["config"], dict) else None
    return noted if isinstance(noted, list) else None


def _shape_of(config):
    """The shape of an InputLayer, or of a first layer of Keras 2, with the batch."""
    return config.get("batch_shape") or config.get("batch_input_shape")


def _ends(ends):
    """Inputs or outputs as a list of (layer, node, tensor)."""
    if isinstance(ends, dict):
        ends = list(ends.values())
    return [ends] if ends and isinstance(ends[0], str) else list(ends)


def _node(node):
    """(tensors, problem) of one call: tensors as {"history", "shape"}."""
    if isinstance(node, dict):  # Keras 3
        tensors = []
        problem = _collect(node["args"], tensors)
        for key, value in node["kwargs"].items():
            if value in (None, False):
                continue
            if key == "inputs":
                problem = _collect(value, tensors) or problem
            else:
                problem = f"is called with {key} = {str(value)[:40]!r}, which is not supported; leave it out"
        if not tensors:
            problem = "is called without a tensor, which is not supported; take it out"
        return tensors, problem
    if node and isinstance(node[0], str):
        node = [node]
    tensors, problem = [], ""
    for entry in node:
        tensors.append({"history": entry[:3], "shape": None})
        for key, value in (entry[3] if len(entry) > 3 else {}).items():
            if value not in (None, False):
                problem = f"is called with {key} = {str(value)[:40]!r}, which is not supported; leave it out"
    return tensors, problem


def _collect(value, found):
    """Tensors within arguments of a call; what else there is, as a problem."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        config = value["config"]
        found.append({"history": config["keras_history"], "shape": config.get("shape")})
    elif isinstance(value, list):
        return next(filter(None, [_collect(part, found) for part in value]), "")
    elif value is not None:
        what = "an array" if isinstance(value, dict) else f"{str(value)[:40]}"
        return f"is called with {what} besides tensors, which is not supported; use a layer such as Rescaling"
    return ""
