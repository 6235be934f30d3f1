"""TFLite files: the schema's tables as plain records, sound in themselves."""

# Ref: tensorflow/compiler/mlir/lite/schema/schema.fbs (indices of fields, numbers of operators and types)

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from lutloom.errors import ModelError
from lutloom.frontend.flatbuffer import Buffer

IDENTIFIER = b"TFL3"
MOST_BYTES = 1 << 30
MOST_VALUES = 1 << 27
"""Values of one tensor."""

TYPES = ("FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 RESOURCE "
         "VARIANT UINT32 UINT16 INT4 BFLOAT16 INT2 UINT4 FLOAT8_E4M3FN FLOAT8_E5M2").split()
DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT32": "<i4", "UINT8": "u1", "INT64": "<i8", "BOOL": "?",
          "INT16": "<i2", "INT8": "i1", "FLOAT64": "<f8", "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2"}
FLOATS = ("FLOAT32", "FLOAT16", "BFLOAT16", "FLOAT64")

OPERATORS = """ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION
LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH
CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2
GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG
SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT
UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE
MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND
SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D
IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT""".split()
"""Names by number; those of StableHLO, which follow, have only numbers here."""


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """A tensor as the file has it.

    Parameters
    ----------
    shape : tuple of int
        With the batch.
    type : str
        One of TYPES.
    data : read-only array of ``shape``, or None
        Constant values; INT4 unpacked to int8.
    scale : float32 array (1,) or (N,), or None
    zero_point : int64 array of scale's shape, or None
    axis : int
        The axis that several scales run along.
    variable : bool
        Whether it keeps its values between frames.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    type: str
    data: np.ndarray | None
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    axis: int
    variable: bool


@dataclass(frozen=True, eq=False)
class Operator:
    """One operator: indices of tensors (-1 for inputs left out), and the Table of its options or None."""

    index: int
    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: object


@dataclass(frozen=True, eq=False)
class Subgraph:
    """Tensors and operators in the order of the file."""

    tensors: tuple[TensorInfo, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


def read(path):
    """(name, list of Subgraph) of a file; ModelError where it is no sound TFLite file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelError(f"model {path.name!r} has {size >> 20} MiB, but at most {MOST_BYTES >> 20} are read")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {str(path)!r} cannot be read ({error.strerror}); give a readable .tflite file") \
            from None
    buffer = Buffer(data, IDENTIFIER, path.name)
    model = buffer.root()
    if model.number(0, "<I") != 3:
        raise buffer.damaged(f"has schema version {model.number(0, '<I')}, not 3")
    names = [_operator_name(code) for code in model.tables(1)]
    buffers = [_contents(buffer, table) for table in model.tables(4)]
    subgraphs = [_subgraph(buffer, table, names, buffers) for table in model.tables(2)]
    if not subgraphs or not subgraphs[0].operators:
        raise buffer.damaged("has no operators")
    return path.stem, subgraphs


def _operator_name(code):
    """Name of an operator code: its number stands in one of two fields, by the age of the file."""
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    name = OPERATORS[number] if 0 <= number < len(OPERATORS) else f"operator {number}"
    return f"CUSTOM {code.text(1)}" if name == "CUSTOM" else name


def _contents(buffer, table):
    """Bytes of a buffer, as an array; those that large files keep behind the flatbuffer too."""
    data = table.numbers(0, "u1")
    start, size = table.number(1, "<Q"), table.number(2, "<Q")
    if (data is None or not data.size) and start > 1:
        if start + size > len(buffer.data):
            raise buffer.damaged("has contents that lie outside its bytes")
        data = np.frombuffer(buffer.data, "u1", size, start)
    return data


