"""The whole way: model file to bitstream and report, in a folder that appears when all of it is there."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lutloom import report as reports
from lutloom.board import load_board
from lutloom.data import check_source
from lutloom.emit import core_verilog, rarely_collected, write_rtl
from lutloom.errors import FitError, ModelError
from lutloom.folder import building, check_free
from lutloom.hw.build_sparse import stored_bits
from lutloom.hw.selftest import LUT_DEPTH
from lutloom.hw.shell import SelfTest, Shell, shell_verilog
from lutloom.network import Add, Conv, Dense, Multiply, Network, Product
from lutloom.passes.widen import biased, widen
from lutloom.plan import FORMAT_VERSION, group_layers
from lutloom.planner import estimate, plan_network
from lutloom.quantize import is_network, quantize
from lutloom.sample import sample
from lutloom.sim.stream import StreamLayout
from lutloom.toolchain import tools
from lutloom.toolchain.flow import implement
from lutloom.weight_groups import table_bits

FRAMES_KEPT = 8  # golden outputs in expected.npz
SEEDS = 3  # placements tried
SPARE_EBR = {"ice40": 5, "ecp5": 4}  # for the shell's self test


@dataclass
class Work:
    """A build under way.

    Parameters
    ----------
    folder : Path
    board : Board
    network : Network
    plan : Plan
    core : Core
    text : str
        Its Verilog.
    target : Target
    prediction : Prediction
    frames : array
        Input codes: those of expected.npz, and at the end the self test's.
    seconds : dict of str to float
    """

    folder: Path
    board: object
    network: Network = None
    plan: object = None
    core: object = None
    text: str = ""
    target: object = None
    prediction: object = None
    frames: np.ndarray = None
    seconds: dict = field(default_factory=dict)

    def timed(self, step):
        """Context manager that adds the seconds of a step."""
        return _Timer(self.seconds, step)


class _Timer:
    def __init__(self, seconds, step):
        self._seconds, self._step = seconds, step

    def __enter__(self):
        self._begin = time.monotonic()

    def __exit__(self, *_):
        spent = time.monotonic() - self._begin
        self._seconds[self._step] = round(self._seconds.get(self._step, 0) + spent, 2)


def build(
    model, *, board, output, data=None, fps=None, clock_mhz=None, style="auto", toolchain="yowasp", seed=1, jobs=None,
    patchable=False, selftest=True, progress=None, **quantisation,
):
    """Model file to bitstream and report.

    Parameters
    ----------
    model : path or Network
    board : str, path or Board
    output : path
        The build folder; it appears when the build is whole.
    data : str or path, optional
        Labelled data; the report then has the accuracy.
    fps : float, optional
        Frames a second to reach with as little of the chip as possible; without, as fast as fits.
    clock_mhz : float, optional
    style : "auto" or "dataflow"
    toolchain : "yowasp" or "native"
    seed : int
        Of placement.
    jobs : int, optional
        Without effect: every step is one process.
    patchable : bool
        Other weights of the same network and formats need no place and route.
    selftest : bool
        A network with state has none: the same frame again gives another result.
    progress : function of (step, done, total), optional
    quantisation
        As ``lutloom.quantize`` takes.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    tell = progress or (lambda *_: None)
    board = load_board(board)
    _check_options(style, fps, clock_mhz)
    check_free(output)
    if isinstance(data, str | Path):
        check_source(data)
    _check_tools(board, toolchain)
    with building(output) as folder:
        work = _front(folder, model, board, fps, clock_mhz, patchable, quantisation, tell, selftest, toolchain, data)
        accuracy = _accuracy(work, model, data, tell)  # before place and route: data that do not fit are said at once
        selftest = selftest and not work.network.has_state
        clock, made = _implement(work, clock_mhz, seed, toolchain, selftest, tell)
        _check_rate(work, clock, fps)
        report = _report(work, model, clock, accuracy, made, output)
        report["name"] = Path(output).name
        reports.write(folder, report)
    return report


def verilog(
    model, *, board, output, top="shell", fps=None, clock_mhz=None, style="auto", toolchain="yowasp", seed=1,
    jobs=None, patchable=False, selftest=True, progress=None, **quantisation,
):
    """Model file to Verilog and ROM images; the parameters are those of `build`.

    Parameters
    ----------
    top : "shell" or "stream"
        stream: only the core with its AXI4-Stream style ports; shell: the board's top, its memories and constraints
        beside it.

    Returns
    -------
    dict
        The content of ``report.json``, resources estimated.
    """
    tell = progress or (lambda *_: None)
    board = load_board(board)
    _check_options(style, fps, clock_mhz)
    if top not in ("shell", "stream"):
        raise ValueError(f"top must be shell or stream, not {top!r}")
    check_free(output)
    tools.find("yosys", toolchain)  # ToolError before any work
    with building(output) as folder:
        work = _front(folder, model, board, fps, clock_mhz, patchable, quantisation, tell, selftest, toolchain)
        clock = _clock(work, clock_mhz)
        if top == "shell":
            with work.timed("shell"):
                selftest = selftest and not work.network.has_state
                shell, text, specs, images = _shell(work, clock, selftest, toolchain)
                clock = float(shell.clock_mhz)
                _check_rate(work, clock, fps)
                _write_board(work, text, specs, images)
        report = _report(work, model, clock, None, None, output)
        report["name"] = Path(output).name
        reports.write(folder, report)
    return report


