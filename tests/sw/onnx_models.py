"""Small ONNX models for the tests, and what onnxruntime makes of them."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lutloom.floating import model_layout, run
from lutloom.frontend import load_graph

QONNX = "qonnx.custom_op.general"


def node(op, inputs, outputs, name="", domain="", **attributes):
    """A NodeProto from space-separated names ("-" for one left out)."""
    inputs = ["" if item == "-" else item for item in inputs.split()]
    return helper.make_node(op, inputs, outputs.split(), name=name, domain=domain, **attributes)


def build(nodes, weights=None, shape=("N", 3, 6, 6), *, opset=13, output="y", input_type=TensorProto.FLOAT,
          also_inputs=False, output_type=TensorProto.FLOAT, domains=(QONNX,)):
    """A ModelProto with input x and one output; weights are a mapping of arrays."""
    tensors = [numpy_helper.from_array(np.asarray(array, np.asarray(array).dtype), name)
               for name, array in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", input_type, shape)]
    if also_inputs:
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
    outputs = [helper.make_tensor_value_info(output, output_type, None)]
    graph = helper.make_graph(nodes, "main", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def floats(*shape, seed=0):
    """Seeded normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def saved(model, folder, name="net.onnx"):
    """The model as a file."""
    path = Path(folder) / name
    onnx.save(model, path)
    return path


def graph_of(model, folder):
    """The Graph of a ModelProto."""
    return load_graph(saved(model, folder))


def reference(model, x):
    """The output by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


def same(model, folder, x=None, tolerance=1e-4):
    """Compare Graph and reference on a batch; gives the Graph."""
    graph = graph_of(model, folder)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 3
    x = floats(batch, *graph.input_shape) if x is None else x
    expected = reference(model, x)
    got = model_layout(graph, run(graph, x))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    return graph


def ops(graph):
    """Its operators in order."""
    return [item.op for item in graph.nodes]


def real_model(name):
    """Path of a model of the shared data, and its expected arrays; skips the test where they are absent."""
    folder = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = folder / "models" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not there; set LUTLOOM_DATA to the folder of the data")
    return path, np.load(path.with_suffix(".expected.npz")), folder
