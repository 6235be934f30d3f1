"""Channel shuffles of ONNX models: against onnxruntime and qonnx, and as integers against the quantised graph."""

import numpy as np
import pytest
from lower_checks import compared, kinds
from onnx_models import build, floats, graph_of, node, ops, same, saved
from onnx_quantised import Model as Quantised
from test_onnx_branches import Model
from test_onnx_errors import refused_model
from test_onnx_quant import custom, like_qonnx
from test_onnx_quantised import STYLES, equal, quant

from lutloom import check
from lutloom.floating import model_layout, run


def shuffle(model, x, shape, groups):
    """PyTorch's: the groups become a side, which changes places with the channels in a group."""
    channels, *space = shape
    sides = [-1, groups, channels // groups, *space]
    x = model.put("Reshape", x, [np.array(sides)])
    x = model.put("Transpose", x, perm=[0, 2, 1, *range(3, len(sides))])
    return model.put("Reshape", x, [np.array([-1, *shape])])


def first(model, x, size):
    """ShuffleNet's unit: grouped 1 x 1, shuffle, depthwise, grouped 1 x 1, sum."""
    y = model.put("Relu", model.norm(model.conv(x, 12, 6, 1, groups=3, bias=False), 6))
    y = shuffle(model, y, (6, size, size), 3)
    y = model.norm(model.conv(y, 6, 6, groups=6, bias=False), 6)
    y = model.norm(model.conv(y, 6, 12, 1, groups=3, bias=False), 12)
    return model.put("Relu", model.put("Add", f"{x} {y}"))


def second(model, x, size):
    """ShuffleNet v2's unit: half of the channels goes past the branch; all are shuffled behind it."""
    part = f"t{len(model.nodes)}"
    model.nodes.append(node("Split", x, f"{part} {part}b", axis=1))
    y = model.put("Relu", model.norm(model.conv(f"{part}b", 4, 4, 1, bias=False), 4))
    y = model.norm(model.conv(y, 4, 4, groups=4, bias=False), 4)
    y = model.put("Relu", model.norm(model.conv(y, 4, 4, 1, bias=False), 4))
    return shuffle(model, model.put("Concat", f"{part} {y}", axis=1), (8, size, size), 2)


def halved(model, x, size):
    """ShuffleNet v2's unit of stride 2, which has two branches of all channels."""
    relu = lambda x: model.put("Relu", x)  # noqa: E731
    a = relu(model.conv(model.conv(x, 8, 8, groups=8, stride=2), 8, 4, 1))
    b = relu(model.conv(model.conv(relu(model.conv(x, 8, 8, 1)), 8, 8, groups=8, stride=2), 8, 4, 1))
    return shuffle(model, model.put("Concat", f"{a} {b}", axis=1), (8, size // 2, size // 2), 2)


def networks(version):
    """A model, its output and how many transposes its graph needs."""
    model = Model(("N", 3, 6, 6))
    if version == 1:
        x = first(model, first(model, model.put("Relu", model.conv("x", 3, 12)), 6), 6)
        return model, model.classes(x, 12), 2
    x = second(model, second(model, model.put("Relu", model.conv("x", 3, 8)), 6), 6)  # the last one meets convolutions
    return model, model.classes(model.put("Relu", model.conv(halved(model, x, 6), 8, 6, 1)), 6), 1


@pytest.mark.parametrize("version", [1, 2])
def test_units_of_shufflenet(tmp_path, version):
    model, output, transposes = networks(version)
    graph = same(model.proto(output), tmp_path, tolerance=1e-5)
    assert ops(graph).count("transpose") == transposes
    compared(graph, frames=1)
    network = compared(graph, frames=1, activations=4, weights="bitmask:3")
    assert kinds(network).count("Transpose") == transposes


def pool(kind, **attributes):
    return lambda model, x: model.put(kind, x, kernel_shape=[2, 2], **attributes)


def bounds(*sides):
    return [np.array(side) for side in sides]


READERS = {  # what reads a shuffled map (12, 4, 5) of three groups, and how many transposes stand in front of it
    "plain": (lambda model, x: model.conv(x, 12, 5), 0),
    "grouped": (lambda model, x: model.conv(x, 12, 8, groups=2), 1),
    "depthwise": (lambda model, x: model.conv(model.conv(x, 12, 12, groups=12), 12, 3, 1), 0),
    "depthwise, then grouped": (lambda model, x: model.conv(model.conv(x, 12, 12, groups=12), 12, 6, groups=3), 1),
    "depthwise, two outputs a channel": (lambda model, x: model.conv(x, 12, 24, groups=12), 1),
    "norm and relu": (lambda model, x: model.conv(model.put("Relu", model.norm(x, 12)), 12, 6, groups=3), 1),
    "sum": (lambda model, x: model.put("Add", f"{x} t1"), 1),
    "sum of shuffled": (lambda model, x: model.conv(model.put("Add", f"{x} {model.put('Tanh', x)}"), 12, 3), 0),
    "union": (lambda model, x: model.put("Concat", f"{x} t1 {x}", axis=1), 1),
    "union of rows": (lambda model, x: model.put("Concat", f"t1 {x}", axis=2), 1),
    "part": (lambda model, x: model.put("Slice", x, bounds([1, 1], [9, 4], [1, 2], [3, 1])), 1),
    "pad": (lambda model, x: model.put("Pad", x, [np.array([0, 1, 2, 0, 0, 0, 0, 3])]), 1),
    "max pool": (lambda model, x: model.conv(pool("MaxPool")(model, x), 12, 2, 1), 0),
    "average pool, then grouped": (lambda model, x: model.conv(pool("AveragePool")(model, x), 12, 4, groups=4), 1),
    "global pool": (lambda model, x: model.dense(model.put("Flatten", model.put("GlobalMaxPool", x)), 12, 3), 0),
    "classes": (lambda model, x: model.classes(x, 12), 0),
    "gate": (lambda model, x: model.put("Mul", f"{x} {model.put('Sigmoid', model.put('GlobalAveragePool', x))}"), 2),
    "dense": (lambda model, x: model.dense(model.put("Flatten", x), 240, 3), 0),
    "output": (lambda model, x: model.put("Relu", x), 1),
    "twice": (lambda model, x: model.conv(shuffle(model, x, (12, 4, 5), 2), 12, 3), 0),
    "there and back": (lambda model, x: model.conv(shuffle(model, x, (12, 4, 5), 4), 12, 4, groups=4), 0),
}


@pytest.mark.parametrize("name", READERS)
def test_what_reads_a_shuffled_map(tmp_path, name):
    reader, transposes = READERS[name]
    model = Model(("N", 2, 4, 5))
    x = model.put("Relu", model.conv("x", 2, 12))
    graph = same(model.proto(reader(model, shuffle(model, x, (12, 4, 5), 3))), tmp_path, tolerance=1e-5)
    assert ops(graph).count("transpose") == transposes
    compared(graph, frames=1)


def test_upsampled_and_shuffled_inputs(tmp_path):
    model = Model(("N", 6, 3, 3))
    x = model.put("Resize", f"{shuffle(model, 'x', (6, 3, 3), 2)} -", [np.array([1, 1, 2, 2], np.float32)],
                  mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    graph = same(model.proto(model.conv(x, 6, 4, groups=2)), tmp_path, tolerance=1e-5)
    assert ops(graph).count("transpose") == 1
    compared(graph, frames=1)


def test_rows_and_channels_last(tmp_path):
    """1-D maps, and maps with channels last as TensorFlow's exporter leaves them."""
    model = Model(("N", 4, 7))
    x = shuffle(model, model.put("Conv", "x", [model.drawn(6, 4, 3)]), (6, 5), 3)
    x = model.put("Concat", f"{model.put('Relu', x)} {x}", axis=1)
    compared(same(model.proto(model.put("Conv", x, [model.drawn(4, 3, 1)], group=4)), tmp_path), frames=1)
    model = Model(("N", 5, 6, 3))
    x = model.conv(model.put("Transpose", "x", perm=[0, 3, 1, 2]), 3, 8)
    x = model.put("Reshape", model.put("Transpose", x, perm=[0, 2, 3, 1]), [np.array([-1, 5, 6, 2, 4])])
    x = model.put("Reshape", model.put("Transpose", x, perm=[0, 1, 2, 4, 3]), [np.array([-1, 5, 6, 8])])
    y = model.put("MatMul", x, [model.drawn(8, 5)])
    z = model.put("Slice", x, bounds([1], [6], [3]))
    y = model.put("Add", f"{y} {z}")
    graph = same(model.proto(model.put("Concat", f"{y} {x}", axis=3)), tmp_path, tolerance=1e-5)
    assert graph.output_layout == "NHWC" and ops(graph).count("transpose") == 1
    compared(graph, frames=1)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_quantised(tmp_path, style, groups):
    """Codes behind a shuffle; QDQ files have quantisers between its parts."""
    random, model, given, made = np.random.default_rng(4), Quantised(style), quant(0.04, 100), quant(0.05, 90)

    def conv(x, channels, outputs, made, **attributes):
        codes = random.integers(-60, 61, (outputs, channels // attributes.get("group", 1), 3, 3)).astype(np.int8)
        scale = np.float32(random.uniform(0.001, 0.01, outputs))
        return model.linear("Conv", x, codes, scale, np.zeros(outputs, np.int8),
                            random.integers(-900, 900, outputs).astype(np.int32), made, pads=[1] * 4, **attributes)

    def moved(kind, x, *inputs, **attributes):
        constants = [model.constant(np.array(array)) for array in inputs]
        if style == "QDQ":
            return model.quantize(model.node(kind, [model.real(x), *constants], **attributes), x[1])
        return model.node(kind, [x[0], *constants], **attributes), x[1]

    x = conv(model.input((3, 5, 4), *given), 3, 8, made)
    y = moved("Reshape", x, [-1, 4, 2, 5, 4])
    y = moved("Reshape", moved("Transpose", y, perm=[0, 2, 1, 3, 4]), [-1, 8, 5, 4])
    y = conv(y, 8, 8, quant(0.3, 110), group=groups)
    if groups > 1:
        y = model.join("Add", [moved("MaxPool", y, kernel_shape=[1, 1]), x], quant(0.4, 120))
    network = equal(model, y, given, (3, 5, 4), tmp_path)
    assert kinds(network).count("Transpose") == (groups > 1)


def test_qonnx(tmp_path):
    rows = np.array([0.5, 0.25, 1, 0.125], np.float32).reshape(1, 4, 1, 1)
    weights = {"s": np.float32(0.25), "z": np.float32(0), "b": np.float32(4), "w": floats(4, 3, 3, 3), "rows": rows,
               "g": floats(6, 2, 1, 1), "in": np.array([-1, 2, 2, 4, 4]), "out": np.array([-1, 4, 4, 4])}
    steps = dict(signed=1, narrow=0, rounding_mode="ROUND")
    nodes = [custom("Quant", "w s z b", "wq", **steps), node("Conv", "x wq", "c"),
             custom("Quant", "c s z b", "q", **steps), node("Reshape", "q in", "r"),
             node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]), node("Reshape", "t out", "u"),
             node("Mul", "u rows", "m"), custom("Quant", "m s z b", "v", **steps),
             custom("Quant", "g s z b", "gq", **steps), node("Conv", "v gq", "y", group=2)]
    graph = like_qonnx(build(nodes, weights), tmp_path, floats(2, 3, 6, 6))
    assert ops(graph).count("transpose") == 1
    compared(graph, frames=1)


def permuted(model, x, order):
    """Channels in the order of the sides (2, 3, 2) transposed."""
    x = model.put("Transpose", model.put("Reshape", x, [np.array([-1, 2, 3, 2, 4, 5])]), perm=[0, *order, 4, 5])
    return model.put("Reshape", x, [np.array([-1, 12, 4, 5])])


def test_other_orders_of_channels(tmp_path):
    """Weights take any order; what needs the map itself takes shuffles alone, and says so."""
    for read in (lambda model, x: model.conv(x, 12, 3), lambda model, x: model.classes(x, 12)):
        model = Model(("N", 2, 4, 5))
        x = permuted(model, model.conv("x", 2, 12), [2, 1, 3])
        graph = same(model.proto(read(model, pool("MaxPool")(model, x))), tmp_path, tolerance=1e-5)
        assert "transpose" not in ops(graph)
    for kind, given in (("Conv", [floats(6, 6, 1, 1)]), ("Slice", bounds([1], [2], [1])), ("Add", [])):
        model = Model(("N", 2, 4, 5))
        x = permuted(model, model.conv("x", 2, 12), [2, 1, 3])
        y = model.put(kind, x if given else f"{x} t0", given, **({"group": 2} if kind == "Conv" else {}))
        sentence = refused_model(model.proto(y), tmp_path)
        assert sentence.startswith(f"{kind} '") and sentence.endswith(
            "' reads a map whose 12 channels were put into an order that is no shuffle of equal groups, which is "
            "supported only in front of dense layers and of convolutions of one group; transpose (groups, channels of "
            "a group) alone")
    model = Model(("N", 2, 4, 5))
    x = model.put("Relu", permuted(model, model.conv("x", 2, 12), [2, 1, 3]))
    sentence = refused_model(model.proto(x), tmp_path)
    assert sentence.startswith("output 'y' is a map whose 12 channels were put into an order that is no shuffle")


def test_what_check_says(tmp_path):
    model, output, _ = networks(2)
    rows = check(saved(model.proto(output), tmp_path))
    assert rows.supported
    assert [row.becomes for row in rows if row.op == "Split"] == ["slice+slice", "transpose+slice+slice"]


def test_another_number_of_groups_is_seen(tmp_path):
    """The comparison with onnxruntime fails where the groups are others."""
    model, output, _ = networks(1)
    proto = model.proto(output)
    graph = graph_of(proto, tmp_path)
    sides = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [5])
    sides.raw_data = np.array([-1, 2, 3, 6, 6]).tobytes()
    other = graph_of(proto, tmp_path)
    x = floats(2, 3, 6, 6)
    assert np.abs(model_layout(graph, run(graph, x)) - model_layout(other, run(other, x))).max() > 1e-3
