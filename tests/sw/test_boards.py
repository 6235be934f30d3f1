"""Boards: those that come along, a user's own, and what is wrong with others; the PLL settings they get."""

from fractions import Fraction

import pytest

from lutloom.board import CHIPS, Board, boards_list, load_board
from lutloom.errors import BoardError
from lutloom.pll import pll_settings

NAMES = ["ice40-hx8k-b-evn", "icebreaker", "ulx3s-12f", "ulx3s-25f", "ulx3s-45f", "ulx3s-85f"]

OWN = """
from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from lutloom.board import CHIPS, Board

class Platform:
    resources = [
        Resource("clk", 0, Pins("20", dir="i"), Clock(16e6)),
        Resource("led", 0, PinsN("9", dir="o")),
        Resource("key", 0, PinsN("11", dir="i"), Attrs(PULLUP=1)),
    ]

BOARD = Board(name="mine", chip=CHIPS["ice40up5k"], platform=Platform, package="sg48", clock="clk",
              passed=("led", 0), button=("key", 0), pll="SB_PLL40_CORE")
"""


def test_boards_that_come_along():
    assert [board.name for board in boards_list()] == NAMES
    for name in NAMES:
        board = load_board(name)
        assert load_board(board) is board
        assert {"pin_clk", "pin_passed", "pin_failed", "pin_tx"} <= set(board.pins)
        pins = [pin.name for pin in board.pins.values()]
        assert len(set(pins)) == len(pins)
        for pin in pins:
            assert f" {pin}\n" in board.constraints() or f'SITE "{pin}";' in board.constraints()


def test_pins_of_icebreaker():
    board = load_board("icebreaker")
    assert board.clock_mhz == 12
    assert board.pins["pin_passed"].inverted and board.pins["pin_button"].inverted
    assert board.constraints().splitlines() == [
        "set_frequency pin_clk 12", "set_io pin_clk 35", "set_io pin_passed 37", "set_io pin_failed 11",
        "set_io pin_button 10", "set_io -pullup yes pin_tx 9",
    ]


def test_pins_of_ulx3s():
    lines = load_board("ulx3s-85f").constraints().splitlines()
    assert lines[:3] == [
        'FREQUENCY PORT "pin_clk" 25 MHZ;', 'LOCATE COMP "pin_clk" SITE "G2";', 'IOBUF PORT "pin_clk" IO_TYPE=LVCMOS33;'
    ]
    assert 'IOBUF PORT "pin_passed" IO_TYPE=LVCMOS33 DRIVE=4;' in lines


def test_chips():
    up5k, ulx = CHIPS["ice40up5k"], CHIPS["lfe5u-85f"]
    assert up5k.available() == {"lut4": 5280, "ff": 5280, "carry": 5280, "ebr": 30, "spram": 4, "dsp": 8}
    assert (ulx.lut4, ulx.ebr_blocks * ulx.ebr_bits, ulx.dsp) == (83640, 208 * 18432, 156)
    assert up5k.clock_cap_mhz() is None and up5k.clock_cap_mhz(spram=True) == 70
    assert up5k.clock_cap_mhz(dsp=True, spram=True) == 50 and ulx.clock_cap_mhz(dsp=True) is None


def test_own_board(tmp_path):
    path = tmp_path / "my_board.py"
    path.write_text(OWN)
    board = load_board(path)
    assert board.name == "mine" and board.clock_mhz == 16 and board.pins["pin_button"].inverted
    assert board.constraints() == (
        "set_frequency pin_clk 16\nset_io pin_clk 20\nset_io pin_passed 9\nset_io -pullup yes pin_button 11\n"
    )


