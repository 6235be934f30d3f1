"""Damaged model files: every one must end in a network or in one clear error, soon and in little memory."""

import resource
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lutloom.check import check
from lutloom.errors import LutloomError
from lutloom.quantize import quantize

SECONDS, BYTES = 10, 2 << 30
"""What one file may take."""


@dataclass
class Fuzzed:
    """What came of a run.

    Parameters
    ----------
    outcomes : Counter
        How many files ended in "network", in "refused", or in something that must not be, which ``problems`` tells.
    problems : list of str
    slowest : float
        Seconds of the slowest file.
    """

    outcomes: Counter = field(default_factory=Counter)
    problems: list = field(default_factory=list)
    slowest: float = 0.0


def mutated(data, random):
    """The bytes of a file with a few bits, bytes or 32-bit numbers changed, a stretch moved, or its end cut off."""
    data = bytearray(data)
    kind = random.integers(6)
    if kind == 0:
        return bytes(data[:random.integers(len(data))])
    for _ in range(random.integers(1, 9)):
        # half of them where the structure is: at the ends, far from the weights in the middle
        at = int(random.integers(len(data)))
        if random.integers(2):
            at = at % 2048 if random.integers(2) else len(data) - 1 - at % 4096
        at = max(0, min(at, len(data) - 4))
        if kind in (1, 2):
            data[at] ^= 1 << random.integers(8)
        elif kind == 3:
            data[at] = random.integers(256)
        elif kind == 4:
            number = random.choice([0, 1, -1, 1 << 31, (1 << 31) - 1, 1 << 16, int(random.integers(1 << 32))])
            data[at:at + 4] = int(number & 0xFFFFFFFF).to_bytes(4, "little")
        else:
            start, size = int(random.integers(len(data))), int(random.integers(1, 64))
            stretch = data[start:start + size]
            data[at:at + len(stretch)] = stretch
    return bytes(data)


def attempt(path):
    """("network" or "refused" or a problem, seconds) of checking, quantising and running one file."""
    begin = time.perf_counter()

    def stop(*_):
        raise TimeoutError(f"took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor, which others may be using too
    signal.alarm(10 * SECONDS)
    try:
        found = check(path)
        network = quantize(path)
        if not found.supported:
            return "check refuses what quantize takes", time.perf_counter() - begin
        tensor = network.tensors[network.input]
        network(np.full((1, *tensor.shape), tensor.low, tensor.format.dtype()))
        outcome = "network"
    except LutloomError as error:
        outcome = "refused" if "\n" not in str(error) else f"an error of several lines: {error}"
    except Exception as error:  # what else there may be is what is looked for
        outcome = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return outcome, time.perf_counter() - begin


def fuzz(models, count, seed=1, progress=None):
    """Mutate each of some model files ``count`` times.

    Returns
    -------
    Fuzzed
    """
    result = Fuzzed()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES if hard == resource.RLIM_INFINITY else min(BYTES, hard), hard))
    try:
        with tempfile.TemporaryDirectory() as folder:
            for model in models:
                data = Path(model).read_bytes()
                path = Path(folder) / f"mutated{Path(model).suffix}"
                for index in range(count):
                    path.write_bytes(mutated(data, np.random.default_rng([seed, index])))
                    outcome, seconds = attempt(path)
                    result.slowest = max(result.slowest, seconds)
                    if outcome in ("network", "refused"):
                        result.outcomes[outcome] += 1
                    else:
                        result.outcomes["problem"] += 1
                        result.problems.append(f"{Path(model).name}, seed {seed}, mutation {index}: {outcome}")
                    if progress is not None:
                        progress(Path(model).name, index + 1, count)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    return result
