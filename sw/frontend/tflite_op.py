"""One TFLite operator while it is read: its tensors, its options, and errors that name it."""

from math import prod

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.frontend.tflite_file import FLOATS
from lutloom.graph import TensorQuant

FORMATS = {"INT8": Format("int", 8), "UINT8": Format("uint", 8)}
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


def placed(shape):
    """A tensor's shape without the batch as (H, W, C) or (C,): (C,) for [C] and [1, C], sides of 1 in front of others.

    None where there is a batch of more than one, or too many sides.
    """
    if len(shape) < 2 or (len(shape) == 2 and shape[0] == 1):
        return (shape[-1] if shape else 1,)
    full = (1,) * (4 - len(shape)) + tuple(shape)
    return None if any(side != 1 for side in full[:-3]) else full[-3:]


class Op:
    """An operator of the file.

    Parameters
    ----------
    reader : Reader
    node : lutloom.frontend.tflite_file.Operator
    """

    def __init__(self, reader, node):
        self.reader, self.node, self.type = reader, node, node.type
        self.inputs = [None if index < 0 else reader.tensors[index] for index in node.inputs]
        self.outputs = [None if index < 0 else reader.tensors[index] for index in node.outputs]
        kind = node.type.split()[0].lower()
        self.name = f"{kind}_{reader.count(kind)}"

    @property
    def hidden(self):
        """Whether it reads something that an operator before it, which is not supported, would have made."""
        return any(info is not None and info.index in self.reader.unknown for info in self.inputs)

    def error(self, text):
        """The ModelError of this operator."""
        output = next((info.name for info in self.outputs if info is not None), "")
        made = f" (operator {self.node.index}, output tensor {output!r})"
        return ModelError(f"{self.type} {self.name!r}{made} {text}")

    def arity(self, least, most=None, outputs=1):
        """Check how many inputs and outputs there are."""
        most = least if most is None else most
        if not least <= len(self.inputs) <= most or (outputs is not None and len(self.outputs) != outputs):
            raise self.error(f"has {len(self.inputs)} inputs and {len(self.outputs)} outputs; the file is damaged")

    def info(self, position):
        """The tensor of an input."""
        info = self.inputs[position] if position < len(self.inputs) else None
        if info is None:
            raise self.error(f"has no input {position}; the file is damaged")
        return info

    def out(self, position=0):
        """The tensor of an output."""
        if self.outputs[position] is None:
            raise self.error(f"has no output {position}; the file is damaged")
        return self.outputs[position]

    def option(self, field, kind="<i", default=0):
        """A number of the operator's options."""
        return default if self.node.options is None else self.node.options.number(field, kind, default)

    def constant(self, position, what, count=None):
        """An integer constant of an input as an int64 array, flat."""
        info = self.info(position)
        if info.data is None or info.data.dtype.kind not in "iu":
            raise self.error(f"takes {what} that are no integer constants, which is not supported")
        numbers = info.data.astype(np.int64).reshape(-1)
        if count is not None and numbers.size != count:
            raise self.error(f"has {numbers.size} numbers as {what}, not {count}; the file is damaged")
        return numbers

    def quant(self, info):
        """The TensorQuant of a tensor of codes."""
        if info.type in FLOATS:
            raise self.error(f"computes with {info.type}, which is not supported; convert the whole model to int8")
        if info.type not in FORMATS:
            raise self.error(f"takes or gives {info.type} tensor {info.name!r}; activations must be INT8 or UINT8")
        if info.scale is None:
            raise self.error(f"takes or gives tensor {info.name!r}, which has no scale; convert the model again")
        if info.scale.size != 1:
            raise self.error(f"takes or gives tensor {info.name!r} with {info.scale.size} scales; activations have one")
        format, zero_point = FORMATS[info.type], int(info.zero_point[0])
        if not format.code_low <= zero_point <= format.code_high:
            raise self.error(f"takes or gives tensor {info.name!r} with zero point {zero_point}, which is no code of "
                             f"{info.type}; convert the model again")
        return TensorQuant(np.float32(info.scale[0]), zero_point, format)

    def shape(self, info):
        """A tensor's shape in the network."""
        shape = placed(info.shape)
        if shape is None:
            raise self.error(f"takes or gives tensor {info.name!r} of shape {info.shape}, which has a batch or more "
                             "than three sides; convert the model with a batch of 1")
        if prod(shape) == 0:
            raise self.error(f"takes or gives tensor {info.name!r} of shape {info.shape}, which holds nothing")
        return shape

    def value(self, position, sides=None):
        """Name of the graph's value of an input, constants too; with so many sides (1 or 3) where given."""
        info = self.info(position)
        self.shape(info)
        name = self.reader.value(self, info)
        shape = self.reader.shapes[name]
        if sides is None or len(shape) == sides:
            return name
        return self.reader.view(self, name, (1, 1, *shape) if sides == 3 else (prod(shape),))

    def emit(self, kind, inputs, params=None, *, position=0, shape=None, part="", quant=None):
        """Write one Graph node that gives an output (or, with ``part``, a step on the way to it).

        Where the node's own shape differs from the output's, a view follows.
        """
        info = self.out(position)
        quant = quant or self.quant(info)
        final = self.shape(info)
        shape = final if shape is None else tuple(int(size) for size in shape)
        name = self.reader.write(self, kind, tuple(inputs), params or {}, shape, quant, part or info.name)
        if not part:
            if prod(shape) != prod(final):
                raise self.error(f"gives shape {shape}, but its output tensor has shape {info.shape}; the file is "
                                 "damaged")
            self.reader.values[info.index] = name if shape == final else self.reader.view(self, name, final)
        return name

    def clamp(self, activation, quant):
        """{low, high}: the codes that a fused activation lets through."""
        low, high = quant.format.code_low, quant.format.code_high

        def code(real):
            # in float32 and halves away from zero, as TFLM's Quantize does
            steps = float(np.float32(real) / quant.scale)
            return quant.zero_point + int(np.sign(steps) * np.floor(abs(steps) + 0.5))

        if activation in (RELU, RELU6):
            low = max(low, code(0))
        if activation == RELU_N1_TO_1:
            low, high = max(low, code(-1)), min(high, code(1))
        if activation == RELU6:
            high = min(high, code(6))
        if activation not in (NONE, RELU, RELU_N1_TO_1, RELU6):
            raise self.error(f"has fused activation {activation}, which is not supported; NONE, RELU, RELU6 and "
                             "RELU_N1_TO_1 are")
        if low > high:
            raise self.error("has an output whose scale and zero point leave its activation no code")
        return {"low": low, "high": high}
