"""Pictures of weights: a PNG a layer, for every kind of format."""

import numpy as np
import pytest

from lutloom import digits, pictures
from lutloom.cli import main
from lutloom.network import Weights
from lutloom.weights import FormatChoice, fit

MODEL = digits.example("digits.onnx")
SIGNATURE = b"\x89PNG"


def quantize(tmp_path, *more):
    return main(["quantize", str(MODEL), "-o", str(tmp_path / "net.npz"), "--calibrate", "digits", *map(str, more)])


@pytest.mark.parametrize("text", ["int:3", "int:16", "bitmask:X0.0XX", "bitmask:XX.X0X@channel", "binary@layer"])
def test_every_kind_of_format(tmp_path, text):
    choice, real = FormatChoice.parse(text), np.random.default_rng(1).normal(size=(4, 50)) / 3
    format, scale, codes = fit(choice.format, real, choice)
    path = pictures.weight_picture(tmp_path / "fc.png", "fc", real, Weights(codes, format, scale))
    assert path.read_bytes()[:4] == SIGNATURE


def test_a_layer_of_one_value(tmp_path):
    choice, real = FormatChoice.parse("int:4@layer"), np.zeros((2, 3))
    format, scale, codes = fit(choice.format, real, choice)
    path = pictures.weight_picture(tmp_path / "fc.png", "fc", real, Weights(codes, format, scale))
    assert path.read_bytes()[:4] == SIGNATURE


def test_quantize_draws_every_layer(tmp_path, capsys):
    assert quantize(tmp_path, "--weights", "conv1=bitmask:X0.0XX,*=int:4", "--pictures", tmp_path / "drawn") == 0
    names = ["conv1.png", "conv2.png", "fc.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == names
    assert all((tmp_path / "drawn" / name).read_bytes()[:4] == SIGNATURE for name in names)
    assert f"written: {tmp_path / 'drawn' / 'fc.png'}" in capsys.readouterr().out


def refused(tmp_path, capsys, folder):
    assert quantize(tmp_path, "--pictures", folder) == 1
    assert not (tmp_path / "net.npz").exists()
    return capsys.readouterr().err


def test_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert refused(tmp_path, capsys, tmp_path / "file") == (
        f"lutloom: {tmp_path / 'file'} is a file; give a folder for the pictures\n")
    assert refused(tmp_path, capsys, tmp_path / "a" / "b") == (
        f"lutloom: {tmp_path / 'a' / 'b'} cannot be made: there is no folder {tmp_path / 'a'}\n")
    monkeypatch.setattr(pictures, "has_matplotlib", lambda: False)
    assert refused(tmp_path, capsys, tmp_path / "drawn") == (
        "lutloom: pictures need matplotlib, which is not installed; pip install 'lutloom[plots]'\n")
    monkeypatch.undo()
    assert main(["quantize", str(tmp_path / "other.npz"), "-o", str(tmp_path / "net.npz"), "--pictures",
                 str(tmp_path / "drawn")]) == 1
    assert capsys.readouterr().err == (
        f"lutloom: {tmp_path / 'other.npz'} has no real weights to draw; leave out --pictures, or give the model it is "
        "made of\n")
