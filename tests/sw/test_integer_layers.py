"""Layers of integer models: each against its formula in Python's integers, its range, its file, and what is refused."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from test_golden_requantise import scalar

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.golden.softmax import exponentials
from lutloom.intervals import output_range
from lutloom.network import (
    Add,
    Broadcast,
    Concat,
    Constant,
    Network,
    Pad,
    Product,
    Reshape,
    Slice,
    Softmax,
    State,
    Table,
    Tensor,
    Transpose,
)
from lutloom.passes.verify import verify
from lutloom.shapes import output_shape

INT8 = Format("int", 8)


def tensor(name, shape, low=-128, high=127, zero_point=0):
    return Tensor(name, shape, INT8, Fraction(1), Fraction(zero_point), low, high)


def network(layers, shape=(2, 3, 4), **shapes):
    """A network of layers whose tensors are int:8; those that the input is not reshaped into are worked out."""
    tensors = {"x": tensor("x", shape)}
    for name, given in shapes.items():
        tensors[name] = tensor(name, given)
    for layer in layers:
        sources = [tensors[name] for name in getattr(layer, "inputs", None) or ((layer.input,) if hasattr(
            layer, "input") else ())]
        tensors[layer.output] = tensor(layer.output, output_shape(layer, *(source.shape for source in sources)))
    last = layers[-1].output
    return verify(Network("n", tensors, tuple(layers), "x", last, shape, "NHWC" if len(shape) == 3 else "NC",
                          tensors[last].shape))


def same_from_file(made, x, folder):
    made.save(folder / "n.npz")
    again = Network.load(folder / "n.npz")
    assert np.array_equal(again(x), made(x))
    return made(x)


def codes(shape, count=5, seed=1):
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)


@pytest.mark.parametrize("subtract", [0, 1])
def test_add(tmp_path, subtract):
    add = Add("a", ("x", "c"), "y", 20, (3, -60), (1 << 30, 1717986918), (31, 33), 1288490189, 50, -11, -100, 90,
              subtract)
    constant = Constant("k", "c", np.array([[[-128, 127, 0, 5]]]))
    x = codes((2, 3, 4))
    found = same_from_file(network([constant, add]), x, tmp_path)
    for index in np.ndindex(x.shape):
        a = scalar(int(x[index]) + 3 << 20, 1 << 30, 31)
        b = scalar(int(constant.codes[0, 0, index[-1]]) - 60 << 20, 1717986918, 33)
        y = scalar(a - b if subtract else a + b, 1288490189, 50) - 11
        assert found[index] == min(max(y, -100), 90)
    low, high = output_range(add, tensor("x", (4,)), tensor("c", (4,)))
    assert low <= found.min() and found.max() <= high


def test_product(tmp_path):
    product = Product("p", ("x", "x"), "y", (3, -60), 1717986918, 36, -11, -128, 90)
    x = codes((6,))
    found = same_from_file(network([product], (6,)), x, tmp_path)
    exact = [[min(max(scalar((int(code) + 3) * (int(code) - 60), 1717986918, 36) - 11, -128), 90) for code in row]
             for row in x]
    assert found.tolist() == exact


def test_table(tmp_path):
    table = Table("t", "x", "y", np.random.default_rng(2).integers(-128, 128, 256), "noise")
    x = codes((6,))
    assert np.array_equal(same_from_file(network([table], (6,)), x, tmp_path), table.codes[x.astype(int) + 128])
    narrow = tensor("x", (6,), -3, 5)
    assert output_range(table, narrow) == (table.codes[125:134].min(), table.codes[125:134].max())


def test_softmax_is_one_in_sum_and_ordered():
    table = exponentials(1441585643, 22, -248)
    assert table[0] == (1 << 31) - 1 and (np.diff(table) <= 0).all() and table[255] == 0
    softmax = Softmax("s", "x", "y", 1441585643, 22, -248, -128, 127)
    x = codes((10,), 300)
    y = network([softmax], (10,))(x).astype(int) + 128
    assert (np.abs(y.sum(axis=1) - 256) <= 6).all() and np.array_equal(y.argmax(axis=1), x.argmax(axis=1))


def test_moves(tmp_path):
    x = codes((2, 3, 4))
    layers = [Transpose("t", "x", "a", (2, 0, 1)), Slice("s", "a", "b", (3, 0, 2), (2, 2, 3), (-2, 1, -1)),
              Pad("p", "b", "c", (1, 0, 0), (0, 0, 2), 9), Concat("k", ("c", "c"), "d", 1),
              Reshape("r", "d", "y", (5, 12, 1))]
    found = same_from_file(network(layers), x, tmp_path)
    part = x.transpose(0, 3, 1, 2)[:, 3::-2, :, ::-1]
    part = np.pad(part, ((0, 0), (1, 0), (0, 0), (0, 2)), constant_values=9)
    assert np.array_equal(found, np.concatenate([part, part], axis=2).reshape(5, 5, 12, 1))


@pytest.mark.parametrize("shape, wanted", [((3,), (2, 4, 3)), ((1, 4, 1), (2, 4, 3)), ((2, 1, 3), (2, 4, 3))])
def test_broadcast(shape, wanted, tmp_path):
    x = codes(shape)
    found = same_from_file(network([Broadcast("b", "x", "y", wanted)], shape), x, tmp_path)
    whole = x.reshape(len(x), *(1,) * (3 - len(shape)), *shape)
    assert np.array_equal(found, np.broadcast_to(whole, (len(x), *wanted)))


def test_state_gives_the_frame_before(tmp_path):
    reset = np.array([1, -2, 3])
    made = network([State("s", "x", "y", reset)], (3,))
    x = codes((3,), 20)
    assert np.array_equal(same_from_file(made, x, tmp_path), np.concatenate([reset[None], x[:-1]]))
    trace = made.trace(x)
    assert set(trace) == {"x", "y"} and len(trace["y"]) == 20


def test_only_what_is_asked_for_is_computed():
    wrong = Table("w", "x", "w", np.zeros(256, np.int64))
    made = network([wrong, Reshape("r", "x", "y", (3, 1, 1))], (3,))
    made._executor._functions["w"] = None
    x = codes((3,))
    assert np.array_equal(made.run(x, ("y",))["y"], x.reshape(5, 3, 1, 1))


ADD = Add("a", ("x", "x"), "y", 20, (0, 0), (1 << 30, 1 << 30), (31, 31), 1 << 30, 50, 0, -128, 127)
PRODUCT = Product("p", ("x", "x"), "y", (0, 0), 1 << 30, 40, 0, -128, 127)


@pytest.mark.parametrize("layer, words", [
    (replace(ADD, multiplier=1 << 31), "multipliers outside 0 to 2"), (replace(ADD, shift=30), "shifts below 31"),
    (replace(ADD, left=24, offsets=(1, 0)), "beyond 32 bits"), (replace(ADD, high=200), "clamps to -128 to 200"),
    (replace(PRODUCT, shift=10), "beyond 32 bits"), (replace(ADD, inputs=("x", "z")), "before any layer gives it"),
    (Table("t", "x", "y", np.zeros(255, np.int64)), "has a table of shape"),
    (Softmax("s", "x", "y", 1 << 30, 22, 1, -128, 127), "multiplier or range beyond 32 bits"),
    (Softmax("s", "x", "y", 1 << 30, 22, -9, -128, 0), "not all of 8 or 16 bits"),
    (Slice("s", "x", "y", (4,), (3,), (1,)), "takes 3 codes from 4"),
    (Slice("s", "x", "y", (0,), (3,), (0,)), "in steps of 0"),
    (Reshape("r", "x", "y", (2, 2, 2)), "makes shape"), (Concat("c", ("x",), "y", 1), "joins along axis 1"),
    (Pad("p", "x", "y", (1, 1), (0, 0), 0), "pads 2 axes"), (Transpose("t", "x", "y", (0, 1, 2)), "takes an (H, W, C)"),
    (Broadcast("b", "x", "y", (2, 4)), "whose sides are neither these nor 1"),
])
def test_refused(layer, words):
    tensors = {"x": tensor("x", (6,)), "y": tensor("y", (6,))}
    if "z" in getattr(layer, "inputs", ()):
        tensors["z"] = tensor("z", (6,))
    with pytest.raises(ModelError) as error:
        verify(Network("n", tensors, (layer,), "x", "y", (6,), "NC", (6,)))
    assert words in str(error.value)
