"""Cost formulas of convolutions."""

import pytest

from lutloom.work import convolution, replacements


def test_the_documents_own_numbers():
    """003 of the sources: 5×5 on 28×28, 192 channels to 32, straight and behind 1×1 to 16."""
    assert convolution(28**2, 192, 25, 32).macs == 120_422_400
    assert convolution(28**2, 192, 1, 16).macs == 2_408_448
    assert convolution(28**2, 16, 25, 32).macs == 10_035_200


@pytest.mark.parametrize("channels, outputs, taps", [(32, 64, 9), (16, 48, 25)])
def test_separable_is_the_share_that_the_formula_gives(channels, outputs, taps):
    whole = convolution(100, channels, taps, outputs)
    separable = replacements(100, channels, taps, outputs)["depthwise separable"]
    assert separable.macs / whole.macs == pytest.approx(1 / taps + 1 / outputs)
    assert separable.parameters == channels * taps + channels * outputs


def test_each_replacement():
    found = replacements(10, 32, 9, 64)
    assert found["bottleneck 1/4"].parameters == 32 * 8 + 8 * 9 * 64
    assert found["fire 1/8"].parameters == 32 * 8 + 8 * 32 + 8 * 9 * 32
    assert found["4 groups"].macs * 4 == convolution(10, 32, 9, 64).macs


@pytest.mark.parametrize("channels, taps, groups", [(1, 9, 1), (8, 1, 1), (8, 9, 8)])
def test_what_is_cheap_already_has_none(channels, taps, groups):
    assert replacements(10, channels, taps, 16, groups) == {}
