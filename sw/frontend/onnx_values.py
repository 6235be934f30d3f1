"""What the names of an ONNX graph stand for while it is read: constants, and views of the values of a Graph.

Layout is resolved here. A view keeps, for every element of the ONNX tensor, its place in the NHWC value it shows, so
Reshape, Transpose, Squeeze and their chains only rearrange that index and leave nothing behind in the Graph.
"""

from dataclasses import dataclass

import numpy as np
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lutloom.graph import WeightQuant

MOST_FOLDED = 1 << 27
REARRANGE = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
FOLDABLE = REARRANGE | set(
    "Abs Add Cast Ceil Clip Concat Constant ConstantOfShape Div Equal Exp Expand Floor Gather Log MatMul Max Min Mod "
    "Mul Neg Not Pow Reciprocal ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Round Shape Sign Size Slice "
    "Split Sqrt Sub Where".split())


@dataclass(frozen=True, eq=False)
class Codes:
    """Integer codes behind a constant that came through a quantiser; all arrays have the constant's shape."""

    kind: str
    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    bits: int
    signed: bool
    narrow: bool

    def arranged(self, function):
        """The same with every array rearranged."""
        return Codes(self.kind, function(self.codes), function(self.scale), function(self.zero_point), self.bits,
                     self.signed, self.narrow)


@dataclass(frozen=True, eq=False)
class Const:
    """A constant: its array as the file types it, the initialiser it came from, its codes where it was quantised."""

    array: np.ndarray
    origin: str | None = None
    codes: Codes | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A computed tensor: the value it shows and, in the ONNX tensor's shape (no batch), each element's place there."""

    value: str
    index: np.ndarray
    integer: bool = False

    @property
    def shape(self):
        """Its ONNX shape without the batch."""
        return self.index.shape

    @property
    def in_order(self):
        """Whether its elements come in the order of the value."""
        return bool((self.index.ravel() == np.arange(self.index.size)).all())


def map_index(shape):
    """Index of an NCHW (C, H, W) view of an NHWC value of shape (H, W, C)."""
    return np.arange(int(np.prod(shape))).reshape(shape).transpose(2, 0, 1)


def fold(op, opset):
    """Evaluate a standard operator whose inputs are all constant; gives a Const for each output."""
    if op.type not in FOLDABLE:
        raise op.error("works on constants alone and cannot be folded; export the model with constants folded")
    arrays = [None if given is None else given.array for given in op.inputs]
    if op.type == "ConstantOfShape" or op.type == "Expand":
        _bound(op, np.prod(arrays[-1].astype(float)))
    elif op.type not in REARRANGE and len(arrays) > 1:
        _bound(op, np.prod([float(max(array.size, 1)) for array in arrays[:2] if array is not None])
               if op.type == "MatMul" else _broadcast_size(arrays))
    results = _evaluate(op, arrays, opset)
    first = next((given for given in op.inputs if given is not None), None)
    origin = first.origin if first else None
    codes = None
    if first is not None and first.codes is not None and op.type in REARRANGE:
        codes = first.codes.arranged(lambda array: _evaluate(op, [array, *arrays[1:]], opset)[0])
    return [Const(np.asarray(result), origin, codes) for result in results]


def _bound(op, count):
    if count > MOST_FOLDED:
        raise op.error(f"makes a constant of {count:.0f} elements, more than {MOST_FOLDED}; use a smaller model")


def _broadcast_size(arrays):
    try:
        return np.prod([float(size) for size in np.broadcast_shapes(*(a.shape for a in arrays if a is not None))])
    except ValueError:
        return 0.0  # not an element-wise operator, or an error that its evaluation names


def _evaluate(op, arrays, opset):
    """Outputs of one operator by onnx's reference evaluator."""
    names = [name if array is not None else "" for name, array in zip(op.node.input, arrays, strict=True)]
    given = {name: np.ascontiguousarray(array).reshape(array.shape)
             for name, array in zip(names, arrays, strict=True) if name}
    graph = helper.make_graph(
        [op.node], "fold",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
         for name, array in given.items()],
        [helper.make_empty_tensor_value_info(name) for name in op.node.output if name])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(model).run(None, given)
    except Exception as error:  # noqa: BLE001 - the evaluator raises whatever numpy does
        reason = " ".join(str(error).split())[:200]
        raise op.error(f"cannot be evaluated ({reason}); export the model again") from None


def infer_shape(op, batch):
    """Shape of an operator's first output, batch included, by onnx's shape inference; None where it has none."""
    from onnx import checker, defs, shape_inference

    types, data = {}, {}
    for name, given in zip(op.node.input, op.inputs, strict=True):
        if isinstance(given, Const):
            types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(given.array.dtype),
                                                        given.array.shape)
            if given.array.dtype in (np.int64, np.float32) and given.array.size < 64:
                data[name] = numpy_helper.from_array(given.array, name)
        elif given is not None:
            types[name] = helper.make_tensor_type_proto(1, (batch, *given.shape))
    try:
        schema = defs.get_schema(op.type, op.opset, op.node.domain)
        found = shape_inference.infer_node_outputs(schema, op.node, types, data)[op.node.output[0]]
    except (defs.SchemaError, checker.ValidationError, shape_inference.InferenceError, KeyError, RuntimeError):
        return None
    dims = found.tensor_type.shape.dim
    if not found.tensor_type.HasField("shape") or any(not dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(dim.dim_value for dim in dims)


def finite(op, const, what):
    """A constant as float64; ModelError where it is not a tensor of finite numbers."""
    array = np.asarray(const.array)
    try:
        with np.errstate(invalid="ignore"):  # a NaN of a narrow type; found below
            array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise op.error(f"has {what} that are not numbers; export the model again") from None
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        place = [int(i) for i in np.unravel_index(bad[0], array.shape)]
        source = f" in tensor {const.origin!r}" if const.origin else ""
        raise op.error(f"has {what} that are NaN or infinite ({bad.size} of {array.size}, first at {place}{source}); "
                       "train or export the model again")
    return array


def weights(op, const, arrange):
    """Weights in the Graph's layout, outputs first: float64 and, where they were quantised, their WeightQuant."""
    array = finite(op, const, "weights")
    if const.codes is None:
        return arrange(array), None
    codes = const.codes.arranged(arrange)
    scale, zero_point = (_per_output(op, array) for array in (codes.scale, codes.zero_point))
    spread = (-1,) + (1,) * (codes.codes.ndim - 1)
    real = scale.reshape(spread) * (codes.codes - zero_point.reshape(spread))
    quant = WeightQuant(codes.kind, codes.codes, scale, np.rint(zero_point).astype(np.int64), codes.bits, codes.signed,
                        codes.narrow)
    return real.reshape(codes.codes.shape), quant


def _per_output(op, array):
    rows = array.reshape(array.shape[0], -1)
    if (rows != rows[:, :1]).any():
        raise op.error("has weights whose scale or zero point differs within an output; quantise them per tensor or "
                       "per output channel")
    rows = rows[:, 0]
    return np.array(rows[0]) if (rows == rows[0]).all() else np.ascontiguousarray(rows)
