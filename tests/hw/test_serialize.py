"""A group's results as narrower beats, one after the other or some cycles apart."""

import numpy as np
import pytest
from amaranth.hdl import unsigned
from bench import packed, play

from lutloom.hw.serialize import Serialize


@pytest.mark.parametrize("gap", [1, 2, 5])
@pytest.mark.parametrize("units, width, beats", [(1, 1, 3), (4, 1, 4), (4, 2, 2), (6, 2, 5), (3, 1, 8)])
def test_beats_come_in_their_cycles(units, width, beats, gap):
    """Groups as near to each other as they may be; the last one of a pixel gives the beats that are left."""
    rng = np.random.default_rng(units)
    unit = Serialize(shape=unsigned(5), units=units, width=width, beats=beats, gap=gap)
    drive, expected, place = {"i_valid": [], "i": []}, [], 0
    for _ in range(7):
        group = rng.integers(0, 32, units)
        count = min(unit.group_beats, beats - place)
        padded = np.pad(group, (0, unit.group_beats * width - units))
        for beat in range(count):
            drive["i_valid"] += [beat == 0] + [0] * (gap - 1)
            word = packed(padded[None, beat * width : (beat + 1) * width], 5)[0]
            drive["i"] += [packed(group[None], 5)[0] if beat == 0 else int(rng.integers(32))] + [0] * (gap - 1)
            expected += [(1, word, place)] + [(0, None, None)] * (gap - 1)
            place = (place + 1) % beats
    drive["i_valid"] = [int(valid) for valid in drive["i_valid"]]
    seen = play(unit, drive, ["o_valid", "o", "o_beat"])
    found = [(v, o if v else None, b if v else None) for v, o, b in zip(*seen.values(), strict=True)]
    assert found == expected


def test_errors():
    with pytest.raises(ValueError, match="serialize width must divide units 3, not 2"):
        Serialize(shape=unsigned(2), units=3, width=2, beats=4)
