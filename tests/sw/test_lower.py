"""Lowering of graphs with their own quantisers: the network equals the graph computed in rationals."""

import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.network import Flatten, MaxPool, Multiply, Offset, SumPool, Thresholds, TopK
from lutloom.quantize import prepared, quantize
from lutloom.rounding import MODES


def check(graph, frames=2, seed=0, **choices):
    """The network of a graph equals the graph in rationals, up to the output's own scale; the network."""
    network = quantize(graph, **choices)
    _, options = prepared(graph, **choices)
    rng = np.random.default_rng(seed)
    tensor = network.tensors[network.input]
    codes = rng.integers(tensor.low, tensor.high + 1, (frames, *graph.shapes[graph.input]))
    found = network(codes.reshape(frames, *tensor.shape).astype(tensor.format.dtype()))
    output = network.tensors[network.output]
    for frame, got in zip(codes, found, strict=True):
        wanted = exact.run(graph, frame, options.input)
        value = exact.rationals(output.format.values(got).astype(float))
        np.testing.assert_array_equal((value - output.zero_point) * output.scale, wanted)
    return network


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]


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


def test_max_pool_behind_accumulators_moves_behind_the_quantiser():
    rng = np.random.default_rng(8)
    network = check(
        exact.chain(
            "pool",
            (6, 6, 2),
            exact.conv(rng, "conv1", 3, 2, quant=4),
            exact.maxpool("pool"),
            exact.relu("relu"),
            exact.quant("act", 0.5, 3, signed=False),
            ("flatten", "flat", {}),
            exact.dense(rng, "fc", 3, 12, quant=3, bias=False),
        )
    )
    assert kinds(network) == ["Conv", "Thresholds", "MaxPool", "Flatten", "Dense"]


def test_max_pool_in_front_of_a_falling_step_stays_on_accumulators():
    rng = np.random.default_rng(9)
    network = check(
        exact.chain(
            "fall",
            (6, 6, 2),
            exact.conv(rng, "conv1", 3, 2, quant="bipolar"),
            exact.maxpool("pool"),
            exact.affine("bn", [-1.0, 0.5, -0.25], [0.1, 0.2, 0.3]),
            exact.bipolar("act"),
            exact.conv(rng, "conv2", 2, 3, 2, quant="bipolar", bias=False),
        )
    )
    assert kinds(network)[:3] == ["Conv", "MaxPool", "Thresholds"]


def test_max_pool_between_two_falling_steps_is_refused():
    rng = np.random.default_rng(9)
    with pytest.raises(ModelError, match="'pool' takes the maximum of values that fall"):
        quantize(
            exact.chain(
                "fall",
                (6, 6, 2),
                exact.conv(rng, "conv1", 1, 2, quant="bipolar"),
                exact.affine("bn0", -1.0, 0.0),
                exact.maxpool("pool"),
                exact.affine("bn", -1.0, 0.0),
                exact.bipolar("act"),
                exact.conv(rng, "conv2", 2, 1, 2, quant="bipolar"),
            )
        )


def test_average_pool_with_divisors_that_differ():
    rng = np.random.default_rng(10)
    network = check(
        exact.chain(
            "avg",
            (5, 5, 2),
            exact.conv(rng, "conv1", 3, 2, 2, quant=4),
            exact.relu("relu"),
            exact.quant("act", 0.5, 4, signed=False),
            exact.avgpool("pool", 3, 2, (0, 0, 1, 1), [[9, 6], [6, 4]]),
            exact.quant("act2", 0.25, 4, signed=False),
            exact.conv(rng, "conv2", 2, 3, 2, quant=3, bias=False),
        )
    )
    pool = next(layer for layer in network.layers if isinstance(layer, SumPool))
    assert pool.factors.tolist() == [[4, 6], [6, 9]] and pool.pad_code == 0


def test_average_pool_pads_with_the_zero_point():
    rng = np.random.default_rng(11)
    check(
        exact.chain(
            "avg",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, 1, quant=4),
            exact.quant("act", 0.5, 4, signed=False, zero=5),
            exact.avgpool("pool", 2, 2, (1, 1, 1, 1), np.full((3, 3), 4)),
            exact.quant("act2", 0.25, 4),
            exact.conv(rng, "conv2", 2, 3, 2, quant=3, bias=False),
        )
    )


def test_global_pool_of_accumulators_keeps_the_bias():
    rng = np.random.default_rng(12)
    network = check(
        exact.chain(
            "gap",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, quant=4),
            ("globalpool", "gap", {}),
            exact.quant("act", 0.25, 6),
            exact.dense(rng, "fc", 3, 3, quant=3, bias=False),
        )
    )
    assert kinds(network)[:3] == ["Conv", "SumPool", "Flatten"]


def test_average_of_bipolar_codes():
    rng = np.random.default_rng(13)
    check(
        exact.chain(
            "avg",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, 1, quant=4),
            exact.bipolar("act", 0.5),
            exact.avgpool("pool", 2, 2, (0, 0, 0, 0), np.full((2, 2), 4)),
            exact.quant("act2", 0.25, 3),
            ("flatten", "flat", {}),
            exact.dense(rng, "fc", 3, 12, quant=3, bias=False),
        )
    )


