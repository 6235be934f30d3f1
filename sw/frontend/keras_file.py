"""Keras files: the parts of a ``.keras`` archive or of a whole-model ``.h5``, read without running anything in them.

A ``.keras`` file is a zip archive of ``config.json`` and ``model.weights.h5``; a ``.h5`` file holds the config as the
attribute ``model_config`` beside its weights. Only JSON and plain numbers are read: no pickle, no code, no link that
leads anywhere else.
"""

# Ref: keras/src/saving/saving_lib.py (.keras), keras/src/legacy/saving/legacy_h5_format.py (.h5)

import json
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

from lutloom.errors import ModelError

MOST_CONFIG = 16 << 20
"""Bytes of a config."""

MOST_WEIGHTS = 1 << 30
"""Bytes of a file of weights, and of the numbers in it."""

CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, NotImplementedError,
          ValueError)
"""What zipfile raises of archives that are damaged, encrypted or packed in an unknown way."""


def read(path):
    """(name, config, version, weights) of a file.

    Returns
    -------
    name : str
    config : dict
        The model as Keras serialises an object.
    version : str
        Of the Keras that wrote it; "" where it does not say.
    weights : keras_weights.Archive or keras_weights.Legacy
    """
    from lutloom.frontend import keras_weights

    path = Path(path)
    name = path.name
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        if start == HDF5 and path.stat().st_size > MOST_WEIGHTS:
            raise too_big(name, "the file", path.stat().st_size, MOST_WEIGHTS)
    except OSError as error:
        raise ModelError(f"model {str(path)!r} cannot be read ({error.strerror}); give a readable file") from None
    if not start:
        raise ModelError(f"model {name!r} is empty; save or copy it again")
    if start == HDF5:
        weights = keras_weights.Legacy(name, keras_weights.opened(name, path))
        return path.stem, parsed(name, "model_config", weights.config()), weights.version(), weights
    if not start.startswith(ZIP):
        raise ModelError(f"model {name!r} is neither a Keras archive nor HDF5; save it with model.save('net.keras')")
    try:
        with zipfile.ZipFile(path) as archive:
            known = set(archive.namelist())
            config = parsed(name, CONFIG, _member(name, archive, CONFIG, MOST_CONFIG))
            version = ""
            if METADATA in known:
                version = parsed(name, METADATA, _member(name, archive, METADATA, MOST_CONFIG)).get("keras_version")
            weights = _member(name, archive, WEIGHTS, MOST_WEIGHTS)
    except BROKEN as error:
        raise _damaged(name, error) from None
    return path.stem, config, str(version or ""), keras_weights.Archive(name, keras_weights.opened(name,
                                                                                                  BytesIO(weights)))


def _member(name, archive, member, most):
    """Bytes of a member of an archive, checked against its declared size before anything is unpacked."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise ModelError(f"model {name!r} has no {member} in it; save the whole model with model.save('net.keras')") \
            from None
    if info.file_size > most:
        raise too_big(name, member, info.file_size, most)
    with archive.open(info) as file:
        data = file.read(most + 1)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{member} has {len(data)} bytes, not {info.file_size}")
    return data


def _damaged(name, error):
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return ModelError(f"model {name!r} is a damaged archive ({reason}); save or copy it again")


def too_big(name, what, size, most):
    """The ModelError of something too large."""
    return ModelError(f"model {name!r} declares {size} bytes for {what}, but at most {most} are read; use a smaller "
                      "model")


def parsed(name, what, data):
    """The JSON object of some bytes."""
    if len(data) > MOST_CONFIG:
        raise too_big(name, what, len(data), MOST_CONFIG)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ModelError(f"model {name!r} has a {what} that is not JSON; save or copy it again") from None
    if not isinstance(found, dict):
        raise ModelError(f"model {name!r} has a {what} that is no JSON object; save or copy it again")
    return found
