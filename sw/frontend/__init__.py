"""Front ends: a model file in, a Graph out."""

from importlib import import_module
from pathlib import Path

from lutloom.errors import ModelError

READERS = {
    ".onnx": "lutloom.frontend.onnx", ".tflite": "lutloom.frontend.tflite", ".keras": "lutloom.frontend.keras",
    ".h5": "lutloom.frontend.keras", ".hdf5": "lutloom.frontend.keras",
}
"""The front end of each kind of file: a module with ``load`` and ``walk``."""


def load_graph(path):
    """Read a model file into a Graph.

    Parameters
    ----------
    path : str or Path
        An ``.onnx`` file (ONNX or QONNX), a ``.tflite`` file quantised to int8, or a ``.keras`` or ``.h5`` file.

    Returns
    -------
    lutloom.graph.Graph

    Raises
    ------
    ModelError
        The file is missing, not a model, or holds something that is not supported.
    """
    path = model_file(path)
    return front_end(path).load(path)


def front_end(path):
    """The module that reads a model file."""
    return import_module(READERS[Path(path).suffix.lower()])


def model_file(path):
    """The path of a model file as a Path; ModelError where it is missing or of a kind that is not read."""
    kinds = ".onnx, .tflite, .keras or .h5"
    if not str(path):
        raise ModelError(f"the model needs a name; give the path of an {kinds} file")
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"model {str(path)!r} must be a file, not a folder; give the {kinds} file itself")
    if not path.exists():
        raise ModelError(f"model {str(path)!r} does not exist; give the path of an {kinds} file")
    if path.suffix == ".npz":
        raise ModelError(f"{str(path)!r} is a network of integers; give the {kinds} file that it was made of")
    if path.suffix.lower() not in READERS:
        kind = repr(path.suffix) if path.suffix else "one without a suffix"
        raise ModelError(f"model {str(path)!r} must be an {kinds} file, not {kind}; export it to ONNX")
    return path
