"""cocotb: a whole core on its emitted Verilog, with the frames and the expectations of the compiled bench.

Started by ``lutloom.sim.runner``; the options are those of ``bench.cpp``, and so are the records that it leaves.
"""

import time

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from lutloom.sim.cocotb_stream import Sink, Source, reset, step
from lutloom.sim.job import Job


def _ports(prefix):
    return {"payload": f"{prefix}_tdata", "valid": f"{prefix}_tvalid", "ready": f"{prefix}_tready",
            "last": f"{prefix}_tlast"}


@cocotb.test()
async def compare(dut):
    """Frames in, frames out: what differs, when every frame ended, and what rule was broken."""
    job = Job.of_environment()
    options, begun = job.options, time.perf_counter()
    frames, in_beats, out_beats = options["frames"], options["in_beats"], options["out_beats"]
    pool = options["pool"]
    beats = job.integers("beats")
    expected = job.integers("expected")
    expected = [expected[beat % (pool * out_beats)] for beat in range(frames * out_beats)]
    source = Source(dut, _ports("s_axis"), beats, stalls=options["stalls"], seed=f"{options['seed']} in",
                    frame=in_beats)
    sink = Sink(dut, _ports("m_axis"), expected, stalls=options["stalls"], seed=f"{options['seed']} out",
                frame=out_beats)
    streams = [source, sink]
    await reset(dut, streams)
    faults = []
    for count in options["clear_after"]:
        faults += await _interrupt(dut, source, sink, count, options)
    source.limit = in_beats if options["alone"] else frames * in_beats
    cycle = waiting = 0
    while not (faults or sink.faults) and len(sink.cycles) < len(expected):
        waiting = 0 if await step(dut, streams, cycle) else waiting + 1
        cycle += 1
        if cycle & 1023 == 0:
            job.tell(len(sink.cycles) // out_beats)
        if len(sink.cycles) >= out_beats:
            source.limit = float("inf") if options["overrun"] else frames * in_beats
        if int(dut.frame_error.value):
            faults.append(f"frame_error rises though TLAST is right, cycle {cycle}")
        if waiting > options["limit"]:
            faults.append(f"no output beat for {options['limit']} cycles at output {_place(sink, out_beats)} "
                          f"(input at {_place(source, in_beats)}, cycle {cycle})")
    seconds = time.perf_counter() - begun
    received = len(sink.cycles)
    if not (options["overrun"] or faults or sink.faults):
        waiting = 0  # inputs that no output needed are still taken
        while len(source.cycles) < frames * in_beats and waiting <= options["limit"] and not sink.faults:
            before = len(source.cycles)
            await step(dut, streams, cycle)
            waiting = 0 if len(source.cycles) > before else waiting + 1
            cycle += 1
        if len(source.cycles) < frames * in_beats and not sink.faults:
            faults.append(f"the last inputs are not taken, input at {_place(source, in_beats)}")
        for extra in range(options["drain"]):
            await step(dut, streams, cycle + extra)
    _write(job, source, sink, faults + sink.faults, received, seconds)


def _place(stream, beats):
    frame, beat = divmod(len(stream.cycles), beats)
    return f"frame {frame}, beat {beat} of {beats}"


async def _interrupt(dut, source, sink, count, options):
    """Some beats go in, then ``clear``; returns what is not as after a reset."""
    faults, waiting, broken = [], 0, options["break_last"]
    source.limit, source.twist = count, broken
    while len(source.cycles) < count and not faults:
        before = len(source.cycles), len(sink.cycles)
        await step(dut, [source, sink], 0)
        waiting = 0 if (len(source.cycles), len(sink.cycles)) != before else waiting + 1
        if waiting > options["limit"]:
            faults.append(f"no beat for {options['limit']} cycles in front of clear")
    source.idle()
    sink.idle()
    for _ in range(4):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    if broken and not int(dut.frame_error.value):
        faults.append("frame_error stays low though TLAST was wrong on input")
    await RisingEdge(dut.clk)
    dut.clear.value = 1
    await RisingEdge(dut.clk)
    dut.clear.value = 0
    await FallingEdge(dut.clk)
    if sink.valid:
        faults.append("m_axis_tvalid is high after clear")
    if int(dut.frame_error.value):
        faults.append("frame_error is high after clear")
    await RisingEdge(dut.clk)
    source.idle()
    sink.idle()
    source.twist = False
    return faults


def _write(job, source, sink, faults, received, seconds):
    """The records and the file of cycles, as ``bench.cpp`` writes them."""
    options = job.options
    in_beats, out_beats, pool = options["in_beats"], options["out_beats"], options["pool"]
    width, bits = options["width"], options["bits"]
    records = []
    for index, got, expected in sink.differences[:options["reports"]]:
        frame, beat = index // out_beats % pool, index % out_beats
        for value in range(width + 1):
            mask = (1 << bits) - 1 if value < width else -1
            a, b = got >> value * bits & mask, expected >> value * bits & mask
            if a != b:
                records.append(f"value {frame} {beat} {value} {a} {b}")
    for index, got in sink.lasts[:options["reports"]]:
        records.append(f"last {index // out_beats % pool} {index % out_beats} {got}")
    records += [f"fault {fault}" for fault in faults]
    differing = {entry[0] // out_beats for entry in (*sink.differences, *sink.lasts)}
    ends = sink.cycles[out_beats - 1:received:out_beats]
    cycles = ends[-1] + 1 if ends else 0
    records.append(f"done {received // out_beats} {len(differing)} {cycles} {seconds:.6f}")
    inputs = source.cycles[:options["record"] * in_beats]
    outputs = sink.cycles[:options["record"] * out_beats]
    head = [source.cycles[0] if source.cycles else 0, len(ends), len(inputs), len(outputs)]
    np.array([*head, *ends, *inputs, *outputs], np.uint64).tofile(options["cycles"])
    job.finish({"records": records})
