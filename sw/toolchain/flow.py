"""From Verilog to a bitstream: synthesis, place and route (kept by what they are made of), memory contents, packing."""

import gzip
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from lutloom.errors import BuildError, FitError
from lutloom.memories import blocks, native
from lutloom.toolchain import cache, pack, place, synth, tools
from lutloom.toolchain.contents import MemoryMap, exchange, locate

SECTION = "placed"
MAP = "memory_map.json"


@dataclass(frozen=True)
class Implementation:
    """A design in a bitstream.

    Parameters
    ----------
    bitstream, text, memory_map : Path
        The bitstream, its text form with real contents (gzip), and where in it each memory lies.
    fmax_mhz : float
        Of the core's clock, by static timing.
    resources : dict of str to dict
        lut4, ff, carry, ebr, spram, dsp: {"used", "available"}; lut4 are logic cells on iCE40, LUT4 sites on ECP5.
    seconds : dict of str to float
        Of each step of this build: synthesis, place, contents, pack.
    peak_mib : dict of str to float
        Largest memory of synthesis and place and route when they ran.
    from_cache : bool
        Whether the placed design was there already.
    tools : dict of str to str
        Versions.
    """

    bitstream: Path
    text: Path
    memory_map: Path
    fmax_mhz: float
    resources: dict
    seconds: dict
    peak_mib: dict = field(default_factory=dict)
    from_cache: bool = False
    tools: dict = field(default_factory=dict)


def implement(folder, *, core_verilog, specs, images, board, clock_mhz, shell_verilog="", top="lutloom_top",
              name="design", dsp=False, seed=1, toolchain="yowasp", log_dir=None, progress=None):
    """Make the bitstream of a design.

    The placed design comes from the cache where one of the same Verilog, memory shapes, contents of memories in logic,
    board, clock, seed and tools is; contents of block RAM do not count.

    Parameters
    ----------
    folder : Path
        Where ``<name>.bin`` or ``.bit``, ``<name>.asc.gz`` or ``.config.gz`` and ``memory_map.json`` go.
    core_verilog, shell_verilog : str
        Without the memories' modules. Their top, `top`, has the ports of the board's pins.
    specs : iterable of lutloom.hw.memory.MemorySpec
        All memories.
    images : mapping of str to list of int
        Words of all ROMs.
    board : lutloom.board.Board
    clock_mhz : float
        The core's clock, what the PLL really gives.
    top, name : str
    dsp : bool
        Whether Yosys may make DSP blocks from ``*``; those that are instances do not need it.
    seed : int
    toolchain : "yowasp" or "native"
    log_dir : Path
        Where the logs go; ``logs`` in the folder by default.
    progress : callable(text) or None

    Returns
    -------
    Implementation

    Raises
    ------
    FitError
        When the netlist is larger than the chip.
    BuildError
        When the netlist's memories are not those of the plan.
    ToolError
        When a tool is missing or fails.
    """
    folder, specs, family = Path(folder), list(specs), board.family
    log_dir = Path(log_dir) if log_dir else folder / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda text: None)
    found = {tool: tools.find(tool, toolchain) for tool in ("yosys", f"nextpnr-{family}", _packer(family))}
    memories, layout = native(specs, family, images)
    sources = {"core.v": core_verilog, "shell.v": shell_verilog, "memories.v": memories}
    placing = place.options(board, clock_mhz, seed)
    key = cache.content_key(
        3, family, top, *sources.values(), board.constraints(), *synth.flags(family, dsp), *placing, place.BIG_LUTS,
        toolchain, *(found[tool].version for tool in ("yosys", f"nextpnr-{family}")),
    )

    def make(entry):
        planned = sum(blocks(spec, family) for spec in specs)
        _place(entry, sources, top, board, clock_mhz, planned, dsp, seed, toolchain, log_dir, tell, layout)

    entry, hit = cache.cached(SECTION, key, make)
    facts = json.loads((entry / "facts.json").read_text())
    seconds = {"synthesis": 0.0, "place": 0.0} if hit else dict(facts["seconds"])
    for log in (entry / "logs").iterdir():
        shutil.copyfile(log, log_dir / log.name)

    tell("putting contents into the memories")
    started = time.monotonic()
    suffix = Path(facts["text"]).suffix
    memory_map = MemoryMap.from_json((entry / MAP).read_text())
    text = exchange(read_text(entry / "placed.gz"), memory_map, images)
    (folder / f"{name}{suffix}").write_text(text)
    seconds["contents"] = time.monotonic() - started

    tell("packing the bitstream")
    bitstream = f"{name}{pack.SUFFIX[family]}"
    done = pack.pack(folder, f"{name}{suffix}", bitstream, family, toolchain=toolchain, log_dir=log_dir)
    seconds["pack"] = done.seconds
    shutil.copyfile(entry / MAP, folder / MAP)
    kept = folder / f"{name}{suffix}.gz"
    _write_text(kept, text)
    (folder / f"{name}{suffix}").unlink()
    return Implementation(
        bitstream=folder / bitstream, text=kept, memory_map=folder / MAP, fmax_mhz=facts["fmax_mhz"],
        resources=facts["resources"], seconds={step: round(spent, 2) for step, spent in seconds.items()},
        peak_mib=facts["peak_mib"], from_cache=hit, tools={tool: found[tool].version for tool in found},
    )


