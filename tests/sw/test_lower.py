"""Lowering of graphs with their own quantisers: the network equals the graph computed in rationals."""

import exact_graph as exact
import numpy as np
import pytest
from lower_checks import check, kinds

from lutloom.errors import ModelError
from lutloom.network import MaxPool, Multiply, Thresholds
from lutloom.quantize import prepared, quantize
from lutloom.rounding import MODES


def test_binary_network_with_falling_channels():
    rng = np.random.default_rng(1)
    network = check(
        exact.chain(
            "bnn",
            (6, 6, 2),
            exact.affine("norm", 2.0, -1.0),
            exact.bipolar("in"),
            exact.conv(rng, "conv1", 5, 2, quant="bipolar", bias=False),
            exact.affine("bn1", [1.5, -0.5, 2.0, -1.0, 0.25], rng.normal(size=5)),
            exact.bipolar("act1", 0.5),
            exact.maxpool("pool"),
            ("flatten", "flat", {}),
            exact.dense(rng, "fc", 4, 20, quant="bipolar", bias=False),
            exact.affine("end", 0.3, -0.7),
        )
    )
    assert kinds(network) == ["Thresholds", "Conv", "Thresholds", "MaxPool", "Flatten", "Dense"]
    assert network.layers[2].falling.tolist() == [False, True, False, True, False]
    assert str(network.tensors["conv1.quant"].format) == "bipolar"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "signed, narrow, zero", [(True, False, 0), (True, True, 0), (False, False, 3), (False, True, 0)]
)
def test_quantisers_of_every_kind(mode, signed, narrow, zero):
    rng = np.random.default_rng(2)
    check(
        exact.chain(
            "q",
            (3, 3, 2),
            exact.conv(rng, "conv1", 3, 2, 2, quant=3),
            exact.affine("bn", [0.5, -0.25, 1.0], [0.5, 0.25, -2.0]),
            exact.quant("act", 0.5, 3, signed, zero, narrow, mode),
            exact.conv(rng, "conv2", 4, 3, 2, quant=4, bias=False),
        )
    )


def test_own_quantisers_of_eight_bits_may_take_multipliers_but_stay_exact():
    rng = np.random.default_rng(3)
    for requant in ("auto", "thresholds", "multiply"):
        network = check(
            exact.chain(
                "wide",
                (4, 4, 2),
                exact.conv(rng, "conv1", 3, 2, quant=4),
                exact.quant("act", 0.25, 8),
                exact.conv(rng, "conv2", 3, 3, 2, quant=4, bias=False),
            ),
            requant=requant,
        )
        if requant == "thresholds":
            assert any(isinstance(layer, Thresholds) for layer in network.layers)


def test_scales_that_are_powers_of_two_take_an_exact_multiplier():
    rng = np.random.default_rng(4)
    first = exact.conv(rng, "conv1", 3, 2, quant=4, bias=False)
    first[2]["weight_quant"].scale[...] = 0.5
    first[2]["weight"] = first[2]["weight_quant"].codes * 0.5
    network = check(
        exact.chain(
            "pow2",
            (4, 4, 2),
            first,
            exact.relu("relu"),
            exact.quant("act", 0.25, 8, signed=False, rounding="HALF_UP"),
            exact.conv(rng, "conv2", 3, 3, 2, quant=4, bias=False),
        ),
        input_scale="1/16",
    )
    multiply = next(layer for layer in network.layers if isinstance(layer, Multiply))
    assert (multiply.low, multiply.high) == (0, 255)


def test_padding_takes_the_zero_point():
    rng = np.random.default_rng(5)
    check(
        exact.chain(
            "pad",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, pads=(1, 1, 1, 1), quant=4),
            exact.quant("act", 0.5, 4, signed=False, zero=6),
            exact.conv(rng, "conv2", 2, 3, pads=(1, 1, 0, 0), quant="bipolar", bias=False),
        ),
        input_zero=128,
    )


