"""Codebooks of groups: which weights share an index, fits, files, and what is stored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lutloom.build import verilog
from lutloom.check import check
from lutloom.errors import FitError, ModelError
from lutloom.hw.build_stage import able_width
from lutloom.manifest import words_to_weights
from lutloom.network import Conv, Dense, Network, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.passes.compensate_groups import choose_groups
from lutloom.passes.verify import verify
from lutloom.passes.widen import widen
from lutloom.plan import group_layers, window_of
from lutloom.quantize import quantize
from lutloom.stored import Stored
from lutloom.weight_groups import codes_of, indices_of, members, whole
from lutloom.weights import FormatChoice, WeightFormat, fit, parse_spec

MODEL = Path(__file__).resolve().parents[2] / "sw" / "examples" / "digits.onnx"
REAL = np.random.default_rng(4).normal(0, 0.1, (12, 40)) * np.linspace(0.5, 2, 12)[:, None]


def fitted(text, real=REAL):
    choice = FormatChoice.parse(text)
    format, scale, codes = fit(choice.format, real, choice)
    return format, np.array([float(unit) for unit in scale]).reshape((-1,) + (1,) * (real.ndim - 1)), codes


def drawn(rng, shape, entries=5, group=4):
    table = rng.integers(-20, 21, (entries, group))
    format = WeightFormat.parse(f"codebook:{entries}x{group}", tuple(map(int, table.ravel())))
    indices = rng.integers(0, entries, (shape[0], len(members(shape, group))))
    return Weights(codes_of(indices, shape, group), format, (format.unit,))


def test_groups_go_along_the_channels_where_these_are_whole_groups():
    assert members((3, 2, 2, 4), 4).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [4, 5, 6, 7], [12, 13, 14, 15]]


def test_groups_go_down_a_kernel_column_where_the_channels_are_none():
    assert members((3, 5, 2, 1), 4).tolist() == [[0, 2, 4, 6], [8, -1, -1, -1], [1, 3, 5, 7], [9, -1, -1, -1]]
    assert members((3, 5), 2).tolist() == [[0, 1], [2, 3], [4, -1]]


@pytest.mark.parametrize("shape", [(3, 2, 2, 4), (3, 5, 2, 1), (2, 3, 3, 3), (4, 7), (4, 8), (1, 1)])
@pytest.mark.parametrize("group", [2, 4, 8])
def test_codes_and_indices(shape, group):
    rng = np.random.default_rng(1)
    indices = rng.integers(0, 9, (shape[0], len(members(shape, group))))
    codes = codes_of(indices, shape, group)
    assert codes.shape == shape and np.array_equal(indices_of(codes, group), indices) and whole(codes, group)
    if codes[0].size > 1:
        codes.flat[1] += group
        assert not whole(codes, group) or codes[0].size % group == 1


@pytest.mark.parametrize("text", ["codebook:16x2", "codebook:16x4", "codebook:16x4@layer", "codebook:5x8",
                                  "codebook:64x2@1"])
def test_fits(text):
    format, scale, codes = fitted(text)
    assert format.group > 1 and whole(codes, format.group) and str(format) in text
    levels = scale * format.decode(codes)
    error = np.square(levels - REAL).sum()
    # No group is nearer to another entry, and each output's scale is its best.
    table = np.reshape(format.values, (-1, format.group))
    groups = REAL.reshape(12, -1, format.group)
    distance = np.square(groups[:, :, None] - np.reshape(scale, (-1, 1, 1, 1)) * table).sum(-1)
    assert np.isclose(distance.min(-1).sum(), error)
    if "@" not in text:
        for factor in (0.9, 1.1):
            assert np.square(levels * factor - REAL).sum() > error
    again = fitted(text)
    assert again[0] == format and np.array_equal(again[2], codes)


def test_groups_are_better_than_codebooks_of_as_many_bits():
    real = np.random.default_rng(5).normal(size=(100, 256))
    errors = [np.square(scale * format.decode(codes) - real).sum()
              for format, scale, codes in (fitted("codebook:256x4", real), fitted("codebook:4", real))]
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("real", [np.zeros((3, 4)), np.full((3, 5), 0.7), -np.ones((1, 2)), np.ones((2, 3, 1, 1))])
def test_weights_that_are_all_alike(real):
    format, scale, codes = fitted("codebook:256x4", real)
    assert format.entries >= 2
    assert np.allclose(format.decode(codes) * scale, real, atol=0.01 * np.abs(real).max() + 1e-12)


def test_choosing_groups_makes_errors_good():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(24, 24))
    power, target = mixing @ mixing.T / 24 + 0.1 * np.eye(24), rng.normal(size=(8, 24))
    format, scale, codes = fitted("codebook:16x4", target)
    found = choose_groups(power, target, format, scale.ravel(), target.shape)
    assert whole(found, 4)
    errors = [((e := scale * format.decode(c) - target) @ power * e).sum() for c in (codes, found)]
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("seed", [0, 1, 4, 5])
def test_groups_of_most_power_come_first_and_the_others_make_good(seed):
    """Of correlated inputs of ascending power, what one group leaves is half taken by those behind it."""
    rng, spread = np.random.default_rng(seed), np.geomspace(0.1, 3, 32)
    mixing, target = rng.normal(size=(32, 6)), rng.normal(size=(8, 32))
    power = (mixing @ mixing.T / 6 + 0.02 * np.eye(32)) * np.outer(spread, spread)
    format, scale, codes = fitted("codebook:16x4", target)
    errors = [((e := scale * format.decode(c) - target) @ power * e).sum()
              for c in (codes, choose_groups(power, target, format, scale.ravel(), target.shape))]
    assert errors[1] < 0.55 * errors[0]


def test_scales_and_table_are_fitted_to_each_other():
    """Refitting either to what was found hardly helps any more."""
    rng = np.random.default_rng(1)
    real = rng.standard_t(3, (24, 64)) * 0.1
    format, scale, codes = fitted("codebook:16x4", real)
    levels = format.decode(codes).astype(float)
    error = np.square(scale * levels - real).sum()
    refitted = (levels * real).sum(axis=1, keepdims=True) / np.square(levels).sum(axis=1, keepdims=True)
    assert np.square(refitted * levels - real).sum() > 0.99 * error
    table, index = np.reshape(format.values, (-1, 4)).astype(float), indices_of(codes, 4).ravel()
    given, weight = (real / scale).reshape(-1, 4), np.repeat(scale.ravel() ** 2, 16)
    for entry in range(len(table)):
        mine = index == entry
        table[entry] = (given[mine] * weight[mine, None]).sum(axis=0) / weight[mine].sum()
    assert np.square(np.repeat(scale, 16, axis=0) * (table[index] - given)).sum() > 0.995 * error


def test_small_weights_find_their_entries():
    """Weighing by scales of 1e-45 leaves no vector without a nearest entry."""
    _, scale, codes = fitted("codebook:16x4")
    _, tiny, small = fitted("codebook:16x4", REAL * 1e-20)
    assert np.array_equal(codes, small) and np.allclose(tiny, scale * 1e-20, rtol=1e-9, atol=0)


@pytest.mark.parametrize("text,message", [
    ("codebook:256x3", "codebook:ENTRIESxGROUP takes 2 to 256 entries of 2, 4 or 8 weights, not 256x3"),
    ("codebook:0x4", "codebook:ENTRIESxGROUP takes 2 to 256 entries of 2, 4 or 8 weights, not 0x4"),
    ("codebook:257x4", "codebook:ENTRIESxGROUP takes 2 to 256 entries of 2, 4 or 8 weights, not 257x4"),
    ("codebook:256x", "weight format must be int:BITS, .*codebook:ENTRIESxGROUP.*, not 'codebook:256x'"),
])
def test_wrong_specs(text, message):
    with pytest.raises(ModelError, match=f"--weights cannot be '{text}': .*{message}"):
        parse_spec(text)


def test_formats_check_their_values():
    with pytest.raises(ValueError, match="2 to 256 entries of 4, not 5 integers"):
        WeightFormat("codebook", 3, None, (1, 2, 3, 4, 5), 4)
    with pytest.raises(ValueError, match="codebook entries must be within 8 bits, not -3 to 128"):
        WeightFormat("codebook", 2, None, (1, 128, 3, -3), 2)
    with pytest.raises(ValueError, match="groups of 2, 4 or 8 weights, not int of 4"):
        WeightFormat("int", 3, None, (), 4)
    format = WeightFormat.parse("codebook:3x2", (1, 2, 3, 4, 5, 6))
    assert (format.index_bits, format.bits, format.low, format.high, str(format)) == (2, 3, 1, 6, "codebook:3x2")
    with pytest.raises(ValueError, match="weights of codebook:3x2 are chosen by groups, not one by one"):
        format.quantise(np.ones(3), 1)
    with pytest.raises(ValueError, match="weights of codebook:3x2 are chosen by groups, not one by one"):
        format.encode([1])


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
def test_a_network_keeps_its_groups(tmp_path, rounding):
    network = quantize(MODEL, weights="codebook:32x4", calibrate="digits", rounding=rounding)
    network.save(tmp_path / "n.npz")
    again = Network.load(tmp_path / "n.npz")
    x = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape))
    codes = network.encode(x.astype(np.uint8))
    assert np.array_equal(network(codes), again(codes))
    for layer, same in zip(network.layers, again.layers, strict=True):
        if hasattr(layer, "weights"):
            assert layer.weights.format == same.weights.format and layer.weights.format.group == 4
            assert np.array_equal(layer.weights.codes, same.weights.codes)
            groups = len(members(layer.weights.codes.shape, 4)) * len(layer.weights.codes)
            assert layer.weights.stored_bits == groups * layer.weights.format.index_bits


def test_a_codebook_is_called_what_was_asked_for(tmp_path):
    """The network's file has the entries that k-means found; who reads of it sees what was asked for, too."""
    path = tmp_path / "n.npz"
    asked = "conv1=codebook:256x4,conv2=codebook:250,*=codebook:16+sparse"
    network = quantize(MODEL, weights=asked, calibrate="digits")
    network.save(path)
    shown = [row.becomes for row in check(path) if row.weights]
    used = [layer.weights.format.entries for layer in network.layers if hasattr(layer, "weights")]
    assert used[0] < 256 and used[1] < 250 and used[2:] == [16]
    assert shown == [f"codebook:256x4, {used[0]} used", f"codebook:250, {used[1]} used", "codebook:16+sparse"]
    plain = replace(network, info={})
    plain.save(path)
    assert [row.becomes for row in check(path) if row.weights][0] == f"codebook:{used[0]}x4"
    report = verilog(network, board="ulx3s-85f", output=tmp_path / "out", top="stream")
    assert shown[:2] == [row["format"] for row in report["layers"] if row["format"].startswith("codebook")][:2]


