"""Stages that skip zeros, and windows as streams: against numpy, and beat by beat against their schedules."""

import numpy as np
import pytest
from amaranth.hdl import signed
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.formats import Format
from lutloom.hw.geometry import Geometry
from lutloom.hw.matvec import MatVec
from lutloom.hw.memory import Rom
from lutloom.hw.sparse import Groups, SparseStage, SparseWindow
from lutloom.hw.unfold import Unfold
from lutloom.rom import pack
from lutloom.sparse import Coding, sparse_words
from lutloom.weight_format import WeightFormat

INT4 = WeightFormat.parse("int:4")
RATES = [(1.0, 1.0), (0.4, 1.0), (1.0, 0.4), (0.6, 0.6)]


def sparse_stage(codes, *, width, units, run_bits, out_width, latency=1, positions=1, floor=2, credits=None,
                 lengths_place="lut", corrupt=None):
    """A stage without requantisation, of int:4 codes (outputs, words · width)."""
    coding = Coding(width, units, run_bits, max(floor, -(-units // out_width)))
    words, lengths = sparse_words(codes, 0, coding, 4)
    if corrupt is not None:
        words[corrupt] ^= 1 << 4  # the lowest bit of a step
    rom = Rom(name="w", width=units * width * (4 + run_bits), depth=len(words), init=words,
              latency=1 if latency == 1 else 3)
    window = SparseWindow(
        name="s", geometry=Groups(positions, codes.shape[1] // width, lengths), weights=rom, code_bits=4, bits=4,
        width=width, units=units, latency=latency, lengths_place=lengths_place,
    )
    work = MatVec(lanes=width, units=units, x_format=Format("uint", 4), w_format=INT4, acc_shape=signed(16),
                  channels=units)
    return SparseStage(
        name="s", window=window, work=work, weights=None, shape=signed(16), units=units, out_width=out_width,
        channels=len(codes), requantise=None, out_bits=16, credits=credits or 4 * units, masked=False,
    )


def some_codes(rng, outputs, columns, density):
    """Stored int:4 codes of which a share is not zero."""
    return np.where(rng.random((outputs, columns)) < density, rng.integers(1, 16, (outputs, columns)), 0).astype(
        np.uint16)


def beats(values, width, bits):
    """Rows of values as beats of some values; the last beat of a row is filled with zeros."""
    spare = -values.shape[1] % width
    return pack(np.pad(values, ((0, 0), (0, spare))).reshape(-1, width) & (1 << bits) - 1, bits)


CASES = [
    # outputs, columns, density, width, units, run bits, out width, latency, positions
    (1, 1, 1.0, 1, 1, 1, 1, 1, 1),
    (1, 2, 0.0, 1, 1, 2, 1, 2, 1),
    (5, 40, 0.1, 1, 1, 3, 1, 1, 1),
    (5, 40, 0.1, 1, 1, 3, 1, 2, 3),
    (8, 33, 0.2, 1, 4, 2, 2, 2, 2),
    (7, 24, 0.3, 3, 2, 1, 1, 1, 2),
    (6, 64, 0.05, 2, 3, 4, 3, 2, 1),
    (3, 8, 0.9, 4, 4, 1, 1, 2, 4),
    (9, 3, 0.5, 1, 2, 2, 1, 2, 5),
]


def sums(case):
    """(stage, beats in, beats out) of three frames."""
    outputs, columns, density, width, units, run_bits, out_width, latency, positions = case
    rng = np.random.default_rng(columns * 10 + units)
    codes = some_codes(rng, outputs, columns, density)
    stage = sparse_stage(codes, width=width, units=units, run_bits=run_bits, out_width=out_width, latency=latency,
                         positions=positions)
    x = rng.integers(0, 16, (3 * positions, columns))
    return stage, beats(x, width, 4), beats(x @ INT4.decode(codes).T, out_width, 16)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rates", RATES)
def test_sums_and_cycles(case, rates):
    stage, words, expected = sums(case)
    columns = case[1]
    got, came, left = drive(stage, words, len(expected), in_rate=rates[0], out_rate=rates[1], seed=columns)
    assert got == expected
    if rates == (1.0, 1.0):
        links = run(in_a_row([stage.schedule]), len(words) // 3, len(expected) // 3, 3)
        assert links[1] == left
        assert links[0][: len(came)] == came


def test_cycles_fall_with_the_weights_left():
    """A tenth of the weights takes about a tenth of the cycles that all of them take, at one lane and one unit."""
    rng = np.random.default_rng(3)
    codes = some_codes(rng, 20, 200, 0.1)
    stage = sparse_stage(codes, width=1, units=1, run_bits=8, out_width=1)
    assert stage.schedule.busy == np.count_nonzero(codes) <= 0.12 * codes.size


def test_a_wrong_step_is_seen():
    rng = np.random.default_rng(4)
    codes = some_codes(rng, 4, 50, 0.2)
    stage = sparse_stage(codes, width=1, units=2, run_bits=4, out_width=1, corrupt=3)
    x = rng.integers(0, 16, (4, 50))
    expected = beats(x @ INT4.decode(codes).T, 1, 16)
    assert drive(stage, beats(x, 1, 4), len(expected), in_rate=1.0, out_rate=1.0, seed=1)[0] != expected


def test_lengths_in_block_ram():
    rng = np.random.default_rng(5)
    codes = some_codes(rng, 6, 2, 0.6)
    stage = sparse_stage(codes, width=1, units=1, run_bits=2, out_width=1, latency=2, lengths_place="ebr")
    x = rng.integers(0, 16, (5, 2))
    expected = beats(x @ INT4.decode(codes).T, 1, 16)
    got, _, left = drive(stage, beats(x, 1, 4), len(expected), in_rate=1.0, out_rate=1.0, seed=1)
    assert got == expected
    assert run(in_a_row([stage.schedule]), 2, 6, 5)[1] == left


def test_short_groups_are_refused():
    rom = Rom(name="w", width=6, depth=1, init=[0])
    with pytest.raises(ValueError, match="at least 2 cycles, not 1"):
        SparseWindow(name="s", geometry=Groups(1, 4, np.array([1])), weights=rom, code_bits=4, bits=4, width=1, units=1)
    with pytest.raises(ValueError, match="the weights must be 5 words, not 1"):
        SparseWindow(name="s", geometry=Groups(1, 4, np.array([2, 3])), weights=rom, code_bits=4, bits=4, width=1,
                     units=1)


WINDOWS = [
    # height, width, channels, kernel, stride, dilation, pads, word, latency
    (1, 1, 1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1, 1),
    (5, 6, 1, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0), 1, 1),
    (5, 6, 4, (3, 2), (1, 1), (1, 1), (1, 0, 1, 1), 2, 2),
    (7, 5, 3, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 3, 1),
    (6, 7, 2, (2, 2), (3, 2), (2, 3), (0, 0, 0, 0), 1, 2),
    (4, 9, 5, (1, 5), (1, 2), (1, 1), (0, 2, 0, 2), 2, 1),
    (9, 1, 2, (4, 1), (1, 1), (1, 1), (2, 0, 1, 0), 1, 2),
    (4, 4, 1, (1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 1, 1),
    (3, 3, 2, (3, 3), (1, 1), (1, 1), (2, 2, 2, 2), 2, 1),
]


def windows(case):
    """(unit, beats in, beats out) of three frames."""
    height, across, channels, kernel, stride, dilation, pads, word, latency = case
    words = -(-channels // word)
    geometry = Geometry(height, across, words, kernel, stride, dilation, pads)
    unit = Unfold(name="u", geometry=geometry, bits=4, width=word, pad_code=9, latency=latency)
    x = np.random.default_rng(height * across).integers(0, 16, (3, height, across, channels))
    filled = np.zeros((3, height, across, words * word), int)
    filled[..., :channels] = x
    padded = np.pad(filled, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)), constant_values=9)
    expected = []
    for frame in padded:
        for y in range(geometry.out_height):
            for z in range(geometry.out_width):
                top, left = y * stride[0], z * stride[1]
                window = frame[top:top + (kernel[0] - 1) * dilation[0] + 1:dilation[0],
                               left:left + (kernel[1] - 1) * dilation[1] + 1:dilation[1]]
                expected += pack(window.reshape(-1, word), 4)
    return unit, pack(filled.reshape(-1, word), 4), expected


@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("rates", RATES)
def test_windows_as_streams(case, rates):
    unit, given, expected = windows(case)
    got, came, left = drive(unit, given, len(expected), in_rate=rates[0], out_rate=rates[1], seed=case[0])
    assert got == expected
    if rates == (1.0, 1.0):
        links = run(in_a_row([unit.schedule]), len(given) // 3, len(expected) // 3, 3)
        assert links[1] == left
        assert links[0][: len(came)] == came


def test_windows_of_frames_follow_without_a_gap():
    """The first rows of a frame come while the last windows of the one before go out."""
    unit = Unfold(name="u", geometry=Geometry(8, 8, 2, (5, 5)), bits=4, width=1, pad_code=0)
    beats_out = unit.schedule.beats_out
    left = run(in_a_row([unit.schedule]), 8 * 8 * 2, beats_out, 4)[1]
    assert left[-1] - left[-1 - beats_out] == beats_out


@pytest.mark.parametrize("latency", [1, 2])
def test_words_are_not_written_over_while_they_are_on_their_way(latency):
    """The last group reads the vector's first words alone, and the next vectors wait to be written."""
    rng = np.random.default_rng(8)
    codes = np.zeros((8, 8), np.uint16)  # 16 cycles, more than the 8 in which a vector is written
    codes[:7, [3, 7]], codes[7, [0, 1]] = [3, 2], [5, 7]
    stage = sparse_stage(codes, width=1, units=1, run_bits=3, out_width=1, latency=latency, positions=1)
    x = rng.integers(0, 16, (8, 8))
    expected = beats(x @ INT4.decode(codes).T, 1, 16)
    got, _, left = drive(stage, beats(x, 1, 4), len(expected), in_rate=1.0, out_rate=1.0, seed=1)
    assert got == expected
    assert run(in_a_row([stage.schedule]), 8, 8, 8)[1] == left
