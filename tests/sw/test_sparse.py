"""Weights without their zeros: there and back, in files, plans and build folders; and what is refused."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lutloom.board import load_board
from lutloom.emit import write_rtl
from lutloom.errors import ModelError
from lutloom.hw.build_sparse import stored_bits as plan_bits
from lutloom.hw.core import Core
from lutloom.manifest import read_manifest, read_weights
from lutloom.network import Conv, Dense, Network, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.passes.widen import widen
from lutloom.plan import Plan, group_layers
from lutloom.planner import plan_network, with_credits
from lutloom.requantise_options import Site
from lutloom.sim.random_network import random_inputs
from lutloom.simulate import simulate
from lutloom.sparse import Coding, best_run_bits, codes_of_matrix, least_bits, matrix_of, matrix_of_words, sparse_words
from lutloom.stage_options import stage_options
from lutloom.weight_spec import parse_spec, shown
from lutloom.weights import WeightFormat


def some_weights(shape, density, text="int:4", seed=0, sparse=True):
    rng = np.random.default_rng(seed)
    format = WeightFormat.parse(text)
    zero = format.encode([0])[0]
    codes = np.where(rng.random(shape) < density, rng.integers(0, 1 << format.bits, shape), zero).astype(np.uint16)
    return Weights(codes, format, (Fraction(1),), sparse)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize(("shape", "groups"), [((7, 33), 1), ((1, 1), 1), ((6, 3, 2, 5), 1), ((6, 2, 2, 2), 3)])
@pytest.mark.parametrize(("width", "units", "run_bits"), [(1, 1, 1), (2, 3, 2), (3, 2, 5), (1, 4, 8)])
def test_there_and_back(density, shape, groups, width, units, run_bits):
    weights = some_weights(shape, density)
    kind = Dense if len(shape) == 2 else Conv
    extra = {"groups": groups} if groups > 1 else {}
    layer = kind("w", "x", "y", weights, **extra)
    matrix = matrix_of(layer, shape[-1] * groups, width, 0)
    coding = Coding(width, units, run_bits, 3)
    words, lengths = sparse_words(matrix, 0, coding, 4)
    assert len(words) == lengths.sum() and lengths.min() >= 3 and len(lengths) == -(-shape[0] // units)
    back = matrix_of_words(words, lengths.tolist(), matrix.shape, 0, coding, 4)
    conv = shape if len(shape) == 4 else (shape[0], 1, 1, shape[1])
    assert np.array_equal(codes_of_matrix(back, conv, groups, width).reshape(shape), weights.codes)


def test_a_group_of_a_convolution_reads_its_own_channels():
    layer = Conv("w", "x", "y", some_weights((4, 1, 1, 2), 1.0), groups=2)
    matrix = matrix_of(layer, 4, 1, 0)
    assert (matrix[:2, 2:] == 0).all() and (matrix[2:, :2] == 0).all()


def test_steps_are_as_long_as_pays():
    sparse = Dense("w", "x", "y", some_weights((20, 400), 0.02))
    full = Dense("w", "x", "y", some_weights((20, 400), 0.9))
    assert best_run_bits(sparse, 400, 1, 1) >= 5 and best_run_bits(full, 400, 1, 1) <= 2


def test_bits_that_are_stored():
    pruned = some_weights((50, 400), 0.1)
    count = np.count_nonzero(pruned.codes)
    assert 8 * count <= least_bits(pruned) <= 9.5 * count
    assert least_bits(replace(pruned, sparse=False)) == least_bits(some_weights((50, 400), 1.0)) == 4 * 20000


def small(sparse=True, density=0.15, pads=(1, 0, 0, 1), text="int:4"):
    builder = NetworkBuilder((6, 7, 3), "uint:4")
    builder.add(Conv, "conv", some_weights((8, 3, 3, 3), density, text, sparse=sparse), pads=pads)
    from lutloom.network import Flatten, Thresholds

    low, high = builder.last.low, builder.last.high
    values = np.sort(np.random.default_rng(1).integers(low // 3, high // 3, (8, 15)), axis=1)
    builder.add(Thresholds, "quant", values, np.zeros(8, bool), 0, format="uint:4")
    builder.add(Flatten, "flatten")
    builder.add(Dense, "fc", some_weights((10, builder.last.shape[0]), density, text, 1, sparse))
    return builder.network()


def test_file_keeps_it(tmp_path):
    network = small()
    network.save(tmp_path / "n.npz")
    assert [layer.weights.sparse for layer in Network.load(tmp_path / "n.npz").layers if hasattr(layer, "weights")] == [
        True, True]
    assert shown(network.layers[0], network.info) == "int:4+sparse"


def forced(network, run_bits=3):
    """A plan for an iCE40 whose stages with weights all skip zeros, one unit and one value a word."""
    chip = load_board("ice40-hx8k-b-evn").chip
    plan = plan_network(network, chip, clock_mhz=24)
    for index, stage in enumerate(plan.stages):
        if stage.kind == "dot":
            plan = plan.with_stage(index, width=1, units=2, out_width=1, run_bits=run_bits, dsp=False, lut_units=0,
                                   rows_place="ebr", weights_place="ebr", parameters_place="lut", credits=8)
    return plan


@pytest.mark.parametrize("text", ["int:4", "ternary", "bitmask:X0.0XX", "pow2:3"])
def test_verilog_gives_what_the_network_gives(tmp_path, text):
    network = small(text=text)
    _, _, _, prediction = write_rtl(network, forced(network), tmp_path)
    network.save(tmp_path / "network.npz")
    kept = read_weights(tmp_path)
    assert all(np.array_equal(kept[layer.name], layer.weights.codes) for layer in network.layers
               if hasattr(layer, "weights"))
    found = simulate(tmp_path, random_inputs(network, 6, 1), count=6, jobs=1)
    assert found.differ == 0 and found.interval_cycles == prediction.interval_cycles
    image = tmp_path / "rom" / "conv_weights.hex"
    lines = image.read_text().split("\n")
    lines[2] = f"{int(lines[2], 16) ^ 0x10:0{len(lines[2])}x}"  # a step one word further, or nearer
    image.write_text("\n".join(lines))
    assert simulate(tmp_path, random_inputs(network, 6, 1), count=6, jobs=1).differ


def test_the_report_counts_what_the_memory_holds(tmp_path):
    network = small()
    plan = forced(network)
    write_rtl(network, plan, tmp_path)
    held = {record["layer"]: record["width"] * record["depth"] for record in read_manifest(tmp_path)
            if record.get("holds") == "weights"}
    counted = {group.main.name: plan_bits(group, stage) for group, stage in zip(group_layers(network), plan.stages,
                                                                              strict=True) if group.kind == "dot"}
    assert counted == held and len(held) == 2


@pytest.mark.parametrize("board", ["ulx3s-12f", "icebreaker"])
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_stages_are_as_fast_as_the_planner_reckons(board, density):
    """Vectors are written about as fast as they are read, so that the way between counts."""
    network = small(density=density, pads=(0, 0, 0, 0))
    chip = load_board(board).chip
    site = Site(chip.family, 2 if chip.family == "ecp5" else 1, False)
    group = group_layers(network)[0]
    for option in stage_options(network, group, "conv", site, chip):
        if option.stage.run_bits:
            alone = replace(network, layers=network.layers[:2], output="quant", output_shape=(4, 5, 8),
                            tensors={name: network.tensors[name] for name in ("input", "conv", "quant")})
            plan = with_credits(alone, Plan("dataflow", chip.family, option.stage.width, (option.stage,)))
            assert Core(alone, plan).predict().interval_cycles <= option.cost.cycles


def test_cycles_of_a_pruned_dense_layer():
    """The issue's measure: 90 % pruned, one lane, equal units: at most 15 % of the cycles."""
    rng = np.random.default_rng(6)
    counts = np.sort(rng.integers(20, 61, 100))  # as trim sorts them
    codes = np.zeros((100, 400), np.uint16)
    for row, count in zip(codes, counts, strict=True):
        row[rng.choice(400, count, replace=False)] = 3
    chip = load_board("ulx3s-85f").chip
    for units in (1, 2, 4, 10):
        busy = {}
        for sparse in (False, True):
            builder = NetworkBuilder((400,), "uint:4")
            builder.add(Dense, "fc", Weights(codes, WeightFormat.parse("int:4"), (Fraction(1),), sparse))
            network = builder.network()
            plan = plan_network(network, chip, clock_mhz=50)
            stage = dict(width=1, units=units, out_width=1, dsp=False, lut_units=0, credits=3 * units,
                         rows_place="ebr", weights_place="ebr")
            plan = plan.with_stage(0, **stage, run_bits=best_run_bits(network.layers[0], 400, 1, units) * sparse)
            busy[sparse] = dict(Core(network, plan).schedules)["fc"].busy
        assert busy[False] == 400 * 100 // units and busy[True] <= 0.15 * busy[False]