def test_verify_sees_a_weight_of_another_entry():
    builder = NetworkBuilder((8,), "uint:4")
    weights = drawn(np.random.default_rng(1), (3, 8))
    builder.add(Dense, "fc", weights)
    network = builder.network()
    codes = weights.codes.copy()
    codes[0, 1] = codes[0, 0]
    layer = network.layers[0]
    object.__setattr__(layer, "weights", Weights(codes, weights.format, weights.scale))
    with pytest.raises(ModelError, match="'fc' has a group of weights that are not members of one entry of codebook"):
        verify(network)


def one_layer(shape, image, source="uint:4", group=4, **others):
    builder = NetworkBuilder(image, source)
    kind = Conv if len(shape) == 4 else Dense
    builder.add(kind, "layer", drawn(np.random.default_rng(2), shape, group=group), **others)
    network = builder.network()
    return network, group_layers(network)[0]


def test_widths_are_of_whole_groups():
    _, conv = one_layer((4, 3, 3, 8), (5, 5, 8))
    assert [w for w in range(1, 9) if able_width(conv, w)] == [4, 8]
    _, odd = one_layer((4, 3, 3, 6), (5, 5, 6))
    assert [w for w in range(1, 7) if able_width(odd, w)] == [6]
    _, dense = one_layer((4, 10), (10,))
    assert [w for w in range(1, 11) if able_width(dense, w)] == [4, 8, 10]
    _, signs = one_layer((4, 10), (10,), "bipolar")
    assert [w for w in range(1, 11) if able_width(signs, w)] == [10]


