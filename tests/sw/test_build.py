"""The whole way on a small network, on both chip families: build folder, report, bitstream, contents, patching."""

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_networks

from lutloom.build import build, verilog
from lutloom.data import Data
from lutloom.errors import BuildError, FitError, LutloomError, ToolError
from lutloom.memories import read_hex_image
from lutloom.network import Conv, Dense, Flatten, MaxPool, Network, Offset
from lutloom.network_builder import NetworkBuilder
from lutloom.report import load, text
from lutloom.simulate import simulate
from lutloom.toolchain.contents import MemoryMap, read_back
from lutloom.toolchain.flow import read_text


def network(seed=1):
    """A small convolutional network; other seeds give other weights, thresholds and biases of the same formats."""
    rng = np.random.default_rng(seed)
    builder = NetworkBuilder((6, 6, 1))
    builder.add(Conv, "conv", small_networks.weights(rng, (4, 3, 3, 1), "bitmask:X0.0XX"))
    small_networks.requantise(builder, rng, "quant", 3, "uint:2")
    builder.add(MaxPool, "pool", (2, 2), (2, 2))
    builder.add(Flatten, "flat")
    builder.add(Dense, "fc", small_networks.weights(rng, (3, 16), "int:3"))
    builder.add(Offset, "bias", rng.integers(-20, 20, 3))
    return builder.network("small")


@pytest.mark.parametrize("board", ["icebreaker", "ulx3s-25f"])
def test_build_and_patch(board, tmp_path):
    folder = tmp_path / "build"
    report = build(network(), board=board, output=folder, fps=1000, patchable=True)
    assert {path.name for path in folder.iterdir()} >= {
        "network.npz", "plan.json", "rtl", "rom", "logs", "expected.npz", "report.json", "memory_map.json"
    }
    assert list(folder.glob("*.bin" if board == "icebreaker" else "*.bit"))
    assert report == load(folder) and not (tmp_path / "build.failed").exists()
    assert report["fmax_mhz"] >= report["clock_mhz"] and report["frames_per_second"] >= 1000
    assert report["frames_per_second"] == pytest.approx(report["clock_mhz"] * 1e6 / report["interval_cycles"], rel=1e-5)
    for name in ("lut4", "ff", "carry", "ebr", "spram", "dsp"):
        entry = report["resources"][name]
        assert set(entry) == {"used", "available", "estimated"} and 0 <= entry["used"] <= entry["available"]
    assert [layer["name"] for layer in report["layers"]] == ["conv", "pool", "fc"]
    assert "conv" in text(report) and report["accuracy"] is None

    kept = np.load(folder / "expected.npz")
    assert (network()(kept["x"]) == kept["y"]).all()  # wider formats, the same codes
    found = simulate(folder, kept["x"], count=len(kept["x"]))
    assert found.differ == 0
    assert (found.interval_cycles, found.latency_cycles) == (report["interval_cycles"], report["latency_cycles"])
    assert_images_are_in_the_bitstream(folder)

    # Other weights, thresholds and biases: the placed design is there already, and the result is right.
    other = build(network(2), board=board, output=tmp_path / "other", fps=1000, patchable=True)
    assert other["from_cache"] and other["seconds"]["place"] == 0
    assert (tmp_path / "other" / "plan.json").read_text() == (folder / "plan.json").read_text()
    assert_images_are_in_the_bitstream(tmp_path / "other")
    x = kept["x"]
    assert (network(2)(x) != network()(x)).any()
    assert simulate(tmp_path / "other", x, count=len(x)).differ == 0
    assert_bitstreams_differ(folder, tmp_path / "other")


