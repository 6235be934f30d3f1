"""The compiled bench: the emitted Verilog of a build folder as a program that compares whole data sets in the process.

Verilator turns ``rtl/*.v`` into C++; ``bench.cpp`` drives the streams of ``lutloom_core``. The program is kept in the
cache by the contents of the Verilog, not by those of ``rom/``, which it reads when it runs.
"""

import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lutloom.errors import BuildError, ToolError
from lutloom.sim import tools
from lutloom.sim.results import BenchResult, merge, parse_records
from lutloom.toolchain.cache import cached, content_key, lookup

TOP = "lutloom_core"
_BENCH = Path(__file__).with_name("bench.cpp")
_VERILATOR_FLAGS = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "unique", "--noassert", "--no-timing",
                    "-Wno-fatal", "-Wno-lint", "-Wno-style", "--output-split", "10000", "--output-split-cfuncs", "1000",
                    "--prefix", "Vcore", "--top-module", TOP)
_CXX_FLAGS = ("-std=c++17", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0",
              "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0", "-DVL_TIME_CONTEXT", "-w")
# Measured on LeNet (5.3 MB of C++ that runs every cycle): -O0 compiles in 11 s and runs 7 thousand cycles a second,
# -O1 in 61 s and 40 thousand; -O2 takes twice as long again and is not faster. What runs once (slow) stays at -O0.
_LEVELS = {"quick": "-O0", "full": "-O1"}
QUICK_CYCLES = 300_000  # below so many a full compilation is not worth its time, whatever the size of the network
_HEX = re.compile("[0-9a-fA-F]+")
_UNIT_BYTES = 1_000_000  # of C++ text compiled at once, at most: bounds the compiler's memory on large networks
_SMALL_BYTES = 150_000  # of C++ text, and a compiler of its own is worth it


def compile_core(folder, *, level="full", jobs=None, progress=None):
    """Compiles the Verilog of a build folder, or finds it compiled.

    Parameters
    ----------
    folder : path of a build folder, with rtl/*.v
    level : "full" or "quick"
        To run fast, or to be compiled fast, for less than some QUICK_CYCLES cycles. A full one is taken if it is there.
    jobs : int
        Compilers at a time; as many as there are processors by default.
    progress : callable(text)
        Told once when there is something to compile.

    Returns
    -------
    CompiledCore

    Raises
    ------
    BuildError
        When there is no Verilog.
    ToolError
        When Verilator or the compiler is missing or fails.
    """
    folder = Path(folder).resolve()
    sources = sorted((folder / "rtl").glob("*.v"))
    if not sources:
        raise BuildError(f"{folder} holds no rtl/*.v; make it with: lutloom verilog MODEL --board BOARD -o {folder}")
    command, version = tools.compiler()
    keys = {name: content_key("core", *sources, _BENCH, tools.verilator_version(), version, _VERILATOR_FLAGS,
                              _CXX_FLAGS, flag) for name, flag in _LEVELS.items()}
    make = partial(_compile, sources, _LEVELS[level], jobs or os.cpu_count() or 1, progress)
    found = lookup(tools.CACHE, keys["full"]) or cached(tools.CACHE, keys[level], make)[0]
    return CompiledCore(folder, found / "bench")


def _compile(sources, flag, jobs, progress, target):
    """Makes target/bench."""
    if progress:
        progress("compile the simulation")
    binary, root = tools.verilator()
    command, version = tools.compiler()
    include = ["-I", root / "include", "-I", root / "include" / "vltstd"]
    with tempfile.TemporaryDirectory(prefix="lutloom-verilated-") as scratch, ThreadPoolExecutor(jobs) as pool:
        scratch = Path(scratch)
        build = partial(tools.run_tool, what="the C++ compiler")
        runtime_key = content_key("runtime", tools.verilator_version(), version, _CXX_FLAGS)
        runtime = pool.submit(cached, tools.CACHE, runtime_key, partial(_compile_runtime, build, include))
        tools.run_tool([binary, *_VERILATOR_FLAGS, "--Mdir", scratch, *sources], what="Verilator",
                       environment=tools.verilator_environment())
        units = _units(sorted(scratch.glob("*.cpp")), flag, jobs, scratch)
        waiting = [pool.submit(build, [*command, *_CXX_FLAGS, unit_flag, *include, "-I", scratch,
                                       "-c", unit, "-o", unit.with_suffix(".o")]) for unit, unit_flag in units]
        try:
            for job in waiting:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        objects = [unit.with_suffix(".o") for unit, _ in units] + sorted(runtime.result()[0].glob("*.o"))
        build([*command, "-o", target / "bench", *objects, "-pthread", "-latomic"])


def _compile_runtime(build, include, target):
    """Verilator's run-time library, which is the same for every model."""
    command, _ = tools.compiler()
    for name in ("verilated", "verilated_threads"):
        source = tools.verilator()[1] / "include" / f"{name}.cpp"
        build([*command, *_CXX_FLAGS, "-O1", *include, "-c", source, "-o", target / f"{name}.o"])


