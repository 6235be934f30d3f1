"""Binary weights times activations of several bits."""

import pytest
from dot_checks import LANES, make, notices_a_flipped_weight, wrong

from lutloom.hw.sign import SignDot


@pytest.mark.parametrize("x", ["uint:1", "uint:4", "int:1", "int:3", "uint:8"])
@pytest.mark.parametrize("lanes", LANES)
def test_against_model(lanes, x):
    assert wrong(make(SignDot, lanes, x, "binary")) == []


def test_bench_notices():
    assert notices_a_flipped_weight(make(SignDot, 5, "uint:4", "binary"))


def test_errors():
    with pytest.raises(ValueError, match="SignDot activations must be uint or int of at most 16 bits, not bipolar"):
        make(SignDot, 2, "bipolar", "binary")
    with pytest.raises(ValueError, match="SignDot weights must be binary, not int:4"):
        make(SignDot, 2, "uint:4", "int:4")
    with pytest.raises(ValueError, match="masked must be False for uint:4 activations, whose padding has a code"):
        make(SignDot, 2, "uint:4", "binary", masked=True)
    with pytest.raises(ValueError, match="of at most 16 bits, not uint:17"):
        make(SignDot, 2, "uint:17", "binary")
