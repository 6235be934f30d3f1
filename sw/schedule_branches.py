"""Schedules of units with several ports: forks, joins, and state; and of buffers and filters of a stream.

As in ``lutloom.schedule``, but offer and accept take the port too, and lists of links: ``arrived[port]`` and
``left[port]`` are the transfers at a unit's inputs and outputs.
"""

from dataclasses import dataclass


def _next(times):
    """The first cycle in which a link can be used again."""
    return times[-1] + 1 if times else 0


@dataclass(frozen=True)
class Fork:
    """Each beat to every output, offered there one cycle after it came; each output holds ``depth`` beats."""

    depth: int = 2

    busy = 0
    ports = True

    def start(self):
        """A fresh run of this schedule."""
        return _ForkRun(self)


class _ForkRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, port, arrived, left):
        if beat >= len(arrived[0]):
            return None
        return max(arrived[0][beat] + 1, _next(left[port]))

    def accept(self, beat, port, arrived, left):
        after = _next(arrived[0])
        waits = beat - self.s.depth
        for times in left if waits >= 0 else ():
            if waits >= len(times):
                return None
            after = max(after, times[waits] + 1)
        return after


@dataclass(frozen=True)
class Zip:
    """A beat of every input at once makes one beat out, ``delay`` cycles later; at most ``credits`` on the way, and
    ``gap`` cycles between the beats that meet.

    Each input holds ``depth`` beats, seen one cycle after they came.
    """

    delay: int
    credits: int
    depth: int = 2
    gap: int = 1

    busy = 0
    ports = True

    def start(self):
        """A fresh run of this schedule."""
        return _ZipRun(self)


class _ZipRun:
    def __init__(self, schedule):
        self.s = schedule
        self.taken = []  # the cycle in which beats of all inputs met

    def _advance(self, arrived, left):
        while all(len(self.taken) < len(times) for times in arrived):
            beat = len(self.taken)
            waits = beat - self.s.credits
            if waits >= len(left[0]):
                return
            when = max(self.taken[-1] + self.s.gap if beat else 0, *(times[beat] + 1 for times in arrived))
            self.taken.append(max(when, left[0][waits] + 1) if waits >= 0 else when)

    def offer(self, beat, port, arrived, left):
        self._advance(arrived, left)
        if beat >= len(self.taken):
            return None
        return max(self.taken[beat] + self.s.delay, _next(left[0]))

    def accept(self, beat, port, arrived, left):
        after = _next(arrived[port])
        waits = beat - self.s.depth
        if waits < 0:
            return after
        if waits >= len(self.taken):
            self._advance(arrived, left)
            if waits >= len(self.taken):
                return None
        return max(after, self.taken[waits] + 1)


@dataclass(frozen=True)
class Turns:
    """Beats of several inputs in turn: ``beats[i]`` of input i, again and again.

    Each input holds ``depth`` beats, seen one cycle after they came; a beat goes out in the cycle in which it is seen
    at the earliest.
    """

    beats: tuple[int, ...]
    depth: int = 2

    busy = 0
    ports = True

    def start(self):
        """A fresh run of this schedule."""
        return _TurnsRun(self)


class _TurnsRun:
    def __init__(self, schedule):
        self.s = schedule
        self.starts = [sum(schedule.beats[:port]) for port in range(len(schedule.beats))]
        self.turn = sum(schedule.beats)
        self.of = [(port, k) for port, count in enumerate(schedule.beats) for k in range(count)]

    def offer(self, beat, port, arrived, left):
        turn, place = divmod(beat, self.turn)
        source, index = self.of[place]
        index += turn * self.s.beats[source]
        if index >= len(arrived[source]):
            return None
        return max(arrived[source][index] + 1, _next(left[0]))

    def accept(self, beat, port, arrived, left):
        after = _next(arrived[port])
        waits = beat - self.s.depth
        if waits < 0:
            return after
        turn, place = divmod(waits, self.s.beats[port])
        out = turn * self.turn + self.starts[port] + place
        return None if out >= len(left[0]) else max(after, left[0][out] + 1)


