"""Slice, Split, Pad, Concat and joins of ONNX maps that lie in other ways than NCHW, above all with sides of 1."""

import numpy as np
import pytest
from lower_checks import compared
from onnx_models import floats, graph_of, node, ops, same
from onnx_quantised import Model as Quantised
from test_onnx_branches import Model
from test_onnx_errors import refused_model
from test_onnx_quantised import STYLES, equal, quant

from lutloom.errors import ModelError


def bounds(axis, begin, end):
    return [np.array([number]) for number in (begin, end, axis)]


def last(model, x):
    return model.put("Transpose", x, perm=[0, 2, 3, 1])


def reshaped(model, x, *shape):
    return model.put("Reshape", x, [np.array([-1, *shape])])


def widths(*numbers):
    return [np.array([0, *numbers[:3], 0, *numbers[3:]])]


SHAPES = (5, 5, 1), (2, 3, 1), (2, 2, 1), (4, 1, 1), (1, 4, 1), (1, 1, 4), (3, 1, 4), (1, 5, 5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [False, True], ids=["input", "transposed"])
def test_parts_and_rims_of_maps_with_sides_of_one(tmp_path, shape, channels_last):
    """Also of what a convolution of one output makes, channels last as tf2onnx writes it."""
    for axis, side in enumerate(shape, 1):
        for work in ("Slice", "Split", "Pad", "Concat"):
            own = (shape[2], *shape[:2]) if channels_last else shape
            model = Model(("N", *own))
            x = last(model, model.conv("x", shape[2], shape[2])) if channels_last else "x"
            rim = [0] * 6
            rim[axis - 1], rim[axis + 2] = 1, 2
            if work == "Slice":
                y = model.put("Slice", x, bounds(axis, side - 1, side))
            elif work == "Pad":
                y = model.put("Pad", x, widths(*rim))
            elif work == "Concat":
                y = model.put("Concat", f"{x} {x}", axis=axis)
            elif side > 1:
                y = f"t{len(model.nodes)}b"
                model.weights[sizes := f"{y}.sizes"] = np.array([1, side - 1])
                model.nodes.append(node("Split", f"{x} {sizes}", f"t{len(model.nodes)} {y}", axis=axis))
            else:
                continue
            proto = model.proto(model.put("Relu", y))
            graph = same(proto, tmp_path, x=floats(3, *own), tolerance=1e-5)
            compared(graph, frames=1)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("work", ["Concat", "Slice", "Pad", "Add"])
def test_maps_reshaped_to_rows(tmp_path, work, axis):
    model = Model(("N", 3, 3, 3))
    x, z = (reshaped(model, model.conv("x", 3, 4), 4, 9) for _ in range(2))
    y = {"Concat": lambda: model.put("Concat", f"{x} {z}", axis=axis),
         "Slice": lambda: model.put("Slice", x, bounds(axis, 1, 3)),
         "Pad": lambda: model.put("Pad", x, [np.array([0, 2 - axis, axis - 1, 0, 0, 1])]),
         "Add": lambda: model.put("Add", f"{x} {model.put('Slice', z, bounds(axis, 1, 2))}")}[work]()
    compared(same(model.proto(model.put("Relu", y)), tmp_path, tolerance=1e-5), frames=1)


