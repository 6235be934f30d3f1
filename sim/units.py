"""Benches of single units under cocotb: stimulus and expectations are numpy arrays, the unit any emitted Verilog."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lutloom.formats import Format
from lutloom.sim.job import Job
from lutloom.sim.runner import run_bench
from lutloom.sim.stream import StreamLayout


@dataclass(frozen=True)
class UnitResult:
    """What a bench of a unit found.

    Parameters
    ----------
    differences : tuple of (port, vector or beat, got, expected, cycle)
        Raw bits of the whole port.
    lasts : tuple of (port, beat, got)
        Wrong "last" of a beat.
    faults : tuple of str
        Rules of streams that were broken, and deadlocks.
    cycles : int
    transfers : dict of name to list of int
        Cycle of every transfer of every stream.
    about : str
        Top, simulator, stalls and seed.
    """

    differences: tuple
    lasts: tuple
    faults: tuple
    cycles: int
    transfers: dict
    about: str

    @property
    def good(self):
        """Whether nothing differs and no rule was broken."""
        return not (self.differences or self.lasts or self.faults)

    def check(self):
        """Raises AssertionError, with what a reader wants to know of the first difference, unless all is good."""
        if self.good:
            return self
        lines = [f"{self.about}: {len(self.differences)} differences"]
        lines += [f"{port}[{index}], cycle {cycle}: got {got:#x}, expected {expected:#x}"
                  for port, index, got, expected, cycle in self.differences[:8]]
        lines += [f"{port}[{index}]: last is {got}" for port, index, got in self.lasts[:8]]
        raise AssertionError("\n".join([*lines, *self.faults[:8]]))


def pack_port(values, bits):
    """Values of a port, one row a vector, as bytes.

    Parameters
    ----------
    values : integer array (vectors,) or (vectors, lanes)
        Negative ones become two's complement; lane 0 is in the lowest bits.
    bits : int
        Of one lane, 1 to 64.

    Returns
    -------
    uint8 array (vectors, bytes)
    """
    values = np.asarray(values)
    values = values.reshape(len(values), -1)
    signed = bool(values.size) and int(values.min()) < 0
    layout = StreamLayout((values.shape[1],), Format("int" if signed else "uint", bits), values.shape[1])
    return layout.pack(values)[:, 0]


def run_unit(verilog, top, inputs, outputs, *, delay, masks=None, simulator="verilator", folder=None):
    """Runs a unit of fixed latency, one vector a cycle, and compares every output ``delay`` cycles after its input.

    Parameters
    ----------
    verilog : str of Verilog, or path(s) of Verilog files
    top : str
        Name of the module; its clock is ``clk`` (none for a combinational unit), its reset ``rst``.
    inputs, outputs : dict of port to (values, bits) or uint8 array (vectors, bytes)
        (values, bits) as for ``pack_port``.
    delay : int
        Cycles from input to output.
    masks : dict of port to bool array (vectors,)
        Vectors that are compared; all by default.
    simulator : str
    folder : path
        Where the unit runs, for those that read files.

    Returns
    -------
    UnitResult
    """
    arrays = {port: _port(entry) for port, entry in {**inputs, **outputs}.items()}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise ValueError(f"all ports must have as many vectors, not {sorted(lengths)}")
    options = {"inputs": list(inputs), "outputs": list(outputs), "delay": int(delay), "vectors": lengths.pop()}
    return _run(verilog, top, "cocotb_unit", options, arrays, masks, simulator, folder,
                f"{top} in {simulator}, delay {delay}")


def run_stream(verilog, top, inputs, outputs, *, stalls=0.0, seed=0, frames=None, masks=None, constants=None,
               limit=10_000, drain=100, simulator="verilator", folder=None):
    """Runs a unit with streams until every expected beat has come, and looks that none follows.

    Parameters
    ----------
    verilog, top, simulator, folder : as for ``run_unit``
    inputs, outputs : dict of stream to (values, bits) or uint8 array (beats, bytes)
        A stream named ``i`` has the ports i__payload, i__valid, i__ready, as Amaranth names them; i__last too when
        ``frames`` holds it. One named ``s_axis`` has s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast.
    stalls : float, or dict of stream to float
        Probability of a stall in every cycle.
    frames : dict of stream to int
        Beats of a frame, of streams that mark its last beat.
    constants : dict of port to int
        Inputs that do not change.
    limit : int
        Cycles without an output beat that count as a deadlock.
    drain : int
        Cycles after the last expected beat in which nothing may follow.

    Returns
    -------
    UnitResult
    """
    arrays = {name: _port(entry) for name, entry in {**inputs, **outputs}.items()}
    frames = frames or {}

    def side(names):
        return {name: {"ports": _stream_ports(name, name in frames), "frame": frames.get(name, 0),
                       "stalls": stalls.get(name, 0.0) if isinstance(stalls, dict) else stalls} for name in names}

    options = {"inputs": side(inputs), "outputs": side(outputs), "seed": seed, "limit": limit, "drain": drain,
               "constants": constants or {}}
    return _run(verilog, top, "cocotb_stream", options, arrays, masks, simulator, folder,
                f"{top} in {simulator}, stalls {stalls}, seed {seed}")


def _stream_ports(name, last):
    """Names of a stream's ports."""
    axis = name.endswith("axis")
    keys = {"payload": "tdata", "valid": "tvalid", "ready": "tready", "last": "tlast"}
    return {key: f"{name}_{port}" if axis else f"{name}__{key}" for key, port in keys.items() if key != "last" or last}


def _port(entry):
    return entry if isinstance(entry, np.ndarray) else pack_port(*entry)


def _run(verilog, top, module, options, arrays, masks, simulator, folder, about):
    with tempfile.TemporaryDirectory(prefix="lutloom-cocotb-") as scratch:
        job = Job(scratch)
        if isinstance(verilog, str) and "\n" in verilog:
            source = Path(scratch) / f"{top}.v"
            source.write_text(verilog)
            verilog = source
        sources = [Path(verilog)] if isinstance(verilog, str | Path) else [Path(path) for path in verilog]
        job.begin(options, arrays, masks)
        run_bench(sources, top, simulator, f"lutloom.sim.{module}", job, folder or scratch)
        found = job.result
        return UnitResult(tuple(map(tuple, found["differences"])), tuple(map(tuple, found["lasts"])),
                          tuple(found["faults"]), found["cycles"], found["transfers"], about)
