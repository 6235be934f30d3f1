"""Cost formulas of convolutions."""

import pytest

from lutloom.work import convolution, replacements, separable


def test_the_documents_own_numbers():
    """003 of the sources: 5×5 on 28×28, 192 channels to 32, straight and behind 1×1 to 16."""
    assert convolution(28**2, 192, 25, 32).macs == 120_422_400
    assert convolution(28**2, 192, 1, 16).macs == 2_408_448
    assert convolution(28**2, 16, 25, 32).macs == 10_035_200
    inception = replacements(28**2, 192, 25, 32)["inception 1/2"]
    assert inception.macs == 12_443_648 and inception.parameters == 192 * 16 + 16 * 25 * 32


def test_pointwise_and_depthwise():
    """F²·N·M and N·M; F²·N·K² and K²·N."""
    assert convolution(14**2, 24, 1, 40).macs == 14**2 * 24 * 40 and convolution(14**2, 24, 1, 40).parameters == 24 * 40
    depthwise = convolution(14**2, 24, 9, 24, groups=24)
    assert depthwise.macs == 14**2 * 24 * 9 and depthwise.parameters == 9 * 24


def test_width_and_resolution_multipliers():
    """DK·DK·αM·ρDF·ρDF + αM·αN·ρDF·ρDF; the resolution changes no parameters."""
    found = separable(14**2, 512, 9, 512, width=0.75, resolution=5 / 7)
    assert found.macs == 9 * 384 * 10 * 10 + 384 * 384 * 10 * 10
    assert found.parameters == separable(14**2, 512, 9, 512, width=0.75).parameters == 9 * 384 + 384 * 384
    whole = convolution(14**2, 512, 9, 512)
    assert separable(14**2, 512, 9, 512).macs / whole.macs == pytest.approx(1 / 9 + 1 / 512)
    assert replacements(14**2, 512, 9, 512)["depthwise separable, α 1/2"].macs == 14**2 * (256 * 9 + 256**2)


@pytest.mark.parametrize("channels, outputs, taps", [(32, 64, 9), (16, 48, 25)])
def test_separable_is_the_share_that_the_formula_gives(channels, outputs, taps):
    whole = convolution(100, channels, taps, outputs)
    separable = replacements(100, channels, taps, outputs)["depthwise separable"]
    assert separable.macs / whole.macs == pytest.approx(1 / taps + 1 / outputs)
    assert separable.parameters == channels * taps + channels * outputs


def test_each_replacement():
    found = replacements(10, 32, 9, 64)
    assert found["bottleneck 1/4"].parameters == 32 * 16 + 16 * 9 * 16 + 16 * 64
    assert found["fire 1/8"].parameters == 32 * 8 + 8 * 32 + 8 * 9 * 32
    assert found["4 groups"].macs * 4 == convolution(10, 32, 9, 64).macs


def test_pointwise_layers_in_groups():
    """ShuffleNet: where most of the work is left, 1×1 convolutions, it is done in groups."""
    found = replacements(10, 32, 1, 64)
    assert list(found) == ["4 groups"] and found["4 groups"].macs == 10 * 32 * 64 // 4


@pytest.mark.parametrize("channels, taps, groups", [(1, 9, 1), (7, 1, 1), (8, 9, 8)])
def test_what_is_cheap_already_has_none(channels, taps, groups):
    assert replacements(10, channels, taps, 16, groups) == {}