def test_joins_that_broadcast(tmp_path):
    """The side that is repeated is the one of the ONNX tensor."""
    for axis in (1, 2):
        model = Model(("N", 5, 5, 1))
        mean = model.put("Slice", "x", bounds(axis, 0, 1))
        same(model.proto(model.put("Sub", f"x {mean}")), tmp_path, tolerance=1e-5)
        model = Model(("N", 5, 5, 2))
        x = last(model, model.conv(model.put("Transpose", "x", perm=[0, 3, 1, 2]), 2, 1))
        part = model.put("Transpose", model.put("Slice", x, bounds(axis, 0, 1)), perm=[0, 2, 1, 3])
        same(model.proto(model.put("Mul", f"{part} {x}")), tmp_path, tolerance=1e-5)
    model = Model(("N", 3, 4, 4))  # split attention: groups and their channels are sides
    x = reshaped(model, model.conv("x", 3, 6), 2, 3, 4, 4)
    gate = model.put("GlobalAveragePool", model.conv("x", 3, 6))
    same(model.proto(reshaped(model, model.put("Mul", f"{x} {reshaped(model, gate, 2, 3, 1, 1)}"), 6, 4, 4)), tmp_path,
         tolerance=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_vector_meets_the_last_side_of_a_map(tmp_path, batch):
    model = Model((batch, 4, 5, 4))
    vector = model.put("Flatten", model.put("GlobalAveragePool", model.conv("x", 4, 4)))
    proto = model.proto(model.put("Add", f"{model.conv('x', 4, 4)} {vector}"))
    if batch == 1:
        same(proto, tmp_path, tolerance=1e-5)
    else:
        assert refused_model(proto, tmp_path) == ("Add 'add_0' joins tensors of 2 and 4 dimensions, which is not "
                                                  "supported; reshape one to the other's number")


def test_what_lies_in_different_ways(tmp_path):
    for work, how in (("Concat", {"axis": 1}), ("Add", {})):
        model = Model(("N", 3, 4, 4))
        x = model.conv("x", 3, 4)
        proto = model.proto(model.put(work, f"{x} {last(model, x)}", **how))
        assert "reshaped or transposed in different ways, which is not supported; transpose n" in refused_model(
            proto, tmp_path)


def test_a_reshaped_value_is_written_once(tmp_path):
    model = Model(("N", 3, 3, 3))
    x = reshaped(model, model.conv("x", 3, 4), 4, 9)
    graph = graph_of(model.proto(model.put("Concat", f"{x} {x}", axis=1)), tmp_path)
    assert ops(graph) == ["conv", "reshape", "concat"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", [(5, 4, 1), (4, 9)])
def test_quantised_maps(tmp_path, style, shape):
    """A slice of a map with channels last, or of rows; a constant that meets it; and both joined."""
    given, made = quant(0.037, 113), quant(0.05, 120)
    model = Quantised(style)
    x = model.input(shape, *given)
    codes = np.random.default_rng(1).integers(0, 256, (1, *shape[:2], *shape[2:])).astype(np.uint8)
    y = model.join("Add", [x, (model.constant(codes), quant(0.02, 99))], made)
    limits = [model.constant(np.array([number])) for number in (1, 4, 1)]
    if style == "QDQ":
        y = model.quantize(model.node("Slice", [model.real(y), *limits]), made)
    else:
        y = model.node("Slice", [y[0], *limits]), made
    equal(model, model.join("Concat", [y, x], quant(0.061, 100)), given, shape, tmp_path)


def test_a_clip_of_the_input_at_the_end(tmp_path):
    model = Model(("N", 3, 4, 4))
    graph = graph_of(model.proto(model.put("Clip", "x", [np.float32(-0.5), np.float32(0.5)])), tmp_path)
    with pytest.raises(ModelError, match="stands behind input 'x' at the end is neither a quantiser nor affine; end"):
        compared(graph)


# --- random models ----------------------------------------------------------------------------------------------------

def moved(model, random, live):
    """One random operator on one of the tensors so far: (name, shape), or None where it does not fit."""
    x, shape = live[random.integers(len(live)) if random.random() < 0.25 else -1]
    rank, axis = len(shape), random.integers(len(shape))
    side = shape[axis]
    alike = [name for name, other in live if other == shape]
    fits = [name for name, other in live
            if len(other) == rank and all(a in (1, b) for a, b in zip(other, shape, strict=True))]
    with_side = lambda size: (*shape[:axis], int(size), *shape[axis + 1:])  # noqa: E731
    match str(random.choice(["Conv", "Transpose", "Transpose", "Reshape", "Slice", "Pad", "Concat", "Add", "Sub"])):
        case "Conv" if rank > 1:
            weight = model.drawn(outputs := int(random.integers(1, 4)), shape[0], *[1] * (rank - 1))
            return model.put("Conv", x, [weight]), (outputs, *shape[1:])
        case "Transpose":
            order = random.permutation(rank).tolist()
            return model.put("Transpose", x, perm=[0, *(i + 1 for i in order)]), tuple(shape[i] for i in order)
        case "Reshape" if rank > 1 and (at := random.integers(rank - 1)) >= 0:
            made = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2:]]
            made.insert(random.integers(len(made) + 1), 1)
            return reshaped(model, x, *made), tuple(made)
        case "Slice" if side > 1:
            begin = random.integers(side - 1)
            return model.put("Slice", x, bounds(axis + 1, begin, side)), with_side(side - begin)
        case "Pad" if rank > 1:
            rims = np.zeros((2, rank + 1), np.int64)
            rims[:, axis + 1] = random.integers(0, 3, 2)
            return model.put("Pad", x, [rims.ravel()]), with_side(side + rims.sum())
        case "Concat":
            return model.put("Concat", f"{x} {random.choice(alike)}", axis=axis + 1), with_side(2 * side)
        case "Add":
            return model.put("Add", f"{x} {random.choice(alike)}"), shape
        case "Sub":
            return model.put("Sub", f"{x} {random.choice(fits)}"), shape
    return None


@pytest.mark.parametrize("seed", range(8))
def test_random_models_with_sides_of_one(tmp_path, seed):
    """Each one equals onnxruntime, or is refused."""
    random, equal = np.random.default_rng(seed), 0
    for _ in range(20):
        shape = tuple(random.choice([1, 1, 2, 3, 4], random.integers(2, 4)).tolist())
        model, live = Model(("N", *shape)), [("x", shape)]
        for _ in range(6):
            live += [made] if (made := moved(model, random, live)) and np.prod(made[1]) < 1000 else []
        proto = model.proto(model.put("Relu", live[-1][0]))
        try:
            same(proto, tmp_path, x=floats(3, *shape))
        except ModelError:
            continue
        equal += 1
    assert equal >= 10