def test_the_planner_skips_zeros_where_that_is_less():
    chip = load_board("ulx3s-12f").chip
    builder = NetworkBuilder((512,), "uint:8")
    builder.add(Dense, "fc", some_weights((256, 512), 0.05))
    many = plan_network(builder.network(), chip, clock_mhz=50).stages[0]
    builder = NetworkBuilder((512,), "uint:8")
    builder.add(Dense, "fc", some_weights((256, 512), 0.05, sparse=False))
    plain = plan_network(builder.network(), chip, clock_mhz=50).stages[0]
    assert many.run_bits and not plain.run_bits


def test_patchable_builds_are_refused():
    with pytest.raises(ModelError, match="layer 'conv' has weights without their zeros.*leave out \\+sparse"):
        widen(small())


@pytest.mark.parametrize(("text", "sentence"), [
    ("binary+sparse", "\\+sparse is of weights stored one by one that can be zero, not of binary"),
    ("float+sparse", "\\+sparse is of weights stored one by one that can be zero, not of float"),
    ("int:4+spares", "not 'int:4\\+spares'"),
])
def test_wrong_specs(text, sentence):
    with pytest.raises(ModelError, match=sentence):
        parse_spec(text)


def test_specs_of_both_orders():
    assert str(parse_spec("int:4+sparse@layer")) == str(parse_spec("int:4@layer+sparse")) == "*=int:4+sparse@layer"
