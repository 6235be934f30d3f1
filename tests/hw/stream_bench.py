"""One loop that drives both sides of a stream unit in Amaranth's simulator."""

import random

from amaranth.sim import Simulator


def drive(unit, beats, expect, *, in_rate=1.0, out_rate=1.0, seed=0, limit=200_000):
    """Send beats, collect beats.

    Parameters
    ----------
    unit : component with streams i and o
    beats : list of int
        Payloads as integers.
    expect : int
        Output beats to wait for.
    in_rate, out_rate : float
        Probability that the source offers, that the sink takes, in a cycle.
    seed, limit : int
        Of the rates; of cycles.

    Returns
    -------
    outputs : list of int
    in_cycles, out_cycles : list of int
        Of every transfer.
    """
    chance = random.Random(seed)
    outputs, in_cycles, out_cycles = [], [], []

    async def bench(ctx):
        sent, offering, cycle = 0, False, 0
        while len(outputs) < expect:
            assert cycle < limit, (
                f"after {limit} cycles {sent} of {len(beats)} beats were taken and {len(outputs)} of {expect} given "
                f"(rates {in_rate}, {out_rate}, seed {seed})"
            )
            offering = sent < len(beats) and (offering or chance.random() < in_rate)
            ctx.set(unit.i.valid, offering)
            if offering:
                ctx.set(unit.i.payload.as_value(), beats[sent])
            taking = chance.random() < out_rate
            ctx.set(unit.o.ready, taking)
            if offering and ctx.get(unit.i.ready):
                in_cycles.append(cycle)
                sent, offering = sent + 1, False
            if taking and ctx.get(unit.o.valid):
                outputs.append(ctx.get(unit.o.payload.as_value()))
                out_cycles.append(cycle)
            await ctx.tick()
            cycle += 1

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return outputs, in_cycles, out_cycles
