"""Boards and chips: what a board carries, and where its own pins are.

The boards are in `lutloom.boards`, one a file, and take their pins from the platforms of amaranth-boards. A user's own
board is a Python file that sets ``BOARD = Board(...)``, with any class that has ``resources`` as platform.
"""

import importlib
import pkgutil
import runpy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from amaranth.build import Subsignal

from lutloom.chips import CHIPS, Chip
from lutloom.errors import BoardError

__all__ = ["CHIPS", "Board", "Chip", "Pin", "boards_list", "load_board"]


@dataclass(frozen=True)
class Pin:
    """A pin of the chip as a board uses it.

    Parameters
    ----------
    name : str
        Of the ball or pad.
    inverted : bool
    attrs : dict
        As in the platform: IO_TYPE, PULLMODE, PULLUP, DRIVE, …
    """

    name: str
    inverted: bool
    attrs: dict


@dataclass(frozen=True)
class Board:
    """A board.

    Parameters
    ----------
    name : str
        What ``--board`` takes.
    chip : Chip
        One of `CHIPS`, or made by hand.
    platform : class
        Of amaranth-boards, or any with ``resources``.
    package : str
        As nextpnr calls it.
    clock : str
        Resource of the oscillator, "clk12".
    passed, failed : tuple of (str, int) or None
        Resources of the LEDs that show the result of the self test.
    beat : tuple of (str, int) or None
        LED that changes with the frames.
    button : tuple of (str, int) or None
        Held, it resets the core.
    uart : tuple of (str, int) or None
        Where the counters are told.
    pll : str
        "SB_PLL40_PAD" where the clock's pin is the PLL's own, "SB_PLL40_CORE" otherwise; "EHXPLLL" on ECP5.
    speed : str
        Speed grade of an ECP5.
    """

    name: str
    chip: Chip
    platform: type
    package: str
    clock: str
    passed: tuple | None = None
    failed: tuple | None = None
    beat: tuple | None = None
    button: tuple | None = None
    uart: tuple | None = None
    pll: str = "EHXPLLL"
    speed: str = "6"

    def __post_init__(self):
        plls = {"ice40": ("SB_PLL40_PAD", "SB_PLL40_CORE"), "ecp5": ("EHXPLLL",)}[self.family]
        if self.pll not in plls:
            raise BoardError(f"board {self.name!r}: pll must be {' or '.join(plls)}, not {self.pll!r}")
        _ = self.pins, self.clock_mhz  # every resource must be there

    @property
    def family(self):
        return self.chip.family

    @property
    def clock_mhz(self):
        """Frequency of the oscillator."""
        clock = self._resource(self.clock, 0).clock
        if clock is None:
            raise BoardError(f"board {self.name!r}: resource {self.clock!r} has no Clock(...)")
        return float(clock.frequency) / 1e6

    @property
    def pins(self):
        """Pins of the ports of `lutloom.hw.shell.Shell` that the board has: dict of port name to Pin."""
        pins = {"pin_clk": self._pin(self.clock, 0)}
        for port in ("passed", "failed", "beat", "button"):
            if getattr(self, port):
                pins[f"pin_{port}"] = self._pin(*getattr(self, port))
        if self.uart:
            pins["pin_tx"] = self._pin(*self.uart, "tx")
        return pins

    def constraints(self):
        """Text of the .pcf (iCE40) or .lpf (ECP5) file for these ports."""
        return (_pcf if self.family == "ice40" else _lpf)(self.pins, self.clock_mhz)

    def _resource(self, name, number):
        resources = list(self.platform.resources)
        for resource in resources:
            if (resource.name, resource.number) == (name, number):
                return resource
        known = ", ".join(sorted({resource.name for resource in resources}))
        platform = self.platform.__name__
        raise BoardError(f"board {self.name!r}: {platform} has no resource {name!r} {number}; it has {known}")

    def _pin(self, name, number, signal=None):
        resource = self._resource(name, number)
        attrs, ios = dict(resource.attrs), list(resource.ios)
        if signal is not None or isinstance(ios[0], Subsignal):
            ios = [sub for sub in ios if isinstance(sub, Subsignal) and sub.name == signal]
            if not ios:
                raise BoardError(f"board {self.name!r}: resource {name!r} has no signal {signal!r}")
            attrs |= ios[0].attrs
            ios = list(ios[0].ios)
        pins = getattr(ios[0], "names", ())
        if len(pins) != 1 or ":" in pins[0]:
            raise BoardError(f"board {self.name!r}: resource {name!r} {number} must be one pin of the chip")
        return Pin(pins[0], ios[0].invert, attrs)


def _pcf(pins, clock_mhz):
    lines = [f"set_frequency pin_clk {clock_mhz:g}"]
    for port, pin in pins.items():
        pull = "-pullup yes " if pin.attrs.get("PULLUP") else ""
        lines.append(f"set_io {pull}{port} {pin.name}")
    return "\n".join(lines) + "\n"


def _lpf(pins, clock_mhz):
    lines = [f'FREQUENCY PORT "pin_clk" {clock_mhz:g} MHZ;']
    for port, pin in pins.items():
        attrs = " ".join(f"{key}={value}" for key, value in pin.attrs.items() if isinstance(value, str))
        lines += [f'LOCATE COMP "{port}" SITE "{pin.name}";', f'IOBUF PORT "{port}" {attrs};']
    return "\n".join(lines) + "\n"


@cache
def boards_list():
    """The boards that come with Lutloom, by name.

    Returns
    -------
    tuple of Board
    """
    package = importlib.import_module("lutloom.boards")
    found = []
    for info in pkgutil.iter_modules(package.__path__, "lutloom.boards."):
        module = importlib.import_module(info.name)
        found += getattr(module, "BOARDS", None) or (module.BOARD,)
    return tuple(sorted(found, key=lambda board: board.name))


def load_board(name):
    """The board of a name, or of a user's own file.

    Parameters
    ----------
    name : str, Path or Board
        ``my_board.py`` must set BOARD; it is run.

    Returns
    -------
    Board

    Raises
    ------
    BoardError
        When there is no such board, or the file is not one.
    """
    if isinstance(name, Board):
        return name
    path = Path(name)
    if path.suffix != ".py":
        for board in boards_list():
            if board.name == str(name):
                return board
        names = ", ".join(board.name for board in boards_list())
        raise BoardError(f"board must be one of {names}, or a board file such as my_board.py, not {str(name)!r}")
    if not path.is_file():
        raise BoardError(f"there is no board file {str(name)!r}")
    try:
        board = runpy.run_path(str(path)).get("BOARD")
    except BoardError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file does wrong
        raise BoardError(f"board file {str(name)!r} fails: {type(error).__name__}: {error}") from error
    if not isinstance(board, Board):
        raise BoardError(f"board file {str(name)!r} must set BOARD = lutloom.board.Board(...), not {board!r}")
    return board
