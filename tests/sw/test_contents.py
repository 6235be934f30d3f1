"""Contents put into placed designs: the same text as a fresh place and route with them, on both chip families."""

import random

import numpy as np
import pytest
import toy_design

from lutloom.board import load_board
from lutloom.errors import BuildError
from lutloom.hw.memory import MemorySpec
from lutloom.memories import blocks, native
from lutloom.tiles import Layout, mark
from lutloom.toolchain import place, synth
from lutloom.toolchain.contents import MemoryMap, exchange, locate, read_back
from lutloom.toolchain.flow import implement, read_text


@pytest.mark.parametrize("name,clock_mhz", [("icebreaker", 45), ("ulx3s-25f", 100)])
def test_exchanged_design_is_that_of_a_fresh_place_and_route(name, clock_mhz, tmp_path, monkeypatch):
    monkeypatch.setenv("LUTLOOM_CACHE", str(tmp_path / "cache"))
    board = load_board(name)
    design = toy_design.toy(board, clock_mhz)
    specs = design["specs"]
    told = []
    first, second = tmp_path / "first", tmp_path / "second"
    images, others = toy_design.images_of(specs, 1), toy_design.images_of(specs, 2)
    made = implement(first, images=images, progress=told.append, **design)

    planned = sum(blocks(spec, board.family) for spec in specs)
    assert made.resources["ebr"] == {"used": planned, "available": board.chip.ebr_blocks}
    assert made.fmax_mhz >= clock_mhz and not made.from_cache and made.seconds["place"] > 0
    assert 0 < made.resources["lut4"]["used"] < 1000 < made.resources["lut4"]["available"]
    assert {"synthesis", "place and route", "packing the bitstream"} <= set(told)
    assert {log.name for log in (first / "logs").iterdir()} == {"synth.log", "place.log", "pack.log"}

    # The proof: nextpnr anew, with the real images in the netlist from the start.
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    memories, layout = native(specs, board.family, images, marks=False)
    sources = {"core.v": design["core_verilog"], "shell.v": design["shell_verilog"], "memories.v": memories}
    for source, text in sources.items():
        (fresh / source).write_text(text)
    netlist = synth.synthesise(fresh, list(sources), "lutloom_top", board.family)
    placed = place.place_and_route(fresh, netlist.netlist, board, design["clock_mhz"])
    assert (fresh / placed.text).read_text() == read_text(made.text)
    assert placed.fmax_mhz == made.fmax_mhz

    # Other contents: no nextpnr, and they come out of the finished text.
    again = implement(second, images=others, **design)
    assert again.from_cache and again.seconds["place"] == 0
    memory_map = MemoryMap.from_json(again.memory_map.read_text())
    in_blocks = {spec.name for spec in specs if spec.kind == "rom" and spec.place == "ebr"}
    for result, expected in ((made, images), (again, others)):
        found = read_back(read_text(result.text), memory_map)
        assert found == {name: words for name, words in expected.items() if name in in_blocks}
    assert made.bitstream.read_bytes() != again.bitstream.read_bytes()
    back = implement(second, images=images, **design)
    assert made.bitstream.read_bytes() == back.bitstream.read_bytes()
    if name == "ulx3s-25f":
        assert bytes.fromhex("41111043") in made.bitstream.read_bytes()  # the chip's IDCODE


def placed_text(layout, places):
    """A text with the marks of a layout at some places, and a block of zeros."""
    zero = np.zeros_like(mark(layout.tiles[0], layout.family))
    text = ".comment made by hand\n"
    marks = [mark(tile, layout.family) for tile in layout.tiles]
    for place_, block in zip([*places, "9 9"], [*marks, zero], strict=True):
        if layout.family == "ice40":
            lines = ["".join(f"{word:04x}" for word in line[::-1]) for line in block.reshape(16, 16)]
            text += f".ram_data {place_}\n" + "\n".join(lines) + "\n"
        else:
            lines = [" ".join(f"{word:03x}" for word in line) for line in block.reshape(256, 8)]
            text += f".bram_init {place_.replace(' ', '')}\n" + "\n".join(lines) + "\n\n"
    return text + ".end\n"


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_contents_go_in_and_come_out_by_place(family):
    layout = Layout.of([MemorySpec("a", "rom", 7, 3000), MemorySpec("b", "rom", 3, 9)], family)
    places = [f"{i} 1" for i in range(len(layout.tiles))]
    text = placed_text(layout, places)
    memory_map = locate(text, layout)
    assert [place_.replace(" ", "") for place_ in memory_map.places] == [place_.replace(" ", "") for place_ in places]
    assert MemoryMap.from_json(memory_map.to_json()) == memory_map
    rng = random.Random(4)
    images = {"a": [rng.getrandbits(7) for _ in range(3000)], "b": [1, 2, 3]}
    done = exchange(text, memory_map, images)
    assert read_back(done, memory_map) == {"a": images["a"], "b": [1, 2, 3] + [0] * 6}
    assert len(done) == len(text) and done.endswith(".end\n")
    # Twice is as once, and a flipped bit is seen.
    assert exchange(done, memory_map, images) == done
    images["a"][2999] ^= 64
    assert read_back(done, memory_map) != {"a": images["a"], "b": [1, 2, 3] + [0] * 6}


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_damage_is_named(family):
    layout = Layout.of([MemorySpec("a", "rom", 2, 9)], family)
    text = placed_text(layout, ["1 1"])
    memory_map = locate(text, layout)
    other = Layout.of([MemorySpec("b", "rom", 2, 9)], family)
    with pytest.raises(BuildError, match="block 0 of memory 'b' is not in the placed design"):
        locate(text, other)
    gone = MemoryMap(layout, ("7 7",))
    for action in (lambda: exchange(text, gone, {"a": []}), lambda: read_back(text, gone)):
        with pytest.raises(BuildError, match="the placed design has no memory at 7 7; build again"):
            action()
    with pytest.raises(BuildError, match="the placed design ends inside of a memory"):
        read_back(text[:200], memory_map)
    for wrong in ("", "{}", "[]", memory_map.to_json().replace("width", "wide")):
        with pytest.raises(BuildError, match="the memory map is damaged"):
            MemoryMap.from_json(wrong)
    with pytest.raises(BuildError, match="the memory map must be of format_version 1, not 2"):
        MemoryMap.from_json(memory_map.to_json().replace('"format_version": 1', '"format_version": 2'))
