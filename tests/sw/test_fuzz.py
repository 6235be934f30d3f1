"""Damaged TFLite files end in a network or in one clear error; ``scripts/fuzz`` runs thousands."""

import os
from pathlib import Path

import pytest

from lutloom.fuzz import SECONDS, fuzz

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
MODELS = ("hello_world_int8", "micro_speech_quantized", "hey_jarvis", "mnist_lstm_int8")


@pytest.mark.skipif(not (DATA / "models").is_dir(), reason="needs the shared models")
@pytest.mark.parametrize("name", MODELS)
def test_mutations_of_a_shared_model(name):
    result = fuzz([DATA / "models" / f"{name}.tflite"], 40, seed=3)
    assert not result.problems and result.slowest < SECONDS
    assert result.outcomes["refused"] > 5 and result.outcomes.total() == 40
