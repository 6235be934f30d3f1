"""The demo's table and what it says while it works."""

import io

import pytest

import lutloom
from lutloom import demo
from lutloom.errors import LutloomError
from lutloom.simulate import SimulationResult


@pytest.fixture
def report():
    resources = {name: {"used": 10, "available": 5280, "estimated": 9} for name in ("lut4", "ebr", "spram", "dsp")}
    return {"accuracy": {"float": 0.992, "golden": 0.99, "count": 5000}, "resources": resources, "clock_mhz": 48.0,
            "fmax_mhz": 51.234, "interval_cycles": 4608, "latency_cycles": 6000, "frames_per_second": 10416.7}


def test_summary(report, tmp_path):
    for name in ("rtl", "rom"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("12345")
    (tmp_path / "digits.bin").write_bytes(bytes(1000))
    simulation = SimulationResult(1000, 0, 4608000, 4608, 6000, None)
    lines = demo.summary(report, simulation, tmp_path).splitlines()
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == demo.LABELS
    text = "\n".join(lines)
    for words in ("99.20% of 5,000", "99.00%", "1,000 frames compared, 0 differ", "10 of 5,280",
                  "48 MHz (Fmax after place and route: 51.2 MHz)", "4,608 cycles, 6,000 cycles", "10,417",
                  "digits.bin  1,000 bytes", "(1 files)  5 bytes"):
        assert words in text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_steps_leave_a_line_each(stream):
    steps = demo.Steps(stream)
    steps("synthesis")
    steps("place and route: placing")
    steps("place and route: routing")
    steps("simulate", 1, 10)
    steps("simulate", 10, 10)
    steps.close()
    lines = [line.split("\r\x1b[K")[-1] for line in stream.getvalue().strip("\n").split("\n")]
    assert [line.split(" ...")[0] for line in lines] == ["  synthesis", "  place and route", "  simulate"]
    assert all(line.endswith(" s") for line in lines)


def test_a_table_that_disagrees_is_an_error(report, tmp_path, monkeypatch):
    for name in ("rtl", "rom"):
        (tmp_path / name).mkdir()
    (tmp_path / "digits.bin").write_bytes(bytes(1000))
    monkeypatch.setattr("lutloom.data.load_for", lambda *_: [0] * 10)
    monkeypatch.setattr(lutloom, "build", lambda *_, **__: report)
    monkeypatch.setattr(lutloom, "simulate", lambda *_, **__: SimulationResult(10, 1, 1, 1, 1, "frame 3"))
    with pytest.raises(LutloomError, match="1 of 10 frames differ from the golden model; frame 3"):
        demo.demo(tmp_path, frames=10, stream=io.StringIO())
    monkeypatch.setattr(lutloom, "simulate", lambda *_, **__: SimulationResult(9, 0, 1, 1, 1, None))
    with pytest.raises(LutloomError, match="only 9 of 10 frames ran"):
        demo.demo(tmp_path, frames=10, stream=io.StringIO())
    found = SimulationResult(10, 0, 1, 5, 1, None, predicted_interval_cycles=4, predicted_latency_cycles=1)
    monkeypatch.setattr(lutloom, "simulate", lambda *_, **__: found)
    with pytest.raises(LutloomError, match="interval 5 counted, 4 predicted"):
        demo.demo(tmp_path, frames=10, stream=io.StringIO())
