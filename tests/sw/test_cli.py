"""The command line: exit statuses, what goes to which stream, and a sentence for everything a user can get wrong."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lutloom import cli, commands, digits
from lutloom.errors import ModelError

COMMANDS = ["build", "verilog", "check", "quantize", "evaluate", "search", "simulate", "report", "boards",
            "doctor"]
QUANTISATION = ["--weights", "int:4", "--activations", "4"]


def run(capsys, *arguments):
    """Exit status, standard output, standard error of one command line."""
    with contextlib.suppress(SystemExit):
        status = cli.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()
    raise AssertionError("usage error: " + capsys.readouterr().err)


def refused(capsys, *arguments):
    """The sentence of a command line that fails, after checking that it is one."""
    status, out, err = run(capsys, *arguments)
    assert status == 1, (status, out, err)
    assert out == "" and "Traceback" not in err
    sentence = err.splitlines()[-1] if err else ""
    assert err.count("lutloom: ") == 1 and len(sentence) > 20, err
    return err.removeprefix("lutloom: ")


def dense_model(path, weight=None, operators=(), opset=13, shape=("N", 6)):
    """A model file: input of 6, operators in front, then a dense layer fc of 6 to 3."""
    weight = np.linspace(-1, 1, 18, dtype=np.float32).reshape(3, 6) if weight is None else weight
    nodes, x = [], "input"
    for index, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, [x], [f"v{index}"], name=f"odd_{operator.lower()}"))
        x = f"v{index}"
    nodes.append(helper.make_node("Gemm", [x, "fc.weight"], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(weight)])],
                              [numpy_helper.from_array(weight, "fc.weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture
def model(tmp_path):
    return dense_model(tmp_path / "small.onnx")


@pytest.fixture
def calibration(tmp_path):
    path = tmp_path / "calibration.npz"
    np.savez(path, x=np.arange(60, dtype=np.uint8).reshape(10, 6) * 4)
    return path


# --- what holds for every command -------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    example = capsys.readouterr().out.split("example:")[1].split()
    assert example[:2] == ["lutloom", command]
    assert cli.parser().parse_args(example[1:]).command == command


@pytest.mark.parametrize("arguments, word", [
    ([], "COMMAND"),
    (["weave"], "weave"),
    (["build", "m.onnx", "-o", "d"], "--board"),
    (["simulate", "d", "--data", "digits", "--count", "0"], "at least 1"),
    (["simulate", "d", "--data", "digits", "--count", "many"], "whole number"),
    (["simulate", "d", "--data", "digits", "--stalls", "1"], "below 1"),
    (["build", "m.onnx", "--board", "b", "-o", "d", "--fps", "-3"], "above zero"),
    (["quantize", "m.onnx", "-o", "n.npz", "--activations", "17"], "1 to 16 bits"),
    (["quantize", "m.onnx", "-o", "n.npz", "--input-scale", "1/0"], "1/256"),
])
def test_usage_errors_exit_2(arguments, word, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert word in capsys.readouterr().err


def test_input_scale_is_exact():
    options = cli.parser().parse_args(["quantize", "m.onnx", "-o", "n.npz", "--input-scale", "1/256"])
    assert (options.input_scale.numerator, options.input_scale.denominator) == (1, 256)


def test_json_is_alone_on_standard_output(capsys, monkeypatch):
    def noisy(options, progress):
        print("a library prints this")
        return commands.Outcome({"answer": 42}, "text")

    monkeypatch.setattr(commands, "boards", noisy)
    status, out, err = run(capsys, "boards", "--json")
    assert status == 0 and json.loads(out) == {"answer": 42} and "library" in err


def test_a_failure_after_results_exits_1_with_the_results(capsys, monkeypatch):
    monkeypatch.setattr(commands, "doctor", lambda *_: commands.Outcome({"ok": False}, "table", "make is missing"))
    status, out, err = run(capsys, "doctor", "--json")
    assert status == 1 and json.loads(out) == {"ok": False} and err == "lutloom: make is missing\n"


@pytest.mark.parametrize("error, status, sentence", [
    (ModelError("layer 'fc' is odd;\nlast line of a log"), 1, "lutloom: layer 'fc' is odd;\n  last line of a log\n"),
    (FileNotFoundError(2, "No such file", "net.onnx"), 1, "lutloom: net.onnx: No such file\n"),
    (OSError(28, "No space left on device"), 1, "lutloom: No space left on device\n"),
    (MemoryError(), 1, "lutloom: the memory of this machine is not enough\n"),
    (KeyboardInterrupt(), 130, "lutloom: interrupted\n"),
])
def test_errors_become_one_sentence(error, status, sentence, capsys, monkeypatch):
    def fails(options, progress):
        raise error

    monkeypatch.setattr(commands, "check", fails)
    assert run(capsys, "check", "net.onnx") == (status, "", sentence)


def test_a_fault_of_our_own_is_not_hidden(monkeypatch):
    def fails(options, progress):
        raise ZeroDivisionError

    monkeypatch.setattr(commands, "check", fails)
    with pytest.raises(ZeroDivisionError):
        cli.main(["check", "net.onnx"])


@pytest.mark.parametrize("command", ["boards", "doctor"])
def test_commands_without_a_model(command, capsys):
    _, out, _ = run(capsys, command)
    assert len(out.splitlines()) > 3
    _, out, _ = run(capsys, command, "--json")
    assert isinstance(json.loads(out), dict)


def test_check_and_quantize_and_evaluate(model, calibration, tmp_path, capsys):
    status, out, _ = run(capsys, "check", model, "--json")
    assert status == 0 and isinstance(json.loads(out), dict)
    network = tmp_path / "net.npz"
    status, out, _ = run(capsys, "quantize", model, "-o", network, *QUANTISATION, "--calibrate", calibration, "--json")
    result = json.loads(out)
    assert status == 0 and network.exists()
    assert result["weights"] == 18 and result["weight_bits"] == 72
    data = tmp_path / "data.npz"
    np.savez(data, x=np.arange(60, dtype=np.uint8).reshape(10, 6), y=np.arange(10) % 3)
    status, out, _ = run(capsys, "evaluate", network, "--data", data, "--json")
    result = json.loads(out)
    assert status == 0 and result["count"] == 10 and set(result["accuracy"]) == {"float", "golden"}
    assert np.sum(result["confusion"]) == 10 or isinstance(result["confusion"], dict)


# --- bad models -------------------------------------------------------------------------------------------------------

def test_missing_file(tmp_path, capsys):
    assert "nothing.onnx" in refused(capsys, "check", tmp_path / "nothing.onnx")


def test_not_onnx(tmp_path, capsys):
    path = tmp_path / "letter.onnx"
    path.write_text("Dear all, this is not a model.")
    assert "letter.onnx" in refused(capsys, "check", path)


def test_unknown_kind_of_file(tmp_path, capsys):
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK")
    assert ".onnx" in refused(capsys, "quantize", path, "-o", tmp_path / "net.npz")


def test_a_network_instead_of_a_model(tmp_path, capsys):
    (tmp_path / "net.npz").write_bytes(b"")
    assert "is not a network of lutloom; give a model file or" in refused(capsys, "check", tmp_path / "net.npz")


def test_an_option_that_is_none_prints_the_usage_of_its_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["simulate", "d", "--data", "digits", "--stall", "0.1", "--frames", "3"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: lutloom simulate") and "unrecognized arguments: --frames 3" in err


def test_folder_instead_of_a_file(tmp_path, capsys):
    assert tmp_path.name in refused(capsys, "check", tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 1000, 20000])
def test_truncated(tmp_path, capsys, keep):
    path = tmp_path / "half.onnx"
    path.write_bytes(Path(digits.example(digits.MODEL)).read_bytes()[:keep])
    assert "half.onnx" in refused(capsys, "check", path)


def test_unknown_opset(tmp_path, capsys):
    assert "999" in refused(capsys, "check", dense_model(tmp_path / "new.onnx", opset=999))


def test_unsupported_operator_is_named_with_its_layer(tmp_path, capsys):
    path = dense_model(tmp_path / "odd.onnx", operators=["Sin"])
    status, out, err = run(capsys, "check", path)
    assert status == 1 and "Sin" in out + err and "odd_sin" in out + err and "Traceback" not in err
    assert (out + err).count("is an operator that is not supported") == 1
    assert "odd_sin" in refused(capsys, "quantize", path, "-o", tmp_path / "net.npz", *QUANTISATION)
    assert not (tmp_path / "net.npz").exists()


def test_dynamic_shape(tmp_path, capsys):
    assert "batch" in refused(capsys, "check", dense_model(tmp_path / "open.onnx", shape=("N", "features")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path, capsys, calibration, value):
    weight = np.ones((3, 6), np.float32)
    weight[1, 2] = value
    path = dense_model(tmp_path / "nan.onnx", weight)
    sentence = refused(capsys, "quantize", path, "-o", tmp_path / "n.npz", *QUANTISATION, "--calibrate", calibration)
    assert "fc" in sentence and ("NaN" in sentence or "inf" in sentence)


@pytest.mark.parametrize("spec, word", [
    ("int:99", "16"), ("float8", "bitmask"), ("bitmask:Y0.0", "X"), ("conv9=int:4,*=int:4", "conv9"),
])
def test_bad_weight_formats(model, calibration, tmp_path, capsys, spec, word):
    assert word in refused(capsys, "quantize", model, "-o", tmp_path / "n.npz", "--weights", spec,
                           "--calibrate", calibration)


@pytest.mark.parametrize("output, word", [("net.onnx", ".npz"), ("nowhere/net.npz", "no folder"),
                                          ("folder.npz", "is a folder")])
def test_networks_that_cannot_be_written(model, tmp_path, capsys, output, word):
    (tmp_path / "folder.npz").mkdir()
    assert word in refused(capsys, "quantize", model, "-o", tmp_path / output, *QUANTISATION)


@pytest.mark.parametrize("command", ["quantize", "verilog", "evaluate"])
def test_options_that_would_do_nothing(tmp_path, capsys, command):
    more = {"quantize": ["-o", tmp_path / "n.npz"], "verilog": ["-o", tmp_path / "out", "--board", "icebreaker"],
            "evaluate": ["--data", "digits"]}[command]
    assert "--weights" in refused(capsys, command, tmp_path / "net.npz", *more, *QUANTISATION)


# --- bad data ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arrays, words", [
    ({"x": np.zeros((4, 7), np.uint8), "y": np.zeros(4, int)}, ["7", "6"]),
    ({"x": np.zeros((4, 6), np.uint8)}, ["y"]),
    ({"y": np.zeros(4, int)}, ["x"]),
    ({"x": np.zeros((4, 6), np.uint8), "y": np.zeros(3, int)}, ["4", "3"]),
    ({"x": np.zeros((0, 6), np.uint8), "y": np.zeros(0, int)}, ["no"]),
    ({"x": np.full((4, 6), 1e9), "y": np.zeros(4, int)}, ["0 to 255"]),
    ({"x": np.full((4, 6), np.nan), "y": np.zeros(4, int)}, ["NaN"]),
    ({"x": np.full((4, 6), "a"), "y": np.zeros(4, int)}, ["x of type <U1", "integers or floats"]),
    ({"x": np.full((4, 6), 1j), "y": np.zeros(4, int)}, ["x of type complex128"]),
    ({"x": np.zeros((4, 6), np.uint8), "y": np.full(4, 99)}, ["99"]),
])
def test_bad_data(model, calibration, tmp_path, capsys, arrays, words):
    data = tmp_path / "data.npz"
    np.savez(data, **arrays)
    sentence = refused(capsys, "evaluate", model, "--data", data, *QUANTISATION, "--calibrate", calibration)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("name", ["nothing.npz", "letters", "broken.npz"])
def test_data_that_is_not_there(model, calibration, tmp_path, capsys, name):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 this is no archive")
    where = tmp_path / name if "." in name else name
    assert name in refused(capsys, "evaluate", model, "--data", where, *QUANTISATION, "--calibrate", calibration)


def test_pickled_data_is_refused(model, calibration, tmp_path, capsys):
    np.savez(tmp_path / "objects.npz", x=np.array([{"a": 1}], object), y=np.zeros(1, int))
    sentence = refused(capsys, "evaluate", model, "--data", tmp_path / "objects.npz", *QUANTISATION,
                       "--calibrate", calibration)
    assert "objects.npz" in sentence


def test_calibration_is_asked_for(tmp_path, capsys):
    model = digits.example(digits.MODEL)
    assert "--calibrate" in refused(capsys, "quantize", model, "-o", tmp_path / "n.npz", *QUANTISATION)


# --- bad boards, folders, tools ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", ["build", "verilog"])
def test_unknown_board_lists_the_known_ones(model, calibration, tmp_path, capsys, command):
    sentence = refused(capsys, command, model, "--board", "breadboard", "-o", tmp_path / "out", *QUANTISATION,
                       "--calibrate", calibration)
    assert "breadboard" in sentence and "icebreaker" in sentence and "ulx3s-85f" in sentence
    assert not (tmp_path / "out").exists()


def test_board_file_that_is_none(model, calibration, tmp_path, capsys):
    board = tmp_path / "my_board.py"
    for text in ("PLANK = 1\n", "raise SystemExit(3)\n"):
        board.write_text(text)
        assert "my_board.py" in refused(capsys, "verilog", model, "--board", board, "-o", tmp_path / "out",
                                        *QUANTISATION, "--calibrate", calibration)


def test_network_that_does_not_fit(tmp_path, capsys):
    size = 1000
    rng = np.random.default_rng(1)
    path = dense_model(tmp_path / "large.onnx", rng.normal(size=(size, size)).astype(np.float32), shape=("N", size))
    np.savez(tmp_path / "c.npz", x=rng.integers(0, 256, (20, size), np.uint8))
    sentence = refused(capsys, "verilog", path, "--board", "icebreaker", "-o", tmp_path / "out", "--weights", "int:8",
                       "--activations", "8", "--calibrate", tmp_path / "c.npz")
    assert "'fc'" in sentence and "holds 15 KiB" in sentence and ("--weights" in sentence or "--board" in sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output, words", [("/", "root"), ("/proc/lutloom-build", "cannot be made"), (".", "current"),
                                           ("", "needs a name"), ("nowhere/out", "no folder")])
def test_folders_that_cannot_be_made(model, tmp_path, capsys, monkeypatch, output, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    sentence = refused(capsys, "verilog", model, "--board", "icebreaker", "-o", output, "--weights", "int:4")
    assert words in sentence and (output in sentence) and sorted(tmp_path.iterdir()) == before


def test_empty_names(model, capsys):
    assert "data must be" in refused(capsys, "evaluate", model, "--data", "")
    assert "the model needs a name" in refused(capsys, "check", "")


@pytest.mark.parametrize("output", ["nowhere/o.npz", "."])
def test_outputs_that_cannot_be_written_are_refused_before_any_work(model, tmp_path, capsys, output, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lutloom.quantize"), "load_graph", lambda path: 1 / 0)
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 6), np.uint8))
    assert "cannot be written" in refused(capsys, "evaluate", model, "--data", tmp_path / "data.npz", "--outputs",
                                          tmp_path / output)


def test_outputs_without_labels(model, tmp_path, capsys):
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 6), np.uint8))
    status, out, _ = run(capsys, "evaluate", model, "--data", tmp_path / "data.npz", "--outputs", tmp_path / "o.npz")
    assert (status, out) == (0, f"written: {tmp_path / 'o.npz'}\n")


def test_a_folder_of_somebody_else_is_refused(model, calibration, tmp_path, capsys):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    assert "thesis" in refused(capsys, "verilog", model, "--board", "icebreaker", "-o", out, *QUANTISATION,
                               "--calibrate", calibration)
    assert [path.name for path in out.iterdir()] == ["chapter1.tex"]


@pytest.mark.parametrize("arguments", [["simulate", "{}", "--data", "digits"], ["report", "{}"],
                                       ["evaluate", "{}", "--data", "digits"]])
def test_not_a_build_folder(tmp_path, capsys, arguments):
    for name in ("empty", "nothing"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert name in refused(capsys, *[part.format(tmp_path / name) for part in arguments])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the Verilog and ROM images of a small network, and data for it."""
    folder = tmp_path_factory.mktemp("built")
    np.savez(folder / "data.npz", x=np.arange(60, dtype=np.uint8).reshape(10, 6) * 4, y=np.arange(10) % 3)
    assert cli.main(["verilog", str(dense_model(folder / "small.onnx")), "--board", "icebreaker", "-o",
                     str(folder / "out"), "--fps", "5e6", *QUANTISATION, "--calibrate", str(folder / "data.npz")]) == 0
    return folder


