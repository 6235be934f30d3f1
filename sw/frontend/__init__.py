"""Front ends: a model file in, a Graph out."""

from pathlib import Path

from lutloom.errors import ModelError


def load_graph(path):
    """Read a model file into a Graph.

    Parameters
    ----------
    path : str or Path
        An ``.onnx`` file (ONNX or QONNX).

    Returns
    -------
    lutloom.graph.Graph

    Raises
    ------
    ModelError
        The file is missing, not a model, or holds something that is not supported.
    """
    path = model_file(path)
    from lutloom.frontend.onnx import load

    return load(path)


def model_file(path):
    """The path of a model file as a Path; ModelError where it is missing or of a kind that is not read."""
    if not str(path):
        raise ModelError("the model needs a name; give the path of an .onnx file")
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"model {str(path)!r} must be a file, not a folder; give the .onnx file itself")
    if not path.exists():
        raise ModelError(f"model {str(path)!r} does not exist; give the path of an .onnx file")
    if path.suffix == ".npz":
        raise ModelError(f"{str(path)!r} is a network of integers; give the .onnx file that it was made of")
    if path.suffix.lower() != ".onnx":
        kind = repr(path.suffix) if path.suffix else "one without a suffix"
        raise ModelError(f"model {str(path)!r} must be an .onnx file, not {kind}; export it to ONNX")
    return path
