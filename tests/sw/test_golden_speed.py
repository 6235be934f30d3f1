"""The golden model is fast enough for whole test sets."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_networks import lenet

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
MODELS = DATA / "models"

SPEED = """
import sys, time
import numpy as np
from lutloom.network import Network
network = Network.load(sys.argv[1])
codes = np.random.default_rng(0).integers(0, 256, (512, 28, 28, 1)).astype(np.uint8)
network(codes[:64])
seconds = []
for _ in range(5):
    start = time.process_time()
    network(codes)
    seconds.append(time.process_time() - start)
print(len(codes) / min(seconds))
"""


def _speed(script, path, wanted):
    """Frames a second of processor time on one core: the first of three runs that is fast enough, or the last."""
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    for _ in range(3):  # other work on the machine may share the core
        result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True,
                                env={**os.environ, **single}, check=True)
        if float(result.stdout) >= wanted:
            break
        time.sleep(1)
    return float(result.stdout)


def test_golden_speed_of_lenet_on_one_core(tmp_path):
    lenet().save(tmp_path / "lenet.npz")
    found = _speed(SPEED, tmp_path / "lenet.npz", 2000)
    assert found >= 2000, f"golden LeNet runs {found:.0f} images/s of processor time; 2,000 are wanted"


TFLITE_SPEED = """
import sys, time
import numpy as np
from lutloom import quantize
network = quantize(sys.argv[1])
codes = np.random.default_rng(0).integers(-128, 128, (128, *network.tensors[network.input].shape)).astype(np.int8)
network(codes[:16])
seconds = []
for _ in range(4):
    start = time.process_time()
    network(codes)
    seconds.append(time.process_time() - start)
print(len(codes) / min(seconds))
"""


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs the shared models")
@pytest.mark.parametrize("name, wanted", [("pretrainedResnet_quant", 200), ("kws_ref_model", 500)])
def test_golden_speed_of_integer_models_on_one_core(name, wanted):
    found = _speed(TFLITE_SPEED, MODELS / f"{name}.tflite", wanted)
    assert found >= wanted, f"golden {name} runs {found:.0f} frames/s of processor time; {wanted} are wanted"