def test_frames_are_of_the_data_and_no_reason_for_a_new_place_and_route(tmp_path):
    reports = []
    for seed in (1, 2):
        x = np.random.default_rng(seed).integers(0, 256, (30, 6, 6, 1)).astype(np.uint8)
        data = Data(x, np.arange(30) % 3, "data")
        begun = time.monotonic()
        reports.append(build(network(), board="icebreaker", output=tmp_path / str(seed), fps=1000, data=data))
        wall = time.monotonic() - begun
        assert 0.8 * wall - 0.5 < sum(reports[-1]["seconds"].values()) < wall + 0.1
        with np.load(tmp_path / str(seed) / "expected.npz") as kept:
            assert len(kept["x"]) == 8
            np.testing.assert_array_equal(kept["x"], x[:8])  # their classes are mixed already
            np.testing.assert_array_equal(kept["y"], network()(kept["x"]))
        assert "logs" in reports[-1]["files"]
    assert reports[1]["from_cache"] and text(reports[1]).split("\n\n")[0].endswith(" (from cache)")
    assert_bitstreams_differ(tmp_path / "1", tmp_path / "2")


def test_a_self_test_in_logic_is_the_same_whatever_the_data(tmp_path):
    """A frame of few beats lies in logic, so that another one would mean another place and route."""
    builder = NetworkBuilder((6,))
    builder.add(Dense, "fc", small_networks.weights(np.random.default_rng(1), (3, 6), "int:3"))
    small = builder.network("small")
    kept = []
    for seed in (1, 2):
        data = Data(np.random.default_rng(seed).integers(0, 256, (9, 6)).astype(np.uint8), np.arange(9) % 3, "data")
        verilog(small, board="icebreaker", output=tmp_path / str(seed), fps=1e5, calibrate=data)
        kept.append((tmp_path / str(seed) / "board" / "lutloom_memories.v").read_text())
    assert "selftest_frame" in kept[0] and kept[0] == kept[1]


def assert_images_are_in_the_bitstream(folder):
    """Every ROM image in block RAM, read back out of the bitstream's text form."""
    source = next(iter([*folder.glob("*.asc.gz"), *folder.glob("*.config.gz")]))
    found = read_back(read_text(source), MemoryMap.from_json((folder / "memory_map.json").read_text()))
    plan = json.loads((folder / "plan.json").read_text())
    in_blocks = {memory["name"] for memory in plan["memories"] if memory["kind"] == "rom" and memory["place"] == "ebr"}
    assert in_blocks and in_blocks <= set(found)
    for name in in_blocks:
        assert found[name] == read_hex_image((folder / "rom" / f"{name}.hex").read_text()), name


def assert_bitstreams_differ(*folders):
    contents = {next(p for p in folder.iterdir() if p.suffix in (".bin", ".bit")).read_bytes() for folder in folders}
    assert len(contents) == len(folders)


def test_verilog_alone(tmp_path):
    report = verilog(network(), board="ulx3s-12f", output=tmp_path / "rtl", top="stream", fps=1000)
    assert report["fmax_mhz"] is None and report["resources"]["lut4"]["estimated"] > 0
    assert "(core alone)" in text(report) and "logs" not in report["files"]
    assert (report["weights"], report["activations"]) == ("bitmask:X0.0XX, int:3", "uint:2")
    core = (tmp_path / "rtl" / "rtl" / "lutloom_core.v").read_text()
    assert "module lutloom_core(" in core and str(Path.cwd()) not in core and "site-packages" not in core
    assert not (tmp_path / "rtl" / "board").exists()
    verilog(network(), board="ulx3s-12f", output=tmp_path / "shell", fps=1000)
    assert {path.name for path in (tmp_path / "shell" / "board").iterdir()} == {
        "lutloom_core.v", "lutloom_top.v", "lutloom_memories.v", "ulx3s-12f.lpf"
    }


