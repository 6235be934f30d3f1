"""Buffers where ways meet: as deep as it takes, no deeper than it must be, and refused where they do not do."""

from dataclasses import replace

import pytest

from lutloom.board import load_board
from lutloom.errors import FitError
from lutloom.executor import Deadlock
from lutloom.formats import Format
from lutloom.hw.core import Core
from lutloom.network import Conv, Network
from lutloom.passes.verify import verify
from lutloom.plan import Plan, StagePlan
from lutloom.planner import estimate, plan_network, run_plan, with_buffers, with_credits
from lutloom.sim.random_branches import BranchBuilder

INT8 = Format("int", 8)


def convolve(b, outputs, kernel, pads):
    """A convolution that keeps the side."""
    b.add(Conv(**b.names("conv"), weights=b.weights((outputs, *kernel, b.last.shape[2])), pads=pads))


def two_ways(side, meet):
    """An image and a convolution of it, joined by ``meet(builder, [image, convolution])``; and a plan of one lane."""
    b = BranchBuilder(1)
    b.start((side, side, 2), INT8)
    image = b.last
    convolve(b, 2, (3, 3), (1, 1, 1, 1))
    b.bring(INT8)
    meet(b, [image, b.last])
    network = verify(Network("two_ways", b.tensors, tuple(b.layers), "x", b.last.name, image.shape, "NHWC",
                             b.last.shape))
    conv, requantise, join = (layer.name for layer in network.layers)
    kind = "concat" if join.startswith("concat") else "join"
    stages = StagePlan(conv, "dot", (conv, requantise), 1, 1, 1), StagePlan(join, kind, (join,), 1, 1, 1)
    return network, Plan("dataflow", "generic", 1, stages)


def rows(b, pair):
    b.unite(pair, 0)


def rows_turned(b, pair):
    b.unite(pair[::-1], 0)


def columns(b, pair):
    b.unite(pair, 1)


def channels(b, pair):
    b.unite(pair, 2)


def total(b, pair):
    b.meet(pair)


@pytest.mark.parametrize("meet", [rows, rows_turned, columns, channels, total])
def test_streams_go_on_as_fast_as_their_slowest_stage(meet):
    # Rows behind rows: the convolution's first come while the image still goes by, and wait for all of it.
    network, plan = two_ways(12, meet)
    plan = with_credits(network, plan)
    core, interval = run_plan(network, plan)
    assert interval == max(schedule.busy for _, schedule in core.schedules) == 12 * 12 * 2 * 6
    image = core.input["beats"]
    held = plan.stages[1].buffers
    assert all(depth <= image + 64 for depth in held)
    if meet in (columns, channels, total):
        assert sum(held) < image / 2  # the ways differ by a few rows


def test_a_slow_stage_behind_a_join_does_not_fill_its_buffers():
    b = BranchBuilder(1)
    b.start((12, 12, 2), INT8)
    image = b.last
    convolve(b, 2, (2, 1), (1, 0, 0, 0))
    b.bring(INT8)
    b.meet([image, b.last])
    convolve(b, 6, (3, 3), (1, 1, 1, 1))
    network = verify(Network("slow", b.tensors, tuple(b.layers), "x", b.last.name, image.shape, "NHWC", b.last.shape))
    stages = (
        StagePlan("conv0", "dot", ("conv0", "requantise1"), 2, 2, 2), StagePlan("join2", "join", ("join2",), 2, 1, 2),
        StagePlan("conv3", "dot", ("conv3",), 1, 1, 1),
    )
    plan = with_credits(network, Plan("dataflow", "generic", 2, stages))
    _, interval = run_plan(network, plan)
    assert interval == 12 * 12 * 6 * 6
    assert sum(plan.stages[1].buffers) < 3 * 12  # of 144 beats a frame


def test_too_shallow_a_buffer_is_refused_with_the_ways_that_wait():
    network, plan = two_ways(12, rows)
    plan = with_credits(network, plan)
    shallow = plan.with_stage(1, buffers=(8, 8))
    with pytest.raises(Deadlock, match="concat2 waits for ever after .* of 576 output beats; full: .*conv0 → concat2"):
        Core(network, shallow).predict()
    with pytest.raises(FitError, match="the plan's streams cannot go on: concat2 waits for ever .* conv0"):
        run_plan(network, shallow)
    assert with_buffers(network, shallow).stages[1].buffers == plan.stages[1].buffers


def test_a_plan_that_nothing_helps_is_refused(monkeypatch):
    network, plan = two_ways(12, rows)
    monkeypatch.setattr("lutloom.planner.ROOMY_FRAMES", 0)
    with pytest.raises(FitError, match="the plan's streams cannot go on: concat2 .*; take --fps, for another plan"):
        with_buffers(network, replace(plan, stages=tuple(replace(s, credits=8) for s in plan.stages)))


def test_buffers_are_counted_and_have_room():
    network, _ = two_ways(40, rows)
    up5k = load_board("icebreaker").chip
    plan = plan_network(network, up5k, clock_mhz=12)
    stage = plan.stages[1]
    bits = sum(stage.buffers) * stage.width * 8
    without = estimate(network, plan.with_stage(1, buffers=(0, 0)), up5k)["ebr"]
    assert bits / 4096 <= estimate(network, plan, up5k)["ebr"] - without <= bits / 4096 + 16
    with pytest.raises(FitError, match="the network needs about .* EBR"):
        plan_network(network, replace(up5k, ebr_blocks=4), clock_mhz=12)
