"""QONNX operators: against qonnx, and rounding modes against a table by hand."""

from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from onnx import helper
from onnx_models import QONNX, build, floats, graph_of, node, ops, same
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

from lutloom.errors import ModelError
from lutloom.floating import model_layout, run

POINTS = [-2.5, -1.75, -1.5, -1.25, -0.5, 0.0, 0.25, 0.5, 1.25, 1.5, 1.75, 2.5]
ROUNDED = {
    "ROUND": [-2, -2, -2, -1, 0, 0, 0, 0, 1, 2, 2, 2], "HALF_EVEN": [-2, -2, -2, -1, 0, 0, 0, 0, 1, 2, 2, 2],
    "CEIL": [-2, -1, -1, -1, 0, 0, 1, 1, 2, 2, 2, 3], "FLOOR": [-3, -2, -2, -2, -1, 0, 0, 0, 1, 1, 1, 2],
    "UP": [-3, -2, -2, -2, -1, 0, 1, 1, 2, 2, 2, 3], "DOWN": [-2, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2],
    "ROUND_TO_ZERO": [-2, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2],
    "HALF_UP": [-3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3], "HALF_DOWN": [-2, -2, -1, -1, 0, 0, 0, 0, 1, 1, 2, 2],
}
SCALES = {"s": np.float32(0.5), "z": np.float32(0), "b": np.float32(4)}


def custom(op, inputs, output, name="", domain=QONNX, **attributes):
    return node(op, inputs, output, name, domain, **attributes)


def like_qonnx(model, folder, x):
    """Graph of a model, compared with qonnx."""
    graph = graph_of(model, folder)
    got = model_layout(graph, run(graph, x))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = len(x)
    wrapped = ModelWrapper(model).transform(InferShapes())
    older = partial(helper.make_model, ir_version=10)  # qonnx writes the newest, which onnxruntime may not know
    with patch("onnx.helper.make_model", older):
        expected = execute_onnx(wrapped, {"x": x})[model.graph.output[0].name]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    return graph


@pytest.mark.parametrize("mode", ROUNDED)
def test_rounding_modes(tmp_path, mode):
    model = build([custom("Quant", "x one z b", "y", rounding_mode=mode, signed=1, narrow=0)],
                  {**SCALES, "one": np.float32(1)}, ("N", 12))
    graph = graph_of(model, tmp_path)
    assert run(graph, np.array([POINTS]))[0].tolist() == ROUNDED[mode]
    if mode != "ROUND_TO_ZERO":  # which qonnx does not know
        like_qonnx(model, tmp_path, np.array([POINTS], np.float32))


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("domain", [QONNX, "onnx.brevitas", "finn.custom_op.general"])
def test_quant(tmp_path, signed, narrow, domain):
    model = build([custom("Quant", "x s z b", "y", "act", domain, signed=signed, narrow=narrow, rounding_mode="ROUND")],
                  {**SCALES, "z": np.float32(2)}, ("N", 40), domains=())
    graph = graph_of(model, tmp_path)
    params = graph.nodes[0].params
    assert (params["bits"], params["signed"], params["narrow"]) == (4, bool(signed), bool(narrow))
    low = (-8 + narrow) * signed
    high = 7 if signed else 15 - narrow
    y = run(graph, np.linspace(-20, 20, 40)[None])
    assert y.min() == (low - 2) * 0.5 and y.max() == (high - 2) * 0.5
    if domain == QONNX:
        like_qonnx(build([custom("Quant", "x s z b", "y", signed=signed, narrow=narrow, rounding_mode="ROUND")],
                         {**SCALES, "z": np.float32(2)}, ("N", 40)), tmp_path, 4 * floats(2, 40))


def test_quant_per_channel(tmp_path):
    weights = {**SCALES, "s": np.array([0.5, 0.25, 1], np.float32).reshape(1, 3, 1, 1)}
    model = build([custom("Quant", "x s z b", "y", signed=1, narrow=1, rounding_mode="FLOOR")], weights)
    assert like_qonnx(model, tmp_path, floats(2, 3, 6, 6)).nodes[0].params["scale"].tolist() == [0.5, 0.25, 1]