def test_a_network_file_builds_like_the_network(tmp_path):
    network().save(tmp_path / "net.npz")
    verilog(tmp_path / "net.npz", board="icebreaker", output=tmp_path / "a", top="stream", fps=1000)
    verilog(network(), board="icebreaker", output=tmp_path / "b", top="stream", fps=1000)
    for name in ("rtl/lutloom_core.v", "rom/manifest.json", "plan.json"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    assert isinstance(Network.load(tmp_path / "a" / "network.npz"), Network)


def test_nothing_is_overwritten_that_is_not_ours(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(BuildError, match="is not empty and not a build folder of Lutloom"):
        verilog(network(), board="icebreaker", output=tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BuildError, match="is a file; give a folder"):
        verilog(network(), board="icebreaker", output=tmp_path / "file")
    with pytest.raises(BuildError, match="cannot be made: there is no folder"):
        verilog(network(), board="icebreaker", output=tmp_path / "no" / "where")
    assert [path.name for path in tmp_path.iterdir()].count("mine") == 1


def test_a_build_of_ours_is_replaced_as_a_whole(tmp_path):
    output = tmp_path / "build"
    verilog(network(), board="icebreaker", output=output, top="shell", fps=1000)
    assert (output / "board").exists()
    verilog(network(), board="icebreaker", output=output, top="stream", fps=1000)
    assert not (output / "board").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


@pytest.mark.parametrize("failure", [ToolError("place and route failed"), KeyboardInterrupt()])
def test_a_failed_build_leaves_only_its_logs(failure, tmp_path, monkeypatch):
    def fail(folder, *, log_dir, **_):
        (log_dir / "place.log").write_text("ERROR")
        raise failure

    monkeypatch.setattr(sys.modules["lutloom.build"], "implement", fail)
    with pytest.raises(type(failure)):
        build(network(), board="icebreaker", output=tmp_path / "build", fps=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["build.failed"]
    assert (tmp_path / "build.failed" / "logs" / "place.log").read_text() == "ERROR"


def test_what_cannot_be_reached_is_said(tmp_path):
    with pytest.raises(FitError, match="frames a second at 48 MHz leave 0 cycles a frame, but layer"):
        build(network(), board="icebreaker", output=tmp_path / "x", fps=1e9)
    with pytest.raises(LutloomError, match="board must be one of"):
        build(network(), board="arty", output=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_build_has_no_report(tmp_path):
    verilog(network(), board="icebreaker", output=tmp_path / "b", top="stream", fps=1000)
    (tmp_path / "b" / "report.json").unlink()
    with pytest.raises(BuildError, match="has no report.json"):
        load(tmp_path / "b")
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(BuildError, match="is not a folder"):
        load(tmp_path / "b")


def test_a_folder_named_like_our_logs_is_not_deleted(tmp_path):
    (tmp_path / "mine.failed").mkdir()
    (tmp_path / "mine.failed" / "precious").write_text("years")
    with pytest.raises(BuildError, match="mine.failed is in the way of a failed build's logs; move it"):
        verilog(network(), board="icebreaker", output=tmp_path / "mine", fps=1000)
    assert (tmp_path / "mine.failed" / "precious").exists()


def test_the_current_folder_and_no_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BuildError, match="is the current folder, which a build cannot replace"):
        verilog(network(), board="icebreaker", output=".", fps=1000)
    with pytest.raises(BuildError, match="the build folder needs a name"):
        verilog(network(), board="icebreaker", output="", fps=1000)


def test_a_damaged_report_is_said_to_be(tmp_path):
    verilog(network(), board="icebreaker", output=tmp_path / "b", top="stream", fps=1000)
    (tmp_path / "b" / "report.json").write_text("{}")
    with pytest.raises(BuildError, match="report.json is damaged; build it again"):
        load(tmp_path / "b")


def test_what_the_pll_cannot_give_is_refused(tmp_path):
    with pytest.raises(LutloomError, match="the PLL of this board gives at most 275 MHz, not 500"):
        verilog(network(), board="icebreaker", output=tmp_path / "b", clock_mhz=500)
    with pytest.raises(ValueError, match="style must be auto or dataflow, not 'engine'"):
        verilog(network(), board="icebreaker", output=tmp_path / "b", style="engine")
    assert list(tmp_path.iterdir()) == []
