"""Weight formats, specifications and fitting."""

import os
import re
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.weight_format import SUPPORTED
from lutloom.weights import FormatChoice, WeightFormat, parse_spec

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))

PATTERNS = {
    "X0.0XX": ("5_2_0_1_0", (1, 0), 3, Fraction(1, 8)),
    "X0.X0XX": ("6_2_0_2_0", (3, 1, 0), 11, Fraction(1, 16)),
    "X0.X0000X": ("8_5_0_2_3_4_5_0", (5, 0), 33, Fraction(1, 64)),
    "XX.XX": ("4_0_0", (2, 1, 0), 7, Fraction(1, 4)),
    "X0.XX": ("4_1_0_0", (1, 0), 3, Fraction(1, 4)),
    "X0.00XXX": ("7_3_0_1_2_0", (2, 1, 0), 7, Fraction(1, 32)),
    "XX.X0": ("4_1_2_0", (2, 1), 6, Fraction(1, 4)),
    "XX": ("2_0_0", (0,), 1, Fraction(1)),
}
FORMATS = ("binary", "int:1", "int:2", "int:4", "int:8", "int:16", *(f"bitmask:{pattern}" for pattern in PATTERNS))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_both_notations_of_patterns(pattern):
    numeric, shifts, high, unit = PATTERNS[pattern]
    format = WeightFormat.parse(f"bitmask:{pattern}")
    assert WeightFormat.parse(f"bitmask:{numeric}") == format
    assert (format.numeric, str(format)) == (numeric, f"bitmask:{pattern}")
    assert (format.shifts, format.high, format.low, format.unit) == (shifts, high, -high, unit)
    assert format.bits == pattern.count("X")


def test_levels_of_design():
    assert WeightFormat.bitmask("X0.0XX").levels.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert WeightFormat.parse("int:3").levels.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert WeightFormat.parse("int:3").unit == Fraction(1, 4)
    assert WeightFormat.parse("binary").levels.tolist() == [-1, 1]


def test_codes_have_the_sign_on_top_and_two_s_complement():
    format = WeightFormat.bitmask("X0.X0XX")  # sign, 8, 2, 1
    assert format.decode(np.array([0b0000, 0b1000, 0b0100, 0b1100, 0b0011, 0b1111])).tolist() == [0, 0, 8, -8, 3, -11]
    assert WeightFormat.parse("int:4").decode(np.array([0, 7, 8, 15])).tolist() == [0, 7, -8, -1]
    assert WeightFormat.parse("binary").decode(np.array([0, 1])).tolist() == [-1, 1]


@pytest.mark.parametrize("text", FORMATS)
def test_encode_inverts_decode_with_zero_positive(text):
    format = WeightFormat.parse(text)
    codes = format.encode(format.levels)
    assert codes.dtype == np.uint16 and format.decode(codes).dtype == np.int32
    assert np.array_equal(format.decode(codes), format.levels)
    assert int(codes.max(initial=0)) < 1 << format.bits
    if 0 in format.levels:
        assert format.encode([0]) == 0


@pytest.mark.parametrize("text, integer", [("int:3", 4), ("int:3", -5), ("bitmask:X0.X0XX", 4), ("binary", 0)])
def test_encode_refuses_other_integers(text, integer):
    with pytest.raises(ValueError, match=f"weight integers must be levels of {text}, not {integer}"):
        WeightFormat.parse(text).encode(np.array([[1, integer]]))


@pytest.mark.parametrize("text", [t for t in FORMATS if t not in ("binary", "int:16")])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0371])
def test_nearest_is_nearest_with_ties_away_from_zero(text, scale):
    format = WeightFormat.parse(text)
    rng = np.random.default_rng(1)
    reach = 1.5 * max(format.high, 1)
    ratios = np.concatenate([np.arange(-2 * reach, 2 * reach + 1) / 2, rng.uniform(-reach, reach, 500)])
    got = format.decode(format.quantise(ratios * scale, scale))
    for ratio, integer in zip((ratios * scale) / scale, got, strict=True):
        distances = np.abs(format.levels - ratio)
        nearest = format.levels[distances == distances.min()]
        assert integer == (nearest.max() if ratio >= 0 else nearest.min()), ratio


@pytest.mark.parametrize("pattern", PATTERNS)
def test_mask_rounding_is_the_papers(pattern):
    format = WeightFormat.bitmask(pattern)
    digits = len(pattern.replace(".", "")) - 1
    keep = sum(1 << shift for shift in format.shifts)
    for eighth in range(-8 * 300, 8 * 300):
        ratio = eighth / 8
        rounded = min(int(abs(ratio) + 0.5), (1 << digits) - 1) & keep
        code = format.quantise(np.array([ratio]), 1.0, "mask")
        assert format.decode(code)[0] == (-rounded if ratio < 0 else rounded), ratio
        assert rounded or code == 0


def test_scales_may_be_fractions_and_arrays():
    format = WeightFormat.parse("int:8")
    real = np.array([[0.5, -0.25], [0.5, -0.25]])
    assert format.decode(format.quantise(real, Fraction(1, 8))).tolist() == [[4, -2], [4, -2]]
    by_row = format.quantise(real, np.array([[0.25], [0.5]]))
    assert format.decode(by_row).tolist() == [[2, -1], [1, -1]]
    assert WeightFormat.parse("binary").quantise(np.array([-1e-9, -0.0, 0.0, 2.0]), 1.0).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("text", [t for t in FORMATS if t != "int:16"])