def test_one_signed_bit_is_bipolar(tmp_path):
    model = build([custom("Quant", "x s z one", "y", signed=1, narrow=0, rounding_mode="ROUND")],
                  {**SCALES, "one": np.float32(1)}, ("N", 3))
    graph = like_qonnx(model, tmp_path, np.array([[-0.1, 0, 0.1]], np.float32))
    assert ops(graph) == ["bipolarquant"] and run(graph, np.zeros((1, 3))).tolist() == [[0.5] * 3]


def test_weights_give_their_codes(tmp_path):
    nodes = [custom("Quant", "c.weight sc z b", "wq", signed=1, narrow=1, rounding_mode="ROUND"),
             custom("Quant", "bias s z bb", "bq", signed=1, narrow=0, rounding_mode="ROUND"),
             node("Conv", "x wq bq", "c"), node("Flatten", "c", "f"), custom("BipolarQuant", "d s", "dq"),
             node("Transpose", "dq", "dt", perm=[1, 0]), node("MatMul", "f dt", "y", "last")]
    weights = {**SCALES, "c.weight": floats(4, 3, 3, 3), "sc": np.array([0.25, 0.5, 1, 0.125], np.float32).reshape(
        4, 1, 1, 1), "bias": floats(4), "bb": np.float32(8), "d": floats(5, 64)}
    graph = like_qonnx(build(nodes, weights), tmp_path, floats(2, 3, 6, 6))
    assert [item.name for item in graph.nodes] == ["c", "flatten_0", "last"]
    conv, _, dense = (item.params for item in graph.nodes)
    quant = conv["weight_quant"]
    expected = np.clip(np.rint(weights["c.weight"] / weights["sc"]), -7, 7).transpose(0, 2, 3, 1)
    assert (quant.kind, quant.bits, quant.narrow) == ("int", 4, True) and (quant.codes == expected).all()
    assert quant.scale.tolist() == [0.25, 0.5, 1, 0.125] and quant.zero_point.tolist() == 0
    assert (conv["weight"] == quant.codes * quant.scale[:, None, None, None]).all()
    assert (conv["bias"] == np.rint(weights["bias"] / 0.5) * 0.5).all()
    quant = dense["weight_quant"]
    assert quant.kind == "bipolar" and quant.codes.shape == (5, 64) and quant.scale == 0.5
    assert (quant.codes.reshape(5, 2 * 2 * 16)[:, :4] == np.where(weights["d"].reshape(5, 4, 16)[:, :, 0] >= 0, 1, -1)
            ).all()


def test_weight_zero_point(tmp_path):
    nodes = [custom("Quant", "w s z b", "wq", signed=0, narrow=0, rounding_mode="ROUND"), node("MatMul", "x wq", "y")]
    model = build(nodes, {**SCALES, "z": np.float32(7), "w": floats(6, 2)}, ("N", 6))
    quant = like_qonnx(model, tmp_path, floats(2, 6)).nodes[0].params["weight_quant"]
    assert quant.zero_point == 7 and not quant.signed and quant.codes.min() >= 0


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "CEIL"])
def test_trunc(tmp_path, mode):
    model = build([custom("Trunc", "x s z eight b", "y", rounding_mode=mode)], {**SCALES, "eight": np.float32(8)},
                  ("N", 64))
    x = np.arange(-32, 32, dtype=np.float32)[None] / 2
    assert ops(like_qonnx(model, tmp_path, x)) == ["trunc"]


def test_trunc_with_output_scale(tmp_path):
    model = build([custom("Trunc", "x s z eight os b", "y", rounding_mode="FLOOR", signed=1, narrow=0)],
                  {**SCALES, "eight": np.float32(8), "os": np.float32(4), "b": np.float32(3)}, ("N", 64))
    graph = graph_of(model, tmp_path)
    assert ops(graph) == ["trunc", "clip", "affine"]
    x = np.arange(-64, 64, 2)[None] / 2
    assert (run(graph, x) == 4 * np.clip(np.floor(x / 4), -4, 3)).all()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("layout", ["", "NCHW", "NHWC"])
