"""ONNX files: reading one, and refusing what is not a whole and sound one."""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, external_data_helper, helper, inliner, numpy_helper

from lutloom.errors import ModelError

QONNX_DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
OLDEST_OPSET = 7  # the first with today's broadcasting rules
MOST_WEIGHTS = 1 << 27
MOST_BYTES = 1 << 31  # protobuf's own limit


def read(path):
    """Read, check and normalise a model: external data loaded, local functions inlined, sound by onnx's checker.

    Returns
    -------
    onnx.ModelProto
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size >= MOST_BYTES:
            raise ModelError(f"model {path.name!r} has {size >> 20} MiB, ONNX ends at 2048 MiB; keep its weights as "
                             "external data")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {str(path)!r} cannot be read ({error.strerror}); give a readable .onnx file") from None
    if not data:
        raise ModelError(f"model {path.name!r} is empty; export or copy it again")
    try:
        model = onnx.load_model_from_string(data)
        _check_text(model)
    except (DecodeError, ValueError):
        raise ModelError(f"model {path.name!r} is not a whole ONNX file; export or copy it again") from None
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"model {path.name!r} is not an ONNX model with operators in it; export or copy it again")
    for item in (*model.opset_import, *model.graph.node):
        item.domain = "" if item.domain == "ai.onnx" else item.domain
    _check_opset(path.name, model)
    _check_tensors(path, model)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in QONNX_DOMAINS if domain not in known)
    del model.graph.value_info[:]  # shapes are inferred here; what a file says of them may be stale
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.SetInParent()  # the checker wants one; a missing input shape is refused later
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        checker.check_model(model)
        return inliner.inline_local_functions(model) if model.functions else model
    except (checker.ValidationError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"model {path.name!r} breaks a rule of ONNX ({reason}); export it again") from None


def _check_text(message):
    """ValueError where a string in a protobuf message is not text, which parsing lets through."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                _check_text(part)
        elif field.type == field.TYPE_STRING:
            for part in [value] if isinstance(value, str | bytes) else value:
                if not isinstance(part, str):
                    raise ValueError("a string is not UTF-8")


def opset(model):
    """The version of the standard operators that a model uses."""
    return next((entry.version for entry in model.opset_import if not entry.domain), 0)


def _check_opset(name, model):
    newest, version = onnx.defs.onnx_opset_version(), opset(model)
    if not OLDEST_OPSET <= version <= newest:
        known = f"opset {version}" if version else "no opset"
        way = "install a newer onnx, or " if version > newest else ""
        raise ModelError(f"model {name!r} must be of opset {OLDEST_OPSET} to {newest}, not of {known}; "
                         f"{way}export it with opset 13")


def _tensors(model):
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _check_tensors(path, model):
    """Sizes and external data of every tensor, before anything is allocated."""
    if model.graph.sparse_initializer:
        raise ModelError(f"model {path.name!r} has sparse weights, which are not supported; export them dense")
    folder = path.parent.resolve()
    for tensor in _tensors(model):
        count = 1
        for size in tensor.dims:
            if size < 0:
                raise ModelError(f"tensor {tensor.name!r} has a negative size in its shape {list(tensor.dims)}; export "
                                 "the model again")
            count *= size
        if count > MOST_WEIGHTS:
            raise ModelError(f"tensor {tensor.name!r} has {count} elements, more than the {MOST_WEIGHTS} that Lutloom "
                             "reads; use a smaller model")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(folder, tensor, count)


def _check_external(folder, tensor, count):
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    target = folder / location
    resolved = target.resolve()
    if not location or resolved == folder or not resolved.is_relative_to(folder):
        raise ModelError(f"tensor {tensor.name!r} keeps its data in {location!r}, outside the model's folder; save the "
                         "model with its data beside it")
    if not resolved.is_file():
        raise ModelError(f"tensor {tensor.name!r} keeps its data in {location!r}, which is not there; copy that file "
                         "beside the model")
    try:
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", count * itemsize))
    except (KeyError, ValueError):
        raise ModelError(f"tensor {tensor.name!r} has a broken description of its external data; export the model "
                         "again") from None
    have = resolved.stat().st_size
    if offset < 0 or length < 0 or offset + length > have:
        raise ModelError(f"tensor {tensor.name!r} needs bytes {offset} to {offset + length} of {location!r}, which has "
                         f"{have}; copy that file again")


def array(tensor):
    """The numbers of a tensor; ModelError where its data do not fill its shape."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"tensor {tensor.name!r} cannot be read ({reason}); export the model again") from None
