"""Lowering of pools: which stay on accumulators, and which move behind the quantiser."""

import exact_graph as exact
import numpy as np
import pytest
from lower_checks import check, kinds

from lutloom.errors import ModelError
from lutloom.network import SumPool
from lutloom.quantize import quantize


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
