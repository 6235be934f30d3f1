"""One operator of an ONNX model, its inputs resolved: what the handlers of operators work with."""

from functools import cached_property

from onnx import helper

from lutloom.errors import ModelError
from lutloom.frontend.onnx_values import Const, Tensor, finite

KINDS = {  # what an operator without a name is called after
    "Conv": "conv", "Gemm": "dense", "MatMul": "dense", "MaxPool": "maxpool", "GlobalMaxPool": "maxpool",
    "AveragePool": "avgpool", "GlobalAveragePool": "globalpool", "ReduceMean": "globalpool",
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization"), "affine"),
    "QLinearConv": "conv", "QGemm": "dense", "QLinearMatMul": "dense", "QLinearAveragePool": "avgpool",
    "QLinearGlobalAveragePool": "globalpool", "QuantizeLinear": "quantize", "DequantizeLinear": "dequantize",
    **{f"QLinear{name}": name.lower() for name in ("Add", "Mul", "Concat", "Sigmoid", "LeakyRelu")},
}
JOINS = ("Add", "Sub", "Mul")
WEIGHTED = ("Conv", "Gemm", "MatMul", "BatchNormalization", "QLinearConv", "QGemm", "QLinearMatMul")


class Op:
    """One ONNX operator with its inputs resolved: each a Const, a Tensor or None."""

    def __init__(self, reader, node, inputs):
        self.reader = reader
        self.node = node
        self.inputs = inputs
        self.type = node.op_type
        self.domain = node.domain
        self.opset = reader.opset
        self._attributes = {attribute.name: attribute for attribute in node.attribute}

    @cached_property
    def name(self):
        """The layer's name: the weight's without its last dotted part, else the operator's, else kind and index."""
        joins = self.type in JOINS and all(isinstance(given, Tensor) for given in self.inputs)
        kind = self.type.lower() if joins else KINDS.get(self.type, self.type.lower())
        index = self.reader.count(kind)
        place = 3 if self.type.startswith("Q") else 1
        origin = next((given.origin for given in self.inputs[place:place + 1] if isinstance(given, Const)), None)
        if self.type in WEIGHTED and origin and "." in origin.strip("."):
            name = origin.rpartition(".")[0]
        else:
            name = self.node.name
        name = "".join(letter if letter.isprintable() else "_" for letter in name)
        return self.reader.reserve(name or f"{kind}_{index}")

    @property
    def hidden(self):
        """Whether it reads a tensor of unknown shape, because of an operator before it that is not supported."""
        return any(name and given is None for name, given in zip(self.node.input, self.inputs, strict=True))

    def error(self, text):
        """A ModelError about this operator: text is the predicate of its sentence."""
        return ModelError(f"{self.type} {self.name!r} {text}")

    def attribute(self, name, default=None):
        """An attribute as a Python value."""
        if name not in self._attributes:
            return default
        value = helper.get_attribute_value(self._attributes[name])
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def given(self, position):
        """An input; None where it was left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def computed(self, position=0):
        """An input that must be a computed tensor."""
        given = self.given(position)
        if not isinstance(given, Tensor):
            raise self.error(f"needs a computed tensor as input {position}, not a constant; export the model with "
                             "constants folded")
        return given

    def constant(self, position, what):
        """An input that must be a constant."""
        given = self.given(position)
        if not isinstance(given, Const):
            state = "leaves out" if given is None else "computes"
            raise self.error(f"{state} its {what}, which must be constant; export the model with it as an initialiser")
        return given

    def numbers(self, position, what):
        """A constant input as finite float64."""
        return finite(self, self.constant(position, what), what)
