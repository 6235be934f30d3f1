"""What is wrong with ``--weights`` and ``--prune`` is said before data are read, which may take its time."""

import importlib

import numpy as np
import pytest
from tflite_models import Model, int8

from lutloom import cli, digits
from lutloom import data as data_module

MODEL = str(digits.example(digits.MODEL))
COMMANDS = {
    "quantize": ["-o", "net.npz"], "evaluate": ["--data", "digits"],
    "simulated": ["--data", "digits", "--mode", "simulated"],
    "build": ["--board", "icebreaker", "-o", "out", "--data", "digits"],
    "verilog": ["--board", "icebreaker", "-o", "out", "--top", "stream"],
}


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """The sentence of a command that fails without a look at data."""
    monkeypatch.setitem(data_module._NAMED, "digits", lambda purpose: 1 / 0)
    monkeypatch.chdir(tmp_path)

    def run(command, *more, model=MODEL):
        name = "evaluate" if command == "simulated" else command
        assert cli.main([name, model, *COMMANDS[command], *more]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("lutloom: ") == 1
        return err
    return run


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("options, text", [
    (["--weights", "int:4,"], "--weights must be one format or a comma list of LAYER=FORMAT"),
    (["--weights", "nine:4"], "--weights cannot be 'nine:4'"),
    (["--weights", "conv9=int:4,*=int:8"], "--weights names 'conv9', which matches no layer with weights; there are "),
    (["--weights", "float"], "cannot have float weights in an integer network; take float16"),
    (["--prune", "some"], "--prune must be a share such as 0.9"),
    (["--prune", "conv9=0.5"], "--prune names 'conv9', which matches no layer with weights that can be pruned"),
    (["--prune", "0.5", "--weights", "binary"], "its weights cannot be pruned and binary, which has no zero"),
    (["--prune", "0.5", "--weights", "codebook:16x2"], "whose entries are of 2 weights; take codebook:16"),
])
def test_said_first(refused, command, options, text):
    assert text in refused(command, "--calibrate", "digits", *options)


def test_a_build_looks_for_its_data_first(refused, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lutloom.build"), "quantize", lambda *_, **__: 1 / 0)
    assert "data file 'none.npz' does not exist" in refused("build", "--data", "none.npz")


@pytest.mark.parametrize("command", ["evaluate", "build"])
@pytest.mark.parametrize("options, text", [
    (["--weights", "fc=int:4"], "--weights names 'fc', which matches no layer with weights"),
    (["--weights", "float16"], "has integer weights, which float16 is not for"),
])
def test_said_first_of_integer_models(refused, tmp_path, command, options, text):
    model = Model()
    x, y = model.tensor((1, 4), scale=0.1), model.tensor((1, 2), scale=0.2)
    w = model.tensor((2, 4), scale=0.1, data=np.arange(8, dtype=np.int8).reshape(2, 4))
    model.operator("FULLY_CONNECTED", [x, w, -1], [y], {0: int8(0)})
    path = tmp_path / "net.tflite"
    path.write_bytes(model.write([x], [y]))
    assert text in refused(command, *options, model=str(path))
