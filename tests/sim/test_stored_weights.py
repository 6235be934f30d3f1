"""Whole networks whose weights share indices, or lie five in a byte: Verilog against the golden model."""

import numpy as np
import pytest
from small_networks import requantise

from lutloom.board import load_board
from lutloom.emit import write_rtl
from lutloom.manifest import read_codebooks, read_manifest, read_weights
from lutloom.memories import hex_image, read_hex_image
from lutloom.network import Conv, Dense, Flatten, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.plan import Plan, StagePlan
from lutloom.planner import plan_network, with_credits
from lutloom.sim.random_network import random_inputs
from lutloom.simulate import simulate
from lutloom.weight_groups import codes_of, members
from lutloom.weights import WeightFormat

pytestmark = pytest.mark.usefixtures("cache")
FRAMES = 4


def vectors(rng, shape, entries, group=4):
    table = rng.integers(-128, 128, (entries, group))
    format = WeightFormat.parse(f"codebook:{entries}x{group}", tuple(map(int, table.ravel())))
    return Weights(codes_of(rng.integers(0, entries, (shape[0], len(members(shape, group)))), shape, group), format,
                   (format.unit,))


def network():
    """Groups down a column, along channels and along a vector that is no multiple of them; and ternary weights."""
    rng = np.random.default_rng(5)
    builder = NetworkBuilder((8, 7, 1), "uint:8")
    builder.add(Conv, "first", vectors(rng, (8, 5, 3, 1), 11))
    requantise(builder, rng, "q1", 15, "uint:4")
    builder.add(Conv, "second", vectors(rng, (6, 2, 2, 8), 256))
    requantise(builder, rng, "q2", 15, "uint:4")
    builder.add(Flatten, "flatten")
    ternary = WeightFormat("ternary", 2)
    builder.add(Dense, "third", Weights(rng.choice([0, 1, 3], (7, 72)).astype(np.uint16), ternary, (ternary.unit,)))
    requantise(builder, rng, "q3", 15, "uint:4")
    builder.add(Dense, "last", vectors(rng, (3, 7), 5))
    return builder.network()


def plan(family="ecp5", place="ebr", patchable=False):
    stages = (
        StagePlan("first", "dot", ("first", "q1"), 1, 4, 2, table_place=place),
        StagePlan("second", "dot", ("second", "q2"), 4, 3, 1, table_place=place),
        StagePlan("third", "dot", ("flatten", "third", "q3"), 6, 2, 1, packed=True),
        StagePlan("last", "dot", ("last",), 4, 2, 1, table_place=place),
    )
    return with_credits(network(), Plan("dataflow", family, 1, stages, patchable))


@pytest.fixture(scope="module", params=["ecp5", "ice40"])
def built(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    made, planned = network(), plan(request.param)
    _, _, _, prediction = write_rtl(made, planned, folder)
    made.save(folder / "network.npz")
    return folder, made, planned, random_inputs(made, FRAMES, 3), prediction


def test_rtl_is_golden_and_takes_the_predicted_cycles(built):
    folder, _, _, x, prediction = built
    result = simulate(folder, x, count=FRAMES)
    assert (result.frames, result.differ) == (FRAMES, 0)
    assert (result.interval_cycles, result.latency_cycles) == (
        prediction.interval_cycles, prediction.latency_cycles)
    assert simulate(folder, x, count=FRAMES, stalls=0.4, seed=2).differ == 0


def test_images_give_weights_and_tables_back(built):
    folder, made, planned, _, _ = built
    weights, tables = read_weights(folder), read_codebooks(folder)
    stages = {stage.name: stage for stage in planned.stages}
    for layer in made.layers:
        if not hasattr(layer, "weights"):
            continue
        assert np.array_equal(weights[layer.name], layer.weights.codes)
        form = layer.weights.format
        if form.group > 1:
            rows = layer.weights.codes.shape[1] if layer.weights.codes.ndim == 4 else 1
            lanes = rows * stages[layer.name].width
            assert len(tables[layer.name]) == stages[layer.name].units * -(-lanes // form.group)
            assert all(np.array_equal(each.ravel(), form.values) for each in tables[layer.name])
    records = {record["name"]: record for record in read_manifest(folder)}
    assert records["second_table0"]["holds"] == "codebook" and records["second_table0"]["shape"] == [256, 4]
    assert records["second_table0"]["place"] == "ebr" and records["second_table0"]["depth"] == 256
    assert records["third_weights"]["packed"] and records["third_weights"]["width"] == 24  # 12 weights in 3 bytes


@pytest.mark.parametrize("name,flip", [("second_weights", 1), ("second_table0", 1 << 6), ("third_weights", 1),
                                       ("first_table0", 1 << 5)])
def test_one_flipped_bit_is_seen(built, name, flip):
    folder, made, _, _, _ = built
    path = folder / "rom" / f"{name}.hex"
    text, width = path.read_text(), next(r["width"] for r in read_manifest(folder) if r["name"] == name)
    words = read_hex_image(text)
    path.write_text(hex_image([word ^ flip for word in words], width))
    try:
        x = random_inputs(made, 12, 9)
        assert simulate(folder, x, count=12, alone=False).differ
    finally:
        path.write_text(text)


def test_tables_in_logic(tmp_path):
    made = network()
    write_rtl(made, plan("ecp5", "lut"), tmp_path)
    made.save(tmp_path / "network.npz")
    x = random_inputs(made, 2, 3)
    assert simulate(tmp_path, x, count=2).differ == 0
    assert {record["place"] for record in read_manifest(tmp_path) if record.get("holds") == "codebook"} == {"lut"}


@pytest.mark.parametrize("board", ["ulx3s-85f", "icebreaker"])
def test_the_planner_places_them(board):
    planned = plan_network(network(), load_board(board).chip, clock_mhz=20, fps=1000)
    widths = {stage.name: stage.width for stage in planned.stages}
    assert widths["second"] % 4 == 0 and widths["last"] in (4, 7)
