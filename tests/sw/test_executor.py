"""The executor on networks of units: forks, joins, buffers, state, deadlocks."""

import pytest

from lutloom.executor import Deadlock, Unit, in_a_row, most_held, predict, run
from lutloom.schedule import Pipe
from lutloom.schedule_branches import Fork, Insert, Select, Store, Turns, Zip


def residual(depth, delay=12):
    """A fork, a way of ``delay`` cycles beside a buffer of ``depth`` beats, and their join."""
    return [
        Unit("fork", Fork(), (0,), (1, 2)),
        Unit("work", Pipe(delay, delay + 2), (1,), (3,)),
        Unit("skip", Pipe(1, depth), (2,), (4,)),
        Unit("add", Zip(delay=2, credits=4), (3, 4), (5,)),
    ]


def test_a_fork_and_a_join_by_hand():
    links = run(residual(10, delay=3), 4, 4, 1)
    assert links[0] == [0, 1, 2, 3]
    assert links[1] == links[2] == [1, 2, 3, 4]
    assert links[3] == [4, 5, 6, 7] and links[4] == [2, 3, 6, 7]  # the join holds two, then waits for the other way
    assert links[5] == [7, 8, 9, 10]


def test_a_buffer_that_is_too_shallow_slows_and_one_that_suffices_does_not():
    enough = predict(residual(64), 16, 16)
    depth = most_held(enough.links[2], enough.links[4])
    assert enough.interval_cycles == predict(residual(depth), 16, 16).interval_cycles == 16
    assert predict(residual(1), 16, 16).interval_cycles > 16


def test_a_join_that_waits_for_a_whole_frame_deadlocks_where_the_other_way_is_short():
    units = [
        Unit("fork", Fork(), (0,), (1, 2)),
        Unit("head", Select((7,), 8), (1,), (3,)),
        Unit("skip", Pipe(1, 1), (2,), (4,)),
        Unit("join", Turns((1, 8)), (3, 4), (5,)),
    ]
    with pytest.raises(Deadlock, match="join waits for ever after 0 of 9 output beats; full: .*fork → skip"):
        run(units, 8, 9, 1)
    deep = [*units[:2], Unit("skip", Pipe(1, 8), (2,), (4,)), units[3]]
    assert len(run(deep, 8, 9, 2)[5]) == 18


def test_select_and_insert_by_hand():
    assert run(in_a_row([Select((1, 2), 4)]), 4, 2, 2)[1] == [2, 3, 6, 7]
    # A constant, two beats, a constant; the constants cost their cycles only.
    assert run(in_a_row([Insert((1, 2), 4)]), 2, 4, 2) == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7]]


def test_a_state_feeds_itself():
    units = [
        Unit("join", Turns((2, 1)), (1, 0), (2,)),
        Unit("fork", Fork(), (2,), (3, 4)),
        Unit("newest", Select((1, 2), 3), (3,), (5,)),
        Unit("state", Store(initial=2, depth=4, delay=2), (5,), (1,)),
    ]
    links = run(units, 1, 3, 5)
    assert len(links[4]) == 15
    assert [link[:2] for link in links[1:2]] == [[0, 1]]


def test_gaps_that_alternate_count_with_their_mean():
    units = in_a_row([Pipe(1, 2), Turn()])
    assert predict(units, 1, 1).interval_cycles == 1.5


class Turn:
    """Offers its beats one cycle and two cycles behind each other, in turn."""

    busy = 0

    def start(self):
        return self

    def offer(self, beat, arrived, left):
        if beat >= len(arrived):
            return None
        return max(arrived[beat] + 1, left[beat - 1] + 1 + beat % 2 if beat else 0)

    def accept(self, beat, arrived, left):
        after = arrived[-1] + 1 if arrived else 0
        return after if not beat else None if beat > len(left) else max(after, left[beat - 1])


def test_a_burst_is_no_period():
    """A bug: eight frames showed spacings of 2 alone, in a rhythm of four frames in 21 cycles."""
    units = [
        Unit("fork", Fork(), (0,), (1, 2)),
        Unit("work", Pipe(17, 17), (1,), (3,)),
        Unit("join", Zip(delay=17, credits=10, gap=2), (2, 3), (4,)),
    ]
    ends = run(units, 1, 1, 41)[4]
    assert predict(units, 1, 1).interval_cycles == (ends[40] - ends[20]) / 20 > 4
