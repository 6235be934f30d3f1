"""The executor of schedules: every transfer on every link of a network of units, cycle for cycle what the RTL does.

Interval and latency follow from the transfers, and so does what each buffer holds at most. Units that cannot go on
are a deadlock; its message names the links on which a beat is offered that nobody takes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Unit:
    """A unit of a network of units.

    Parameters
    ----------
    name : str
    schedule : one of ``lutloom.schedule`` or ``lutloom.schedule_branches``
    inputs, outputs : tuple of int
        Numbers of the links at its ports.
    """

    name: str
    schedule: object
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the executor found.

    Parameters
    ----------
    interval_cycles : int, or float where the spacing alternates
    latency_cycles : int
    links : list of list of int
        Cycle of every transfer on every link, by its number, in a run of several frames back to back from cycle 0.
    """

    interval_cycles: int | float
    latency_cycles: int
    links: list


class Deadlock(Exception):
    """Units that cannot go on; the message names the unit that waits."""


def in_a_row(schedules, names=None):
    """Units of a chain: unit k reads link k and writes link k + 1."""
    names = names or [f"unit {index + 1}" for index in range(len(schedules))]
    return [
        Unit(name, schedule, (index,), (index + 1,))
        for index, (name, schedule) in enumerate(zip(names, schedules, strict=True))
    ]


def run(units, beats_in, beats_out, frames, pace=0):
    """Transfers on every link, source always valid (or at a pace), sink always ready.

    Parameters
    ----------
    units : sequence of Unit
        One link has no producer: the source; one has no consumer: the sink.
    beats_in, beats_out : int
        Beats a frame at the source and at the sink.
    frames : int
    pace : int
        Cycles over which the source spreads the beats of a frame.

    Returns
    -------
    list of list of int
        Cycle of every transfer, a list a link.

    Raises
    ------
    Deadlock
    """
    links = [[] for _ in range(1 + max(link for unit in units for link in (*unit.inputs, *unit.outputs)))]
    offers, takes, neighbours = [None] * len(links), [None] * len(links), [set() for _ in links]
    for unit in units:
        going = unit.schedule.start()
        arrived, left = [links[k] for k in unit.inputs], [links[k] for k in unit.outputs]
        for port, link in enumerate(unit.outputs):
            offers[link] = _bound(going.offer, unit, port, arrived, left)
        for port, link in enumerate(unit.inputs):
            takes[link] = _bound(going.accept, unit, port, arrived, left)
        for link in (*unit.inputs, *unit.outputs):
            neighbours[link].update((*unit.inputs, *unit.outputs))
    limits = [None] * len(links)
    source = offers.index(None)
    limits[source] = beats_in * frames
    offers[source] = lambda beat: beat * pace // beats_in
    sink = takes.index(None)
    limits[sink] = beats_out * frames
    _transfer(links, offers, takes, neighbours, limits)
    if len(links[sink]) < limits[sink]:
        raise Deadlock(_stuck(units, links, offers, sink, limits[sink]))
    return links


def _bound(method, unit, port, arrived, left):
    """A unit's offer or accept as a function of the beat alone."""
    if len(arrived) == len(left) == 1 and not hasattr(unit.schedule, "ports"):
        up, down = arrived[0], left[0]
        return lambda beat: method(beat, up, down)
    return lambda beat: method(beat, port, arrived, left)


def _transfer(links, offers, takes, neighbours, limits):
    """Run until no link moves, downstream first: room is made before it is asked for."""
    pending = set(range(len(links)))
    while pending:
        link = max(pending)
        pending.discard(link)
        times, offer, take, limit = links[link], offers[link], takes[link], limits[link]
        before = len(times)
        while limit is None or len(times) < limit:
            beat = len(times)
            offered = offer(beat)
            if offered is None:
                break
            taken = take(beat) if take else 0
            if taken is None:
                break
            times.append(offered if offered > taken else taken)
        if len(times) > before:
            pending |= neighbours[link]
            pending.discard(link)


def _stuck(units, links, offers, sink, limit):
    """What a deadlock looks like: who waits, and which links are full."""
    producers = {link: unit.name for unit in units for link in unit.outputs}
    consumers = {link: unit.name for unit in units for link in unit.inputs}
    full = [
        f"{producers.get(link, 'the input')} → {name}" for link, name in consumers.items()
        if link in producers and offers[link](len(links[link])) is not None
    ]
    fed = [link for link in consumers if links[link]]
    waits = consumers[max(fed)] if fed else units[0].name
    return (
        f"{waits} waits for ever after {len(links[sink])} of {limit} output beats"
        + (f"; full: {', '.join(full)}" if full else "")
    )


def predict(units, beats_in, beats_out, frames=4, most_frames=64):
    """Interval and latency: the definitions of ``report.json``.

    Latency is that of one frame in the idle network of units. The interval is read off where the spacing of last
    output beats repeats: where it alternates, its mean over a period. Frames are added until twice as many show the
    same, for what looks like a period may be part of a longer one. Of intervals beyond LONG two spacings alike suffice.
    """
    read = {link for unit in units for link in unit.inputs}
    written = {link for unit in units for link in unit.outputs}
    (source,), (sink,) = read - written, written - read
    single = run(units, beats_in, beats_out, 1)
    latency = single[sink][-1] - single[source][0]
    before = None
    while True:
        links = run(units, beats_in, beats_out, frames)
        ends = links[sink][beats_out - 1 :: beats_out]
        last = ends[-1] - ends[-2]
        alike = last > LONG and last == ends[-2] - ends[-3]
        interval = last if alike else periodic_interval(ends)
        if alike or (interval is not None and interval == before) or frames >= most_frames:
            if interval is None:
                half = len(ends) // 2
                interval = (ends[-1] - ends[half]) / (len(ends) - 1 - half)
            return Prediction(interval_cycles=interval, latency_cycles=latency, links=links)
        before, frames = interval, min(2 * frames, most_frames)


LONG = 2000  # cycles
LONGEST_PERIOD = 64  # frames


def periodic_interval(ends):
    """Cycles a frame in the regime into which the spacing of frames has settled.

    The first frame ran alone and does not count. The spacings of the second half of what remains must repeat with a
    period of at most 64 frames; where it is more than one frame, the result is the mean over a period.

    Parameters
    ----------
    ends : sequence of int
        Cycle of each frame's last output beat.

    Returns
    -------
    int, float (a mean that is not whole) or None (too few frames, or no period)
    """
    spacings = np.diff(np.asarray(ends, np.int64)[1:])
    tail = spacings[len(spacings) // 2 :]
    for period in range(1, min(LONGEST_PERIOD, len(tail) // 2) + 1):
        if np.array_equal(tail[period:], tail[:-period]):
            mean = tail[:period].mean()
            return int(mean) if mean == int(mean) else float(mean)
    return None


def most_held(arrived, left):
    """Beats that stand between two links at most: a buffer's depth, from the transfers in front of and behind it.

    A place is free again one cycle after its beat left.
    """
    most = gone = 0
    for beat, came in enumerate(arrived):
        while gone < len(left) and left[gone] < came:
            gone += 1
        most = max(most, beat + 1 - gone)
    return most
