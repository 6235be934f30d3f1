"""ONNX operators on codes (QOperator models): each is read as its operator on real numbers between quantisers."""

# Ref: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

from copy import copy

import numpy as np

from lutloom.frontend import onnx_closing, onnx_elementwise, onnx_join, onnx_layers
from lutloom.frontend.onnx_qdq import constant, read, tensor_quant, write
from lutloom.frontend.onnx_values import Const


def _between(op, handler, inputs, scale, zero_point):
    """What a real operator gives, quantised by two of the inputs of the operator on codes."""
    quant = tensor_quant(op, scale, zero_point)
    _ = op.name  # before the inputs change
    real = copy(op)
    real.inputs = inputs
    return write(op, handler(real), quant, "quant")


def _value(op, position):
    """A real input of three: codes, scale and zero point, computed or constant."""
    if isinstance(op.given(position), Const):
        return constant(op, position, position + 1, position + 2)
    return read(op, position, position + 1, position + 2)


def _bias(op, position):
    """A bias in int32, whose unit is the input's scale times the weights'."""
    if op.given(position) is None:
        return None
    given = op.constant(position, "bias")
    if given.array.dtype.name != "int32":
        raise op.error(f"has a bias of {given.array.dtype.name}, which must be int32; quantise the model again")
    unit = tensor_quant(op, 1, 2).scale * op.constant(4, "scale").array.astype(np.float32).reshape(-1)
    if unit.size not in (1, given.array.size):
        raise op.error(f"has {given.array.size} biases and {unit.size} weight scales; quantise the model again")
    return Const(given.array * unit.astype(np.float64), given.origin)


def conv(op):
    """QLinearConv: x, w and y with their scales and zero points, and a bias in units of x's scale times w's."""
    _need(op, 8)
    return _between(op, onnx_layers.conv, [read(op, 0, 1, 2), constant(op, 3, 4, 5, axis=0), _bias(op, 8)], 6, 7)


def matmul(op):
    """QLinearMatMul."""
    _need(op, 8)
    if not isinstance(op.given(3), Const):
        raise op.error("multiplies two computed tensors, which is not supported; its weights must be constant")
    return _between(op, onnx_layers.matmul, [read(op, 0, 1, 2), constant(op, 3, 4, 5, axis=-1)], 6, 7)


def gemm(op):
    """QGemm; without an output scale it would give real numbers."""
    _need(op, 6)
    if op.given(7) is None:
        raise op.error("gives real numbers (it has no output scale), which is not supported; quantise its output too")
    weights = constant(op, 3, 4, 5, axis=0 if op.attribute("transB", 0) else 1)
    return _between(op, onnx_layers.gemm, [read(op, 0, 1, 2), weights, _bias(op, 6)], 7, 8)


def joined(op):
    """QLinearAdd and QLinearMul of two tensors, one of which may be constant."""
    _need(op, 7)
    return _between(op, onnx_join.joined, [_value(op, 0), _value(op, 3)], 6, 7)


def concat(op):
    """QLinearConcat: the output's scale and zero point first, then three inputs a tensor."""
    if len(op.inputs) < 5 or (len(op.inputs) - 2) % 3:
        raise op.error(f"has {len(op.inputs)} inputs, which must be 2 and 3 a tensor; export the model again")
    return _between(op, onnx_join.concat, [_value(op, position) for position in range(2, len(op.inputs), 3)], 0, 1)


def unary(handler):
    """An operator of one tensor: x and y with their scales and zero points."""

    def convert(op):
        _need(op, 4)
        if op.attribute("channels_last", 0):
            raise op.error("has its channels last, which is not supported; export the model before it is optimised")
        return _between(op, handler, [read(op, 0, 1, 2)], 3, 4)

    return convert


def _need(op, count):
    if len(op.inputs) < count:
        raise op.error(f"has {len(op.inputs)} inputs, which must be at least {count}; export the model again")


def unsupported(op):
    """A kernel whose arithmetic Lutloom does not have."""
    raise op.error("is an operator on codes that is not supported; leave it out of the quantisation at the model's "
                   "end, or out of the model")


OPERATORS = {
    ("", "QLinearConv"): conv, ("", "QLinearMatMul"): matmul, ("com.microsoft", "QGemm"): gemm,
    ("com.microsoft", "QLinearAdd"): joined, ("com.microsoft", "QLinearMul"): joined,
    ("com.microsoft", "QLinearConcat"): concat,
    ("com.microsoft", "QLinearAveragePool"): unary(onnx_layers.average_pool),
    ("com.microsoft", "QLinearGlobalAveragePool"): unary(onnx_closing.global_average_pool),
    ("com.microsoft", "QLinearLeakyRelu"): unary(onnx_elementwise.function),
    ("com.microsoft", "QLinearSigmoid"): unary(onnx_elementwise.function),
    **{("com.microsoft", name): unsupported for name in ("QLinearSoftmax", "QLinearReduceMean", "QLinearWhere")},
}
