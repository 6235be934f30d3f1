"""Synthesis by Yosys, and the count of what came out of it."""

import json
from dataclasses import dataclass

from lutloom.errors import BuildError
from lutloom.toolchain import tools

CELLS = {
    "ice40": {
        "lut4": ("SB_LUT4",), "carry": ("SB_CARRY",), "ff": ("SB_DFF",), "ebr": ("SB_RAM40_4K",),
        "spram": ("SB_SPRAM256KA",), "dsp": ("SB_MAC16",),
    },
    "ecp5": {
        "lut4": ("LUT4",), "carry": ("CCU2C",), "ff": ("TRELLIS_FF",), "ebr": ("DP16KD", "PDPW16KD"), "spram": (),
        "dsp": ("MULT18X18D",),
    },
}  # fmt: skip
_PHASES = (
    (r"^[0-9]+\.[0-9]+\. Executing PROC pass", "synthesis: processes"),
    (r"^[0-9.]+ Executing SHARE pass", "synthesis: sharing"),
    (r"^[0-9]+\.[0-9]+\. Executing (ALUMACC|MEMORY|ABC9?|AUTONAME|CHECK) pass", r"synthesis: \1"),
)


@dataclass(frozen=True)
class Synthesis:
    """A netlist.

    Parameters
    ----------
    netlist : str
        Name of the JSON file in the folder.
    counts : dict of str to int
        "lut4", "carry", "ff", "ebr", "spram", "dsp" in the netlist, before nextpnr packs them.
    run : tools.Run
    """

    netlist: str
    counts: dict
    run: tools.Run


def flags(family, dsp=False):
    """Options of Yosys' synthesis command.

    ``-nowidelut`` halves the LUTs of arithmetic on ECP5 (DESIGN.md, section 9). Memories are instances already; nothing
    else may become block RAM, so inference is off.
    """
    if family == "ice40":
        return ["synth_ice40", "-nobram", *(["-dsp"] if dsp else [])]
    if family == "ecp5":
        return ["synth_lattice", "-family", "ecp5", "-nowidelut", "-nobram", *([] if dsp else ["-nodsp"])]
    raise ValueError(f"family must be one of {', '.join(CELLS)}, not {family!r}")


def synthesise(folder, sources, top, family, *, dsp=False, toolchain="yowasp", log_dir=None, progress=None):
    """Verilog to a netlist of the chip's cells.

    Parameters
    ----------
    folder : Path
        Where the sources lie and the netlist, ``<top>.json``, is written.
    sources : list of str
        Names of Verilog files in the folder.
    top : str
    family : "ice40" or "ecp5"
    dsp : bool
        Whether `*` may become DSP blocks.
    toolchain : "yowasp" or "native"
    log_dir : Path
        Where ``synth.log`` goes; the folder by default.
    progress : callable(text) or None

    Returns
    -------
    Synthesis
    """
    command = flags(family, dsp)
    script = "; ".join([
        *(f"read_verilog -sv {name}" for name in sources),
        "rename -hide */w:*[*]*",  # ABC9 of Yosys 0.70 takes a wire named x[0] for bit 0 of x, and stops
        " ".join([*command, "-top", top]),
        "tee -q -o counts.json stat -json",
        f"write_json {top}.json",
    ])
    tool = tools.find("yosys", toolchain)
    log = (log_dir or folder) / "synth.log"
    # Yosys 0.70 of YoWASP says nothing more on its output once ABC has run, errors included; its own log has all.
    done = tools.run(tool, ["-l", "yosys.log", "-p", script], folder=folder, log=log, progress=progress,
                     phases=_PHASES, what="synthesis", own_log=folder / "yosys.log")
    cells = json.loads((folder / "counts.json").read_text())["design"].get("num_cells_by_type", {})
    return Synthesis(f"{top}.json", count(cells, family), done)


def count(cells, family):
    """Resources of a netlist, given how many cells of each type it has."""
    counts = {}
    for name, types in CELLS[family].items():
        counts[name] = sum(n for cell, n in cells.items() if cell in types or (name == "ff" and cell.startswith(types)))
    return counts


def check_memories(counts, planned, family):
    """Block RAMs of the netlist must be those that were planned.

    Raises
    ------
    BuildError
        When they are not.
    """
    if counts["ebr"] != planned:
        cell = CELLS[family]["ebr"][0]
        raise BuildError(
            f"the netlist has {counts['ebr']} {cell}, but the plan has {planned}; a memory was dropped because nothing "
            "reads a part of it, or made from something else: please report this network"
        )
