"""cocotb: a unit with streams, driven and compared on its emitted Verilog; started by ``lutloom.sim.runner``.

Inputs are set after the rising edge and everything is sampled at the falling one, when combinational outputs have
settled: one loop drives all streams of a unit.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from lutloom.sim.job import Job

_PERIOD_NS = 10


class Source:
    """Offers beats to an input stream; what was offered stays until it is taken.

    Parameters
    ----------
    dut : cocotb handle
    ports : dict with "payload", "valid", "ready" and perhaps "last"
        Names of the ports.
    beats : list of int
        Sent in turn, and from the first on again when ``limit`` allows more.
    stalls : float
        Probability that nothing is offered in a cycle.
    seed : str
    frame : int
        Beats between two that carry "last".
    """

    def __init__(self, dut, ports, beats, *, stalls, seed, frame=0):
        self._payload, self._valid, self._ready = (getattr(dut, ports[key]) for key in ("payload", "valid", "ready"))
        self._last = getattr(dut, ports["last"]) if "last" in ports else None
        self._beats, self._stalls, self._random, self._frame = beats, stalls, random.Random(seed), frame
        self._offered = False
        self.limit, self.twist, self.cycles = len(beats), False, []

    def idle(self):
        """Offers nothing, and begins with the first beat again."""
        self._offered, self.cycles = False, []
        self._valid.value = 0

    def drive(self):
        """Sets the inputs of a cycle."""
        if self._offered:
            return
        sent = len(self.cycles)
        self._offered = sent < self.limit and self._random.random() >= self._stalls
        if self._offered:
            self._payload.value = self._beats[sent % len(self._beats)]
            if self._last is not None:
                self._last.value = int((sent % self._frame == self._frame - 1) != self.twist)
        self._valid.value = int(self._offered)

    def sample(self, cycle):
        """Looks whether the beat is taken at the coming edge."""
        if self._offered and int(self._ready.value):
            self._offered = False
            self.cycles.append(cycle)


class Sink:
    """Takes beats from an output stream, compares them, and checks the rules of streams.

    Parameters
    ----------
    dut, ports, stalls, seed, frame : as in ``Source``
    beats : list of int
        What is expected in turn; None for a beat that is not compared.
    """

    def __init__(self, dut, ports, beats, *, stalls, seed, frame=0):
        self._payload, self._valid, self._ready = (getattr(dut, ports[key]) for key in ("payload", "valid", "ready"))
        self._last = getattr(dut, ports["last"]) if "last" in ports else None
        self._beats, self._stalls, self._random, self._frame = beats, stalls, random.Random(seed), frame
        self._held, self._offer = None, False
        self.cycles, self.differences, self.lasts, self.faults = [], [], [], []

    def idle(self):
        """Takes nothing, and begins with the first expected beat again."""
        self._held, self.cycles, self.differences, self.lasts = None, [], [], []
        self._ready.value = 0

    @property
    def valid(self):
        """Whether the unit offers a beat now."""
        return bool(int(self._valid.value))

    def drive(self):
        """Sets the inputs of a cycle."""
        self._offer = self._random.random() >= self._stalls
        self._ready.value = int(self._offer)

    def sample(self, cycle):
        """Takes and compares the beat that is there, if any; True when one was taken."""
        if not int(self._valid.value):
            if self._held is not None:
                self.faults.append(f"valid falls before beat {len(self.cycles)} was taken, cycle {cycle}")
                self._held = None
            return False
        now = int(self._payload.value), int(self._last.value) if self._last is not None else 0
        if self._held not in (None, now):
            self.faults.append(f"beat {len(self.cycles)} changes before it was taken, cycle {cycle}")
        self._held = None if self._offer else now
        if not self._offer:
            return False
        index = len(self.cycles)
        if index >= len(self._beats):
            self.faults.append(f"a beat too many follows the last one, cycle {cycle}")
        else:
            expected = self._beats[index]
            if expected is not None and now[0] != expected:
                self.differences.append((index, now[0], expected))
            if self._last is not None and now[1] != (index % self._frame == self._frame - 1):
                self.lasts.append((index, now[1]))
        self.cycles.append(cycle)
        return True


async def reset(dut, streams):
    """Starts the clock and holds the reset for a few cycles, with all streams idle; returns at a rising edge."""
    for stream in streams:
        stream.idle()
    if hasattr(dut, "clear"):
        dut.clear.value = 0
    if hasattr(dut, "rst"):
        dut.rst.value = 1
    Clock(dut.clk, _PERIOD_NS, unit="ns").start()
    for _ in range(4):
        await RisingEdge(dut.clk)
    if hasattr(dut, "rst"):
        dut.rst.value = 0


async def step(dut, streams, cycle):
    """One cycle of all streams, from after one rising edge to after the next; True when an output beat was taken."""
    for stream in streams:
        stream.drive()
    await FallingEdge(dut.clk)
    taken = [stream.sample(cycle) for stream in streams]
    await RisingEdge(dut.clk)
    return any(taken)


@cocotb.test()
async def compare(dut):
    """All beats in, all beats out, and nothing after them."""
    job = Job.of_environment()
    options = job.options

    def make(kind, side):
        return {name: kind(dut, entry["ports"], job.integers(name), stalls=entry["stalls"],
                           seed=f"{options['seed']} {name}", frame=entry["frame"])
                for name, entry in options[side].items()}

    sources, sinks = make(Source, "inputs"), make(Sink, "outputs")
    streams = [*sources.values(), *sinks.values()]
    for port, value in options["constants"].items():
        getattr(dut, port).value = value
    await reset(dut, streams)
    cycle = waiting = 0
    faults = []
    while any(len(sink.cycles) < len(job.integers(name)) for name, sink in sinks.items()):
        waiting = 0 if await step(dut, streams, cycle) else waiting + 1
        cycle += 1
        if waiting > options["limit"]:
            place = ", ".join(f"{name} at beat {len(side[name].cycles)} of {len(job.integers(name))}"
                              for side in (sources, sinks) for name in side)
            faults.append(f"no output beat for {options['limit']} cycles: {place}")
            break
    for extra in range(options["drain"]):
        await step(dut, streams, cycle + extra)
    for name, source in sources.items():
        if not faults and len(source.cycles) < len(job.integers(name)):
            faults.append(f"{name} took {len(source.cycles)} beats of {len(job.integers(name))}")
    faults += [f"{name}: {fault}" for name, sink in sinks.items() for fault in sink.faults]
    job.finish({
        "cycles": cycle, "faults": faults,
        "differences": [(name, *difference, sink.cycles[difference[0]]) for name, sink in sinks.items()
                        for difference in sink.differences],
        "lasts": [(name, *last) for name, sink in sinks.items() for last in sink.lasts],
        "transfers": {name: stream.cycles for side in (sources, sinks) for name, stream in side.items()}})