def _units(files, flag, jobs, scratch):
    """Gathers C++ files into few compilation units of about equal size, as every one reads the same long headers.

    Returns
    -------
    list of (path, flag), those that take longest first
    """
    slow = [path for path in files if "__Slow" in path.name]
    fast = [path for path in files if path not in slow] + [_BENCH]
    units = []
    for kind, members, kind_flag in (("fast", fast, flag), ("slow", slow, _LEVELS["quick"])):
        total = sum(path.stat().st_size for path in members)
        number = max(-(-total // _UNIT_BYTES), min(jobs, total // _SMALL_BYTES) if kind == "fast" else 0)
        bins = [[] for _ in range(max(1, min(len(members), number)))]
        sizes = [0] * len(bins)
        for path in sorted(members, key=lambda path: -path.stat().st_size):
            least = sizes.index(min(sizes))
            bins[least].append(path)
            sizes[least] += path.stat().st_size
        for index, paths in enumerate(bins):
            unit = scratch / f"unit_{kind}_{index}.cc"
            unit.write_text("".join(f'#include "{path}"\n' for path in sorted(paths)))
            units.append((unit, kind_flag))
    return units


@dataclass(frozen=True)
class CompiledCore:
    """A core as a program.

    Parameters
    ----------
    folder : Path
        The build folder, whose rom/ it reads at every run.
    program : Path
    """

    folder: Path
    program: Path

    def run(self, input_layout, output_layout, beats, expected, *, count=None, stalls=0.0, seed=0, limit=1_000_000,
            jobs=1, alone=True, overrun=None, drain=1000, reports=16, record=0, clear_after=(), break_last=False,
            progress=None):
        """Sends frames through the core and compares what comes out.

        Parameters
        ----------
        input_layout, output_layout : StreamLayout
        beats, expected : uint8 arrays (frames, beats, bytes)
            From ``StreamLayout.pack``.
        count : int
            Frames to run; beyond those given they are repeated from the first on.
        stalls : float
            Probability, each cycle, that the source has nothing and that the sink is not ready; below 1.
        seed : int
            Of the stalls, and of what memories and registers hold before they are written.
        limit : int
            Cycles without an output beat that count as a deadlock.
        jobs : int
            Processes that share the frames.
        alone : bool
            The first frame runs through the empty core before the second one begins: its latency is measured.
        overrun : bool
            The source goes on with frames again until the last output has come, so that the periodic regime lasts to
            the end; by default just when there are no stalls. Otherwise nothing may follow the last frame.
        drain : int
            Cycles after the last frame in which nothing may follow.
        reports : int
            Differences to describe.
        record : int
            Frames whose every transfer's cycle is kept.
        clear_after : sequence of int
            Before the frames: so many beats go in, then ``clear`` is given for a cycle, for each number here.
        break_last : bool
            TLAST of those beats is wrong: ``frame_error`` must rise, and fall with ``clear``.
        progress : callable(frames, total)

        Returns
        -------
        BenchResult
        """
        pool = len(beats)
        count = pool if count is None else count
        check_arrays(input_layout, output_layout, beats, expected, stalls, count)
        if break_last and not (clear_after and min(clear_after) > 0):
            raise ValueError("break_last needs clear_after with at least one beat each")
        jobs = max(1, min(jobs, count))
        bounds = [count * job // jobs for job in range(jobs + 1)]
        with tempfile.TemporaryDirectory(prefix="lutloom-bench-") as scratch:
            np.ascontiguousarray(beats).tofile(f"{scratch}/input")
            np.ascontiguousarray(expected).tofile(f"{scratch}/expected")
            common = {
                "input": f"{scratch}/input", "expected": f"{scratch}/expected", "pool": pool, "alone": int(alone),
                "overrun": int(stalls == 0 if overrun is None else overrun), "limit": limit, "drain": drain,
                "reports": reports, "in_beats": input_layout.beats, "in_bytes": input_layout.tdata_bytes,
                "out_beats": output_layout.beats, "out_bytes": output_layout.tdata_bytes,
                "width": output_layout.width, "bits": output_layout.format.bits, "stalls": round(stalls * 2**32),
                "clear_after": " ".join(str(int(beats)) for beats in clear_after), "break_last": int(break_last),
            }
            counter = _Counter(jobs, count, progress)
            parts, running = [], []
            with ThreadPoolExecutor(jobs) as threads:
                try:
                    for job in range(jobs):
                        own = {"first": bounds[job], "frames": bounds[job + 1] - bounds[job], "seed": seed + 2 * job,
                               "record": record if job == 0 else 0, "cycles": f"{scratch}/cycles{job}"}
                        tell = partial(counter.tell, job)
                        parts.append(threads.submit(self._run_one, {**common, **own}, tell, running))
                    return merge([part.result() for part in parts], input_layout, output_layout)
                except BaseException:  # Ctrl-C above all: the processes need not run to their end
                    threads.shutdown(wait=False, cancel_futures=True)
                    for process in running:
                        process.kill()
                    raise

    def _run_one(self, options, tell, running) -> BenchResult:
        """One process, which joins those running; its records, parsed."""
        command = [str(self.program), *(f"{key}={value}" for key, value in options.items())]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=errors, text=True)
            running.append(process)
            try:
                records = []
                for line in process.stdout:
                    if line.startswith("progress "):
                        tell(int(line.split()[1]))
                    else:
                        records.append(line)
                code = process.wait()
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
            errors.seek(0)
            said = errors.read().strip()
        said += "".join(line for line in records if line.startswith(("%", "-")))
        if "readmem" in said or code == 2:  # the ROM images are part of what is simulated
            raise BuildError(f"the simulation of {self.folder} cannot start: {said.splitlines()[0]}")
        if code or not records or not records[-1].startswith("done "):
            raise ToolError(f"the compiled simulation of {self.folder} ended with code {code}: {said[-500:]}")
        return parse_records(records, Path(options["cycles"]))


class _Counter:
    """Adds up the frames of several processes for one progress report."""

    def __init__(self, jobs, total, progress):
        self._done, self._total, self._progress = [0] * jobs, total, progress

    def tell(self, job, frames):
        self._done[job] = frames
        if self._progress:
            self._progress(sum(self._done), self._total)


def check_arrays(input_layout, output_layout, beats, expected, stalls, count):
    """Raises ValueError for arrays that do not fit the layouts, no frames, or a probability that is none."""
    for name, layout, array in (("beats", input_layout, beats), ("expected", output_layout, expected)):
        if array.dtype != np.uint8 or array.shape[1:] != (layout.beats, layout.tdata_bytes):
            raise ValueError(f"{name} must be uint8 of shape (frames, {layout.beats}, {layout.tdata_bytes}), "
                             f"not {array.dtype} of {array.shape}")
    if len(beats) != len(expected):
        raise ValueError(f"beats and expected must hold as many frames, not {len(beats)} and {len(expected)}")
    if count < 1 or not len(beats):
        raise ValueError(f"at least one frame is needed, not {min(count, len(beats))}")
    if not 0 <= stalls < 1:
        raise ValueError(f"stalls must be a probability from 0 to below 1, not {stalls!r}")


def check_ports(folder, input_layout, output_layout):
    """Raises BuildError when the ports of the core in rtl/ are not as wide as the plan says."""
    text = _verilog(folder)
    module = re.search(rf"^\s*module\s+{TOP}\b(.*?)^\s*endmodule", text, re.MULTILINE | re.DOTALL)
    if not module:
        raise BuildError(f"{folder} holds no module {TOP} in rtl/; build it again")
    for port, layout in (("s_axis_tdata", input_layout), ("m_axis_tdata", output_layout)):
        found = re.search(rf"\b(?:input|output)\s+(?:wire\s+|reg\s+|logic\s+)?(?:\[(\d+):0\]\s*)?{port}\b", module[1])
        bits = int(found[1] or 0) + 1 if found else None
        if found and bits != layout.tdata_bits:
            raise BuildError(f"{port} of {TOP} in {folder}/rtl has {bits} bits, but plan.json says "
                             f"{layout.tdata_bits}; build it again")


def check_images(folder, memories=()):
    """Raises BuildError when a ROM image that the Verilog in rtl/ reads is not there, or is not what its memory takes.

    Parameters
    ----------
    folder : path of a build folder
    memories : sequence of dict
        ``memories`` of plan.json: name, width and depth of each. Of an image that is not among them only the digits are
        checked.
    """
    known = {f"rom/{memory['name']}.hex": memory for memory in memories}
    for name in re.findall(r'"(rom/[^"]+)"', _verilog(folder)):
        path = Path(folder) / name
        if not path.is_file():
            raise BuildError(f"{folder} holds no {name}, a ROM image that its Verilog reads; build it again")
        _check_image(path, **{key: known.get(name, {}).get(key) for key in ("width", "depth")})


def _check_image(path, width, depth):
    """Raises BuildError at the first word that is none, or is wider than the memory; and for too few or many words.

    Simulators read on over what is no word, each in its own way.
    """
    count = 0
    for number, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
        for word in line.split():
            if not _HEX.fullmatch(word):
                raise BuildError(f"{path}, line {number}: {word[:40]!r} is no hexadecimal word; build it again")
            if width is not None and int(word, 16) >> width:
                raise BuildError(f"{path}, line {number}: {word[:40]!r} is wider than the memory's {width} bits; build "
                                 "it again")
            count += 1
    if depth is not None and count != depth:
        raise BuildError(f"{path} holds {count:,} words, but the memory has {depth:,}; build it again")


def _verilog(folder):
    """All Verilog of a build folder."""
    return "\n".join(path.read_text(errors="replace") for path in sorted((Path(folder) / "rtl").glob("*.v")))
