"""QuantizeLinear and DequantizeLinear: which codes a value has, and what they stand for.

A quantised tensor stays one value of the graph: DequantizeLinear changes nothing but how it is looked at, and
QuantizeLinear writes a ``quantize`` node. ``lutloom.frontend.onnx_integer`` makes integer operators of what stands
between them.
"""

# Ref: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import numpy as np

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.frontend.onnx_values import Codes, Const, Tensor
from lutloom.graph import TensorQuant

FORMATS = {"int8": Format("int", 8), "uint8": Format("uint", 8)}
WEIGHT_BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int32": 32}
MOVING = ("maxpool", "flatten", "reshape", "slice", "concat")
"""Nodes that give the codes that they take."""


def quantize(op):
    """QuantizeLinear; of a constant it gives a constant with codes."""
    given = op.given(0)
    if isinstance(given, Const):
        return _quantized_constant(op, given)
    return write(op, op.computed(), tensor_quant(op, 1, 2))


def dequantize(op):
    """DequantizeLinear; of a constant it gives real numbers that know their codes."""
    given = op.given(0)
    if isinstance(given, Const):
        return constant(op, 0, 1, 2)
    return read(op, 0, 1, 2)


def write(op, tensor, quant, part=""):
    """The Tensor of codes of a real one."""
    if tensor.integer:
        raise op.error("quantises what is codes already; export the model again")
    return op.reader.emit(op, "quantize", tensor, {"quant": quant}, integer=True, part=part)


def read(op, position, scale, zero_point):
    """The real Tensor that an input's codes stand for, its scale and zero point being other inputs."""
    tensor, quant = op.computed(position), tensor_quant(op, scale, zero_point)
    if not tensor.integer:
        raise op.error(f"takes real numbers as input {position}, where it needs codes; export the model again")
    known = quant_of(op.reader, tensor.value)
    if known is None:
        known = op.reader.input_quant = quant
    if known != quant:
        raise op.error(f"reads codes with scale {quant.scale:g} and zero point {quant.zero_point} ({quant.format}), "
                       f"which were made with {known.scale:g} and {known.zero_point} ({known.format}); quantise the "
                       "model again")
    return Tensor(tensor.value, tensor.index)


def quant_of(reader, value):
    """The TensorQuant of a value of codes; None of an input whose meaning no operator has told yet."""
    nodes = {node.output: node for node in reader.nodes}
    while (node := nodes.get(value)) is not None:
        if node.op in ("quantize", "constant"):
            return node.params["quant"]
        value = node.inputs[0]
    return reader.input_quant


def tensor_quant(op, scale, zero_point):
    """The TensorQuant that two inputs say, of activations; ModelError where they make no sense."""
    numbers, zero = _parameters(op, scale, zero_point)
    kind = "uint8" if zero is None else zero.dtype.name
    if kind == "uint8" and zero is None and op.attribute("output_dtype", 0):
        kind = {2: "uint8", 3: "int8"}.get(op.attribute("output_dtype"), "another type")
    if kind not in FORMATS:
        raise op.error(f"has codes of {kind}, which is not supported; activations must be int8 or uint8")
    if numbers.size != 1:
        raise op.error(f"has {numbers.size} scales for an activation, which must have one; quantise activations per "
                       "tensor")
    return TensorQuant(np.float32(numbers.reshape(())), 0 if zero is None else int(zero.reshape(())), FORMATS[kind])


def constant(op, position, scale, zero_point, axis=None):
    """A Const of real numbers that knows its codes, of an input that holds codes."""
    given = op.constant(position, "codes")
    kind = given.array.dtype.name
    if kind not in WEIGHT_BITS:
        raise op.error(f"has constant codes of {kind}, which is not supported; {', '.join(WEIGHT_BITS)} are")
    numbers, zero = _parameters(op, scale, zero_point)
    codes = given.array.astype(np.int64)
    axis = op.attribute("axis", 1) if axis is None else axis
    numbers = _spread(op, numbers.astype(np.float64), codes.shape, axis)
    zero = _spread(op, np.zeros(()) if zero is None else zero.astype(np.float64), codes.shape, axis)
    known = Codes("int", codes, numbers, zero, WEIGHT_BITS[kind], not kind.startswith("u"), False)
    return Const(numbers * (codes - zero), given.origin, known)