def test_multithreshold(tmp_path, rows, layout):
    shape = ("N", 5, 5, 3) if layout == "NHWC" else ("N", 3, 5, 5)
    thresholds = np.sort(floats(rows, 7), axis=1)
    nodes = [custom("MultiThreshold", "x t", "y", out_dtype="INT4", out_scale=0.5, out_bias=-2.0, data_layout=layout)]
    graph = like_qonnx(build(nodes, {"t": thresholds}, shape), tmp_path, floats(2, *shape[1:]))
    assert graph.nodes[0].params["thresholds"].shape == (3, 7)


def test_multithreshold_of_channels_last(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
             custom("MultiThreshold", "t h", "m", out_dtype="UINT2", data_layout="NHWC"),
             node("Transpose", "m", "y", perm=[0, 3, 1, 2])]
    model = build(nodes, {"h": np.sort(floats(3, 3), axis=1)})
    assert ops(like_qonnx(model, tmp_path, floats(2, 3, 6, 6))) == ["multithreshold"]


@pytest.mark.parametrize("changes, attributes, text", [
    ({"b": np.float32(2.5)}, {}, "bit width of 2.5, which must be a whole number from 1 to 32"),
    ({"b": np.float32([2, 4])}, {}, "bit width of 2 numbers"),
    ({"b": np.float32(0)}, {}, "bit width of 0"),
    ({"s": np.float32(0)}, {}, "scale of 0, which must be above zero"),
    ({"s": np.float32(np.nan)}, {}, "scales that are NaN or infinite"),
    ({"z": np.float32(0.5)}, {}, "zero point that is not an integer"),
    ({}, {"rounding_mode": "SIDEWAYS"}, "rounding_mode 'SIDEWAYS', which is not one of ROUND, CEIL"),
    ({"s": floats(1, 3, 6, 6) ** 2 + 1}, {}, "scale that differs within a channel"),
    ({"s": floats(1, 4, 1, 1) ** 2 + 1}, {}, "does not fit its input of shape"),
])
def test_bad_quant(tmp_path, changes, attributes, text):
    model = build([custom("Quant", "x s z b", "y", "act", **{"signed": 1, **attributes})], {**SCALES, **changes})
    with pytest.raises(ModelError, match=f"^Quant 'act' has .*{text}"):
        graph_of(model, tmp_path)


def test_weight_scale_per_input_is_refused(tmp_path):
    nodes = [custom("Quant", "w s z b", "wq", signed=1, narrow=0), node("MatMul", "x wq", "y", "fc")]
    model = build(nodes, {**SCALES, "w": floats(6, 2), "s": floats(6, 1) ** 2 + 1}, ("N", 6))
    with pytest.raises(ModelError, match="MatMul 'fc' has weights whose scale or zero point differs within an output"):
        graph_of(model, tmp_path)


def test_computed_scale_is_refused(tmp_path):
    nodes = [node("GlobalMaxPool", "x", "m"), custom("Quant", "x m z b", "y", "dynamic", signed=1, narrow=0)]
    with pytest.raises(ModelError, match="Quant 'dynamic' computes its scales, which must be constant"):
        graph_of(build(nodes, SCALES), tmp_path)


def test_unknown_custom_operator(tmp_path):
    with pytest.raises(ModelError, match="XnorPopcount 'p' is an operator of domain 'qonnx.custom_op.general' that is "
                       "not supported; supported are Add, .*Trunc"):
        graph_of(build([custom("XnorPopcount", "x", "y", "p")]), tmp_path)


def test_plain_operators_still_follow_onnxruntime(tmp_path):
    same(build([node("Conv", "x w", "y")], {"w": floats(2, 3, 3, 3)}), tmp_path)
