"""What of a model is supported, layer by layer."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lutloom.errors import ModelError
from lutloom.frontend import front_end, model_file
from lutloom.network_file import load
from lutloom.terminal import table
from lutloom.weight_spec import shown

VIEWS = ("flatten", "reshape")
"""Operators of a Graph that compute nothing: they have no row."""

HIDDEN = "reads a tensor whose shape is not known, because of a layer before it"


@dataclass(frozen=True)
class Row:
    """One layer of a model.

    Parameters
    ----------
    layer : str
        Its name, the same as in options, plans and reports.
    op : str
        The operator as the file calls it.
    becomes : str
        The operators of the Graph that it becomes, with "+" between them; of a network's layer, its format.
    shape : tuple of int or None
        Of what it computes, in NHWC without the batch; None where it cannot be known.
    weights : int
        Numbers in its weights.
    supported : bool or None
        None where a layer before it hides what it would work on.
    note : str
        What is wrong, and the way out.
    """

    layer: str
    op: str
    becomes: str
    shape: tuple[int, ...] | None
    weights: int
    supported: bool | None
    note: str = ""


@dataclass(frozen=True)
class Check:
    """What ``check`` found; also a sequence of its rows."""

    model: str
    rows: tuple[Row, ...]

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    @property
    def supported(self):
        """Whether every layer is."""
        return all(row.supported for row in self.rows)

    @property
    def sentence(self):
        """What is wrong, in one sentence; empty where nothing is."""
        wrong = [row for row in self.rows if row.supported is False]
        if not wrong:
            return ""
        first = wrong[0]
        what = first.note if first.op == "output" else f"{first.op} {first.layer!r} {first.note}"
        if len(wrong) == 1:
            return f"model {self.model!r} cannot be built: {what}"
        others = ", ".join(f"{row.op} {row.layer!r}" for row in wrong[1:4]) + (" ..." if len(wrong) > 4 else "")
        return f"model {self.model!r} has {len(wrong)} unsupported layers ({others} besides this): {what}"

    @property
    def data(self):
        """The same for JSON."""
        return {"model": self.model, "supported": self.supported, "layers": [asdict(row) for row in self.rows]}

    @property
    def text(self):
        """A table, and below it the notes that do not stand in the sentence."""
        said = next((row for row in self.rows if row.supported is False), None)
        cells = [[row.layer, row.op, row.becomes or "-", "x".join(map(str, row.shape)) if row.shape else "?",
                  row.weights, {True: "yes", False: "no", None: "?"}[row.supported]] for row in self.rows]
        notes = [f"{row.op} {row.layer!r} {row.note}" for row in self.rows
                 if row.note and row is not said and row.supported is not None]
        if any(row.supported is None for row in self.rows):
            notes.append(f"?: {HIDDEN}")
        lines = [table(cells, ["layer", "operator", "becomes", "output", "weights", "supported"])]
        return "\n".join(lines + ([""] + notes if notes else []))


def check(path):
    """Every layer of a model that computes something, in order; layers that are not supported say why.

    A ``network.npz`` has what it has to be built: its layers, with the formats of weights or results.

    Shape arithmetic, constants and transposes that fold away have no row. Where every layer is supported but the model
    as a whole is not, a last row says so.

    Returns
    -------
    Check

    Raises
    ------
    ModelError
        The file is not a model at all, or has no single input and output of fixed size.
    """
    if str(path) and Path(path).suffix == ".npz" and Path(path).is_file():
        return Check(Path(path).name, _layers(load(path, "give a model file or what lutloom quantize made")))
    path = model_file(path)
    return Check(path.name, tuple(front_end(path).walk(path, _rows)))


def _layers(network):
    """Rows of a network."""
    rows = []
    for layer in network.layers:
        tensor, weights = network.tensors[layer.output], getattr(layer, "weights", None)
        format = tensor.format if weights is None else shown(layer, network.info)
        size = 0 if weights is None else weights.codes.size
        rows.append(Row(layer.name, type(layer).__name__.lower(), str(format), tensor.shape, size, True))
    return tuple(rows)


def _rows(reader):
    rows = [row for node in reader.live for row in _visit(reader, node)]
    if all(row.supported for row in rows):
        try:
            reader.finish()
        except ModelError as error:
            rows.append(Row(reader.output, "output", "", None, 0, False, str(error)))
    return rows


def _visit(reader, node):
    """Convert one operator, whatever is wrong with it; gives its rows."""
    op = reader.open(node)
    if op.hidden:
        return [Row(op.name, op.type, "", None, 0, None, HIDDEN)]
    before = len(reader.nodes)
    try:
        reader.convert(op)
    except ModelError as error:
        del reader.nodes[before:]
        prefix = f"{op.type} {op.name!r} "
        shape = reader.assume(op)
        return [Row(op.name, op.type, "", shape, 0, False, str(error).removeprefix(prefix))]
    made = [made for made in reader.nodes[before:] if made.op not in VIEWS]
    if not made:
        return []
    weights = sum(np.size(made.params["weight"]) for made in made if "weight" in made.params)
    return [Row(op.name, op.type, "+".join(made.op for made in made), reader.shapes[made[-1].output], weights, True)]