def _subgraph(buffer, table, names, buffers):
    tensors = tuple(_tensor(buffer, index, entry, buffers) for index, entry in enumerate(table.tables(0)))
    operators = tuple(_operator(buffer, index, entry, names) for index, entry in enumerate(table.tables(3)))
    inputs, outputs = (tuple(_indices(table, field)) for field in (1, 2))
    used = [*inputs, *outputs, *(i for op in operators for i in (*op.inputs, *op.outputs) if i != -1)]
    if any(not 0 <= index < len(tensors) for index in used):
        raise buffer.damaged("names a tensor that it does not have")
    return Subgraph(tensors, inputs, outputs, operators)


def _indices(table, field):
    numbers = table.numbers(field)
    return [] if numbers is None else numbers.tolist()


def _operator(buffer, index, table, names):
    code = table.number(0, "<I")
    if code >= len(names):
        raise buffer.damaged(f"has operator {index} of a kind that it does not list")
    return Operator(index, names[code], tuple(_indices(table, 1)), tuple(_indices(table, 2)), table.table(4))


def _tensor(buffer, index, table, buffers):
    name, shape = table.text(3), tuple(_indices(table, 0))
    number = table.number(1, "<b")
    place, what = table.number(2, "<I"), f"tensor {index} ({name!r})"
    if not 0 <= number < len(TYPES):
        raise buffer.damaged(f"has {what} of unknown type {number}")
    signature = _indices(table, 7)
    if len(signature) == len(shape) and -1 in signature:
        if any(size == -1 for size in signature[1:]):
            raise ModelError(f"model {buffer.name!r} has {what} of shape {tuple(signature)}, but only the batch may be "
                             "open; export it with a fixed input size")
    if any(size < 0 for size in shape) or prod(shape) > MOST_VALUES:
        raise buffer.damaged(f"has {what} of shape {shape}; tensors have at most {MOST_VALUES} values")
    if place >= len(buffers) and place:
        raise buffer.damaged(f"has {what} in a buffer that it does not have")
    contents = buffers[place] if place < len(buffers) else None
    data = None
    if place and contents is not None and contents.size:
        if table.table(6) is not None:
            raise ModelError(f"model {buffer.name!r} has {what} in sparse form, which is not supported; export it "
                             "dense")
        data = _values(buffer, what, contents, TYPES[number], shape)
    scale, zero_point, axis = _quantization(buffer, table.table(4), what)
    return TensorInfo(index, name, shape, TYPES[number], data, scale, zero_point, axis,
                      bool(table.number(5, "<?", False)))


def _values(buffer, what, contents, type, shape):
    """Constant values of a tensor; None for types that nobody reads."""
    count = prod(shape)
    if type == "INT4":
        if contents.size != (count + 1) // 2:
            raise buffer.damaged(f"has {what} of shape {shape}, but {contents.size} bytes of values")
        halves = np.stack([contents & 15, contents >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
        return ((halves ^ 8) - 8).reshape(shape)
    if type not in DTYPES:
        return None
    if contents.size != count * np.dtype(DTYPES[type]).itemsize:
        raise buffer.damaged(f"has {what} of shape {shape}, but {contents.size} bytes of values")
    return contents.view(DTYPES[type]).reshape(shape)


def _quantization(buffer, table, what):
    """(scale, zero_point, axis): arrays of one length, or None where there are none."""
    if table is None:
        return None, None, 0
    if table.number(4, "<B"):
        raise ModelError(f"model {buffer.name!r} has {what} quantised in blocks or by a custom scheme, which is not "
                         "supported; export it per tensor or per channel")
    scale, zero_point = table.numbers(2, "<f4"), table.numbers(3, "<i8")
    if scale is None or not scale.size:
        return None, None, 0
    if zero_point is None or not zero_point.size:
        zero_point = np.zeros(scale.size, np.int64)
    if zero_point.size == 1:
        zero_point = np.repeat(zero_point, scale.size)
    if zero_point.size != scale.size:
        raise buffer.damaged(f"has {what} with {scale.size} scales, but {zero_point.size} zero points")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise buffer.damaged(f"has {what} with scale {scale.min():g}; scales are positive numbers")
    return scale, zero_point, table.number(6, "<i")