@pytest.mark.parametrize("rounding", ["nearest", "mask"])
def test_steps_are_the_rounding(text, rounding):
    format = WeightFormat.parse(text)
    boundaries, integers = format.steps(rounding)
    ratios = np.random.default_rng(2).uniform(-40, 40, 3000)
    by_steps = integers[np.searchsorted(boundaries, ratios)]
    assert np.array_equal(by_steps, format.decode(format.quantise(ratios, 1.0, rounding)))


@pytest.mark.parametrize(
    "text, message",
    [
        ("int:0", "weight format int:BITS takes 1 to 16 bits, not 0"),
        ("int:17", "weight format int:BITS takes 1 to 16 bits, not 17"),
        ("quinary", f"weight format must be {SUPPORTED}, not 'quinary'"),
        ("bitmask:X0.00", "with an X after the sign"),
        ("bitmask:00.0X", "a sign X"),
        ("bitmask:5_2_1_0_0", "ascending positions"),
        ("bitmask:5_1_0_1_0", "number of masked bits"),
        ("bitmask:5_1_4_0", "ascending positions"),
        ("bitmask:X0." + "0" * 14 + "X", "at most 16 digits, not 17"),
        ("bitmask:20_1_0_0", "has 2 to 16 digits, not 20"),
        ("bitmask:", "not ''"),
    ],
)
def test_format_errors(text, message):
    with pytest.raises(ValueError) as caught:
        WeightFormat.parse(text)
    assert message in str(caught.value)


def test_formats_check_themselves():
    with pytest.raises(ValueError, match="ternary, pow2, codebook or float16, not 'float'"):
        WeightFormat("float", 8)
    with pytest.raises(ValueError, match="a binary format stores 1 bit, not 2"):
        WeightFormat("binary", 2)
    with pytest.raises(ValueError, match="stores 3 bits, not 4"):
        WeightFormat("bitmask", 4, "X0.0XX")
    with pytest.raises(ValueError, match="others have none"):
        WeightFormat("int", 4, "X0.0XX")
    with pytest.raises(ValueError, match="rounding must be nearest or mask, not 'up'"):
        WeightFormat("int", 4).quantise(np.zeros(1), 1.0, "up")


def test_spec_first_match_wins_and_default_is_int_8():
    spec = parse_spec("conv1=bitmask:X0.0XX, conv*=bitmask:3@layer ,fc?=int:4@1")
    chosen = spec.choose(["conv1", "conv2", "fc1", "head"])
    assert chosen["conv1"] == FormatChoice(WeightFormat.bitmask("X0.0XX"), "one")
    assert chosen["conv2"] == FormatChoice(None, "layer", search_bits=3)
    assert chosen["fc1"] == FormatChoice(WeightFormat("int", 4), "one")
    assert chosen["head"] == FormatChoice(WeightFormat("int", 8), "channel")
    assert [str(choice) for choice in chosen.values()] == [
        "bitmask:X0.0XX@1",
        "bitmask:3@layer",
        "int:4@1",
        "int:8@channel",
    ]
    assert parse_spec(str(spec)) == spec


def test_spec_of_one_format_and_its_default_scales():
    assert parse_spec("binary").choose(["a"]) == {"a": FormatChoice(WeightFormat("binary", 1), "channel")}
    assert parse_spec("bitmask:4").choose(["a"])["a"].scale == "channel"
    assert parse_spec("bitmask:X0.0XX@channel", "mask").choose(["a"])["a"].scale == "channel"
    assert parse_spec("bitmask:X0.0XX", "mask").choose(["a"])["a"].rounding == "mask"


@pytest.mark.parametrize(
    "text, message",
    [
        ("conv1=int:4,,*=int:8", "--weights must be one format or a comma list of LAYER=FORMAT"),
        ("int:4,int:8", "--weights must be one format or a comma list"),
        ("=int:4", "--weights must be one format or a comma list"),
        ("", "--weights must be one format or a comma list"),
        ("a=quinary", "--weights cannot be 'a=quinary': weight format must be int:BITS, bitmask:PATTERN (as "),
        ("int:x", f"weight format must be {SUPPORTED}, not 'int:x'"), ("pow2", f"must be {SUPPORTED}, not 'pow2'"),
        ("float4@layer", f"must be {SUPPORTED}, not 'float4'"), ("float@1", "float weights stay as they are, without"),
        ("int:4@row", "must be @1, @layer or @channel, not @row"),
        ("bitmask:9", "bitmask:BITS takes 2 to 8 stored bits, not 9"),
        ("float17", "not 'float17'"), ("float16@layer", "stored as they are, without a scale"),
        ("pow2:7", "pow2:BITS takes 2 to 5 bits, not 7"), ("codebook:1", "codebook:ENTRIES takes 2 to 256, not 1"),
    ],
)
def test_spec_errors(text, message):
    with pytest.raises(ModelError) as caught:
        parse_spec(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", re.sub(r" \(.*?\)|,| or", "", SUPPORTED).split())
def test_what_errors_say_is_supported_is(name):
    text = name.replace("BITS", "3").replace("PATTERN", "X0.0XX").replace("ENTRIES", "16").replace("GROUP", "4")
    assert str(FormatChoice.parse(text)).partition("@")[0] == text


def test_spec_entry_without_a_layer():
    with pytest.raises(
        ModelError, match="--weights names 'conv3', which matches no layer with weights; there are a, b"
    ):
        parse_spec("conv3=int:4,*=int:8").choose(["a", "b"])


def test_the_benchmark_of_given_patterns():
    real = np.random.default_rng(6).normal(scale=0.05, size=430_500)
    format = WeightFormat.bitmask("X0.00XXX")
    format.quantise(real[:1], format.unit)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        format.quantise(real, format.unit)
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 0.1
