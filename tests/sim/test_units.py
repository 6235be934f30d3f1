"""The emitted Verilog of each unit under cocotb, cycle for cycle against its model."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Value
from unit_cases import CASES, QUICK, Vectors

from lutloom.emit import to_verilog
from lutloom.hw.memory import Target
from lutloom.memories import behavioural, hex_image
from lutloom.sim.units import run_stream, run_unit

pytestmark = pytest.mark.usefixtures("cache")

TOP = "lutloom_unit"
RATES = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4)]  # probability of a stall of i, of o


def emitted(unit, folder):
    """The unit's Verilog and that of its memories, with their images: paths of the files."""
    target = Target("generic")
    (folder / "unit.v").write_text(to_verilog(unit, TOP, target))
    (folder / "memories.v").write_text(behavioural(target.specs.values()))
    (folder / "rom").mkdir()
    for name, words in target.images.items():
        spec = target.specs[name]
        (folder / "rom" / f"{name}.hex").write_text(hex_image([*words] + [0] * (spec.depth - len(words)), spec.width))
    return [folder / "unit.v"] + [folder / "memories.v"] * bool(target.specs)


def port(unit, name, values):
    """Values, and the bits of each, for a port whose lanes they fill."""
    lanes = 1 if values.ndim == 1 else values.shape[1]
    width = len(Value.cast(getattr(unit, name)))
    assert width % lanes == 0, f"{name} of {width} bits has no {lanes} equal lanes"
    return values, width // lanes


def run_vectors(files, case):
    """The bench of a unit of fixed latency."""
    inputs, outputs = ({name: port(case.unit, name, np.asarray(values)) for name, values in side.items()}
                       for side in (case.inputs, case.outputs))
    return run_unit(files, TOP, inputs, outputs, delay=case.delay, masks=case.masks, folder=files[0].parent)


def run_beats(files, case, rates, seed=1):
    """The bench of a unit with streams; ``rates`` of inputs, of outputs."""
    def side(streams):
        return {name: (np.array(beats), len(getattr(case.unit, name).payload.as_value()))
                for name, beats in streams.items()}

    stalls = dict.fromkeys(case.inputs, rates[0]) | dict.fromkeys(case.outputs, rates[1])
    return run_stream(files, TOP, side(case.inputs), side(case.outputs), stalls=stalls, seed=seed, limit=1000,
                      folder=files[0].parent)


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in CASES])
def test_unit(name, tmp_path):
    case = CASES[name]()
    files = emitted(case.unit, tmp_path)
    if isinstance(case, Vectors):
        run_vectors(files, case).check()
        return
    for rates in RATES:
        found = run_beats(files, case, rates).check()
        if rates == (0.0, 0.0):
            assert found.transfers == case.cycles


def test_a_wrong_vector_is_found(tmp_path):
    case = CASES[QUICK[0]]()
    files = emitted(case.unit, tmp_path)
    place = int(np.flatnonzero(case.masks["o"])[17])
    codes = case.outputs["o"].copy()
    codes[place, 1] ^= 1
    found = run_vectors(files, replace(case, outputs=case.outputs | {"o": codes}))
    assert [(*difference[:2], difference[4]) for difference in found.differences] == [("o", place, place + case.delay)]
    with pytest.raises(AssertionError, match=rf"o\[{place}\], cycle {place + case.delay}: got 0x.*, expected 0x"):
        found.check()
    assert not run_vectors(files, replace(case, delay=case.delay - 1)).good
    assert not run_vectors(files, replace(case, delay=case.delay + 1)).good


def test_a_wrong_image_is_found(tmp_path):
    case = CASES[QUICK[0]]()
    files = emitted(case.unit, tmp_path)
    image = tmp_path / "rom/t_level0.hex"
    words = [int(word, 16) ^ 1 for word in image.read_text().split()]  # the middle threshold of lane 0, off by one
    image.write_text(hex_image(words, case.unit.memories[0].width))
    found = run_vectors(files, case)
    assert found.differences and {difference[0] for difference in found.differences} == {"o"}


def test_a_wrong_beat_is_found(tmp_path):
    case = CASES[QUICK[1]]()
    files = emitted(case.unit, tmp_path)
    right, cycles = case.outputs["o"], case.cycles["o"]
    wrong = [beat ^ (number == 5) for number, beat in enumerate(right)]
    found = run_beats(files, replace(case, outputs={"o": wrong}), RATES[0])
    assert found.differences == (("o", 5, right[5], wrong[5], cycles[5]),)
    short = run_beats(files, replace(case, outputs={"o": right[:-1]}), RATES[0])
    assert "a beat too many" in short.faults[0]
