"""Matrix times vector: groups of folds with idle cycles between and within them."""

import numpy as np
import pytest
from amaranth.hdl import signed
from amaranth.sim import Simulator

from lutloom.formats import Format
from lutloom.hw.matvec import MatVec
from lutloom.weights import WeightFormat


@pytest.mark.parametrize("idle", [0.0, 0.5])
def test_groups_and_idle_cycles(idle):
    rng = np.random.default_rng(7)
    lanes, units, folds, groups = 3, 2, 4, 8
    x_format, w_format = Format("uint", 4), WeightFormat.parse("int:3")
    unit = MatVec(lanes=lanes, units=units, x_format=x_format, w_format=w_format, acc_shape=signed(14))
    x = rng.integers(0, 16, (groups, folds, lanes))
    w = rng.integers(0, 8, (groups, folds, units, lanes))
    expected = (x[:, :, None] * w_format.decode(w)).sum((1, 3)).tolist()
    results = []

    async def bench(ctx):
        todo = [(g, f) for g in range(groups) for f in range(folds)]
        for _ in range(2000):
            going = bool(todo) and rng.random() >= idle
            ctx.set(unit.i_valid, going)
            if going:
                group, fold = todo.pop(0)
                ctx.set(unit.i_first, fold == 0)
                ctx.set(unit.i_last, fold == folds - 1)
                for lane in range(lanes):
                    ctx.set(unit.i_x[lane], int(x[group, fold, lane]))
                for index, code in enumerate(w[group, fold].ravel()):
                    ctx.set(unit.i_w[index], int(code))
            else:  # what lies there between folds must not matter
                ctx.set(unit.i_x[0], int(rng.integers(16)))
            if ctx.get(unit.o_valid):
                results.append([ctx.get(unit.o_acc[u]) for u in range(units)])
            if len(results) == groups:
                return
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert results == expected
