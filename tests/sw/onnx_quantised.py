"""Small quantised ONNX models for the tests, as QOperator and as QDQ files, and what onnxruntime makes of them."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

TYPES = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8, "float32": TensorProto.FLOAT}


class Model:
    """An ONNX model written operator by operator.

    Values are pairs of a name and (scale, zero point): codes, whose type is the zero point's.
    """

    def __init__(self, style, opset=17):
        self.style, self.opset = style, opset
        self.nodes, self.constants, self.inputs, self.outputs = [], {}, [], []

    def constant(self, array, name=None):
        name = name or f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def input(self, shape, scale, zero_point):
        """A real input and its quantiser."""
        self.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape]))
        return self.quantize("x", (np.float32(scale), zero_point))

    def node(self, kind, inputs, outputs=1, domain="", **attributes):
        names = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{len(self.nodes)}", domain=domain,
                                           **attributes))
        return names[0] if outputs == 1 else names

    def quantize(self, real, quant):
        """(codes, quant) of a real value's name."""
        return self.node("QuantizeLinear", [real, self.constant(quant[0]), self.constant(quant[1])]), quant

    def real(self, value):
        """Name of what codes stand for."""
        name, (scale, zero_point) = value
        return self.node("DequantizeLinear", [name, self.constant(scale), self.constant(zero_point)])

    def weights(self, codes, scale, zero_point, axis):
        """Name of what constant codes stand for."""
        names = [self.constant(part) for part in (codes, scale, zero_point)]
        return self.node("DequantizeLinear", names, axis=axis)

    def linear(self, kind, x, codes, scale, zero_point, bias, made, axis=0, **attributes):
        """Conv, Gemm or MatMul; the bias is int32 codes or None."""
        if self.style == "QDQ":
            inputs = [self.real(x), self.weights(codes, scale, zero_point, axis)]
            if bias is not None:
                unit = np.float32(x[1][0]) * np.asarray(scale, np.float32)
                inputs.append(self.weights(bias, unit, np.zeros(unit.shape, np.int32), 0))
            return self.quantize(self.node(kind, inputs, **attributes), made)
        name, (sx, zx) = x
        given = [name, *map(self.constant, (sx, zx, codes, scale, zero_point))]
        target = [self.constant(part) for part in made]
        last = [] if bias is None else [self.constant(bias)]
        if kind == "Gemm":
            return self.node("QGemm", [*given, *(last or [""]), *target], domain="com.microsoft", **attributes), made
        return self.node(f"QLinear{kind}", [*given, *target, *last], **attributes), made

    def join(self, kind, values, made):
        """Add or Mul of two values of codes, or Concat of several."""
        if self.style == "QDQ":
            attributes = {"axis": 1} if kind == "Concat" else {}
            return self.quantize(self.node(kind, [self.real(value) for value in values], **attributes), made)
        target = [self.constant(part) for part in made]
        given = [part for name, quant in values for part in (name, *map(self.constant, quant))]
        if kind == "Concat":
            return self.node("QLinearConcat", target + given, domain="com.microsoft", axis=1), made
        return self.node(f"QLinear{kind}", given + target, domain="com.microsoft"), made

    def unary(self, kind, value, made, **attributes):
        """An operator of one value; QDQ alone knows those without a QLinear counterpart."""
        if self.style == "QDQ":
            return self.quantize(self.node(kind, [self.real(value)], **attributes), made)
        name, quant = value
        return self.node(f"QLinear{kind}", [name, *map(self.constant, (*quant, *made))], domain="com.microsoft",
                         **attributes), made

    def write(self, path, value):
        """The file, its output being a value of codes, dequantised."""
        output = helper.make_tensor_value_info(self.real(value), TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "g", self.inputs, [output],
                                  [numpy_helper.from_array(array, name) for name, array in self.constants.items()])
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path


def session(model, optimised=True, precise=True):
    """An onnxruntime session. Without ``precise`` its AVX2 kernels saturate sums of two products in 16 bits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    model = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def codes_of(path, x, optimised=True, precise=True):
    """Codes of the output, in the model's own layout: of the real output that onnxruntime gives."""
    model = onnx.load(path)
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale, zero_point = (known[name] for name in last.input[1:3])
    running = session(path, optimised, precise)
    given = running.get_inputs()[0].name
    y = np.concatenate([running.run(None, {given: x[i:i + 50]})[0] for i in range(0, len(x), 50)])
    return np.rint(y.astype(np.float64) / float(scale)).astype(int) + int(zero_point)


def all_codes(path, x, precise=True):
    """Every tensor of codes that a model computes: a mapping of name to array. Optimised only where ``precise``."""
    model = onnx.load(path)
    typed = onnx.shape_inference.infer_shapes(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.graph.value_info}
    names = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" or node.op_type.startswith("Q") or kinds.get(node.output[0]) in (2, 3):
            names += [name for name in node.output if name not in constants]
    del model.graph.output[:]
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    running = session(model.SerializeToString(), precise, precise)
    parts = [running.run(None, {running.get_inputs()[0].name: x[i:i + 50]}) for i in range(0, len(x), 50)]
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}
