"""One random network the whole way: Verilog, simulation with and without stalls, prediction against count."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lutloom.emit import write_rtl
from lutloom.errors import LutloomError, ModelError
from lutloom.manifest import read_weights
from lutloom.network import Conv, Dense, Multiply
from lutloom.passes.verify import verify
from lutloom.passes.widen import KNOWN, MOVING, widen
from lutloom.sim.random_branches import random_branches
from lutloom.sim.random_network import random_inputs, random_network, random_plan
from lutloom.simulate import simulate

FAMILIES = ("generic", "ecp5", "ice40")


@dataclass(frozen=True)
class Check:
    """What became of one network.

    Parameters
    ----------
    seed : int
    layers : str
    frames : int
        Compared, with and without stalls.
    differ : int
    predicted, counted : (interval, latency) in cycles
    problem : str
        Empty if all is well.
    """

    seed: int
    layers: str
    frames: int
    differ: int
    predicted: tuple
    counted: tuple
    problem: str


def check(seed, folder, frames=6, stalls=0.4, branches=False):
    """Build and simulate the random network of a seed.

    Parameters
    ----------
    seed : int
        Also chooses the family whose memory latencies the plan has, and every fourth plan is patchable.
    folder : Path
        Where its build folder is made.
    frames : int
    stalls : float
    branches : bool
        A network of `random_branches` instead of a chain.

    Returns
    -------
    Check
    """
    network = verify(random_branches(seed) if branches else random_network(seed))
    able = all(isinstance(layer, MOVING | KNOWN) and not isinstance(layer, Multiply) for layer in network.layers)
    patchable = able and seed % 4 == 0
    if patchable:
        try:
            network = verify(widen(network))
        except ModelError:  # a bias that no patchable build holds
            patchable = False
    plan = random_plan(network, seed, FAMILIES[seed % 3], patchable)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _, _, _, prediction = write_rtl(network, plan, folder)
    network.save(folder / "network.npz")
    x = random_inputs(network, frames, seed)
    weights = read_weights(folder)
    lost = [layer.name for layer in network.layers if isinstance(layer, Conv | Dense)
            and not np.array_equal(weights[layer.name], layer.weights.codes)]
    layers = " ".join(type(layer).__name__ for layer in network.layers)
    predicted = prediction.interval_cycles, prediction.latency_cycles
    try:
        # One process: with state, frames are a stream.
        steady = simulate(folder, x, count=frames, jobs=1)
        stalled = simulate(folder, x, count=frames, jobs=1, stalls=stalls, seed=seed)
    except LutloomError as error:
        return Check(seed, layers, 0, 0, predicted, (0, 0), str(error))
    counted = steady.interval_cycles, steady.latency_cycles
    differ = steady.differ + stalled.differ
    problem = ""
    if lost:
        problem = f"weights are not those of the ROM images in {', '.join(lost)}"
    elif differ:
        problem = str(steady.first_difference or stalled.first_difference)
    elif counted != predicted:
        problem = f"predicted interval and latency {predicted}, counted {counted}"
    return Check(seed, layers, steady.frames + stalled.frames, differ, predicted, counted, problem)