def test_simulate(built, capsys):
    status, out, err = run(capsys, "simulate", built / "out", "--data", built / "data.npz", "--count", 10, "--json")
    result = json.loads(out)
    assert status == 0, err
    assert result["frames"] == 10 and result["differ"] == 0 and result["latency_cycles"] > 0
    for key in ("interval_cycles", "latency_cycles"):
        assert result[key] == result[f"predicted_{key}"]
    _, out, _ = run(capsys, "simulate", built / "out", "--data", built / "data.npz", "--stalls", 0.2)
    assert "cycles, of a run without stalls  counted  predicted" in out


def test_simulate_a_folder_whose_cycles_are_not_those_of_the_plan(built, tmp_path, capsys):
    shutil.copytree(built / "out", tmp_path / "out")
    plan = tmp_path / "out" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"latency_cycles": 3}))
    status, out, err = run(capsys, "simulate", tmp_path / "out", "--data", built / "data.npz", "--json")
    counted = json.loads(out)["latency_cycles"]
    assert status == 1
    assert err == f"lutloom: cycles are not those of plan.json: latency {counted} counted, 3 predicted\n"


def test_simulate_a_folder_with_a_flipped_rom_bit(built, tmp_path, capsys):
    shutil.copytree(built / "out", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert manifest["memories"]
    image = max((tmp_path / "out" / "rom").glob("*.hex"), key=lambda path: path.stat().st_size)
    words = image.read_text().split()
    image.write_text("\n".join(f"{int(word, 16) ^ 1:0{len(word)}x}" for word in words) + "\n")
    status, out, err = run(capsys, "simulate", tmp_path / "out", "--data", built / "data.npz", "--json")
    assert status == 1 and json.loads(out)["differ"] > 0 and "differ" in err


def test_a_report_says_what_was_used_where_nothing_was_chosen(model, calibration, tmp_path, capsys):
    _, out, _ = run(capsys, "verilog", model, "--board", "icebreaker", "-o", tmp_path / "out", "--top", "stream",
                    "--calibrate", calibration, "--json")
    report = json.loads(out)
    assert (report["weights"], report["activations"]) == ("int:8", "8")


def test_simulate_a_core_whose_gaps_alternate(tmp_path, capsys):
    np.savez(tmp_path / "data.npz", x=np.arange(60, dtype=np.uint8).reshape(10, 6) * 4)
    run(capsys, "verilog", dense_model(tmp_path / "small.onnx"), "--board", "icebreaker", "-o", tmp_path / "out",
        *QUANTISATION, "--calibrate", tmp_path / "data.npz")
    status, _, err = run(capsys, "simulate", tmp_path / "out", "--data", tmp_path / "data.npz")
    assert status == 0, err


def test_more_frames_than_there_are(built, capsys):
    status, _, err = run(capsys, "simulate", built / "out", "--data", built / "data.npz", "--count", 11)
    assert status == 1 and "11" in err and "10" in err


def test_build_folder_of_another_version(built, tmp_path, capsys):
    shutil.copytree(built / "out", tmp_path / "old")
    plan = tmp_path / "old" / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"format_version": 999}))
    assert "999" in refused(capsys, "simulate", tmp_path / "old", "--data", built / "data.npz")


