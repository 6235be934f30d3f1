"""iCEBreaker: iCE40 UP5K, 12 MHz oscillator."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from lutloom.board import CHIPS, Board

BOARD = Board(
    name="icebreaker",
    chip=CHIPS["ice40up5k"],
    platform=ICEBreakerPlatform,
    package="sg48",
    clock="clk12",
    passed=("led_g", 0),
    failed=("led_r", 0),
    button=("button", 0),
    uart=("uart", 0),
    pll="SB_PLL40_PAD",  # pin 35 is the PLL's
)
