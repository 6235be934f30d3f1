"""Packing of codes into beats against a definition written with Python integers."""

import time

import numpy as np
import pytest

from lutloom.formats import Format
from lutloom.sim import stream
from lutloom.sim.stream import StreamLayout


def plain(layout, frame):
    """Beats of a frame as integers, straight from the definition."""
    bits, width = layout.format.bits, layout.width
    beats = []
    for pixel in np.reshape(frame, (-1, layout.channels)).tolist():
        for start in range(0, layout.channels, width):
            values = pixel[start:start + width]
            beats.append(sum((value & ((1 << bits) - 1)) << (bits * i) for i, value in enumerate(values)))
    return beats


def draw(rng, layout, frames):
    """Codes with both ends of the format among them."""
    low, high = layout.format.code_low, layout.format.code_high
    codes = rng.integers(low, high, (frames, *layout.shape), dtype=np.int64 if low < 0 else np.uint64, endpoint=True)
    codes.flat[0] = low
    codes.flat[-1] = high
    return codes


@pytest.mark.parametrize("seed", range(150))
def test_random_layouts(seed):
    rng = np.random.default_rng(seed)
    kind = rng.choice(["uint", "int", "bipolar"])
    bits = 1 if kind == "bipolar" else int(rng.integers(1, 65))
    shape = tuple(int(size) for size in rng.integers(1, 9, rng.choice([1, 3])))
    layout = StreamLayout(shape, Format(kind, bits), int(rng.integers(1, shape[-1] + 4)))
    codes = draw(rng, layout, int(rng.integers(1, 5)))
    packed = layout.pack(codes)
    assert packed.shape == (len(codes), layout.beats, layout.tdata_bytes)
    for frame, beats in zip(codes, packed, strict=True):
        assert [int.from_bytes(beat.tobytes(), "little") for beat in beats] == plain(layout, frame)
    again = layout.unpack(packed)
    assert again.dtype == layout.format.dtype()
    assert np.array_equal(again, codes)
    for _ in range(10):
        beat, value = int(rng.integers(layout.beats)), int(rng.integers(layout.width + 1))
        index = layout.locate(beat, value)
        if index is None:
            assert value == layout.width or beat % layout.pixel_beats * layout.width + value >= layout.channels
        else:
            raw = plain(layout, codes[0])[beat] >> (bits * value) & ((1 << bits) - 1)
            assert raw == int(codes[0][index]) & ((1 << bits) - 1)


def test_chunks_do_not_show(monkeypatch):
    layout = StreamLayout((5, 3, 7), Format("int", 5), 4)
    codes = draw(np.random.default_rng(1), layout, 40)
    whole = layout.pack(codes)
    monkeypatch.setattr(stream, "_CHUNK_BYTES", 4000)
    assert np.array_equal(layout.pack(codes), whole)
    assert np.array_equal(layout.unpack(whole), codes)


def test_unused_values_are_zero_and_not_read():
    layout = StreamLayout((2, 1, 3), Format("int", 3), 2)
    codes = np.full((1, 2, 1, 3), -1)
    packed = layout.pack(codes)
    assert packed.ravel().tolist() == [0b111111, 0b111, 0b111111, 0b111]
    assert np.array_equal(layout.unpack(packed | 0b11000000), codes)


def test_no_frames():
    layout = StreamLayout((4,), Format("uint", 4), 2)
    assert layout.pack(np.zeros((0, 4), np.uint8)).shape == (0, 2, 1)
    assert layout.unpack(np.zeros((0, 2, 1), np.uint8)).shape == (0, 4)


@pytest.mark.parametrize("bits,width", [(8, 1), (4, 4), (1, 64), (8, 3)])
def test_ten_thousand_digits_in_two_seconds(bits, width):
    layout = StreamLayout((28, 28, 1), Format("uint", bits), width)
    codes = np.random.default_rng(0).integers(0, 1 << bits, (10_000, 28, 28, 1), dtype=np.uint8)
    begun = time.process_time()
    layout.pack(codes)
    assert time.process_time() - begun < 2


def test_plan_entries():
    layout = StreamLayout((4, 4, 50), Format("uint", 4), 5)
    entry = layout.to_plan()
    assert entry == {"shape": [4, 4, 50], "format": "uint:4", "width": 5, "bits": 4, "beats": 160, "tdata_bits": 24}
    assert StreamLayout.of_plan(entry) == layout
    assert StreamLayout.of_plan({**entry, "shape": [800], "stream_shape": [4, 4, 50]}) == layout
    with pytest.raises(ValueError, match="beats must be 160 for shape .* not 161"):
        StreamLayout.of_plan({**entry, "beats": 161})
    with pytest.raises(ValueError, match="must hold as many values as shape"):
        StreamLayout.of_plan({**entry, "shape": [801], "stream_shape": [4, 4, 50]})


@pytest.mark.parametrize("shape,width,text", [
    ((3, 3), 1, r"shape must be \(H, W, C\) or \(C,\) of positive sizes, not \(3, 3\)"),
    ((0,), 1, "positive sizes"),
    ((3,), 0, "width must be an integer of at least 1, not 0"),
    ((3,), 1.0, "width must be an integer of at least 1, not 1.0"),
])
def test_wrong_layouts(shape, width, text):
    with pytest.raises(ValueError, match=text):
        StreamLayout(shape, Format("uint", 4), width)


@pytest.mark.parametrize("codes,text", [
    (np.zeros((2, 4), int), r"codes must have the shape \(frames, 3\), not \(2, 4\)"),
    (np.zeros(3, int), r"not \(3,\)"),
    (np.zeros((2, 3)), "codes must be integers, not float64"),
    (np.full((2, 3), 16), "codes of uint:4 must lie in 0 to 15, but these reach from 16 to 16"),
    (np.full((2, 3), -1), "from -1 to -1"),
])
def test_wrong_codes(codes, text):
    with pytest.raises(ValueError, match=text):
        StreamLayout((3,), Format("uint", 4), 1).pack(codes)