def test_bipolar_padding_contributes_nothing():
    rng = np.random.default_rng(6)
    check(
        exact.chain(
            "pad",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, quant=4),
            exact.bipolar("act", 0.75),
            exact.conv(rng, "conv2", 2, 3, pads=(1, 1, 1, 1), quant=3, bias=False),
        )
    )


def test_groups_and_strides():
    rng = np.random.default_rng(7)
    check(
        exact.chain(
            "groups",
            (5, 5, 4),
            exact.conv(rng, "dw", 4, 4, groups=4, quant=4, pads=(1, 1, 1, 1)),
            exact.quant("act", 0.5, 4),
            exact.conv(rng, "pw", 6, 4, kernel=1, groups=2, stride=(2, 2), quant=3, bias=False),
        )
    )


def test_multithreshold_with_infinite_and_bipolar_steps():
    rng = np.random.default_rng(15)
    four = {"thresholds": np.sort(rng.normal(size=(3, 3)), axis=1), "out_scale": 1.0, "out_bias": -2.0}
    four["thresholds"][1] = [-np.inf, 0.25, np.inf]
    network = check(
        exact.chain(
            "mt",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, 1, quant=4),
            ("multithreshold", "mt1", four),
            exact.conv(rng, "conv2", 2, 3, 2, pads=(1, 1, 1, 1), quant=3),
            ("multithreshold", "mt2", {"thresholds": np.array([[0.0], [0.5]]), "out_scale": 2.0, "out_bias": -1.0}),
            exact.conv(rng, "conv3", 2, 2, 2, quant="bipolar", bias=False),
        )
    )
    assert [str(network.tensors[f"{name}.quant"].format) for name in ("conv1", "conv2")] == ["int:2", "bipolar"]


def test_sign_is_bipolar_where_it_is_never_zero():
    rng = np.random.default_rng(16)
    steps = [
        exact.affine("norm", 2.0, -1.0),
        exact.bipolar("in"),
        exact.conv(rng, "conv1", 3, 1, 3, quant="bipolar"),
        ("sign", "act", {}),
        exact.conv(rng, "conv2", 2, 3, 2, quant="bipolar", bias=False),
    ]
    network = check(exact.chain("sign", (5, 5, 1), *steps))
    assert str(network.tensors["conv1.quant"].format) == "bipolar"
    even = exact.conv(rng, "conv1", 3, 1, 2, quant="bipolar", bias=False)
    network = check(exact.chain("sign", (5, 5, 1), *steps[:2], even, *steps[3:]))
    assert str(network.tensors["conv1.quant"].format) == "int:2"


def test_relu_and_scaling_behind_a_quantiser():
    rng = np.random.default_rng(17)
    check(
        exact.chain(
            "after",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, 2, quant=4),
            exact.quant("act", 0.5, 4),
            exact.relu("relu"),
            exact.affine("scale", 3.0, 0.0),
            exact.conv(rng, "conv2", 2, 3, 2, pads=(1, 1, 1, 1), quant=3, bias=False),
        )
    )


def test_clip_in_front_of_a_quantiser():
    rng = np.random.default_rng(18)
    clip = ("clip", "clip", {"low": -0.3, "high": 1.7})
    for requant in ("auto", "multiply"):
        check(
            exact.chain(
                "clip",
                (4, 4, 2),
                exact.conv(rng, "conv1", 3, 2, 2, quant=4),
                clip,
                exact.quant("act", 0.25, 5, zero=0),
                exact.conv(rng, "conv2", 2, 3, 2, quant=3, bias=False),
            ),
            requant=requant,
        )


