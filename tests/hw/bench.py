"""One bench loop for units in Amaranth's simulator: it drives and watches every port from one coroutine."""

import numpy as np
from amaranth.hdl import Module, Signal, Value
from amaranth.sim import Simulator


def packed(codes, bits):
    """Rows of integers (cycles, n) as one word a row, number 0 in the lowest bits."""
    mask = (1 << bits) - 1
    rows = np.asarray(codes).tolist()
    return [sum((int(code) & mask) << place * bits for place, code in enumerate(row)) for row in rows]


def play(unit, drive, watch):
    """Drive input ports and watch output ports, cycle by cycle.

    Parameters
    ----------
    unit : Component
    drive : dict of port name to list of int
        A word a cycle, all of the same length.
    watch : sequence of port names

    Returns
    -------
    dict of port name to list of int
        Raw words, before the clock edge of each cycle.
    """
    seen = {name: [] for name in watch}
    cycles = len(next(iter(drive.values())))

    async def bench(ctx):
        ins = [(Value.cast(getattr(unit, name)), words) for name, words in drive.items()]
        outs = [(Value.cast(getattr(unit, name)), seen[name]) for name in watch]
        for cycle in range(cycles):
            for port, words in ins:
                ctx.set(port, words[cycle])
            for port, words in outs:
                words.append(ctx.get(port))
            await ctx.tick()

    top = Module()
    top.submodules.unit = unit
    top.d.sync += Signal().eq(0)  # there is a clock, also around a unit without registers
    simulator = Simulator(top)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def differences(got, expected, delay):
    """Where a unit's results differ from its model's: list of (index, got, expected)."""
    return [(n, got[n + delay], want) for n, want in enumerate(expected) if got[n + delay] != want]


def check_dot(unit, x, w, valid=None):
    """Differences between a dot product and its model, for codes x, w, valid (cycles, lanes), back to back."""
    drive = {"i_x": packed(x, unit.x_format.bits), "i_w": packed(w, unit.w_format.bits)}
    if valid is not None:
        drive["i_valid"] = packed(valid, 1)
    for words in drive.values():
        words.extend([0] * (unit.delay + 1))
    return differences(play(unit, drive, ["o"])["o"], unit.model(x, w, valid).tolist(), unit.delay)


def dot_vectors(unit, seed, count=40):
    """Codes for a dot product: corners in all lanes first (extremes, zero), then corners by lane, then random."""
    rng = np.random.default_rng(seed)
    form, w_form, lanes = unit.x_format, unit.w_format, unit.lanes
    x_corners = [form.code_low, form.code_high, 0, form.code_high & 1]
    w_corners = list(w_form.encode(w_form.levels[[0, len(w_form.levels) // 2, -1]]))
    w_corners += [(1 << w_form.bits) - 1, 1 << (w_form.bits - 1)]  # of a bit mask, the last one is -0
    pairs = [(x, w) for x in x_corners for w in w_corners]
    x = [np.full(lanes, a) for a, _ in pairs] + [rng.choice(x_corners, lanes) for _ in range(8)]
    w = [np.full(lanes, b) for _, b in pairs] + [rng.choice(w_corners, lanes) for _ in range(8)]
    x += list(rng.integers(form.code_low, form.code_high + 1, (count, lanes)))
    w += list(rng.integers(0, 1 << w_form.bits, (count, lanes)))
    return np.array(x, dtype=np.int64), np.array(w, dtype=np.int64)


def check_beats(unit, acc, beats, gaps=0.0, seed=0):
    """Differences between a requantiser and its model, at the cycles where its delay says that results are.

    Parameters
    ----------
    unit : component with i_valid, i_acc, i_beat, o_valid, o, delay, model
    acc : integer array (n, lanes)
    beats : sequence of n int
    gaps : float
        Share of idle cycles in between.

    Returns
    -------
    list of (index, got, expected); a valid bit at a wrong place is index None
    """
    rng = np.random.default_rng(seed)
    bits, out_bits = Value.cast(unit.i_acc[0]).shape().width, Value.cast(unit.o[0]).shape().width
    words, expected = packed(acc, bits), []
    drive = {"i_valid": [], "i_acc": [], "i_beat": []}
    apart = getattr(unit, "steps", 1)
    for n, word in enumerate(words):
        waits = apart - 1 if n else 0
        while waits or rng.random() < gaps:
            waits = max(0, waits - 1)
            for name, junk in (("i_valid", 0), ("i_acc", int(rng.integers(0, 2))), ("i_beat", 0)):
                drive[name].append(junk)
        expected.append((len(drive["i_valid"]), packed([unit.model(acc[n], beats[n])], out_bits)[0]))
        for name, value in (("i_valid", 1), ("i_acc", word), ("i_beat", int(beats[n]))):
            drive[name].append(value)
    for name in drive:
        drive[name].extend([0] * (unit.delay + 2))
    seen = play(unit, drive, ["o_valid", "o"])
    at = [cycle + unit.delay for cycle, _ in expected]
    wrong = [(None, cycle, valid) for cycle, valid in enumerate(seen["o_valid"]) if valid != (cycle in at)]
    return wrong + [(n, seen["o"][at[n]], want) for n, (_, want) in enumerate(expected) if seen["o"][at[n]] != want]
