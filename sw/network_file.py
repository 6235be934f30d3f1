"""Networks in files: an ``.npz`` with one JSON header and the arrays, no pickle.

Entry ``header`` holds the JSON text; array fields of layer i are entries ``i.field``, weight codes ``i.weights``.
"""

import dataclasses
import json
import os
import tempfile
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np

from lutloom import network as net
from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.passes.verify import verify
from lutloom.weights import WeightFormat

FORMAT_VERSION = 1

LAYERS = {
    kind.__name__: kind
    for kind in (
        net.Conv,
        net.Dense,
        net.MaxPool,
        net.SumPool,
        net.Flatten,
        net.Thresholds,
        net.Multiply,
        net.Offset,
        net.TopK,
        net.Add,
        net.Product,
        net.Sum,
        net.Times,
        net.Table,
        net.Softmax,
        net.Reshape,
        net.Transpose,
        net.Broadcast,
        net.Concat,
        net.Slice,
        net.Pad,
        net.Constant,
        net.State,
    )
}


def save(network, path):
    """Write a network; a file of that name is replaced as a whole. ModelError where it cannot be written."""
    arrays = {}
    header = {
        "format_version": FORMAT_VERSION,
        "name": network.name,
        "tensors": [_tensor_to_json(tensor) for tensor in network.tensors.values()],
        "layers": [_layer_to_json(index, layer, arrays) for index, layer in enumerate(network.layers)],
        "input": network.input,
        "output": network.output,
        "input_shape": list(network.input_shape),
        "input_layout": network.input_layout,
        "output_shape": list(network.output_shape),
        "closing": network.closing,
        "info": dict(network.info),
    }
    path = Path(path)
    try:
        handle, partial = tempfile.mkstemp(suffix=".npz.part", dir=path.parent)
    except OSError as error:
        raise ModelError(f"network {path} cannot be written ({error.strerror}); give another path") from None
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def load(path, way_out=None):
    """The network in a file; ModelError with a way out (``lutloom quantize`` by default) if there is none of this
    version."""
    again = way_out or "make it again with lutloom quantize"
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in file.files if name != "header"}
    except OSError as error:
        raise ModelError(f"network {path} cannot be read: {error.strerror or error}; {again}") from None
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        way_out = way_out or f"lutloom quantize MODEL -o {path} makes one"
        raise ModelError(f"{path} is not a network of lutloom; {way_out}") from None
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise ModelError(
            f"network {path} has format version {version!r}, this lutloom reads {FORMAT_VERSION}; {again}"
        )
    try:
        tensors = [_tensor_from_json(entry) for entry in header["tensors"]]
        network = net.Network(
            name=header["name"],
            tensors={tensor.name: tensor for tensor in tensors},
            layers=tuple(_layer_from_json(index, entry, arrays) for index, entry in enumerate(header["layers"])),
            input=header["input"],
            output=header["output"],
            input_shape=tuple(header["input_shape"]),
            input_layout=header["input_layout"],
            output_shape=tuple(header["output_shape"]),
            closing=header["closing"],
            info=header["info"],
        )
        return verify(network)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, ModelError) as error:
        raise ModelError(f"network {path} is damaged ({error}); {again}") from None


def _tensor_to_json(tensor):
    """A tensor as plain data."""
    entry = dataclasses.asdict(tensor)
    return entry | {
        "shape": [int(size) for size in tensor.shape],
        "format": str(tensor.format),
        "scale": str(tensor.scale),
        "zero_point": str(tensor.zero_point),
        "low": int(tensor.low),
        "high": int(tensor.high),
    }


def _tensor_from_json(entry):
    """The tensor of ``_tensor_to_json``."""
    made = {
        "shape": tuple(entry["shape"]),
        "format": Format.parse(entry["format"]),
        "scale": Fraction(entry["scale"]),
        "zero_point": Fraction(entry["zero_point"]),
    }
    return net.Tensor(**(entry | made))


def _layer_to_json(index, layer, arrays):
    """A layer as plain data, its arrays put into ``arrays``."""
    entry = {"type": type(layer).__name__}
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, net.Weights):
            arrays[f"{index}.{field.name}"] = value.codes
            entry[field.name] = {"format": str(value.format), "scale": [str(scale) for scale in value.scale]}
            if value.sparse:
                entry[field.name]["sparse"] = True
            if value.format.values:
                entry[field.name]["values"] = list(value.format.values)
        elif isinstance(value, np.ndarray):
            arrays[f"{index}.{field.name}"] = value
            entry[field.name] = None
        elif isinstance(value, tuple):
            entry[field.name] = [item if isinstance(item, str) else int(item) for item in value]
        else:
            entry[field.name] = value if isinstance(value, str) else int(value)
    return entry


def _layer_from_json(index, entry, arrays):
    """The layer of ``_layer_to_json``."""
    fields = dict(entry)
    kind = LAYERS[fields.pop("type")]
    for name, value in fields.items():
        if value is None:
            fields[name] = arrays[f"{index}.{name}"]
        elif isinstance(value, dict):
            scale = tuple(Fraction(text) for text in value["scale"])
            fields[name] = net.Weights(arrays[f"{index}.{name}"],
                                       WeightFormat.parse(value["format"], value.get("values", ())), scale,
                                       bool(value.get("sparse", False)))
        elif isinstance(value, list):
            fields[name] = tuple(value)
    return kind(**fields)


def _umask():
    """The process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
