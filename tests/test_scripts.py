"""Scripts that measure must say what is wrong, and fail then."""

import copy
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
REPORT = json.loads((SCRIPTS.parent / "docs" / "reports" / "tfc-hx8k.json").read_text())


def changed(*path, value):
    report = copy.deepcopy(REPORT)
    entry = report
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = value
    return report


@pytest.fixture(scope="module")
def problems():
    return runpy.run_path(str(SCRIPTS / "builds"))["problems"]


def test_a_good_build_has_no_problems(problems):
    assert problems(REPORT, ["lutloom", "build", "--fps", "500000"]) == []


@pytest.mark.parametrize("path, value, sentence", [
    (("simulation",), None, "it was not simulated"),
    (("simulation", "differ"), 3, "3 of 500 frames differ"),
    (("simulation", "interval_cycles"), 197, "interval_cycles 197 counted, 196 predicted"),
    (("fmax_mhz",), 100.0, "Fmax 100.0 MHz, clock 111.0 MHz"),
    (("frames_per_second",), 499999.0, "499,999 frames a second, 500,000 asked for"),
    (("resources", "ebr", "used"), 33, "33 ebr used, 32 available"),
    (("accuracy", "golden"), 0.9, "accuracy 90.00% golden, 92.96% float"),
])
def test_problems_of_a_build_are_named(problems, path, value, sentence):
    assert problems(changed(*path, value=value), ["lutloom", "build", "--fps", "500000"]) == [sentence]


@pytest.mark.parametrize("row, name", [("lenet", "lenet-ulx3s"), ("tfc", "tfc-hx8k")])
def test_the_bench_measures_the_builds_of_the_docs(row, name, monkeypatch):
    """A bug: the bench looked for a folder of another name, and built LeNet without --fps, which takes far longer."""
    monkeypatch.setenv("LUTLOOM_DATA", "/data")
    bench = runpy.run_path(str(SCRIPTS / "bench"))["Bench"]
    monkeypatch.setattr(bench, "built", lambda self, *words: [str(word) for word in words])
    found, *words = getattr(bench(None, None), row)()
    build = runpy.run_path(str(SCRIPTS / "builds"))["command_lines"]()[name][0]
    assert found == build[build.index("-o") + 1] == name
    assert {*words, "lutloom", "build", "-o", name, "--data", "mnist"} == set(build)


def test_random_networks_tell_what_differs(monkeypatch, capsys):
    script = runpy.run_path(str(SCRIPTS / "random_networks"))
    one, globals_ = script["one"], script["one"].__globals__
    monkeypatch.setitem(globals_, "check", lambda seed, folder, branches: 1 / 0)
    assert one(3, False).problem == "ZeroDivisionError: division by zero"
    wrong = {"layers": "Dense", "frames": 6, "differ": 1, "predicted": (1, 2), "counted": (1, 2), "problem": "differs"}
    monkeypatch.setitem(globals_, "one", lambda seed, branches: script["Check"](seed, **wrong))
    monkeypatch.setitem(globals_, "Pool", Inline)
    monkeypatch.setattr(sys, "argv", ["random_networks", "2", "--first", "7"])
    assert script["main"]() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 networks, 12 frames compared, 2 networks wrong: 7, 8"


class Inline:
    """A pool of no processes."""

    def __init__(self, jobs, begin):
        self.imap = map

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_random_networks_can_be_interrupted(tmp_path):
    command = [sys.executable, SCRIPTS / "random_networks", "1000", "--first", "5000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while process.poll() is None and not list(tmp_path.glob("lutloom-random-*")):
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "lutloom: interrupted\n")
    assert not list(tmp_path.glob("lutloom-random-*"))
