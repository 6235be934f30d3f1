"""Planning: stages of a network, plans that fit, keep a rate, and survive being written down."""

import json
from dataclasses import replace

import numpy as np
import pytest
import small_networks

from lutloom.board import load_board
from lutloom.emit import core_verilog
from lutloom.errors import BuildError, FitError, ModelError
from lutloom.hw.core import Core
from lutloom.network import Conv, Flatten, Multiply, SumPool
from lutloom.network_builder import NetworkBuilder
from lutloom.plan import Plan, group_layers, identifier
from lutloom.planner import estimate, plan_network
from lutloom.requantise_options import Site
from lutloom.stage_options import stage_options
from lutloom.unit_area import measure


@pytest.fixture(scope="module")
def lenet():
    return small_networks.lenet(steps=3)


def chip(name):
    return load_board(name).chip


def test_layers_become_stages(lenet):
    groups = group_layers(lenet)
    assert [group.kind for group in groups] == ["dot", "pool", "dot", "pool", "dot", "dot"]
    assert groups[4].image == (1, 1, 800) and groups[3].image == (8, 8, 50)


def test_a_network_that_computes_nothing_is_refused(lenet):
    layers = (Flatten("flat", lenet.input, "flattened"),)
    tensor = replace(lenet.tensors[lenet.input], name="flattened", shape=(784,))
    nothing = replace(lenet, layers=layers, output="flattened", tensors={**lenet.tensors, "flattened": tensor})
    with pytest.raises(ModelError, match="only flattens its input"):
        group_layers(nothing)


@pytest.mark.parametrize("name,fps", [("ulx3s-85f", None), ("ulx3s-85f", 5000), ("ulx3s-25f", 500)])
def test_a_plan_fits_and_keeps_its_rate(lenet, name, fps):
    if name == "ulx3s-25f":
        lenet = small_networks.mixed().network()
    board = load_board(name)
    plan = plan_network(lenet, board.chip, clock_mhz=100, fps=fps)
    core = Core(lenet, plan)
    found = core.predict()
    expected = estimate(lenet, plan, board.chip)
    assert expected["lut4"] <= board.chip.lut4 and expected["ebr"] <= board.chip.ebr_blocks
    busiest = max(schedule.busy for _, schedule in core.schedules)
    assert busiest >= 0.95 * found.interval_cycles or fps
    if fps:
        assert 100e6 / found.interval_cycles >= fps


def test_less_is_asked_for_less_is_taken(lenet):
    slow = estimate(lenet, plan_network(lenet, chip("ulx3s-85f"), clock_mhz=100, fps=500), chip("ulx3s-85f"))
    fast = estimate(lenet, plan_network(lenet, chip("ulx3s-85f"), clock_mhz=100), chip("ulx3s-85f"))
    assert slow["lut4"] < fast["lut4"] / 2


def test_what_does_not_fit_is_refused(lenet):
    with pytest.raises(FitError, match=r"weights take .* KiB, those of layer 'fc1' most, but iCE40UP5K holds 15 KiB"):
        plan_network(small_networks.lenet(steps=1), chip("icebreaker"), clock_mhz=48)
    with pytest.raises(FitError, match=r"10,000,000 frames a second at 100 MHz leave 10 cycles a frame"):
        plan_network(lenet, chip("ulx3s-85f"), clock_mhz=100, fps=1e7)


def int8_layers(size=24):
    """A convolution and a pooling over the whole map, each with a multiplying requantiser a channel of its own."""
    rng = np.random.default_rng(3)
    builder = NetworkBuilder((size, size, 8), "int:8")
    for name, outputs in (("first", 16), ("second", 16)):
        builder.add(Conv, name, small_networks.weights(rng, (outputs, 1, 1, builder.last.shape[-1]), "int:8"))
        channels = (rng.integers(1 << 30, 1 << 31, outputs), rng.integers(38, 41, outputs),
                    rng.integers(-999, 999, outputs), np.zeros(outputs, np.int64))
        builder.add(Multiply, f"{name}_scaled", *channels, 3, -128, 127, "tflm", format="int:8", zero_point=3)
    builder.add(SumPool, "pool", (size, size), (1, 1), (0, 0, 0, 0), np.ones((1, 1), int), 0)
    return builder.network()


def test_a_requantiser_takes_as_many_steps_as_there_is_time_for():
    network, board = int8_layers(), chip("ulx3s-25f")
    plan = plan_network(network, board, clock_mhz=100, fps=2000)
    first = plan.stages[0]
    cost = 8 // first.width
    assert 1 < first.steps <= cost // -(-first.units // first.out_width)
    hurried = plan_network(network, chip("ulx3s-85f"), clock_mhz=100, fps=100e6 / 1300)
    assert hurried.stages[0].steps == 1
    assert Core(network, plan).predict().interval_cycles <= 100e6 / 2000


def test_products_are_mixed_where_dsps_do_not_suffice():
    network = int8_layers()
    few = replace(chip("ulx3s-25f"), dsp=20, lut4=10_000)
    plan = plan_network(network, few, clock_mhz=100, fps=20_000)
    mixed = [stage for stage in plan.stages if stage.dsp and 0 < stage.lut_units < stage.units]
    assert mixed and estimate(network, plan, few)["dsp"] <= 20
    none = plan_network(network, replace(few, dsp=0, lut4=20_000), clock_mhz=100, fps=20_000)
    assert not any(stage.dsp for stage in none.stages)


def test_a_whole_map_is_pooled_without_a_window():
    network = int8_layers()
    plan = plan_network(network, chip("ulx3s-25f"), clock_mhz=100, fps=2000)
    assert not any("pool" in spec.name and spec.depth > 16 for spec in memories_of(network, plan))


def memories_of(network, plan):
    """Memories of a plan's core."""
    _, target = core_verilog(network, plan)
    return target.specs.values()


def test_a_plan_is_written_and_read(lenet):
    plan = plan_network(lenet, chip("ulx3s-85f"), clock_mhz=100, fps=1000)
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    with pytest.raises(BuildError, match="format version 99, but this Lutloom reads 1"):
        Plan.from_dict({**plan.as_dict(), "format_version": 99})


def test_identifiers():
    assert identifier("/conv1/Conv") == "conv1_Conv"
    assert identifier("3.fc") == "l3_fc"
    assert identifier("ü") == "layer"


def test_units_share_no_dsp_block(tmp_path):
    """A bug: of an iCE40, whose blocks hold two products, 15 of three units were counted as 8 blocks; they take 9."""
    network = int8_layers()
    group = group_layers(network)[0]
    for option in stage_options(network, group, "first", Site("ice40", 1, False), chip("icebreaker")):
        stage = option.stage
        assert option.cost.dsp >= stage.dsp * (stage.units - stage.lut_units) * -(-stage.width // 2)
    assert measure("uint:8", "int:4", 5, False, True, "ice40", tmp_path).dsp == 3
