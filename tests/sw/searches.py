"""Searches of the package's network on few frames, for tests."""

import pytest

import lutloom
from lutloom import digits
from lutloom.data import load
from lutloom.errors import LutloomError

MODEL = digits.example("digits.onnx")
FEW = "int:2,int:4,binary"


def few_frames():
    """Frames that score and frames that choose: few, so that a trial takes milliseconds."""
    return load("digits").first(200), load("digits", "calibrate").first(120)


def find(data, folder, **options):
    scoring, choosing = data
    options = {"formats": FEW, "jobs": 1, **options}
    return lutloom.search(MODEL, data=scoring, calibrate=choosing, output=folder, **options)


def refusal(data, folder, **options):
    with pytest.raises(LutloomError) as error:
        find(data, folder, **options)
    return str(error.value)
