"""Plans of weights that share indices, and of ternary ones five in a byte."""

import numpy as np
import pytest

from lutloom.board import load_board
from lutloom.errors import FitError
from lutloom.network import Dense, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.plan import group_layers
from lutloom.planner import check_weights
from lutloom.requantise_options import Site
from lutloom.stage_options import stage_cost, stage_options
from lutloom.weight_groups import codes_of
from lutloom.weights import WeightFormat


def options(weights, source="uint:4", family="ecp5", patchable=False):
    builder = NetworkBuilder((weights.codes.shape[1],), source)
    builder.add(Dense, "fc", weights)
    network = builder.network()
    group = group_layers(network)[0]
    site = Site(family, 2 if family == "ecp5" else 1, patchable)
    board = load_board("ulx3s-85f" if family == "ecp5" else "icebreaker")
    return network, group, site, stage_options(network, group, "fc", site, board.chip)


def ternary(shape):
    codes = np.random.default_rng(1).choice([0, 1, 3], shape).astype(np.uint16)
    return Weights(codes, WeightFormat("ternary", 2), (1,))


def vectors(entries, shape):
    rng = np.random.default_rng(2)
    format = WeightFormat.parse(f"codebook:{entries}x4", tuple(map(int, rng.integers(-128, 128, entries * 4))))
    return Weights(codes_of(rng.integers(0, entries, (shape[0], shape[1] // 4)), shape, 4), format, (format.unit,))


def test_packing_saves_block_rams_for_luts():
    network, group, site, found = options(ternary((512, 800)))
    pairs = {}
    for option in found:
        stage = option.stage
        key = stage.width, stage.units, stage.out_width
        pairs.setdefault(key, {}).setdefault(stage.packed, option.cost)
    both = [pair for pair in pairs.values() if len(pair) == 2]
    assert both
    for pair in both:
        assert pair[True].ebr < pair[False].ebr and pair[True].lut4 > pair[False].lut4
    assert min(option.cost.ebr for option in found if option.stage.packed) <= 0.85 * min(
        option.cost.ebr for option in found if not option.stage.packed)
    packed = next(option for option in found if option.stage.packed)
    assert stage_cost(network, group, packed.stage, site) == packed.cost


@pytest.mark.parametrize("inputs, fits", [(900, True), (1100, False)])
def test_ternary_weights_are_refused_only_where_they_do_not_fit_packed(inputs, fits):
    """Of 2 bits each they would fill more than an iCE40 UP5K holds; of five in a byte the smaller ones do not."""
    weights, chip = ternary((132, inputs)), load_board("icebreaker").chip
    assert weights.stored_bits > chip.ebr_blocks * chip.ebr_bits + 16 * chip.lut4
    _, group, *_ = options(weights, family="ice40")
    if fits:
        check_weights([group], chip)
    else:
        with pytest.raises(FitError, match="the weights take .* KiB, those of layer 'fc' most"):
            check_weights([group], chip)


@pytest.mark.parametrize("family", ["ecp5", "ice40"])
def test_tables_stand_in_blocks_or_in_logic(family):
    _, _, _, found = options(vectors(16, (32, 64)), family=family)
    assert {option.stage.table_place for option in found} == {"ebr", "lut"}
    assert all(option.stage.width % 4 == 0 for option in found)
    _, _, _, found = options(vectors(256, (32, 64)), family=family, patchable=True)
    assert {option.stage.table_place for option in found} == {"ebr"}
    for option in found:
        indices = option.stage.units * option.stage.width // 4
        assert option.cost.ebr >= indices * (1 if family == "ecp5" else 2)
