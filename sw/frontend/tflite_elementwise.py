"""TFLite operators that work code by code: sums, products, activations, requantisation, softmax."""

import numpy as np


def joined(kind):
    """ADD, SUB or MUL of two tensors that broadcast, either of them a constant."""

    def convert(op):
        op.arity(2)
        made = op.quant(op.out())
        given = [op.quant(op.info(position)) for position in (0, 1)]
        if any(quant.format != made.format for quant in given):
            raise op.error("takes and gives different types, which is not supported; all must be INT8 or all UINT8")
        sides = max(len(op.shape(op.info(position))) for position in (0, 1))
        sources = [op.value(position, sides) for position in (0, 1)]
        try:
            shape = np.broadcast_shapes(*(op.reader.shapes[source] for source in sources))
        except ValueError:
            shapes = " and ".join(str(op.info(position).shape) for position in (0, 1))
            raise op.error(f"takes shapes {shapes}, which do not fit; the file is damaged") from None
        op.emit(kind, sources, op.clamp(op.option(0, "<b"), made), shape=shape)

    return convert


def activation(function):
    """A function of one code."""

    def convert(op):
        op.arity(1)
        given, made = op.quant(op.info(0)), op.quant(op.out())
        if given.format != made.format:
            raise op.error("gives another type than it takes, which is not supported")
        params = {"function": function}
        if function == "leaky_relu":
            params["alpha"] = np.float32(op.option(0, "<f", 0.0))
            if not np.isfinite(params["alpha"]):
                raise op.error("has an alpha that is not a number; the file is damaged")
        source = op.value(0)
        op.emit("table", [source], params, shape=op.reader.shapes[source])

    return convert


def softmax(op):
    """SOFTMAX over the last axis."""
    op.arity(1)
    beta = op.option(0, "<f", 0.0)
    if not (np.isfinite(beta) and beta > 0):
        raise op.error(f"has beta {beta:g}, which must be above zero; the file is damaged")
    given, made = op.quant(op.info(0)), op.quant(op.out())
    if given.format != made.format or made.zero_point != made.format.code_low or made.scale != np.float32(1 / 256):
        raise op.error(f"gives scale {made.scale:g} and zero point {made.zero_point}; a softmax must give its input's "
                       f"type with scale 1/256 and zero point {given.format.code_low}")
    source = op.value(0)
    op.emit("softmax", [source], {"beta": beta}, shape=op.reader.shapes[source])


def quantize(op):
    """QUANTIZE: of the model's real input it says what its codes mean; of codes it brings them to another scale."""
    op.arity(1)
    if op.info(0).index in op.reader.real_inputs:
        op.reader.open_input(op, op.out())
        return
    source = op.value(0)
    op.emit("requantize", [source], shape=op.reader.shapes[source])


def dequantize(op):
    """DEQUANTIZE at the end: the output's codes are what the hardware gives."""
    op.arity(1)
    if op.out().index != op.reader.output_index:
        raise op.error("turns codes into real numbers inside the model, which is not supported; convert the whole "
                       "model to int8")
    op.reader.values[op.out().index] = op.value(0)


OPERATORS = {
    "ADD": joined("add"), "SUB": joined("sub"), "MUL": joined("mul"),
    "RELU": activation("relu"), "RELU6": activation("relu6"), "LEAKY_RELU": activation("leaky_relu"),
    "HARD_SWISH": activation("hard_swish"), "LOGISTIC": activation("logistic"), "TANH": activation("tanh"),
    "SOFTMAX": softmax, "QUANTIZE": quantize, "DEQUANTIZE": dequantize,
}
