"""One loop that drives both sides of a stream unit in Amaranth's simulator."""

import random

from amaranth.sim import Simulator

from lutloom.executor import Unit, run


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


def drive_ports(unit, beats, expect, *, in_rates=None, out_rates=None, seed=0, limit=100_000):
    """Send beats into several streams, collect those of several; the same as `drive` by name of the stream.

    Parameters
    ----------
    unit : component
    beats : dict of str to list of int
    expect : dict of str to int
        Output beats to wait for.
    in_rates, out_rates : dict of str to float, optional
        1.0 where a name is not there.
    seed, limit : int

    Returns
    -------
    outputs, cycles : dict of str to list of int
        Payloads; cycles of every transfer of inputs and outputs.
    """
    chance = random.Random(seed)
    in_rates, out_rates = in_rates or {}, out_rates or {}
    outputs, cycles = {name: [] for name in expect}, {name: [] for name in (*beats, *expect)}

    async def bench(ctx):
        offering, cycle = dict.fromkeys(beats, False), 0
        while any(len(outputs[name]) < count for name, count in expect.items()):
            assert cycle < limit, f"after {limit} cycles: {({name: len(at) for name, at in cycles.items()})}"
            for name, words in beats.items():
                sent = len(cycles[name])
                offering[name] = sent < len(words) and (offering[name] or chance.random() < in_rates.get(name, 1.0))
                ctx.set(getattr(unit, name).valid, offering[name])
                if offering[name]:
                    ctx.set(getattr(unit, name).payload.as_value(), words[sent])
            taking = {name: chance.random() < out_rates.get(name, 1.0) for name in expect}
            for name in expect:
                ctx.set(getattr(unit, name).ready, taking[name])
            for name in beats:
                if offering[name] and ctx.get(getattr(unit, name).ready):
                    cycles[name].append(cycle)
                    offering[name] = False
            for name in expect:
                stream = getattr(unit, name)
                if taking[name] and ctx.get(stream.valid):
                    outputs[name].append(ctx.get(stream.payload.as_value()))
                    cycles[name].append(cycle)
            await ctx.tick()
            cycle += 1

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return outputs, cycles


class _Source:
    """Several streams of the executor that never wait."""

    ports = True

    def start(self):
        return self

    def offer(self, beat, port, arrived, left):
        return left[port][-1] + 1 if left[port] else 0

    def accept(self, beat, port, arrived, left):
        return beat


def transfers(unit, inputs, outputs):
    """Cycles of the transfers of a unit by itself, by its schedule, when no side stalls.

    Parameters
    ----------
    unit : component
    inputs, outputs : dict of str to int
        Beats of each stream, in the order of the unit's ports.

    Returns
    -------
    dict of str to list of int
    """
    into = tuple(range(1, 1 + len(inputs)))
    out = tuple(range(1 + len(inputs), 1 + len(inputs) + len(outputs)))
    units = [Unit("source", _Source(), (0,), into), Unit("unit", unit.schedule, into, out)]
    found = run(units, max(inputs.values()), max(outputs.values()), 1)[1:]
    return {name: link[:count] for (name, count), link in zip((inputs | outputs).items(), found, strict=True)}