def _check_options(style, fps, clock_mhz):
    """ValueError for a choice that is none."""
    if style not in ("auto", "dataflow"):
        raise ValueError(f"style must be auto or dataflow, not {style!r}")
    for name, value in (("fps", fps), ("clock_mhz", clock_mhz)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above zero, not {value!r}")


def _check_tools(board, toolchain):
    """ToolError before any work if a tool is missing."""
    for name in ("yosys", f"nextpnr-{board.family}", "icepack" if board.family == "ice40" else "ecppack"):
        tools.find(name, toolchain)


def _front(folder, model, board, fps, clock_mhz, patchable, quantisation, tell, selftest, toolchain, data=None):
    """Everything up to Verilog and ROM images."""
    work = Work(folder, board)
    with work.timed("quantise"):
        if patchable:
            quantisation = {"requant": "thresholds", **quantisation}
        work.network = quantize(model, progress=tell, **quantisation)
        if patchable:
            work.network = _patchable(work.network, model)
        work.network.save(folder / "network.npz")
    tell("plan")
    with work.timed("plan"):
        wanted = clock_mhz or board.chip.clock_mhz
        work.plan = plan_network(
            work.network, board.chip, clock_mhz=wanted, fps=fps, patchable=patchable,
            spare_ebr=SPARE_EBR[board.family] if selftest else 0,
        )
    tell("Verilog and ROM images")
    with work.timed("verilog"):
        work.core, work.text, work.target, work.prediction = write_rtl(work.network, work.plan, folder, toolchain)
        work.frames = sample(work.network, FRAMES_KEPT + 1, calibrate=quantisation.get("calibrate"), data=data)
        _expected(work)
    return work


def _patchable(network, model):
    """The network with widths by formats and a bias behind its logits.

    Raises
    ------
    ModelError
        Its requantisers were chosen before, and multiply.
    """
    multiply = next((layer for layer in network.layers if isinstance(layer, Multiply)), None)
    if multiply is not None and (isinstance(model, Network) or is_network(model)):
        raise ModelError(
            f"layer {multiply.name!r} of this network requantises by multiplying, whose hardware depends on the "
            "weights; give the model file that it was made of, of which --patchable makes thresholds"
        )
    return widen(biased(network))


def _check_rate(work, clock, fps):
    """FitError if the clock that was reached does not give the frames a second that were asked for."""
    reached = clock * 1e6 / work.prediction.interval_cycles
    if fps is not None and reached < fps:
        raise FitError(
            f"{fps:,.0f} frames a second were asked for, but at {clock:g} MHz the plan reaches {reached:,.0f}; ask for "
            "less with --fps"
        )


def _expected(work):
    """expected.npz: golden outputs of a few frames."""
    x = work.frames[:FRAMES_KEPT]
    np.savez_compressed(work.folder / "expected.npz", format_version=FORMAT_VERSION, x=x, y=work.network(x))


def _clock(work, clock_mhz):
    """The clock that is planned: what was asked for, or what the chip does, and never above what its blocks allow."""
    chip = work.board.chip
    dsp = any(stage.dsp for stage in work.plan.stages)
    cap = chip.clock_cap_mhz(dsp=dsp)
    if clock_mhz is None:
        return min(chip.clock_mhz, cap) if cap else chip.clock_mhz
    if cap and clock_mhz > cap:
        raise FitError(
            f"the data sheet of {chip.device} allows {cap:g} MHz with its DSP blocks, not {clock_mhz:g}; ask for less "
            "with --clock-mhz"
        )
    return clock_mhz


def _selftest(work):
    """A frame and its golden result, as beats.

    A frame of few beats lies in logic, where its contents count for place and route: it is always the same noise.
    """
    x = work.frames[-1:]
    if work.core.input["beats"] <= LUT_DEPTH:
        x = sample(work.network, 1, seed=1)
    y = work.network(x)
    sides = []
    for side, codes in ((work.core.input, x), (work.core.output, y)):
        layout = StreamLayout.of_plan(side)
        beats = layout.pack(codes.reshape(1, *layout.shape))[0]
        sides.append(tuple(int.from_bytes(beat.tobytes(), "little") for beat in beats))
    return SelfTest(*sides)


def _shell(work, clock, selftest, toolchain):
    """The board's top around the core: (Shell, Verilog of both, specs, images)."""
    shell = Shell(
        work.board, clock, input=work.core.input, output=work.core.output,
        selftest=_selftest(work) if selftest else None,
    )
    with tools.yosys_for_amaranth(toolchain), rarely_collected():
        text, around = shell_verilog(shell, work.board.family)
    core, target = work.text, work.target
    if any(stage.dsp for stage in work.plan.stages) or (work.plan.paired and _multiplies(work.network)):
        core, target = core_verilog(work.network, work.plan, work.board.family, toolchain)
    specs = [*target.specs.values(), *around.specs.values()]
    return shell, (core, text), specs, {**target.images, **around.images}


def _multiplies(network):
    """Whether there are products that a chip whose adders gate their operands makes in its own way."""
    kinds = {layer.weights.format.kind for layer in network.layers if isinstance(layer, Conv | Dense)}
    multiplied = kinds & {"int", "codebook", "float16"}
    return bool(multiplied) or any(isinstance(layer, Multiply | Add | Product) for layer in network.layers)


def _write_board(work, text, specs, images):
    """The files of the board's top, for somebody's own flow."""
    from lutloom.memories import native

    board = work.folder / "board"
    board.mkdir()
    memories, _ = native(specs, work.board.family, images, marks=False)
    for name, content in (("lutloom_core.v", text[0]), ("lutloom_top.v", text[1]), ("lutloom_memories.v", memories)):
        (board / name).write_text(content)
    suffix = "pcf" if work.board.family == "ice40" else "lpf"
    (board / f"{work.board.name}.{suffix}").write_text(work.board.constraints())


def _implement(work, clock_mhz, seed, toolchain, selftest, tell):
    """Place and route until the clock holds: with other seeds where it was asked for, with a lower clock otherwise."""
    wanted, tried = _clock(work, clock_mhz), []
    for attempt in range(SEEDS):
        with work.timed("shell"):
            shell, (core, around), specs, images = _shell(work, wanted, selftest, toolchain)
        clock = float(shell.clock_mhz)
        made = implement(
            work.folder, core_verilog=core, shell_verilog=around, specs=specs, images=images, board=work.board,
            clock_mhz=clock, name=work.board.name, seed=seed + attempt * (clock_mhz is not None), toolchain=toolchain,
            log_dir=work.folder / "logs", progress=tell,
        )
        for step, spent in made.seconds.items():
            work.seconds[step] = round(work.seconds.get(step, 0) + spent, 2)
        tried.append(made.fmax_mhz)
        if made.fmax_mhz >= clock:
            return clock, made
        if clock_mhz is None:
            wanted = 0.98 * made.fmax_mhz
    raise FitError(
        f"the clock of {clock:g} MHz is not reached: place and route gave "
        f"{', '.join(f'{fmax:.1f}' for fmax in tried)} MHz; ask for less with --clock-mhz"
    )


def _accuracy(work, model, data, tell):
    """What report.json says of the accuracy; None without data."""
    if data is None:
        return None
    from lutloom.evaluate import evaluate

    graph = None if isinstance(model, Network) or is_network(model) else model
    with work.timed("evaluate"):
        result = evaluate(work.network, graph=graph, data=data, progress=tell)
    return {**result["accuracy"], "count": result["count"]}


def _report(work, model, clock, accuracy, made, output):
    """The content of report.json."""
    network, plan = work.network, work.plan
    groups = group_layers(network)
    schedules = dict(work.core.schedules)
    interval = work.prediction.interval_cycles
    estimated = estimate(network, plan, work.board.chip)
    available = work.board.chip.available()
    resources = {
        name: {
            "used": made.resources[name]["used"] if made else None,
            "available": available[name],
            "estimated": estimated.get(name),
        }
        for name in reports.RESOURCES
    }
    slowest = max((name for name, schedule in schedules.items()), key=lambda name: schedules[name].busy)
    weights = [layer.weights for layer in network.layers if hasattr(layer, "weights")]
    return {
        "format_version": FORMAT_VERSION,
        "name": None,
        "model": model.name if isinstance(model, Network) else Path(model).name,
        "board": work.board.name,
        "weights": network.info.get("weights") or reports.weights_of(network),
        "activations": network.info.get("activations") or reports.activations_of(network),
        "style": plan.style,
        "patchable": plan.patchable,
        "tools": dict(made.tools) if made else {},
        "seconds": work.seconds,
        "from_cache": made.from_cache if made else None,
        "peak_mib": dict(made.peak_mib) if made else {},
        "clock_mhz": round(clock, 4),
        "fmax_mhz": round(made.fmax_mhz, 2) if made else None,
        "interval_cycles": interval,
        "latency_cycles": work.prediction.latency_cycles,
        "frames_per_second": clock * 1e6 / interval,
        "link_frames_per_second": None,
        "slowest": slowest,
        "busy_share": schedules[slowest].busy / interval,
        "resources": resources,
        "accuracy": accuracy,
        "weight_bits": sum(stored_bits(group, stage) for group, stage in zip(groups, plan.stages, strict=True)
                           if hasattr(group.main, "weights")),
        "table_bits": sum(table_bits(w.format) for w in weights),
        "layers": reports.layers_of(groups, plan, schedules, network.info),
        "folder": str(output),
        "files": sorted(
            str(path.relative_to(work.folder))
            for path in work.folder.iterdir()
            if path.name != "logs" or any(path.iterdir())
        ) + ["report.json"],
    }
