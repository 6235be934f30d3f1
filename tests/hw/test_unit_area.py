"""Units stay as small as they are said to be."""

import pytest

from lutloom.unit_area import main, measure


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_xnor(family, tmp_path):
    area = measure("bipolar", "binary", 64, False, False, family, tmp_path)
    assert area.lut4_a_product <= 2.6
    assert (area.unit, area.dsp) == ("XnorDot bipolar x binary", 0)


@pytest.mark.slow
def test_all(capsys):
    assert main(["--only", "MaskDot uint:4 x bitmask:X0.0XX"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 2 and all(float(row[7]) <= 33 for row in rows)
