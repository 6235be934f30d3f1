from fractions import Fraction

import numpy as np
import pytest

from lutloom.passes.exact_rounding import boundary, round_exactly
from lutloom.rounding import ALIASES, MODES


@pytest.mark.parametrize("mode", [*MODES, *ALIASES, "half_even"])
def test_rounding_is_the_one_in_floats(mode):
    reference = MODES[ALIASES.get(mode.upper(), mode.upper())]
    eighths = np.arange(-40, 41)
    assert [round_exactly(Fraction(int(e), 8), mode) for e in eighths] == reference(eighths / 8).astype(int).tolist()


@pytest.mark.parametrize("mode", [*MODES, *ALIASES])
def test_boundary_is_where_the_mode_steps(mode):
    step = boundary(mode)
    for k in range(-4, 5):
        doubled, closed = step(k)
        for eighth in range(-50, 51):
            x = Fraction(eighth, 8)
            reached = x >= Fraction(doubled, 2) if closed else x > Fraction(doubled, 2)
            assert reached == (round_exactly(x, mode) >= k), (mode, k, x)


def test_unknown_mode_is_named_with_the_choices():
    with pytest.raises(ValueError, match="rounding must be one of ROUND, CEIL.*not 'nearest'"):
        round_exactly(1, "nearest")