@pytest.mark.parametrize("old,new,message", [
    ('passed=("led", 0)', 'passed=("lamp", 0)', "Platform has no resource 'lamp' 0; it has clk, key, led"),
    ("Clock(16e6)", "Attrs()", "board 'mine': resource 'clk' has no Clock"),
    ('"9"', '"9 10"', "board 'mine': resource 'led' 0 must be one pin of the chip"),
    ("SB_PLL40_CORE", "EHXPLLL", "board 'mine': pll must be SB_PLL40_PAD or SB_PLL40_CORE, not 'EHXPLLL'"),
    ('button=("key", 0)', 'uart=("key", 0)', "board 'mine': resource 'key' has no signal 'tx'"),
    ("BOARD =", "BORD =", "must set BOARD = lutloom.board.Board"),
    ("class Platform", "clas Platform", "fails: SyntaxError"),
    ('CHIPS["ice40up5k"]', 'CHIPS["up5k"]', "fails: KeyError: 'up5k'"),
])
def test_own_board_that_is_wrong(old, new, message, tmp_path):
    assert old in OWN
    path = tmp_path / "my_board.py"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(BoardError, match=message):
        load_board(path)


def test_unknown_boards():
    with pytest.raises(BoardError, match=f"board must be one of {', '.join(NAMES)}, or a board file .* not 'ulx3s'"):
        load_board("ulx3s")
    with pytest.raises(BoardError, match="there is no board file 'none.py'"):
        load_board("none.py")


def test_board_without_what_it_names():
    good = load_board("icebreaker")
    with pytest.raises(BoardError, match="has no resource 'clk25' 0; it has button, clk12, led"):
        Board("x", good.chip, good.platform, "sg48", "clk25", pll="SB_PLL40_PAD")


@pytest.mark.parametrize("family,source,wanted,output", [
    ("ice40", 12, 48, 48), ("ice40", 12, 110, 109.5), ("ice40", 12, 111, 111), ("ice40", 12, 45, 45),
    ("ice40", 16, 48, 48), ("ice40", 12, 12, 12), ("ice40", 12, 15, 12), ("ice40", 12, 16.2, 16.125),
    ("ecp5", 25, 110, 110), ("ecp5", 25, 112.5, 112.5), ("ecp5", 25, 25, 25), ("ecp5", 25, 100, 100),
    ("ecp5", 12, 66, 66), ("ecp5", 25, 10, 10),
])
def test_pll_settings(family, source, wanted, output):
    """The first four as `icepll` finds them, 110 of 25 MHz as `ecppll` does."""
    settings = pll_settings(family, source, wanted)
    assert settings.output_mhz == Fraction(output)


@pytest.mark.parametrize("family", ["ice40", "ecp5"])
def test_pll_settings_hold_the_formula_and_the_limits(family):
    for wanted in range(17, 250, 7):
        settings = pll_settings(family, 12, wanted)
        d = settings.dividers
        if family == "ice40":
            detector = Fraction(12) / (d["DIVR"] + 1)
            oscillator = detector * (d["DIVF"] + 1)
            assert settings.output_mhz == oscillator / 2 ** d["DIVQ"]
            assert 10 <= detector <= 133 and 533 <= oscillator <= 1066 and d["FILTER_RANGE"] == 1
            assert d["DIVF"] < 128 and 1 <= d["DIVQ"] <= 6
        else:
            detector = Fraction(12) / d["CLKI_DIV"]
            oscillator = detector * d["CLKFB_DIV"] * d["CLKOP_DIV"]
            assert settings.output_mhz == oscillator / d["CLKOS_DIV"]
            assert 10 <= detector <= 400 and 400 <= oscillator <= 800 and d["CLKOP_DIV"] <= 128
        assert 0.9 * wanted < settings.output_mhz <= wanted


def test_pll_refuses_what_it_cannot_give():
    with pytest.raises(BoardError, match="the clock must be 12 MHz or more on this board, not 11 MHz"):
        pll_settings("ice40", 12, 11)
    with pytest.raises(BoardError, match="the clock must be 3.125 MHz or more on this board, not 3 MHz"):
        pll_settings("ecp5", 25, 3)
