"""Schedules of chains: links, intervals, deadlocks."""

import numpy as np
import pytest

from lutloom.executor import Deadlock, in_a_row
from lutloom.executor import predict as predict_units
from lutloom.executor import run as run_units
from lutloom.schedule import Gather, Pipe, Reduce, Scatter, Windowed


def run(schedules, *counts, names=None):
    """Links of a chain."""
    return run_units(in_a_row(schedules, names), *counts)


def predict(schedules, *counts):
    """Interval and latency of a chain."""
    return predict_units(in_a_row(schedules), *counts)


def windowed(groups=4, cost=3, words=4, credits=2, capacity=8, delay=5):
    """A stage that reads a word a group and gives a beat each."""
    need = np.arange(1, groups + 1)
    return Windowed(words=words, cost=cost, need=need, emits=np.ones(groups, int), frees=need, capacity=capacity,
                    credits=credits, room=1, delay=delay)


def test_a_stage_by_hand():
    links = run([windowed()], 4, 4, 1)
    assert links[0] == [0, 1, 2, 3]
    # Launched at 1 and 4; then a credit is missing until the first beat has left: at 9 and 12. Beats 3 - 1 + 5 later.
    assert links[1] == [8, 11, 16, 19]


def test_credits_that_suffice_keep_it_busy():
    assert predict([windowed(credits=3)], 4, 4).interval_cycles == 12
    assert predict([windowed(credits=1)], 4, 4).interval_cycles > 12


def test_capacity_holds_the_input_back():
    links = run([windowed(capacity=1)], 4, 4, 1)
    assert links[0][1] == links[0][0] + 1 + 3 - 1 + 2  # arrives, three folds, two cycles until it may be overwritten


def test_pipe_gather_scatter_reduce():
    assert run([Pipe(delay=2, credits=3)], 3, 3, 1)[1] == [2, 3, 4]
    assert run([Gather(ratio=2, pixel_beats=3)], 3, 2, 1)[1] == [2, 4]  # a short word waits for the one before
    assert run([Scatter(ratio=2, pixel_beats=3, depth=2)], 2, 3, 1)[1] == [1, 2, 3]
    links = run([Reduce(beats_in=3, beats_out=2, delay=1)], 3, 2, 2)
    assert links == [[0, 1, 2, 5, 6, 7], [3, 4, 8, 9]]


def test_a_chain_runs_at_its_slowest_stage():
    slow, fast = windowed(cost=7, credits=3), windowed(cost=2, credits=6)
    for chain in ([slow, fast], [fast, slow], [fast, slow, fast]):
        assert predict(chain, 4, 4).interval_cycles == 28


def test_a_deadlock_names_the_unit():
    stuck = windowed(capacity=2)
    stuck = Windowed(**{**stuck.__dict__, "need": np.full(4, 4)})  # needs four words but holds two
    with pytest.raises(Deadlock, match="second waits for ever after 0 of 4 output beats"):
        run([Pipe(delay=1, credits=2), stuck], 4, 4, 1, names=["first", "second"])
