"""Schedules: when units with one input and one output take beats in and give beats out, as data.

A stream link carries beats 0, 1, 2 …; beat k is transferred in cycle t[k], the first in which the producer offers it
and the consumer takes it. Each unit's schedule says, from the transfers on its two links, from which cycle on it
offers its next output beat and from which cycle on it takes its next input beat; ``lutloom.executor`` finds every
transfer from these. Units with more ports stand in ``lutloom.schedule_branches``.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Windowed:
    """A stage with an input buffer: groups of folds launched when their input is there and the output has room.

    All counts are per frame and repeat with it. Group g takes ``cost`` cycles, or ``costs[g]``, one fold each, and
    starts no earlier than one cycle after (1) the last fold of the group before, (2) input word ``need[g] - 1`` came in
    (``hold`` cycles after that), (3) the output buffer has room for ``room`` beats. Its ``emits[g]`` beats are offered
    ``delay`` cycles after its last fold and every ``gap`` cycles behind that. When its last fold has gone, the first
    ``frees[g]`` words of the frame have room again.

    Parameters
    ----------
    words : int
        Input words a frame.
    cost : int
        Of the shortest group, where they differ.
    need, emits, frees : int64 arrays (groups,)
    capacity : int
        Input words held.
    credits : int
        Output beats held.
    room : int
        Credits that a group must find.
    delay : int
    gap : int
    free_delay : int
        Cycles from the last fold to the first cycle in which the freed words can be written.
    hold : int
    costs : int64 array (groups,), optional
        Where groups differ.
    """

    words: int
    cost: int
    need: np.ndarray
    emits: np.ndarray
    frees: np.ndarray
    capacity: int
    credits: int
    room: int
    delay: int
    gap: int = 1
    free_delay: int = 2
    hold: int = 1
    costs: np.ndarray | None = None

    @property
    def busy(self):
        """Cycles a frame in which the stage's arithmetic works."""
        return self.cost * len(self.need) if self.costs is None else int(self.costs.sum())

    @property
    def beats_out(self):
        """Output beats a frame."""
        return int(self.emits.sum())

    def start(self):
        """A fresh run of this schedule."""
        return _WindowedRun(self)


class _WindowedRun:
    def __init__(self, schedule):
        self.s = schedule
        self.need = schedule.need.tolist()
        self.emits = schedule.emits.tolist()
        self.frees = schedule.frees.tolist()
        self.costs = [schedule.cost] * len(self.need) if schedule.costs is None else schedule.costs.tolist()
        self.frame = 0
        self.group = 0
        self.last_fold = -1
        self.launched = 0  # output beats of the groups launched
        self.offers = []  # earliest cycle of every output beat
        self.freed = []  # (words freed since the start, cycle from which on they can be written)
        self.freed_at = 0
        self.freed_total = 0

    def advance(self, arrived, left):
        """Launch every group whose conditions are known; whether there was one."""
        s = self.s
        moved = False
        while True:
            need = self.frame * s.words + self.need[self.group]
            if need > len(arrived):
                return moved
            begin = self.last_fold + 1
            if need:
                begin = max(begin, arrived[need - 1] + s.hold)
            waits = self.launched + s.room - s.credits
            if waits > len(left):
                return moved
            if waits > 0:
                begin = max(begin, left[waits - 1] + 1)
            self.last_fold = begin + self.costs[self.group] - 1
            first = self.last_fold + s.delay
            emits = self.emits[self.group]
            self.offers.extend(range(first, first + emits * s.gap, s.gap))
            self.launched += emits
            total = self.frame * s.words + self.frees[self.group]
            if total > self.freed_total:
                self.freed_total = total
                self.freed.append((total, self.last_fold + s.free_delay))
            self.group += 1
            if self.group == len(self.need):
                self.group = 0
                self.frame += 1
            moved = True

    def offer(self, beat, arrived, left):
        if beat >= len(self.offers):
            self.advance(arrived, left)
            if beat >= len(self.offers):
                return None
        return max(self.offers[beat], left[beat - 1] + 1 if beat else 0)

    def accept(self, word, arrived, left):
        after = arrived[word - 1] + 1 if word else 0
        wanted = word + 1 - self.s.capacity
        if wanted <= 0:
            return after
        if self.freed_total < wanted:
            self.advance(arrived, left)
            if self.freed_total < wanted:
                return None
        while self.freed[self.freed_at][0] < wanted:
            self.freed_at += 1
        return max(after, self.freed[self.freed_at][1])


@dataclass(frozen=True)
class Pipe:
    """One beat out for each beat in, ``delay`` cycles later at the earliest, at most ``credits`` between; beats are
    taken ``gap`` cycles apart at the least."""

    delay: int
    credits: int
    gap: int = 1

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _PipeRun(self)


class _PipeRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, arrived, left):
        if beat >= len(arrived):
            return None
        return max(arrived[beat] + self.s.delay, left[beat - 1] + 1 if beat else 0)

    def accept(self, beat, arrived, left):
        after = arrived[beat - 1] + self.s.gap if beat else 0
        waits = beat + 1 - self.s.credits
        if waits <= 0:
            return after
        return None if waits > len(left) else max(after, left[waits - 1] + 1)


