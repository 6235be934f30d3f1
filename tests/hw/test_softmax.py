"""Softmax in hardware against the golden arithmetic, its cycles against its schedule."""

import numpy as np
import pytest
from stream_bench import drive

from lutloom.executor import in_a_row, run
from lutloom.formats import Format
from lutloom.golden.softmax import exponentials, softmax
from lutloom.hw.softmax import Softmax

LAYERS = [  # multiplier, left, least: of input scales from 1/1000 to 1
    (1073741824, 23, -248), (1717986918, 18, -128 * 64), (2147483647, 26, -15), (1340000000, 21, -255),
]


def vectors(count, low, high):
    """Random ones, all equal, one far ahead, corners."""
    rng = np.random.default_rng(count)
    near = rng.integers(low, high + 1, (2, count))
    equal, ahead = np.full((1, count), high), np.full((1, count), low)
    ahead[0, -1] = high
    return np.concatenate([near, equal, ahead, np.linspace(low, high, count)[None].astype(int)])


@pytest.mark.parametrize("count,kind,layer,latency", [
    (1, "int", 0, 1), (2, "int", 1, 2), (4, "uint", 2, 1), (12, "int", 3, 2), (12, "uint", 0, 1), (19, "int", 1, 1),
])
def test_equals_golden(count, kind, layer, latency):
    form, layer = Format.parse(f"{kind}:8"), LAYERS[layer]
    low, high = form.code_low, form.code_high
    unit = Softmax(name="s", count=count, multiplier=layer[0], left=layer[1], least=layer[2], low=low, high=high,
                   in_format=form, out_format=form, latency=latency)
    x = vectors(count, low, high)
    expected = softmax(x, exponentials(*layer), low, high)
    beats = (x & 255).ravel().tolist()
    outputs, came, left = drive(unit, beats, x.size)
    assert np.array_equal(np.array(outputs).reshape(x.shape), expected & 255)
    links = run(in_a_row([unit.schedule]), count, count, len(x))
    assert (links[0], links[1]) == (came, left)
    some = 2 * count
    assert drive(unit, beats[:some], some, in_rate=0.5, out_rate=0.4, seed=2)[0] == outputs[:some]


def test_other_widths_are_refused():
    four = Format.parse("int:4")
    with pytest.raises(ValueError, match="softmax codes must have 8 bits, not int:4"):
        Softmax(name="s", count=2, multiplier=1, left=0, least=-1, low=-8, high=7, in_format=four, out_format=four)
