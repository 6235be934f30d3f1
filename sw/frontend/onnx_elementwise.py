"""ONNX operators that work on each element by itself, or only rearrange them."""

import numpy as np
from onnx import TensorProto

from lutloom.frontend.onnx_layout import per_channel
from lutloom.frontend.onnx_values import Const, Tensor, finite, infer_shape


def affine(op):
    """Add, Sub, Mul, Div of a computed tensor and a constant."""
    left, right = op.given(0), op.given(1)
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        raise op.error("divides by a computed tensor, which is not supported; only division by constants is")
    tensor, other = (left, right) if isinstance(left, Tensor) else (right, left)
    if tensor.integer:
        raise op.error("computes with integers, which is not supported; cast its input to float first")
    value = finite(op, other, "constants")
    tensor, value = per_channel(op, tensor, value, "constant")
    one, zero = np.array(1.0), np.array(0.0)
    if op.type == "Add":
        scale, offset = one, value
    elif op.type == "Sub":
        scale, offset = (one, -value) if left is not other else (np.array(-1.0), value)
    elif op.type == "Mul":
        scale, offset = value, zero
    else:
        if left is other:
            raise op.error("divides by a computed tensor, which is not supported; only division by constants is")
        if (value == 0).any():
            raise op.error("divides by zero; train or export the model again")
        scale, offset = 1 / value, zero
    return op.reader.emit(op, "affine", tensor, {"scale": np.asarray(scale), "offset": np.asarray(offset)})


def negate(op):
    """Neg."""
    return op.reader.emit(op, "affine", op.computed(), {"scale": np.array(-1.0), "offset": np.array(0.0)})


def power(op):
    """Pow of a computed tensor: only the first power is an affine step."""
    exponent = op.given(1)
    if isinstance(op.given(0), Tensor) and isinstance(exponent, Const) and (exponent.array == 1).all():
        return op.given(0)
    raise op.error("raises a computed tensor to a power, which is not supported; only powers of constants are")


def relu(op):
    """Relu."""
    return op.reader.emit(op, "relu", op.computed())


def sign(op):
    """Sign."""
    return op.reader.emit(op, "sign", op.computed())


def clip(op):
    """Clip with its bounds as attributes (to opset 10) or inputs."""
    low = _bound(op, 1, "lower bound", op.attribute("min"), -np.inf)
    high = _bound(op, 2, "upper bound", op.attribute("max"), np.inf)
    return bounded(op, op.computed(), low, high)


FUNCTIONS = {"Sigmoid": "logistic", "Tanh": "tanh", "LeakyRelu": "leaky_relu", "HardSwish": "hard_swish",
             "HardSigmoid": "hard_sigmoid", "Elu": "elu", "Softplus": "softplus", "Gelu": "gelu"}


def function(op):
    """A function of each element by itself, which becomes a table of codes."""
    name, params = FUNCTIONS[op.type.removeprefix("QLinear")], {}
    if name == "gelu" and op.reader.quantised:
        raise op.error("is supported only in models of real numbers; take a float model")
    if name in ("leaky_relu", "hard_sigmoid", "elu"):
        params["alpha"] = op.attribute("alpha", {"leaky_relu": 0.01, "hard_sigmoid": 0.2, "elu": 1.0}[name])
    if name == "hard_sigmoid":
        params["beta"] = op.attribute("beta", 0.5)
    if not np.isfinite(list(params.values())).all():
        raise op.error("has an alpha or beta that is not a number; export the model again")
    if name == "gelu" and op.attribute("approximate", "none") == "tanh":
        name = "gelu_tanh"
    return function_node(op, name, params)


def function_node(op, name, params):
    """Write a function of ``lutloom.functions``."""
    kind = "function" if op.reader.quantised else "table"
    return op.reader.emit(op, kind, op.computed(), {"function": name, **params})


def _bound(op, position, what, attribute, default):
    if attribute is not None:
        bound = attribute
    elif op.given(position) is None:
        bound = default
    else:
        array = op.constant(position, what).array
        if array.size != 1:
            raise op.error(f"has a {what} of {array.size} numbers, which must be one; use one bound for all channels")
        bound = array.item()
    if np.isnan(bound):
        raise op.error(f"has a {what} that is NaN; export the model again")
    return float(bound)


def bounded(op, tensor, low, high):
    """Write a clip."""
    if low > high:
        raise op.error(f"has a lower bound {low:g} above its upper bound {high:g}; export the model again")
    return op.reader.emit(op, "clip", tensor, {"low": low, "high": high})


def unchanged(op):
    """Identity, and Dropout as it is at inference."""
    training = op.given(2)
    if op.type == "Dropout" and training is not None and (not isinstance(training, Const) or training.array.any()):
        raise op.error("is in training mode; export the model in evaluation mode (model.eval())")
    return op.computed()


def cast(op):
    """Cast: nothing where the numbers stay as they are."""
    tensor, target = op.computed(), op.attribute("to")
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
    integers = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32,
                TensorProto.UINT32, TensorProto.INT64, TensorProto.UINT64)
    if target in floats or (tensor.integer and target in integers):
        return Tensor(tensor.value, tensor.index, tensor.integer and target in integers)
    name = TensorProto.DataType.Name(target)
    raise op.error(f"casts to {name}, which changes numbers and is not supported; round with a Quant node instead")


def rearrange(op):
    """Reshape, Flatten, Squeeze, Unsqueeze: the same elements in another shape, the batch still first."""
    tensor = op.computed()
    shape = infer_shape(op, op.reader.batch)
    if shape is None:
        raise op.error(f"rearranges a tensor of shape {tensor.shape} into a shape that is not known; export the model "
                       "with a fixed input size and constants folded")
    if not shape or shape[0] != op.reader.batch or int(np.prod(shape[1:])) != tensor.index.size:
        raise op.error(f"makes shape {list(shape)} out of {[op.reader.batch, *tensor.shape]}, which does not keep the "
                       "batch first; reshape to (batch, ...) only")
    return Tensor(tensor.value, tensor.index.reshape(shape[1:]), tensor.integer)


def transpose(op):
    """Transpose that leaves the batch first."""
    tensor = op.computed()
    rank = len(tensor.shape) + 1
    order = list(op.attribute("perm", range(rank)[::-1]))
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise op.error(f"has perm {order}, which must keep the batch first; transpose only the other dimensions")
    return Tensor(tensor.value, tensor.index.transpose([axis - 1 for axis in order[1:]]), tensor.integer)


def shape(op):
    """Shape and Size of a computed tensor: constants, an open batch counting as 1."""
    dims = np.array((op.reader.batch, *op.computed().shape), np.int64)
    if op.type == "Size":
        return Const(np.array(dims.prod()))
    return Const(dims[op.attribute("start", 0):op.attribute("end", len(dims))])


OPERATORS = {
    **{("", name): function for name in FUNCTIONS},
    **dict.fromkeys([("", "Add"), ("", "Sub"), ("", "Mul"), ("", "Div")], affine),
    ("", "Neg"): negate, ("", "Pow"): power, ("", "Relu"): relu, ("", "Sign"): sign, ("", "Clip"): clip,
    **dict.fromkeys([("", "Identity"), ("", "Dropout")], unchanged), ("", "Cast"): cast,
    **dict.fromkeys([("", "Reshape"), ("", "Flatten"), ("", "Squeeze"), ("", "Unsqueeze")], rearrange),
    ("", "Transpose"): transpose, **dict.fromkeys([("", "Shape"), ("", "Size")], shape),
}