@dataclass(frozen=True, eq=False)
class Select:
    """Keeps some beats of a frame and drops the others: ``kept`` are their places, ascending, of ``beats`` a frame.

    A beat that is kept is offered one cycle after it came; ``depth`` kept beats are held, and a dropped one is taken
    while there is room.
    """

    kept: tuple[int, ...]
    beats: int
    depth: int = 2

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _SelectRun(self)


class _SelectRun:
    def __init__(self, schedule):
        self.s = schedule
        before, count = [], 0  # kept beats in front of each place
        kept = set(schedule.kept)
        for place in range(schedule.beats):
            before.append(count)
            count += place in kept
        self.before, self.count = before, count

    def offer(self, beat, arrived, left):
        frame, index = divmod(beat, self.count)
        place = frame * self.s.beats + self.s.kept[index]
        if place >= len(arrived):
            return None
        return max(arrived[place] + 1, _next(left))

    def accept(self, beat, arrived, left):
        after = _next(arrived)
        frame, place = divmod(beat, self.s.beats)
        waits = frame * self.count + self.before[place] - self.s.depth
        if waits < 0:
            return after
        return None if waits >= len(left) else max(after, left[waits] + 1)


@dataclass(frozen=True)
class Insert:
    """Constant beats among those of the input: a frame of ``beats`` out, of which ``own`` places come from the input.

    The constants are offered as soon as the place before has gone; a beat of the input one cycle after it came, of
    which ``depth`` are held. ``own`` ascends.
    """

    own: tuple[int, ...]
    beats: int
    depth: int = 2

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _InsertRun(self)


class _InsertRun:
    def __init__(self, schedule):
        self.s = schedule
        self.index = {place: index for index, place in enumerate(schedule.own)}

    def offer(self, beat, arrived, left):
        frame, place = divmod(beat, self.s.beats)
        index = self.index.get(place)
        if index is None:
            return _next(left)
        index += frame * len(self.s.own)
        return None if index >= len(arrived) else max(arrived[index] + 1, _next(left))

    def accept(self, beat, arrived, left):
        after = _next(arrived)
        waits = beat - self.s.depth
        if waits < 0:
            return after
        frame, index = divmod(waits, len(self.s.own))
        out = frame * self.s.beats + self.s.own[index]
        return None if out >= len(left) else max(after, left[out] + 1)


@dataclass(frozen=True)
class Store:
    """A state: the first ``initial`` beats out are constants, then beats come out that went in, ``delay`` later.

    Of those that went in, ``depth`` are held.
    """

    initial: int
    depth: int
    delay: int

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _StoreRun(self)


class _StoreRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, arrived, left):
        index = beat - self.s.initial
        if index < 0:
            return _next(left)
        return None if index >= len(arrived) else max(arrived[index] + self.s.delay, _next(left))

    def accept(self, beat, arrived, left):
        after = _next(arrived)
        out = beat - self.s.depth + self.s.initial
        if beat < self.s.depth:
            return after
        return None if out >= len(left) else max(after, left[out] + 1)


@dataclass(frozen=True)
class Reorder:
    """Frames of ``beats`` in another order, ``beats_out`` each: offered from ``delay`` cycles after the last came on.

    Two frames are held; a frame's place is free again one cycle after its last beat left.
    """

    beats: int
    beats_out: int
    delay: int

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _ReorderRun(self)


class _ReorderRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, arrived, left):
        last = (beat // self.s.beats_out + 1) * self.s.beats - 1
        return None if last >= len(arrived) else max(arrived[last] + self.s.delay, _next(left))

    def accept(self, beat, arrived, left):
        after = _next(arrived)
        waits = (beat // self.s.beats - 1) * self.s.beats_out - 1
        if waits < 0:
            return after
        return None if waits >= len(left) else max(after, left[waits] + 1)


@dataclass(frozen=True)
class Always:
    """Constants: a beat whenever it is taken."""

    busy = 0
    ports = True

    def start(self):
        """A fresh run of this schedule."""
        return self

    def offer(self, beat, port, arrived, left):
        """Offers are never late."""
        return _next(left[0])
