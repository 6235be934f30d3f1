"""Small TFLite files, written field by field, and TensorFlow Lite Micro to compare with."""

import atexit
import subprocess
import sys
from dataclasses import dataclass

import flatbuffers
import numpy as np

from lutloom.frontend.tflite_file import OPERATORS, TYPES, read

OPTIONS = {  # number of the options' table in the schema's union
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "FULLY_CONNECTED": 8, "SOFTMAX": 9,
    "CONCATENATION": 10, "ADD": 11, "RESHAPE": 17, "MUL": 21, "PAD": 22, "TRANSPOSE": 26, "MEAN": 27, "SUB": 28,
    "SQUEEZE": 30, "STRIDED_SLICE": 32, "SPLIT": 35, "EXPAND_DIMS": 52, "LEAKY_RELU": 75, "SPLIT_V": 79,
    "QUANTIZE": 89, "HARD_SWISH": 91, "CALL_ONCE": 103, "VAR_HANDLE": 111, "READ_VARIABLE": 112,
    "ASSIGN_VARIABLE": 113, "SLICE": 48, "PADV2": 43, "DEQUANTIZE": 38,
}


@dataclass
class Number:
    """A scalar field: kind is a method of flatbuffers' Builder, as Int32."""

    kind: str
    value: object


def write(builder, table):
    """Write a table, {field: Number, str, array, dict (a table) or list of dicts}; gives its place."""
    places = {}
    for field, value in table.items():
        if isinstance(value, str):
            places[field] = builder.CreateString(value)
        elif isinstance(value, np.ndarray):
            places[field] = builder.CreateNumpyVector(value)
        elif isinstance(value, dict):
            places[field] = write(builder, value)
        elif isinstance(value, list):
            entries = [write(builder, entry) for entry in value]
            builder.StartVector(4, len(entries), 4)
            for entry in reversed(entries):
                builder.PrependUOffsetTRelative(entry)
            places[field] = builder.EndVector()
    builder.StartObject(max(table, default=0) + 1)
    for field, value in table.items():
        if isinstance(value, Number):
            getattr(builder, f"Prepend{value.kind}")(value.value)
            builder.Slot(field)
        else:
            builder.PrependUOffsetTRelativeSlot(field, places[field], 0)
    return builder.EndObject()


def int8(value):
    return Number("Int8", value)


def int32(value):
    return Number("Int32", value)


class Model:
    """A model that grows tensor by tensor and operator by operator."""

    def __init__(self):
        self.tensors, self.operators, self.codes, self.buffers = [], [], [], [{}]
        self.others = []

    def tensor(self, shape, type="INT8", scale=None, zero_point=0, data=None, axis=0, name=None):
        """Index of a new tensor."""
        entry = {0: np.array(shape, np.int32), 1: int8(TYPES.index(type)), 3: name or f"t{len(self.tensors)}"}
        if data is not None:
            contents = np.ascontiguousarray(data)
            if type == "INT4":
                flat = np.concatenate([contents.reshape(-1), np.zeros(contents.size % 2, contents.dtype)]) & 15
                contents = (flat[::2] | flat[1::2] << 4).astype(np.uint8)
            self.buffers.append({0: contents.reshape(-1).view(np.uint8)})
            entry[2] = Number("Uint32", len(self.buffers) - 1)
        if scale is not None:
            zero = np.broadcast_to(np.array(zero_point, np.int64), np.shape(np.atleast_1d(scale)))
            entry[4] = {2: np.atleast_1d(np.array(scale, np.float32)), 3: zero.copy(), 6: int32(axis)}
        self.tensors.append(entry)
        return len(self.tensors) - 1

    def numbers(self, values):
        """Index of an INT32 constant."""
        values = np.array(values, np.int32)
        return self.tensor(values.shape, "INT32", data=values)

    def operator(self, type, inputs, outputs, options=None):
        """Append an operator; options are a table."""
        self.operators.append(self._operator(type, inputs, outputs, options))

    def _operator(self, type, inputs, outputs, options):
        if type not in self.codes:
            self.codes.append(type)
        entry = {0: Number("Uint32", self.codes.index(type)), 1: np.array(inputs, np.int32),
                 2: np.array(outputs, np.int32)}
        if type in OPTIONS:
            entry |= {3: Number("Uint8", OPTIONS[type]), 4: options or {}}
        return entry

    def write(self, inputs, outputs):
        """The file's bytes."""
        codes = [{0: int8(min(OPERATORS.index(code), 127)), 2: int32(1), 3: int32(OPERATORS.index(code))}
                 for code in self.codes]
        graph = {0: self.tensors, 1: np.array(inputs, np.int32), 2: np.array(outputs, np.int32), 3: self.operators,
                 4: "main"}
        builder = flatbuffers.Builder(1024)
        model = {0: Number("Uint32", 3), 1: codes, 2: [graph, *self.others], 3: "test", 4: self.buffers}
        builder.Finish(write(builder, model), b"TFL3")
        return bytes(builder.Output())


def tflm_tensors(path, x):
    """Every tensor of the main subgraph that TensorFlow Lite Micro shows, by index, of each frame in turn."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(
        str(path), intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors)
    tensors = read(path)[1][0].tensors
    for frame in x:
        interpreter.set_input(frame[None], 0)
        interpreter.invoke()
        shown = {}
        for info in tensors:
            if info.data is None and info.type in ("INT8", "UINT8"):
                found = interpreter.GetTensor(info.index, 0)
                shown[info.index] = np.array(found["tensor_data"] if isinstance(found, dict) else found)
        yield tensors, shown


WORKER = """
import sys
import numpy as np
from tflite_micro import runtime
for line in sys.stdin:
    model, source, target = line.rstrip().split("|")
    interpreter = runtime.Interpreter.from_file(model, arena_size=1 << 22)
    rows = []
    for frame in np.load(source):
        interpreter.set_input(frame[None], 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0).copy())
    np.save(target, np.stack(rows))
    print("done", flush=True)
"""

_worker = None


def run_tflm(data, x, folder):
    """What TensorFlow Lite Micro gives for frames (without the batch), as one stream from a fresh start.

    It runs in a process of its own, which it aborts on what it does not take: AssertionError then.
    """
    global _worker
    paths = [folder / name for name in ("model.tflite", "x.npy", "y.npy")]
    paths[0].write_bytes(data)
    np.save(paths[1], x)
    if _worker is None or _worker.poll() is not None:
        _worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        atexit.register(_worker.kill)
    _worker.stdin.write("|".join(map(str, paths)) + "\n")
    _worker.stdin.flush()
    assert _worker.stdout.readline() == "done\n", "TensorFlow Lite Micro refuses the model"
    return np.load(paths[2])