def test_trunc_behind_an_average_pool():
    rng = np.random.default_rng(14)
    trunc = (
        "trunc",
        "trunc",
        {"scale": np.array(0.5), "zero_point": np.array(0.0), "in_bits": 6, "out_bits": 4, "rounding": "FLOOR"},
    )
    check(
        exact.chain(
            "trunc",
            (4, 4, 2),
            exact.conv(rng, "conv1", 3, 2, 1, quant=4),
            exact.quant("act", 0.5, 4, signed=False),
            exact.avgpool("pool", 2, 2, (0, 0, 0, 0), np.full((2, 2), 4)),
            exact.affine("times", 4.0, 0.0),
            trunc,
            exact.conv(rng, "conv2", 2, 3, 2, quant=3, bias=False),
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


# --- input and output -------------------------------------------------------------------------------------------------


def test_a_quantiser_at_the_input_sets_its_format():
    rng = np.random.default_rng(20)
    graph = exact.chain(
        "in",
        (4, 4, 3),
        exact.quant("in", 1 / 128, 8),
        exact.conv(rng, "conv1", 3, 3, 2, quant="bipolar"),
        exact.bipolar("act"),
        exact.conv(rng, "conv2", 2, 3, 2, quant="bipolar", bias=False),
    )
    network = check(graph)
    tensor = network.tensors[network.input]
    assert (str(tensor.format), float(tensor.scale), tensor.low) == ("int:8", 1 / 128, -128)


def test_flattening_at_the_input_is_taken_flat():
    rng = np.random.default_rng(21)
    network = check(
        exact.chain(
            "flat",
            (4, 4, 1),
            exact.affine("norm", 2.0, -1.0),
            ("flatten", "flat", {}),
            exact.bipolar("in"),
            exact.dense(rng, "fc", 3, 16, quant="bipolar", bias=False),
        )
    )
    assert network.tensors[network.input].shape == (16,) and network.input_shape == (4, 4, 1)
    assert not any(isinstance(layer, Flatten) for layer in network.layers)


def test_logits_with_a_bias_of_whole_units_get_an_offset():
    rng = np.random.default_rng(22)
    step = exact.dense(rng, "fc", 3, 4, quant=4)
    step[2]["bias"] = np.array([3.0, -2.0, 0.0]) * step[2]["weight_quant"].scale / 8
    network = check(exact.chain("off", (4,), step), input_scale="1/8")
    assert network.layers[-1].values.tolist() == [3, -2, 0] and isinstance(network.layers[-1], Offset)
    assert network.tensors[network.output].zero_point == 0


def test_logits_with_whole_differences_keep_a_common_fraction_in_the_zero_point():
    rng = np.random.default_rng(23)
    step = exact.dense(rng, "fc", 3, 4, quant=4)
    unit = step[2]["weight_quant"].scale / 8
    step[2]["bias"] = (np.array([3.0, -2.0, 0.0]) + 0.5) * unit
    network = check(exact.chain("off", (4,), step), input_scale="1/8")
    assert network.tensors[network.output].zero_point == -1 / 2


def test_a_bias_between_units_is_rounded_and_the_network_says_so():
    rng = np.random.default_rng(23)
    step = exact.dense(rng, "fc", 3, 4, quant=4)
    network = quantize(exact.chain("off", (4,), step), input_scale="1/8")
    x = rng.integers(0, 256, (20, 4)).astype(np.uint8)
    difference = np.abs(network.decode(network(x)) - ((x / 8) @ step[2]["weight"].T + step[2]["bias"]))
    assert 0 < difference.max() <= float(network.tensors[network.output].scale) / 2 + 1e-9
    assert network.info["output"] == "biases rounded to whole accumulator units"


def test_logits_of_different_scales_come_out_in_sixteen_bits():
    rng = np.random.default_rng(24)
    step = exact.dense(rng, "fc", 3, 8, quant=4)
    quant = step[2]["weight_quant"]
    object.__setattr__(quant, "scale", np.array([0.5, 0.3, 0.01]))
    step[2]["weight"] = quant.codes * quant.scale[:, None]
    graph = exact.chain("scales", (8,), step)
    network = quantize(graph)
    x = rng.integers(0, 256, (20, 8)).astype(np.uint8)
    wanted = (x / 255) @ step[2]["weight"].T + step[2]["bias"]
    tensor = network.tensors[network.output]
    assert isinstance(network.layers[-1], Multiply) and str(tensor.format) == "int:16"
    assert np.abs(network.decode(network(x)) - wanted).max() <= 2 * float(tensor.scale)


def test_softmax_is_left_to_the_host_and_argmax_becomes_top_k():
    rng = np.random.default_rng(25)
    step = exact.dense(rng, "fc", 5, 8, quant=4, bias=False)
    network = quantize(exact.chain("soft", (8,), step, ("softmax", "soft", {})))
    assert network.closing == "softmax"
    for op, params, k in (("argmax", {}, 1), ("topk", {"k": 3}, 3)):
        top = quantize(exact.chain("top", (8,), step, ("softmax", "soft", {}), (op, "top", params)))
        assert isinstance(top.layers[-1], TopK) and top.layers[-1].k == k and top.closing == ""
        x = rng.integers(0, 256, (20, 8)).astype(np.uint8)
        np.testing.assert_array_equal(top(x)[:, 0], network(x).argmax(axis=1))


def test_output_of_a_quantiser_are_its_codes():
    rng = np.random.default_rng(26)
    network = check(exact.chain("out", (8,), exact.dense(rng, "fc", 5, 8, quant=4), exact.quant("act", 0.5, 4)))
    assert str(network.tensors[network.output].format) == "int:4"


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
