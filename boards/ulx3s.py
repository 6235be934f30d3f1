"""ULX3S (Radiona): ECP5 12F to 85F, 25 MHz oscillator."""

from amaranth_boards.ulx3s import ULX3S_12F_Platform, ULX3S_25F_Platform, ULX3S_45F_Platform, ULX3S_85F_Platform

from lutloom.board import CHIPS, Board

_PLATFORMS = {
    "12f": ULX3S_12F_Platform,
    "25f": ULX3S_25F_Platform,
    "45f": ULX3S_45F_Platform,
    "85f": ULX3S_85F_Platform,
}

BOARDS = tuple(
    Board(
        name=f"ulx3s-{size}",
        chip=CHIPS[f"lfe5u-{size}"],
        platform=platform,
        package="CABGA381",
        clock="clk25",
        passed=("led", 0),
        failed=("led", 1),
        beat=("led", 2),
        button=("button_fire", 0),
        uart=("uart", 0),
        speed=platform.speed,
    )
    for size, platform in _PLATFORMS.items()
)