def read_text(path):
    """The text form of a design that `implement` kept."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.read()


def _packer(family):
    return "icepack" if family == "ice40" else "ecppack"


def _write_text(path, text):
    """The same text gives the same file: no time in it."""
    path.write_bytes(gzip.compress(text.encode(), compresslevel=4, mtime=0))


def _place(entry, sources, top, board, clock_mhz, planned, dsp, seed, toolchain, log_dir, tell, layout):
    """Fill an entry of the cache: placed.gz, memory map, facts, logs."""
    family = board.family
    for name, text in sources.items():
        (entry / name).write_text(text)
    tell("synthesis")
    netlist = synth.synthesise(
        entry, list(sources), top, family, dsp=dsp, toolchain=toolchain, log_dir=log_dir, progress=tell
    )
    synth.check_memories(netlist.counts, planned, family)
    check_fit(netlist.counts, board.chip)
    tell("place and route")
    luts = netlist.counts["lut4"]
    placement = place.place_and_route(entry, netlist.netlist, board, clock_mhz, seed=seed, luts=luts,
                                      toolchain=toolchain, log_dir=log_dir, progress=tell)
    text = (entry / placement.text).read_text()
    (entry / MAP).write_text(locate(text, layout).to_json())
    used = {**netlist.counts, **placement.used}
    if used["ebr"] != planned:
        raise BuildError(f"nextpnr placed {used['ebr']} block RAMs, but the plan has {planned}; please report this")
    resources = {
        name: {"used": used[name], "available": available} for name, available in board.chip.available().items()
    }
    _write_text(entry / "placed.gz", text)
    facts = {
        "text": placement.text, "fmax_mhz": placement.fmax_mhz, "resources": resources, "netlist": netlist.counts,
        "seconds": {"synthesis": netlist.run.seconds, "place": placement.run.seconds},
        "peak_mib": {"synthesis": round(netlist.run.peak_mib), "place": round(placement.run.peak_mib)},
    }
    (entry / "facts.json").write_text(json.dumps(facts, indent=1))
    (entry / "logs").mkdir()
    for log in ("synth.log", "place.log"):
        shutil.copyfile(log_dir / log, entry / "logs" / log)
    for name in (*sources, netlist.netlist, placement.text, "counts.json"):
        (entry / name).unlink(missing_ok=True)


def check_fit(counts, chip):
    """The netlist must not be larger than the chip.

    Raises
    ------
    FitError
        With need, have and a way out.
    """
    for name, have in chip.available().items():
        if counts.get(name, 0) > have:
            raise FitError(
                f"the netlist needs {counts[name]:,} {name}, but {chip.device} has {have:,}; ask for less with --fps, "
                "use narrower weights (--weights bitmask:2) or take a larger board (lutloom boards)"
            )
