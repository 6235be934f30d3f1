"""iCE40-HX8K breakout board (Lattice ICE40HX8K-B-EVN): 12 MHz oscillator."""

from amaranth_boards.ice40_hx8k_b_evn import ICE40HX8KBEVNPlatform

from lutloom.board import CHIPS, Board

BOARD = Board(
    name="ice40-hx8k-b-evn",
    chip=CHIPS["ice40hx8k"],
    platform=ICE40HX8KBEVNPlatform,
    package="ct256",
    clock="clk12",
    passed=("led", 0),
    failed=("led", 1),
    beat=("led", 2),
    uart=("uart", 0),
    pll="SB_PLL40_CORE",
)
