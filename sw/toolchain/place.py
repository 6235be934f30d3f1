"""Place and route by nextpnr, and what it reports."""

import json
from dataclasses import dataclass

from lutloom.errors import ToolError
from lutloom.toolchain import tools

BIG_LUTS = 8_000  # from here on ECP5 takes router2: router1 did not end on a design of 37,000 (DESIGN.md, section 9)
_SITES = {
    "ice40": {"lut4": "ICESTORM_LC", "ebr": "ICESTORM_RAM", "spram": "ICESTORM_SPRAM", "dsp": "ICESTORM_DSP"},
    "ecp5": {"lut4": "TRELLIS_COMB", "ff": "TRELLIS_FF", "ebr": "DP16KD", "dsp": "MULT18X18D"},
}
_PHASES = (
    (r"Info: Packing constants", "place and route: packing"),
    (r"Info: Creating initial analytic placement", "place and route: placing"),
    (r"Info: +at iteration #([0-9]+).*", r"place and route: placing, iteration \1"),
    (r"Info: Routing globals", "place and route: routing"),
    (r"Info: +iter=([0-9]+) .*overused=([0-9]+).*", r"place and route: routing, pass \1, \2 wires to go"),
    (r"Info: +[0-9]+ \|( +[0-9]+ +[0-9]+ \|){2} +([0-9]+)\|", r"place and route: routing, \2 arcs to go"),
    (r"Info: Critical path report", "place and route: timing"),
)


@dataclass(frozen=True)
class Placement:
    """A placed and routed design.

    Parameters
    ----------
    text : str
        Name of its text form in the folder: .asc or .config.
    fmax_mhz : float
        Of the core's clock, by static timing.
    used, available : dict of str to int
        Sites: lut4 (logic cells on iCE40), ff, ebr, spram, dsp, as far as nextpnr counts them.
    run : tools.Run
    """

    text: str
    fmax_mhz: float
    used: dict
    available: dict
    run: tools.Run


def options(board, clock_mhz, seed, luts=0):
    """What nextpnr is told, files aside; part of the key of a cached design."""
    chip = board.chip
    found = [chip.option, "--package", board.package, "--seed", str(seed), "--freq", f"{float(clock_mhz):.4f}"]
    if chip.family == "ecp5":
        found += ["--speed", board.speed, *(["--router", "router2"] if luts > BIG_LUTS else [])]
    return [*found, "--timing-allow-fail"]  # the clock is judged by us, with both numbers


def place_and_route(folder, netlist, board, clock_mhz, *, seed=1, luts=0, toolchain="yowasp", log_dir=None,
                    progress=None):
    """A netlist onto the chip of a board.

    Parameters
    ----------
    folder : Path
        Where the netlist lies, and results are written.
    netlist : str
        Name of the JSON file.
    board : lutloom.board.Board
    clock_mhz : float
        To aim at.
    seed : int
    luts : int
        Of the netlist; large designs get the router that ends.
    toolchain : "yowasp" or "native"
    log_dir : Path
        Where ``place.log`` goes; the folder by default.
    progress : callable(text) or None

    Returns
    -------
    Placement
    """
    family = board.family
    text = "placed.asc" if family == "ice40" else "placed.config"
    constraints = "pins.pcf" if family == "ice40" else "pins.lpf"
    (folder / constraints).write_text(board.constraints())
    tool = tools.find(f"nextpnr-{family}", toolchain)
    files = ["--pcf", constraints, "--asc", text] if family == "ice40" else ["--lpf", constraints, "--textcfg", text]
    arguments = [*options(board, clock_mhz, seed, luts), "--json", netlist, *files, "--report", "placed.json"]
    log = (log_dir or folder) / "place.log"
    run = tools.run(tool, arguments, folder=folder, log=log, progress=progress, phases=_PHASES, what="place and route")
    try:
        report = json.loads((folder / "placed.json").read_text())
        fmax = core_fmax(report["fmax"], clock_mhz)
        sites = {name: report["utilization"].get(site, {}) for name, site in _SITES[family].items()}
    except (OSError, ValueError, KeyError) as error:
        raise ToolError(f"the report of place and route cannot be read ({error}; log: {log})") from error
    used = {name: count.get("used", 0) for name, count in sites.items()}
    return Placement(text, fmax, used, {name: count.get("available", 0) for name, count in sites.items()}, run)


def core_fmax(clocks, clock_mhz):
    """Frequency that the core's clock reaches, of nextpnr's ``fmax``: of the clocks with the constraint that was aimed
    at (the PLL's output has it by derivation), or of all where none has, the lowest."""
    aimed = [clock["achieved"] for clock in clocks.values() if abs(clock["constraint"] / float(clock_mhz) - 1) < 0.01]
    return round(min(aimed or [clock["achieved"] for clock in clocks.values()]), 2)
