"""The Keras front end against plain numpy, and the shared models against Keras's own outputs."""

import os
from math import erf
from pathlib import Path

import keras_models as keras
import numpy as np
import pytest
from keras_models import functional, layer, save, save_h5, sequential
from lower_checks import compared, kinds

from lutloom import check, evaluate, quantize
from lutloom.data import load
from lutloom.floating import model_layout, run
from lutloom.frontend import load_graph

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
MODELS = DATA / "models"
shared = pytest.mark.skipif(not MODELS.is_dir(), reason="needs the shared models")


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv2d(name, *weights, strides=1, padding="valid", dilation=1, groups=1, activation="linear", **more):
    kernel = weights[0]
    return layer("Conv2D", name, *weights, filters=kernel.shape[3], kernel_size=list(kernel.shape[:2]), groups=groups,
                 strides=[strides] * 2, padding=padding, dilation_rate=[dilation] * 2, data_format="channels_last",
                 activation=activation, use_bias=len(weights) > 1, **more)


def outputs(path, x):
    graph = load_graph(path)
    return model_layout(graph, run(graph, x))


def equal(path, x, wanted):
    np.testing.assert_allclose(outputs(path, x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("kernel, stride, dilation", [(3, 1, 1), (3, 2, 1), (2, 1, 1), (2, 2, 1), (5, 3, 1), (3, 1, 2)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolution(tmp_path, size, kernel, stride, dilation, padding):
    weights = random(kernel, kernel, 2, 3), random(3, seed=1)
    model = sequential((size, size + 1, 2), conv2d("c", *weights, strides=stride, padding=padding, dilation=dilation))
    x = random(2, size, size + 1, 2, seed=2)
    equal(save(tmp_path / "net.keras", model), x, keras.conv(x, *weights, stride, padding, dilation))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("pool, stride", [(2, 2), (3, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pools(tmp_path, size, pool, stride, padding):
    x = random(2, size, size, 3)
    for kind, reduce in (("MaxPooling2D", np.nanmax), ("AveragePooling2D", np.nanmean)):
        model = sequential((size, size, 3), layer(kind, "p", pool_size=[pool] * 2, strides=[stride] * 2,
                                                  padding=padding, data_format="channels_last"))
        equal(save(tmp_path / "net.keras", model), x, keras.pooled(x, pool, stride, padding, reduce))


def test_grouped_depthwise_and_separable(tmp_path):
    x = random(2, 6, 6, 4)
    grouped = random(3, 3, 2, 6)
    model = sequential((6, 6, 4), conv2d("g", grouped, groups=2, padding="same"))
    equal(save(tmp_path / "g.keras", model), x, keras.conv(x, grouped, groups=2, padding="same"))
    deep, point, bias = random(3, 3, 4, 2), random(1, 1, 8, 5, seed=1), random(5, seed=2)
    common = {"kernel_size": [3, 3], "strides": [2, 2], "padding": "same", "depth_multiplier": 2}
    model = sequential((6, 6, 4), layer("DepthwiseConv2D", "d", deep, use_bias=False, **common))
    equal(save(tmp_path / "d.keras", model), x, keras.depthwise(x, deep, stride=2, padding="same"))
    model = sequential((6, 6, 4), layer("SeparableConv2D", "s", deep, point, bias, filters=5, activation="relu",
                                        **common))
    wanted = keras.conv(keras.depthwise(x, deep, stride=2, padding="same"), point, bias)
    path = save(tmp_path / "s.keras", model)
    equal(path, x, np.maximum(wanted, 0))
    assert [node.name for node in load_graph(path).nodes] == ["s_depthwise", "s_pointwise", "s_activation"]


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_normalization_with_and_without_gamma_and_beta(tmp_path, scale, center):
    gamma, beta, mean, variance = random(3), random(3, seed=1), random(3, seed=2), np.abs(random(3, seed=3))
    given = [*([gamma] if scale else []), *([beta] if center else []), mean, variance]
    model = sequential((2, 2, 3), layer("BatchNormalization", "bn", *given, axis=-1, epsilon=0.01, scale=scale,
                                        center=center))
    x = random(4, 2, 2, 3, seed=4)
    wanted = (x - mean) / np.sqrt(variance + 0.01) * (gamma if scale else 1) + (beta if center else 0)
    equal(save(tmp_path / "net.keras", model), x, wanted)


ACTIVATIONS = {
    "linear": lambda x: x, "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)), "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x / (1 + np.exp(-x)), "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "gelu": lambda x: x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2,
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_fused_and_alone(tmp_path, name):
    x = random(6, 4) * 4
    alone = sequential((4,), layer("Activation", "a", activation=name), layer("Dropout", "drop", rate=0.5))
    fused = sequential((4,), layer("Dense", "fc", np.eye(4), units=4, use_bias=False, activation=name))
    for model in (fused, alone) if name != "linear" else (fused,):
        equal(save(tmp_path / "net.keras", model), x, ACTIVATIONS[name](x))


def test_what_keras_2_and_3_do_differently(tmp_path):
    """The hard sigmoid, whose slope was a fifth, and the slope of a LeakyReLU where none is given."""
    x, model = random(6, 4) * 4, sequential((4,), layer("Activation", "a", activation="hard_sigmoid"))
    equal(save(tmp_path / "net.keras", model), x, np.clip(x / 6 + 0.5, 0, 1))
    equal(save_h5(tmp_path / "net.h5", model), x, np.clip(x / 5 + 0.5, 0, 1))
    equal(save(tmp_path / "leaky.keras", sequential((4,), layer("LeakyReLU", "r"))), x, np.where(x > 0, x, 0.3 * x))


def test_relu_layers(tmp_path):
    x = random(6, 4) * 4
    slope = {"class_name": "LeakyReLU", "module": "keras.layers", "config": {"negative_slope": 0.1}}
    for entry, wanted in (
        (layer("ReLU", "r", max_value=None, negative_slope=0.0, threshold=0.0), np.maximum(x, 0)),
        (layer("ReLU", "r", max_value=2.0), np.clip(x, 0, 2)),
        (layer("ReLU", "r", max_value=2.0, negative_slope=0.25), np.minimum(np.where(x > 0, x, x / 4), 2)),
        (layer("LeakyReLU", "r", alpha=0.5), np.where(x > 0, x, x / 2)),
        (layer("Activation", "r", activation=slope), np.where(x > 0, x, x / 10)),
        (layer("Softmax", "r", axis=-1), ACTIVATIONS["softmax"](x)),
        (layer("ELU", "r", alpha=0.5), np.where(x > 0, x, np.expm1(x) / 2)),
        (layer("PReLU", "r", np.full(4, 0.3), shared_axes=None), np.where(x > 0, x, x * 0.3)),
        (layer("PReLU", "r", np.full(1, 0.3), shared_axes=[1]), np.where(x > 0, x, x * 0.3)),
        (layer("PReLU", "r", np.full(1, 0.3), shared_axes=[0]), np.where(x > 0, x, x * 0.3)),
        (layer("Rescaling", "r", scale=0.5, offset=-1.0), x / 2 - 1),
    ):
        equal(save(tmp_path / "net.keras", sequential((4,), entry)), x, wanted)


def test_shapes_and_global_pools(tmp_path):
    x, weights = random(2, 4, 6), random(1, 1, 1, 2)
    pad = layer("ZeroPadding2D", "pad", padding=[[1, 0], [2, 1]], data_format="channels_last")
    model = sequential((4, 6), layer("Reshape", "r", target_shape=[4, -1, 1]), pad, conv2d("c", weights),
                       layer("Flatten", "f"), layer("Reshape", "r2", target_shape=[5, 9, 2]))
    wanted = keras.conv(np.pad(x[..., None], ((0, 0), (1, 0), (2, 1), (0, 0))), weights)
    equal(save(tmp_path / "net.keras", model), x, wanted)
    x = random(2, 4, 6, 3)
    for kind, reduce in (("Average", np.mean), ("Max", np.max)):
        for keep in (False, True):
            model = sequential((4, 6, 3), layer(f"Global{kind}Pooling2D", "g", keepdims=keep))
            equal(save(tmp_path / "net.keras", model), x, reduce(x, axis=(1, 2), keepdims=keep))


def test_layers_that_move_numbers(tmp_path):
    x = random(2, 4, 6, 3)
    for entry, wanted in (
        (layer("UpSampling2D", "u", size=[2, 3], interpolation="nearest"), x.repeat(2, axis=1).repeat(3, axis=2)),
        (layer("UpSampling2D", "u", size=[1, 1]), x),
        (layer("Cropping2D", "c", cropping=[[1, 0], [2, 1]]), x[:, 1:, 2:5]),
        (layer("Permute", "p", dims=[3, 1, 2]), x.transpose(0, 3, 1, 2)),
        (layer("Permute", "p", dims=[2, 1, 3]), x.transpose(0, 2, 1, 3)),
    ):
        path = save(tmp_path / "net.keras", sequential((4, 6, 3), layer("ReLU", "r", max_value=9.0), entry))
        equal(path, x, np.clip(wanted, 0, 9))
    x = random(2, 6, 3)
    for entry, wanted in ((layer("UpSampling1D", "u", size=2), x.repeat(2, axis=1)),
                          (layer("Cropping1D", "c", cropping=[1, 2]), x[:, 1:4]),
                          (layer("ZeroPadding1D", "z", padding=[1, 2]), np.pad(x, ((0, 0), (1, 2), (0, 0)))),
                          (layer("Permute", "p", dims=[2, 1]), x.transpose(0, 2, 1))):
        path = save(tmp_path / "net.keras", sequential((6, 3), layer("ReLU", "r", max_value=9.0), entry))
        equal(path, x, np.clip(wanted, 0, 9))
    path = save(tmp_path / "net.keras", sequential((1, 1, 5), layer("Permute", "p", dims=[3, 2, 1]),
                                                   layer("ReLU", "r"), layer("Reshape", "s", target_shape=[5])))
    equal(path, x := random(2, 1, 1, 5), np.maximum(x[:, 0, 0], 0))


def test_moved_numbers_become_integers(tmp_path):
    model = sequential((4, 6, 3), conv2d("c", random(3, 3, 3, 4), activation="gelu"),
                       layer("UpSampling2D", "u", size=[2, 2]), layer("Cropping2D", "crop", cropping=[[1, 0], [1, 2]]),
                       layer("Permute", "p", dims=[2, 1, 3]), conv2d("d", random(2, 2, 4, 3)), layer("Flatten", "f"))
    compared(load_graph(save(tmp_path / "net.keras", model)))


def shuffle(source, shape, groups, name="shuffle"):
    """Calls that shuffle the channels of a map, and the name of the last one."""
    height, width, channels = shape
    return [(layer("Reshape", f"{name}_in", target_shape=[height, width, groups, channels // groups]), source),
            (layer("Permute", f"{name}_turn", dims=[1, 2, 4, 3]), f"{name}_in"),
            (layer("Reshape", name, target_shape=[height, width, -1]), f"{name}_turn")]


def shuffled(x, groups):
    *space, channels = x.shape
    return x.reshape(*space, groups, channels // groups).swapaxes(-1, -2).reshape(x.shape)


def test_units_of_shufflenet(tmp_path):
    """Grouped 1 x 1, shuffle, depthwise, grouped 1 x 1 and sum; a branch that joins what went past it; a shuffle."""
    a, b, c = random(1, 1, 4, 6), random(3, 3, 6, 1, seed=1), random(1, 1, 2, 12, seed=2)
    d, e = random(1, 1, 12, 4, seed=3), random(1, 1, 8, 6, seed=4)
    model = functional(
        (4, 5, 12), (conv2d("a", a, groups=3, activation="relu"), "input"), *shuffle("a", (4, 5, 6), 3),
        (layer("DepthwiseConv2D", "b", b, use_bias=False, kernel_size=[3, 3], padding="same", depth_multiplier=1),
         "shuffle"),
        (conv2d("c", c, groups=3), "b"), (layer("Add", "add"), "c", "input"),
        (conv2d("d", d), "add"), (layer("Concatenate", "cat", axis=-1), "add", "d"),
        *shuffle("cat", (4, 5, 16), 2, "last"), (conv2d("e", e, groups=2), "last"), output="e")
    x = random(2, 4, 5, 12, seed=5)
    y = shuffled(np.maximum(keras.conv(x, a, groups=3), 0), 3)
    y = keras.conv(keras.depthwise(y, b, padding="same"), c, groups=3) + x
    wanted = keras.conv(shuffled(np.concatenate([y, keras.conv(y, d)], axis=-1), 2), e, groups=2)
    for path in (save(tmp_path / "net.keras", model), save_h5(tmp_path / "net.h5", model)):
        equal(path, x, wanted)
    network = compared(load_graph(path), frames=1)
    assert kinds(network).count("Transpose") == 2


@pytest.mark.parametrize("dims", [[1, 2, 4, 3], [2, 1, 3, 4], [3, 4, 1, 2], [4, 1, 2, 3], [3, 1, 2, 4]])
def test_four_sides_change_places(tmp_path, dims):
    """Sides that stay together move as one."""
    x = random(2, 4, 3, 6)
    model = sequential((4, 3, 6), layer("ReLU", "r"), layer("Reshape", "in", target_shape=[4, 3, 2, 3]),
                       layer("Permute", "p", dims=dims))
    wanted = np.maximum(x, 0).reshape(2, 4, 3, 2, 3).transpose(0, *dims)
    path = save(tmp_path / "net.keras", model)
    equal(path, x, wanted)
    model["config"]["layers"].append(layer("Reshape", "out", target_shape=[6, 3, 4]))
    equal(save(path, model), x, wanted.reshape(2, 6, 3, 4))


def test_normalization(tmp_path):
    x, mean, variance = random(2, 4, 6, 3), random(3, seed=1), random(3, seed=2) ** 2
    wanted = (x - mean) / np.sqrt(variance)
    for entry in (layer("Normalization", "n", axis=[-1], mean=mean.tolist(), variance=variance.tolist()),
                  layer("Normalization", "n", mean, variance, np.array(7), axis=[-1], mean=None, variance=None)):
        equal(save(tmp_path / "net.keras", sequential((4, 6, 3), entry)), x, wanted)
    entry = layer("Normalization", "n", axis=None, mean=0.5, variance=0.0)
    model = sequential((4, 6, 3), entry, layer("Rescaling", "r", scale=1e-7))
    equal(save(tmp_path / "net.keras", model), x, x - 0.5)
    entry = layer("Normalization", "n", np.array(0.5), np.array(4.0), np.array(7), axis=None, mean=None, variance=None)
    equal(save(tmp_path / "net.keras", sequential((4, 6, 3), entry)), x, (x - 0.5) / 2)


def operation(kind, name):
    """A call of keras.ops, as Keras 3 writes it."""
    return {"module": "keras.src.ops.numpy", "class_name": kind, "config": {"name": name}, "registered_name": kind,
            "_weights": []}


def test_operations_of_keras_ops(tmp_path):
    model = functional((4,), (operation("Relu", "relu"), "input"), (operation("Tanh", "tanh"), "input"),
                       (operation("Add", "add"), "relu", "tanh"), output="add")
    x = random(5, 4)
    equal(save(tmp_path / "net.keras", model), x, np.maximum(x, 0) + np.tanh(x))


def test_one_dimension(tmp_path):
    x, weights = random(2, 9, 3), random(3, 3, 4)
    model = sequential((9, 3), layer("Conv1D", "c", weights, filters=4, kernel_size=[3], strides=[2], padding="same",
                                     use_bias=False), layer("MaxPooling1D", "p", pool_size=[2], strides=[2]),
                       layer("GlobalAveragePooling1D", "g"))
    y = keras.conv(np.pad(x, ((0, 0), (1, 1), (0, 0)))[:, None], weights[None])[:, :, ::2]
    equal(save(tmp_path / "net.keras", model), x, y[:, 0, :4].reshape(2, 2, 2, 4).max(axis=2).mean(axis=1))


@pytest.mark.parametrize("dilation", [1, 2])
def test_causal_convolution(tmp_path, dilation):
    """All padding stands in front: nothing comes before what it is made of."""
    x, weights = random(2, 9, 3), random(3, 3, 4)
    model = sequential((9, 3), layer("Conv1D", "c", weights, filters=4, kernel_size=[3], padding="causal",
                                     dilation_rate=[dilation], use_bias=False))
    padded = np.pad(x, ((0, 0), (2 * dilation, 0), (0, 0)))
    wanted = sum(padded[:, tap * dilation:tap * dilation + 9] @ weights[tap] for tap in range(3))
    equal(save(tmp_path / "net.keras", model), x, wanted)


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2, -3])
def test_concatenation_along_any_axis_and_averages_of_several(tmp_path, axis):
    x = random(2, 4, 5, 3)
    model = functional((4, 5, 3), (layer("ReLU", "r"), "input"), (layer("Concatenate", "cat", axis=axis), "r", "input"),
                       output="cat")
    equal(save(tmp_path / "net.keras", model), x, np.concatenate([np.maximum(x, 0), x], axis=axis))
    model = functional((4, 5, 3), (layer("ReLU", "r"), "input"), (layer("Average", "mean"), "r", "input", "input"),
                       output="mean")
    equal(save(tmp_path / "net.keras", model), x, (np.maximum(x, 0) + 2 * x) / 3)


@pytest.mark.parametrize("kind, reduce", [("Maximum", np.maximum), ("Minimum", np.minimum)])
def test_the_greatest_and_the_least(tmp_path, kind, reduce):
    x, kernel = random(2, 4, 5, 3), random(1, 1, 3, 3)
    model = functional((4, 5, 3), (layer("ReLU", "r"), "input"), (conv2d("c", kernel), "input"),
                       (layer(kind, "most"), "c", "r", "input"), output="most")
    path = save(tmp_path / "net.keras", model)
    equal(path, x, reduce(reduce(keras.conv(x, kernel), np.maximum(x, 0)), x))
    compared(load_graph(path))


def test_slopes_of_channels(tmp_path):
    x, slopes, kernel = random(2, 4, 5, 3), np.array([0.3, -0.5, 0.0]), random(1, 1, 3, 3)
    model = sequential((4, 5, 3), conv2d("c", kernel), layer("PReLU", "p", slopes.reshape(1, 1, 3), shared_axes=[1, 2]))
    path = save(tmp_path / "net.keras", model)
    y = keras.conv(x, kernel)
    equal(path, x, np.where(y > 0, y, slopes * y))
    compared(load_graph(path))
    negative = layer("PReLU", "p", slopes.reshape(1, 1, 3), shared_axes=[-2, -1])  # Keras shares sides -3 and -2
    path = save(tmp_path / "net.keras", sequential((4, 5, 3), conv2d("c", kernel), negative))
    equal(path, x, np.where(y > 0, y, slopes * y))
    model = sequential((4,), layer("PReLU", "p", np.arange(4) / 4, shared_axes=None))
    equal(save(tmp_path / "net.keras", model), x := random(6, 4), np.where(x > 0, x, x * np.arange(4) / 4))


def branches(bias=True):
    """A residual model with every join in it, and what it computes."""
    a, b, c = random(3, 3, 2, 4), random(3, 3, 4, 4, seed=1) / 2, random(14, 3, seed=2)
    model = functional(
        (6, 6, 2),
        (conv2d("a", a, padding="same", activation="relu"), "input"),
        (conv2d("b", b, padding="same"), "a"),
        (layer("Add", "add"), "a", "b"),
        (layer("Subtract", "sub"), "add", "b"),
        (layer("Multiply", "mul"), "sub", "a"),
        (layer("Concatenate", "cat", axis=-1), "add", "mul", "b", "input"),
        (layer("GlobalAveragePooling2D", "gap"), "cat"),
        (layer("Dense", "fc", c, units=3, use_bias=False), "gap"),
        output="fc",
    )

    def compute(x):
        first = np.maximum(keras.conv(x, a, padding="same"), 0)
        second = keras.conv(first, b, padding="same")
        product = (first + second - second) * first
        return np.concatenate([first + second, product, second, x], axis=-1).mean(axis=(1, 2)) @ c

    return model, compute


def test_branches_in_both_kinds_of_file(tmp_path):
    model, compute = branches()
    x = random(2, 6, 6, 2)
    for path in (save(tmp_path / "net.keras", model), save(tmp_path / "old.keras", model, named=False),
                 save_h5(tmp_path / "net.h5", model)):
        equal(path, x, compute(x))
        assert [row.layer for row in check(path)] == ["a", "b", "add", "sub", "mul", "cat", "gap", "fc"]


def test_keras_2_config(tmp_path):
    model, compute = branches()
    for entry in model["config"]["layers"]:
        for key in ("module", "registered_name"):
            del entry[key]
        tensors = [args for node in entry["inbound_nodes"] for args in node["args"]]
        tensors = tensors[0] if tensors and isinstance(tensors[0], list) else tensors
        entry["inbound_nodes"] = [[[*tensor["config"]["keras_history"], {}] for tensor in tensors]] if tensors else []
        if "batch_shape" in entry["config"]:
            entry["config"]["batch_input_shape"] = entry["config"].pop("batch_shape")
    x = random(2, 6, 6, 2)
    equal(save_h5(tmp_path / "net.hdf5", model), x, compute(x))


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_nested_models_and_layers_used_twice(tmp_path, kind):
    kernel, matrix, bias = random(1, 1, 2, 2), random(2, 3), random(3, seed=1)
    inner = sequential((4, 4, 2), conv2d("c", kernel, activation="relu"), layer("GlobalAveragePooling2D", "g"),
                       name="inner")
    model = functional((4, 4, 2), (conv2d("c2", kernel), "input"), (conv2d("c3", kernel), "c2"), (inner, "c3"),
                       (layer("Dense", "fc", matrix, bias, units=3), "inner"), output="fc")
    again = model["config"]["layers"][2]  # c3 is called on its own result
    again["inbound_nodes"].append({"args": [{"class_name": "__keras_tensor__",
                                             "config": {"keras_history": ["c3", 0, 0]}}], "kwargs": {}})
    model["config"]["layers"][3]["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["c3", 1, 0]
    path = save(tmp_path / "n.keras", model) if kind == "keras" else save_h5(tmp_path / "n.h5", model)
    x = random(2, 4, 4, 2)
    y = x
    for _ in range(4):
        y = keras.conv(y, kernel)
    equal(path, x, np.maximum(y, 0).mean(axis=(1, 2)) @ matrix + bias)
    assert [node.name for node in load_graph(path).nodes][:4] == ["c2", "c3", "c3_1", "c"]


def test_a_batch_of_channels_last_alone_is_the_models_own_layout(tmp_path):
    graph = load_graph(save(tmp_path / "net.keras", sequential((5, 4, 2), conv2d("c", random(2, 2, 2, 3)))))
    assert (graph.input_shape, graph.input_layout, graph.output_shape) == ((5, 4, 2), "NHWC", (4, 3, 3))


# --- the shared models ------------------------------------------------------------------------------------------------

@shared
def test_shared_models_give_what_keras_gives():
    with np.load(MODELS / "keras_small_resnet_untrained.expected.npz") as expected:
        y = outputs(MODELS / "keras_small_resnet_untrained.keras", expected["x"])
        np.testing.assert_allclose(y, expected["logits_float"], atol=1e-4)
    with np.load(MODELS / "keras_mnist_conv12_1epoch.expected.npz") as expected:
        x = load("mnist").x[expected["index"]].reshape(-1, 28, 28, 1) / 255
        y = outputs(MODELS / "keras_mnist_conv12_1epoch.keras", x)
        np.testing.assert_allclose(y, expected["logits_float"], atol=1e-4)


@shared
def test_shared_cnn_is_quantised_and_evaluated():
    report = evaluate(MODELS / "keras_mnist_conv12_1epoch.keras", data="mnist", calibrate="mnist", count=1000)
    assert abs(report["accuracy"]["golden"] - report["accuracy"]["float"]) < 0.01


@shared
def test_shared_residual_network_becomes_integers():
    with np.load(MODELS / "keras_small_resnet_untrained.expected.npz") as expected:
        x, wanted = expected["x"], expected["logits_float"]
    network = quantize(MODELS / "keras_small_resnet_untrained.keras", calibrate=x)
    got = network.decode(network(network.encode(x)))
    assert np.abs(got - wanted).max() < 0.05 and (got.argmax(1) == wanted.argmax(1)).all()