def test_columns_stay_upright_where_groups_go_down_them():
    _, group = one_layer((4, 5, 1, 1), (9, 1, 1))
    assert window_of(group)["kernel"] == (5, 1)
    _, group = one_layer((4, 5, 1, 4), (9, 1, 4))
    assert window_of(group)["kernel"] == (1, 5)


def test_a_width_that_cuts_groups_is_refused():
    from lutloom.hw.core import Core
    from lutloom.plan import Plan, StagePlan

    network, _ = one_layer((4, 3, 3, 8), (5, 5, 8))
    with pytest.raises(FitError, match="'layer' has 8 channels whose weights share indices in groups of 4: its words "
                                       "cannot be of 2"):
        Core(network, Plan("dataflow", "generic", 2, (StagePlan("layer", "dot", ("layer",), 2, 1, 1),)))


@pytest.mark.parametrize("lanes,units", [(8, 3), (5, 2), (3, 1), (12, 1)])
def test_stored_words_and_back(lanes, units):
    rng = np.random.default_rng(lanes)
    stored = Stored.of(WeightFormat.parse("codebook:9x4", tuple(range(36))), lanes, units)
    assert stored.bits == 4 and stored.width == 4 * units * -(-lanes // 4)
    numbers = rng.integers(0, 9, (6, stored.numbers))
    assert np.array_equal(stored.numbers_of(stored.codes_of(numbers)), numbers)


def test_a_patchable_design_takes_any_table():
    network, _ = one_layer((4, 10), (10,), "uint:4")
    wide = widen(network).tensors[network.output]
    assert (wide.low, wide.high) == (-128 * 15 * 10, 127 * 15 * 10)


def test_weights_out_of_words_of_indices():
    record = {"shape": [2, 8], "kernel": [1, 1], "groups": 1, "units": 1, "lanes": 4, "packed": False,
              "format": "codebook:3x4", "values": list(range(12)), "code_bits": 2}
    codes = words_to_weights(record, [0, 2, 1, 1])
    assert codes.tolist() == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 4, 5, 6, 7]]