def test_names_are_unique_and_follow_the_layers():
    rng = np.random.default_rng(27)
    network = check(
        exact.chain(
            "n",
            (6, 6, 1),
            exact.conv(rng, "conv1", 2, 1, quant=4),
            exact.quant("a", 0.5, 3),
            exact.maxpool("pool"),
            ("flatten", "flat", {}),
            exact.dense(rng, "fc", 2, 8, quant=3, bias=False),
        )
    )
    assert [layer.name for layer in network.layers] == ["conv1", "conv1.quant", "pool", "flat", "fc"]
    assert any(isinstance(layer, MaxPool) for layer in network.layers)


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_a_scale_by_channel_in_front_of_a_layer_is_refused():
    rng = np.random.default_rng(30)
    with pytest.raises(ModelError, match="layer 'conv2' cannot take its input as integers: .* differs by channel"):
        from lutloom.passes.lower import lower
        from lutloom.passes.weigh import weigh

        graph, options = prepared(
            exact.chain(
                "s",
                (4, 4, 2),
                exact.conv(rng, "conv1", 2, 2, quant=4),
                exact.quant("act", [0.5, 0.25], 4),
                exact.conv(rng, "conv2", 2, 2, 2, quant=4),
            )
        )
        lower(weigh(graph, options), options)


def test_padding_without_a_code_for_zero_is_refused():
    rng = np.random.default_rng(31)
    graph = exact.chain("pad", (4, 4, 1), exact.conv(rng, "conv1", 2, 1, pads=(1, 1, 1, 1), quant=4))
    with pytest.raises(ModelError, match="layer 'conv1' pads with zero, but its input has no code for zero"):
        quantize(graph, input_zero="300")


def test_too_many_thresholds_are_refused():
    rng = np.random.default_rng(32)
    graph = exact.chain(
        "many",
        (4, 4, 1),
        exact.conv(rng, "conv1", 2, 1, quant=4),
        exact.quant("act", 0.001, 16, rounding="FLOOR"),
        exact.conv(rng, "conv2", 2, 2, 2, quant=4),
    )
    with pytest.raises(ModelError, match="'conv1.quant' needs 65535 thresholds a channel, .* use fewer bits"):
        quantize(graph)


@pytest.mark.parametrize("seed", range(25))
def test_random_networks(seed):
    """Any chain of supported operators with quantisers of any kind."""
    rng = np.random.default_rng(100 + seed)
    channels, size = int(rng.integers(1, 4)), 7
    steps = (
        [exact.affine("norm", float(rng.choice([1.0, 2.0])), -1.0), exact.bipolar("in")] if rng.integers(3) == 0 else []
    )
    for index in range(int(rng.integers(1, 3))):
        outputs, pad = int(rng.integers(1, 4)), (int(rng.integers(2)),) * 4
        kind = rng.choice(["bipolar", "int"])
        steps.append(
            exact.conv(
                rng,
                f"conv{index}",
                outputs,
                channels,
                pads=pad,
                bias=bool(rng.integers(2)),
                quant="bipolar" if kind == "bipolar" else int(rng.integers(2, 6)),
            )
        )
        channels, size = outputs, size - 2 + 2 * pad[0]
        pool = exact.maxpool(f"pool{index}", 2, 1)
        before, after = bool(rng.integers(2)), bool(rng.integers(2))
        if before:
            steps.append(pool)
        if rng.integers(2):
            steps.append(exact.affine(f"bn{index}", rng.normal(size=channels), rng.normal(size=channels)))
        if rng.integers(2):
            steps.append(exact.relu(f"relu{index}"))
        signed = bool(rng.integers(2))
        steps.append(
            exact.bipolar(f"act{index}", 0.5)
            if rng.integers(3) == 0
            else exact.quant(
                f"act{index}",
                float(rng.choice([0.25, 0.3])),
                int(rng.integers(1 + signed, 7)),
                signed,
                0.0 if signed else float(rng.integers(3)),
                bool(rng.integers(2)) and signed,
                str(rng.choice(list(MODES))),
            )
        )
        if after and not before:
            steps.append(pool)
        size -= before or after
    steps += [("flatten", "flat", {}), exact.dense(rng, "fc", 3, channels * size * size, quant=3, bias=False)]
    check(exact.chain("random", (7, 7, exact_channels(steps)), *steps), seed=seed)


def exact_channels(steps):
    return next(params["weight"].shape[3] * params["groups"] for op, _, params in steps if op == "conv")
