"""TFLite's resource variables: what a streaming model keeps from frame to frame."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Resource:
    """A variable's name."""

    name: str


def var_handle(op):
    """VAR_HANDLE: names a variable."""
    op.arity(0)
    container, name = (op.node.options.text(field) if op.node.options else "" for field in (0, 1))
    op.reader.values[op.out().index] = Resource(f"{container}/{name}" if container else name)


def read_variable(op):
    """READ_VARIABLE: what the frame before left, or what this frame has assigned already."""
    op.arity(1)
    variable, info = _resource(op, 0), op.out()
    state = op.reader.states.get(variable)
    quant, shape = op.quant(info), op.shape(info)
    if state is None:
        name = op.emit("read", [], {"state": variable}, shape=shape)
        op.reader.states[variable] = name
        op.reader.reads[variable] = name
        return
    if op.reader.quants[state] != quant or int(np.prod(op.reader.shapes[state])) != int(np.prod(shape)):
        raise op.error(f"reads variable {variable!r} as another shape or scale than before; the file is damaged")
    op.reader.values[info.index] = op.reader.view(op, state, shape)


def assign_variable(op):
    """ASSIGN_VARIABLE: what the next frame reads."""
    op.arity(2, outputs=None)
    op.reader.states[_resource(op, 0)] = op.value(1)


def call_once(op):
    """CALL_ONCE: a subgraph that sets variables before the first frame, to constants."""
    op.arity(0, outputs=None)
    index = op.option(0)
    if not 0 < index < len(op.reader.subgraphs):
        raise op.error(f"runs subgraph {index}, which is not there; the file is damaged")
    subgraph, handles = op.reader.subgraphs[index], {}
    for node in subgraph.operators:
        if node.type == "VAR_HANDLE" and node.outputs and node.options:
            container, name = node.options.text(0), node.options.text(1)
            handles[node.outputs[0]] = f"{container}/{name}" if container else name
        elif node.type == "ASSIGN_VARIABLE" and len(node.inputs) == 2 and node.inputs[0] in handles:
            info = subgraph.tensors[node.inputs[1]] if node.inputs[1] >= 0 else None
            if info is None or info.data is None or info.data.dtype.kind not in "iu":
                raise op.error(f"sets variable {handles[node.inputs[0]]!r} to no constant, which is not supported")
            op.reader.resets[handles[node.inputs[0]]] = info.data.astype(np.int64)
        else:
            raise op.error(f"runs {node.type} before the first frame, which is not supported; only constants can be "
                           "assigned to variables there")


def _resource(op, position):
    """A variable's name."""
    info = op.info(position)
    given = op.reader.values.get(info.index)
    if not isinstance(given, Resource):
        raise op.error(f"takes {info.name!r} as a variable, which no VAR_HANDLE names; the file is damaged")
    return given.name


OPERATORS = {
    "VAR_HANDLE": var_handle, "READ_VARIABLE": read_variable, "ASSIGN_VARIABLE": assign_variable,
    "CALL_ONCE": call_once,
}