def test_a_rom_image_that_is_missing(built, tmp_path, capsys):
    shutil.copytree(built / "out", tmp_path / "out")
    image = next((tmp_path / "out" / "rom").glob("*.hex"))
    image.unlink()
    for engine in ("compiled", "cocotb"):
        sentence = refused(capsys, "simulate", tmp_path / "out", "--data", built / "data.npz", "--engine", engine)
        assert f"holds no rom/{image.name}, a ROM image that its Verilog reads; build it again" in sentence


def test_patchable_of_a_network_that_multiplies(tmp_path, capsys):
    path = tmp_path / "digits.npz"
    run(capsys, "quantize", digits.example(digits.MODEL), "-o", path, "--weights", "int:4", "--calibrate",
        digits.example(digits.CALIBRATION))
    sentence = refused(capsys, "verilog", path, "--board", "icebreaker", "-o", tmp_path / "out", "--patchable")
    assert "requantises by multiplying" in sentence and "give the model file" in sentence
    assert "--activations" not in sentence and not (tmp_path / "out").exists()


def test_missing_native_tools(model, calibration, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    sentence = refused(capsys, "build", model, "--board", "icebreaker", "-o", tmp_path / "out", "--toolchain", "native",
                       *QUANTISATION, "--calibrate", calibration)
    assert "yosys" in sentence and not (tmp_path / "out").exists()


def _hear_interrupts():
    """What runs in a shell's background inherits deafness to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("seconds", [0, 1, 4])
def test_interrupt(tmp_path, seconds):
    """Ctrl-C at any point of a build: a word, no traceback, nothing half-written."""
    command = [sys.executable, "-m", "lutloom.cli", "build", digits.example(digits.MODEL), "--board", "icebreaker",
               "-o", tmp_path / "out", *QUANTISATION, "--calibrate", digits.example(digits.CALIBRATION)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"LUTLOOM_CACHE": str(tmp_path / "cache")},
                               preexec_fn=_hear_interrupts)
    while process.poll() is None and not list(tmp_path.glob(".out-*")):
        time.sleep(0.02)  # until the build has begun
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "lutloom: interrupted\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))] in ([], ["out.failed"])