@dataclass(frozen=True)
class Fold:
    """Each beat of the last of ``pixels`` pixels, of ``words`` beats each, makes one beat out, ``delay`` cycles later
    at the earliest, at most ``credits`` between; after such a beat the next is taken ``gap`` cycles later at the least.
    With every credit taken no beat is taken at all."""

    words: int
    pixels: int
    delay: int
    credits: int
    gap: int = 1

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _FoldRun(self)


class _FoldRun:
    def __init__(self, schedule):
        self.s = schedule
        self.frame_beats = schedule.words * schedule.pixels

    def _given(self, beats):
        """Output beats that the first so many input beats make."""
        frames, rest = divmod(beats, self.frame_beats)
        return frames * self.s.words + max(0, rest - self.frame_beats + self.s.words)

    def offer(self, beat, arrived, left):
        frame, word = divmod(beat, self.s.words)
        source = (frame + 1) * self.frame_beats - self.s.words + word
        if source >= len(arrived):
            return None
        return max(arrived[source] + self.s.delay, left[beat - 1] + 1 if beat else 0)

    def accept(self, beat, arrived, left):
        after = 0
        if beat:
            makes = self._given(beat) > self._given(beat - 1)
            after = arrived[beat - 1] + (self.s.gap if makes else 1)
        waits = self._given(beat) + 1 - self.s.credits
        if waits <= 0:
            return after
        return None if waits > len(left) else max(after, left[waits - 1] + 1)


@dataclass(frozen=True)
class Gather:
    """``ratio`` beats of a pixel into one word, offered one cycle after its last beat came."""

    ratio: int
    pixel_beats: int

    busy = 0

    @property
    def pixel_words(self):
        """Words a pixel that go out."""
        return -(-self.pixel_beats // self.ratio)

    def start(self):
        """A fresh run of this schedule."""
        return _GatherRun(self)


class _GatherRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, word, arrived, left):
        pixel, index = divmod(word, self.s.pixel_words)
        last = pixel * self.s.pixel_beats + min((index + 1) * self.s.ratio, self.s.pixel_beats) - 1
        if last >= len(arrived):
            return None
        return max(arrived[last] + 1, left[word - 1] + 1 if word else 0)

    def accept(self, beat, arrived, left):
        after = arrived[beat - 1] + 1 if beat else 0
        pixel, index = divmod(beat, self.s.pixel_beats)
        word, part = divmod(index, self.s.ratio)
        if part != self.s.ratio - 1 and index != self.s.pixel_beats - 1:
            return after
        word += pixel * self.s.pixel_words
        if word == 0:
            return after
        return None if word > len(left) else max(after, left[word - 1] + 1)


@dataclass(frozen=True)
class Scatter:
    """One word into ``ratio`` beats, the first offered one cycle after it came; ``depth`` words are held."""

    ratio: int
    pixel_beats: int
    depth: int

    busy = 0

    @property
    def pixel_words(self):
        """Words a pixel that come in."""
        return -(-self.pixel_beats // self.ratio)

    def start(self):
        """A fresh run of this schedule."""
        return _ScatterRun(self)


class _ScatterRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, arrived, left):
        pixel, index = divmod(beat, self.s.pixel_beats)
        word = pixel * self.s.pixel_words + index // self.s.ratio
        if word >= len(arrived):
            return None
        return max(arrived[word] + 1, left[beat - 1] + 1 if beat else 0)

    def accept(self, word, arrived, left):
        after = arrived[word - 1] + 1 if word else 0
        before = word - self.s.depth
        if before < 0:
            return after
        pixel, index = divmod(before, self.s.pixel_words)
        last = pixel * self.s.pixel_beats + min((index + 1) * self.s.ratio, self.s.pixel_beats) - 1
        return None if last >= len(left) else max(after, left[last] + 1)


@dataclass(frozen=True)
class Reduce:
    """``beats_in`` beats a frame are taken, then ``beats_out`` offered, the first ``delay`` cycles after the last came.

    Each other is offered ``gap`` cycles after the one before has gone. The next frame's first beat is taken one cycle
    after the last output beat has gone.
    """

    beats_in: int
    beats_out: int
    delay: int
    gap: int = 1

    busy = 0

    def start(self):
        """A fresh run of this schedule."""
        return _ReduceRun(self)


class _ReduceRun:
    def __init__(self, schedule):
        self.s = schedule

    def offer(self, beat, arrived, left):
        frame, index = divmod(beat, self.s.beats_out)
        last = (frame + 1) * self.s.beats_in - 1
        if last >= len(arrived):
            return None
        if index:
            return left[beat - 1] + self.s.gap
        return arrived[last] + self.s.delay

    def accept(self, beat, arrived, left):
        frame, index = divmod(beat, self.s.beats_in)
        if index or not frame:
            return arrived[beat - 1] + 1 if beat else 0
        last = frame * self.s.beats_out - 1
        return None if last >= len(left) else left[last] + 1