def constant_quant(op, const):
    """The TensorQuant of a Const that knows its codes, of one scale."""
    codes = const.codes
    kind = f"{'int' if codes.signed else 'uint'}{codes.bits}"
    if kind not in FORMATS:
        raise op.error(f"takes constant codes of {kind}, which is not supported here; they must be int8 or uint8")
    return TensorQuant(np.float32(codes.scale.flat[0]), int(codes.zero_point.flat[0]), FORMATS[kind])


def _quantized_constant(op, given):
    """Codes of a real constant, as an exporter leaves them that quantises weights in the graph."""
    numbers, zero = _parameters(op, 1, 2)
    kind = "uint8" if zero is None else zero.dtype.name
    if kind not in WEIGHT_BITS:
        raise op.error(f"makes codes of {kind}, which is not supported; {', '.join(WEIGHT_BITS)} are")
    real = op.numbers(0, "weights").astype(np.float32)
    axis = op.attribute("axis", 1)
    shift = _spread(op, np.zeros(()) if zero is None else zero.astype(np.float64), real.shape, axis)
    steps = real / _spread(op, numbers, real.shape, axis)
    bits, signed = WEIGHT_BITS[kind], not kind.startswith("u")
    low = -(1 << bits - 1) if signed else 0
    codes = np.clip(np.rint(steps.astype(np.float64)) + shift, low, low + (1 << bits) - 1)
    return Const(codes.astype(np.int64).astype("int32" if bits == 32 else f"{'' if signed else 'u'}int8"),
                 given.origin)


def _parameters(op, scale, zero_point):
    """(float32 scales, integer zero points or None), both checked."""
    numbers = op.constant(scale, "scale").array
    if numbers.dtype.kind != "f" or not numbers.size:
        raise op.error("has a scale that is not a real number; quantise the model again")
    if not np.isfinite(numbers).all() or (numbers <= 0).any():
        worst = numbers.reshape(-1)[~(np.isfinite(numbers) & (numbers > 0)).reshape(-1)][0]
        raise op.error(f"has a scale of {float(worst):g}, which must be a positive number; quantise the model again")
    if op.attribute("block_size", 0):
        raise op.error("has a scale a block, which is not supported; quantise per tensor or per channel")
    if op.given(zero_point) is None:
        return numbers.astype(np.float32), None
    zero = op.constant(zero_point, "zero point").array
    if zero.dtype.kind == "f" or zero.dtype.name not in WEIGHT_BITS:
        raise op.error(f"has codes of {zero.dtype.name}, which is not supported; int8 and uint8 are")
    if zero.size not in (1, numbers.size):
        raise op.error(f"has {zero.size} zero points for {numbers.size} scales; quantise the model again")
    return numbers.astype(np.float32), zero


def _spread(op, array, shape, axis):
    """One number a channel of an axis, or one for all, in the shape of what it belongs to."""
    if array.size == 1:
        return np.broadcast_to(array.reshape(()), shape)
    rank = len(shape)
    if not -rank <= axis < rank or array.ndim != 1 or array.size != shape[axis]:
        raise op.error(f"has scales or zero points of shape {array.shape} along axis {axis} of codes of shape {shape}, "
                       "which do not fit; quantise the model again")
    sides = [1] * rank
    sides[axis] = array.size
    return np.broadcast_to(array.reshape(sides), shape)


def is_quantised(model):
    """Whether a model holds operators on codes."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") or node.op_type.startswith("QLinear")
               or node.op_type == "QGemm" for node in model.graph.node)


def refuse_dynamic(model, name):
    """ModelError for what is quantised anew in every frame."""
    for index, node in enumerate(model.graph.node):
        if node.op_type in DYNAMIC:
            where = f"{node.op_type} {node.name or index!r} (operator {index}, output tensor {node.output[0]!r})"
            raise ModelError(f"{where} of model {name!r} is of dynamic quantisation, whose scales change from frame to "
                             "frame and which is not supported; quantise the model statically, with calibration data "
                             "(quantize_static)")


DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat",
           "DynamicQuantizeLSTM")

OPERATORS = {("", "QuantizeLinear"): quantize, ("", "DequantizeLinear"): dequantize,
             ("com.microsoft", "QuantizeLinear"): quantize, ("com.microsoft", "DequantizeLinear"): dequantize}
