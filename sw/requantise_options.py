"""The ways to requantise behind a stage: in how many steps, where the numbers lie, and what each costs."""

from dataclasses import dataclass

from lutloom import cost as costs
from lutloom.hw.multiply_steps import reads_of
from lutloom.hw.requantise import same_everywhere
from lutloom.network import Multiply, Table, Thresholds
from lutloom.plan import STEPS_IN_LUTS

MOST_STEPS = 16  # more save next to nothing
FACTOR_BITS = 31
WORDS_IN_LUTS = 256  # numbers of a requantiser, beyond which they lie in block RAM


@dataclass(frozen=True)
class Site:
    """What stages are planned for.

    Parameters
    ----------
    family : str
    latency : int
        Of memories.
    patchable : bool
    """

    family: str
    latency: int
    patchable: bool


@dataclass(frozen=True)
class Way:
    """One way to requantise: steps of a multiplication, place of the numbers, and resources."""

    steps: int
    place: str
    lut4: int
    ebr: int
    dsp: int


def requantise_ways(network, group, lanes, most_steps, dsp, site):
    """The ways to requantise a stage's results.

    Parameters
    ----------
    network : Network
    group : lutloom.plan.Group
    lanes : int
        Values a beat.
    most_steps : int
        Cycles from a beat to the next one.
    dsp : bool
        The stage uses DSP blocks.
    site : Site

    Returns
    -------
    list of Way
    """
    layer = group.requantise
    if layer is None:
        return [Way(1, "lut", 0, 0, 0)]
    beats = 1 if _alike(layer) and not site.patchable else -(-group.channels_out // lanes)
    acc = network.tensors[layer.input].format.bits
    if isinstance(layer, Multiply):
        return _multiply_ways(acc, lanes, beats, min(most_steps, MOST_STEPS), dsp, site)
    if isinstance(layer, Thresholds):
        return [_thresholds(layer, acc, group.output.format.bits, lanes, beats, site)]
    if isinstance(layer, Table):
        words, bits = 2**group.input.format.bits, group.output.format.bits
        return [Way(1, "ebr", 30, lanes * costs.rom_blocks(bits, words, site.family, site.latency), 0)]
    place = "ebr" if site.patchable or 2 * beats > WORDS_IN_LUTS else "lut"
    bits = acc + 4
    ebr = costs.rom_blocks(bits * lanes, beats, site.family, site.latency) if place == "ebr" else 0
    return [Way(1, place, int(lanes * (acc * 3 + (0 if place == "ebr" else beats * bits / 12))), ebr, 0)]


def multiply_luts(acc_bits, steps, dsp, family):
    """(LUT4s, DSPs) of one lane of a multiplication by 31 bits with two roundings.

    Fitted to what ``scripts/unit_area --only Multiply`` measures.
    """
    digit = -(-FACTOR_BITS // steps)
    fixed = 100 + 6 * acc_bits
    if dsp:
        return fixed + 30, -(-acc_bits // 16) * -(-digit // 16)
    return int(fixed + digit * (acc_bits + 2) * (1.03 if family == "ecp5" else 1.94 * costs.PACKING)), 0


def _multiply_ways(acc, lanes, beats, most_steps, dsp, site):
    """Pipelined, and with as many steps as there is time for; the numbers in block RAM or in LUTs."""
    ways = []
    for steps in {1, max(1, most_steps)}:
        on_dsp = dsp and steps < STEPS_IN_LUTS
        lut4, blocks = multiply_luts(acc, steps, on_dsp, site.family)
        bits = FACTOR_BITS + acc + 4 + (FACTOR_BITS if steps == 1 else 0)
        for place in ("ebr", "lut"):
            if place == "lut" and (site.patchable or beats > WORDS_IN_LUTS // 2):
                continue
            if place == "ebr" and beats == 1 and not site.patchable:
                continue
            ebr, table = 0, 0
            if place == "ebr":
                reads = 1 if steps == 1 else reads_of(bits * lanes, steps, site.latency)
                ebr = costs.rom_blocks(-(-bits * lanes // reads), beats * reads, site.family, site.latency)
            else:
                table = beats * lanes * bits / 8.5 if beats > 1 else 0
            ways.append(Way(steps, place, int(lut4 * lanes + table), ebr, blocks * lanes))
    return ways


def _thresholds(layer, acc, out, lanes, beats, site):
    place = "ebr" if site.patchable or beats * (layer.values.shape[1] + 1) > WORDS_IN_LUTS else "lut"
    ebr = 0
    if place == "ebr":
        ebr = lanes * sum(costs.rom_blocks(acc + 1, beats << level, site.family, site.latency) for level in range(out))
    return Way(1, place, int(costs.threshold_luts(acc + 1, out, lanes, beats, place == "ebr")), ebr, 0)


def _alike(layer):
    """Whether every channel has the same numbers, of which one beat's then serve all."""
    return isinstance(layer, Multiply | Thresholds) and same_everywhere(layer)
