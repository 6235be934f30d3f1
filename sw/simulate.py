"""A build folder's Verilog against the golden model: whole data sets, every output compared."""

import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lutloom.errors import BuildError, DataError
from lutloom.plan import FORMAT_VERSION

_SETTLE = (12, 48, 192)  # frames by which the periodic regime is looked for, one number after the other
_JOB_FRAMES = 32  # below so many frames a process is not worth its start
_DEADLOCK = 10  # times latency + interval without an output beat


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation found.

    Parameters
    ----------
    frames : int
        Frames that came out whole.
    differ : int
        Frames in which anything differs from the golden model.
    cycles : int
        Clock cycles that they took, added over the processes.
    interval_cycles : int, float or None
        Spacing of last output beats in the periodic regime, source always valid and sink always ready; a mean where
        the regime spans several frames, None where none was reached.
    latency_cycles : int or None
        First input beat to last output beat of a frame in the idle core.
    predicted_interval_cycles, predicted_latency_cycles : int or None
        What plan.json says of them.
    first_difference : str or None
        Frame, beat, element, got and expected of the first value that differs.
    seconds : float
        Of simulation, compilation aside; of the slowest process.
    differences : tuple of lutloom.sim.results.Difference
        The first ones, with ``index`` in the output tensor.
    input_cycles, output_cycles : uint64 arrays (frames, beats)
        Cycle of every transfer of the first frames, as many as were to be recorded.
    """

    frames: int
    differ: int
    cycles: int
    interval_cycles: int | float | None
    latency_cycles: int | None
    first_difference: str | None
    seconds: float = 0.0
    differences: tuple = ()
    input_cycles: np.ndarray | None = None
    output_cycles: np.ndarray | None = None
    predicted_interval_cycles: int | None = None
    predicted_latency_cycles: int | None = None

    @property
    def cycles_differ(self):
        """What is counted otherwise than plan.json predicts, in one sentence; empty where nothing is."""
        pairs = [(name, getattr(self, f"{name}_cycles"), getattr(self, f"predicted_{name}_cycles"))
                 for name in ("interval", "latency")]
        wrong = [f"{name} {_cycles(counted)} counted, {_cycles(predicted)} predicted"
                 for name, counted, predicted in pairs if predicted is not None and counted != predicted]
        return f"cycles are not those of plan.json: {'; '.join(wrong)}" if wrong else ""


def _cycles(number):
    return "none" if number is None else f"{number:,}"


def simulate(folder, x, *, count=None, stalls=0.0, engine="compiled", seed=0, jobs=None, progress=None, expected=None,
             record=0, alone=True, clear_after=(), break_last=False):
    """Runs frames through the Verilog of a build folder, as it lies there, and compares every output.

    Parameters
    ----------
    folder : path
        With network.npz, plan.json, rtl/ and rom/.
    x : array (frames, ...)
        Input codes, or real values that become codes by rounding; NHWC or the model's own layout.
    count : int
        Frames to run, the first ones of x; all by default.
    stalls : float
        Probability of a stall in every cycle, on both sides; from 0 to below 1.
    engine : "compiled" or "cocotb"
    seed : int
        Of the stalls, and of what memories hold before they are written.
    jobs : int
        Processes of the compiled engine; by default one a processor, where there are frames enough. Frames of a network
        with state are one stream, which one process runs.
    progress : callable(step, done=None, total=None)
    expected : integer array (frames, *output shape)
        Golden output codes, where they are known already; then x must be NHWC codes. By default network.npz gives them.
    record : int
        Frames whose every transfer's cycle is kept.
    alone : bool
        The first frame runs through the empty core before the second one begins.
    clear_after : sequence of int
        Before the frames: so many beats go in, then ``clear`` is given for a cycle, for each number here.
    break_last : bool
        TLAST of those beats is wrong, and ``frame_error`` must tell.

    Returns
    -------
    SimulationResult

    Raises
    ------
    BuildError
        The folder is not a build or lacks a part; or the core breaks a rule of its streams, or hangs, and no value that
        differs says more.
    DataError
        The data do not fit, or hold fewer frames than asked for.
    ToolError
        Simulator or compiler are missing or fail.
    """
    if engine not in ("compiled", "cocotb"):
        raise ValueError(f"engine must be compiled or cocotb, not {engine!r}")
    if not 0 <= stalls < 1:
        raise ValueError(f"stalls must be a probability from 0 to below 1, not {stalls!r}")
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, not {count!r}")
    folder, tell = Path(folder), progress or (lambda *report: None)
    plan, input_layout, output_layout = load_ports(folder)
    x = np.asarray(x)
    available = len(x) if x.ndim else 0
    if available < (count or 1):
        raise DataError(f"{count or 1} frames were asked for, but the data hold {available}; ask for at most so many")
    if expected is None:
        tell("golden model")
        x, expected = _golden(folder, x[:count])
    beats = _pack(folder, input_layout, np.asarray(x)[:count])
    outputs = _pack(folder, output_layout, np.asarray(expected)[:count])
    state = _has_state(folder)
    run = _engine(engine, folder, plan, input_layout, output_layout, beats, outputs, jobs, tell)
    run = partial(run, jobs=1) if state else run
    found = run(stalls=stalls, seed=seed, limit=_limit(plan, stalls), record=record, alone=alone,
                clear_after=clear_after, break_last=break_last)
    measured = found if stalls == 0 and alone and len(found.ends) >= _SETTLE[0] else None
    if not found.faults:
        for frames in _SETTLE:
            if measured and measured.interval_cycles is not None:
                break
            measured = run(count=frames, jobs=1, limit=_limit(plan, 0.0))
            # What this run alone shows counts too; with state, frames that come again come out otherwise.
            if not found.differ and (measured.faults or (measured.differ and not state)):
                found = measured
                break
    differences = tuple(replace(difference, index=_in_tensor(difference.index, output_layout, plan))
                        for difference in found.differences)
    if found.faults and not found.differ:
        raise BuildError(f"the core in {folder} is wrong: {found.faults[0]}")
    told = [str(differences[0])] if differences else []
    return SimulationResult(found.frames, found.differ, found.cycles, measured and measured.interval_cycles,
                            measured and measured.latency_cycles, "; ".join([*told, *found.faults[:1]]) or None,
                            found.seconds, differences, found.input_cycles, found.output_cycles,
                            *_predicted(plan))


def load_ports(folder):
    """What plan.json of a build folder says, and the layouts of the core's two streams.

    Returns
    -------
    (dict, StreamLayout, StreamLayout)

    Raises
    ------
    BuildError
        The folder is not a build, is of another version, or is not whole.
    """
    from lutloom.sim.compiled import check_images, check_ports
    from lutloom.sim.stream import StreamLayout

    folder = Path(folder)
    again = f"make it with: lutloom build MODEL --board BOARD -o {folder}"
    for name in ("plan.json", "network.npz", "rtl", "rom"):
        if not (folder / name).exists():
            raise BuildError(f"{folder} is not a build folder: it holds no {name}; {again}")
    try:
        plan = json.loads((folder / "plan.json").read_text())
        version = plan["format_version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BuildError(f"{folder}/plan.json is damaged; {again}") from None
    if version != FORMAT_VERSION:
        raise BuildError(f"{folder} has format version {version!r}, but this Lutloom reads {FORMAT_VERSION}; {again}")
    try:
        layouts = StreamLayout.of_plan(plan["input"]), StreamLayout.of_plan(plan["output"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{folder}/plan.json does not describe the core's ports ({error}); {again}") from None
    check_ports(folder, *layouts)
    memories = plan.get("memories", ())
    try:
        check_images(folder, memories)
    except (KeyError, TypeError):
        raise BuildError(f"{folder}/plan.json does not describe the core's memories; {again}") from None
    return plan, *layouts


def _golden(folder, x):
    """Input codes and golden output codes of the network in a folder."""
    from lutloom.folder import load_network

    network = load_network(folder)
    codes = network.encode(x)
    return codes, network(codes)


def _has_state(folder):
    """Whether what a frame gives depends on those before it; unknown networks, whose outputs the caller gave, have
    none."""
    from lutloom.folder import load_network

    try:
        return getattr(load_network(folder), "has_state", False)
    except BuildError:
        return False


def _pack(folder, layout, codes):
    """Beats of codes; a Flatten in front of a port does not change the order of values."""
    try:
        return layout.pack(codes.reshape(len(codes), *layout.shape))
    except ValueError as error:
        raise BuildError(f"plan.json and network.npz of {folder} do not belong together ({error}); "
                         f"build it again") from None


def _predicted(plan):
    """Interval and latency as plan.json has them, None where it says nothing of use."""
    kept = [plan.get(key) for key in ("interval_cycles", "latency_cycles")]
    return [cycles if isinstance(cycles, int | float) else None for cycles in kept]


def _limit(plan, stalls):
    """Cycles without an output beat that nothing but a deadlock explains."""
    known = _predicted(plan)
    if None in known:
        return 10_000_000
    return int(_DEADLOCK * sum(known) / (1 - stalls) ** 2) + 10_000


def _engine(engine, folder, plan, input_layout, output_layout, beats, outputs, jobs, tell):
    """Function that runs the frames with one of the engines."""
    streams = input_layout, output_layout, beats, outputs
    progress = partial(tell, "simulate")
    if engine == "cocotb":
        from lutloom.sim.runner import run_core

        def run(jobs=None, **options):
            return run_core(folder, *streams, progress=progress, **options)

        return run
    from lutloom.sim.compiled import QUICK_CYCLES, compile_core

    interval = plan.get("interval_cycles")
    quick = isinstance(interval, int | float) and interval * len(beats) < QUICK_CYCLES
    core = compile_core(folder, level="quick" if quick else "full", jobs=jobs, progress=tell)
    default = max(1, min(jobs or os.cpu_count() or 1, len(beats) // _JOB_FRAMES))
    return partial(core.run, *streams, progress=progress, jobs=default)


def _in_tensor(index, output_layout, plan):
    """Index in the network's output tensor of an index in the stream, which may be the tensor before a Flatten."""
    if index is None:
        return None
    shape = tuple(plan["output"]["shape"])
    return tuple(int(i) for i in np.unravel_index(np.ravel_multi_index(index, output_layout.shape), shape))
