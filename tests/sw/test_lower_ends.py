"""Lowering at the input, whose format a quantiser sets, and at the output, whose codes stand for logits."""

import exact_graph as exact
import numpy as np
from lower_checks import check

from lutloom.network import Flatten, Multiply, Offset, TopK
from lutloom.quantize import quantize


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
