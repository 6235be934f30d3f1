"""What a bench found: differences, faults, cycles, and the interval and latency that follow from them."""

from dataclasses import dataclass, field, replace

import numpy as np

from lutloom.executor import periodic_interval


@dataclass(frozen=True)
class Difference:
    """A value, or a TLAST, that is not as the golden model says.

    Parameters
    ----------
    frame, beat, value : int
        Value of the beat, from the lowest bits; -1 for TLAST.
    got, expected : int
        Codes.
    index : tuple of int or None
        Where the value lies in a frame, as long as the tensor's shape; None for TLAST and for bits that must be zero.
    """

    frame: int
    beat: int
    value: int
    got: int
    expected: int
    index: tuple[int, ...] | None = None

    def __str__(self):
        if self.value < 0:
            return f"frame {self.frame}, beat {self.beat}: TLAST is {self.got}, not {self.expected}"
        what = f"value {list(self.index)}" if self.index is not None else f"unused bits of value {self.value}"
        return f"frame {self.frame}, beat {self.beat}, {what}: got {self.got}, expected {self.expected}"


@dataclass(frozen=True, eq=False)
class BenchResult:
    """What one run of a bench found.

    Parameters
    ----------
    frames : int
        Frames that came out whole.
    differ : int
        Frames in which anything differs.
    cycles : int
        Clock cycles until the last output beat, added over the processes.
    seconds : float
        Of simulation alone, of the slowest process.
    differences : tuple of Difference
        The first ones.
    faults : tuple of str
        Rules of the streams that were broken, and deadlocks; the run ended there.
    first_input : int
        Cycle of the first input beat.
    ends : uint64 array
        Cycle of each frame's last output beat (of the first process).
    input_cycles, output_cycles : uint64 arrays
        Cycle of every transfer of the frames that were to be recorded, in order.
    """

    frames: int
    differ: int
    cycles: int
    seconds: float
    differences: tuple[Difference, ...] = ()
    faults: tuple[str, ...] = ()
    first_input: int = 0
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    input_cycles: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    output_cycles: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def good(self):
        """Whether nothing differs and no rule was broken."""
        return not (self.differ or self.faults)

    @property
    def latency_cycles(self):
        """First input beat to last output beat of the first frame; of meaning when it ran alone and without stalls."""
        return int(self.ends[0]) - self.first_input if len(self.ends) else None

    @property
    def interval_cycles(self):
        """Spacing of last output beats in the periodic regime, or None; of meaning without stalls."""
        return periodic_interval(self.ends)


def parse_records(lines, cycles_path):
    """BenchResult of the compiled bench's records and its file of cycles."""
    differences, faults, done = [], [], None
    for line in lines:
        kind, _, rest = line.strip().partition(" ")
        if kind == "value":
            differences.append(Difference(*map(int, rest.split())))
        elif kind == "last":
            frame, beat, got = map(int, rest.split())
            differences.append(Difference(frame, beat, -1, got, 1 - got))
        elif kind == "fault":
            faults.append(rest)
        elif kind == "done":
            done = rest.split()
    data = np.fromfile(cycles_path, np.uint64)
    first_input, *lengths = (int(number) for number in data[:4])
    ends, inputs, outputs = np.split(data[4:], np.cumsum(lengths)[:2])
    return BenchResult(int(done[0]), int(done[1]), int(done[2]), float(done[3]), tuple(differences), tuple(faults),
                       first_input, ends, inputs, outputs)


def merge(parts, input_layout, output_layout):
    """One result of the processes that shared the frames, with differences by element and signed codes."""
    differences = sorted((difference for part in parts for difference in part.differences),
                         key=lambda difference: (difference.frame, difference.beat))
    bits = output_layout.format.bits

    def code(raw):
        return raw - (1 << bits) if output_layout.format.signed and raw >> (bits - 1) else raw

    def located(difference):
        if difference.value < 0:
            return difference
        index = output_layout.locate(difference.beat, difference.value)
        if index is None:
            return difference
        return replace(difference, index=index, got=code(difference.got), expected=code(difference.expected))

    first = parts[0]
    inputs = input_layout.beats
    recorded = len(first.input_cycles) // inputs * inputs
    return replace(first, frames=sum(part.frames for part in parts), differ=sum(part.differ for part in parts),
                   cycles=sum(part.cycles for part in parts), seconds=max(part.seconds for part in parts),
                   differences=tuple(located(difference) for difference in differences),
                   faults=tuple(fault for part in parts for fault in part.faults),
                   input_cycles=first.input_cycles[:recorded].reshape(-1, inputs),
                   output_cycles=first.output_cycles[:len(first.output_cycles) // output_layout.beats
                                                     * output_layout.beats].reshape(-1, output_layout.beats))
