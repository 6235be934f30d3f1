"""Choosing the plan: widths, units and DSPs of every stage, so that the slowest is as fast as fits, or as is asked."""

from contextlib import suppress
from dataclasses import replace
from math import ceil, gcd

import numpy as np

from lutloom.cost import Cost, ram_blocks
from lutloom.errors import FitError
from lutloom.executor import LONG, Deadlock, most_held, predict, run
from lutloom.hw.core import Core
from lutloom.plan import Plan, beats_of, group_layers, identifier, image_of, is_chain
from lutloom.requantise_options import Site
from lutloom.schedule import Windowed
from lutloom.sparse import least_bits
from lutloom.stage_options import stage_cost, stage_options
from lutloom.stored import TRIT_BITS, TRITS

LUT_SHARE = {"ice40": 0.78, "ecp5": 0.70, "generic": 1.0}  # of the chip, so that place and route still ends
BUFFER_TRIES = 4  # plans that are made until the buffers of one fit beside its stages
MOST_LUTS = 30_000  # what nextpnr places as WebAssembly within minutes and 4 GB


def plan_network(network, chip, *, clock_mhz, fps=None, patchable=False, spare_ebr=0):
    """The plan for a chip.

    Parameters
    ----------
    network : Network
    chip : lutloom.board.Chip
    clock_mhz : float
    fps : float, optional
        Frames a second to reach with as little as possible; without, as fast as fits.
    patchable : bool
    spare_ebr : int
        Block RAMs to leave for the shell.

    Returns
    -------
    Plan

    Raises
    ------
    FitError
        If nothing fits, with need, have and the layer that costs most.
    """
    groups = group_layers(network)
    family = chip.family
    latency = 2 if family == "ecp5" else 1
    names = _names(groups)
    check_weights(groups, chip)
    options = [
        stage_options(network, group, name, Site(family, latency, patchable), chip)
        for group, name in zip(groups, names, strict=True)
    ]
    luts = int(min(chip.lut4 * LUT_SHARE[family], MOST_LUTS))
    have = Cost(0, luts, chip.ebr_blocks - spare_ebr, chip.dsp)
    if not all(options):
        _refuse(groups, options, 0, have, chip, fps)
    paces = sorted({option.cost.cycles for stage in options for option in stage})
    if fps is not None:
        wanted = clock_mhz * 1e6 / fps
        fastest = [min(option.cost.cycles for option in stage) for stage in options]
        if max(fastest) > wanted:
            slowest = groups[fastest.index(max(fastest))].main.name
            raise FitError(
                f"{fps:,.0f} frames a second at {clock_mhz:g} MHz leave {wanted:,.0f} cycles a frame, but layer "
                f"{slowest!r} takes {max(fastest):,} at least; ask for less with --fps"
            )
        paces = [pace for pace in paces if pace <= wanted]
    left = have
    for _ in range(BUFFER_TRIES):
        chosen = _fastest(groups, options, paces, left) if fps is None else _choose(groups, options, paces[-1], left)
        if chosen is None:
            break
        chosen = _eased(chosen, options, _total(chosen).cycles if fps is None else paces[-1], left)
        stages = [option.stage for option in chosen]
        plan = with_credits(network, Plan("dataflow", family, stages[0].width, tuple(stages), patchable))
        buffers = sum(_buffer_blocks(*pair, family, latency) for pair in zip(groups, plan.stages, strict=True))
        if _total(chosen).ebr + buffers <= have.ebr:
            return plan
        left = replace(have, ebr=have.ebr - buffers)
    _refuse(groups, options, paces[-1], left, chip, fps)


def with_credits(network, plan):
    """The plan with output buffers as deep as keep every stage busy, and buffers where ways of unlike length meet.

    A group's credits come back ``cost + delay + (beats - 1) · gap`` cycles after its launch; as many groups are under
    way as are launched meanwhile.
    """
    stages = tuple(replace(stage, credits=max(stage.credits, stage.units)) for stage in plan.stages)
    roomy = replace(plan, stages=stages)
    schedules = dict(Core(network, roomy).schedules)
    for index, stage in enumerate(plan.stages):
        schedule = schedules[stage.name]
        if isinstance(schedule, Windowed):
            beats = schedule.room
            turn = schedule.cost + schedule.delay + (beats - 1) * schedule.gap
            credits = beats * -(-turn // max(schedule.cost, beats))
        elif stage.kind in ("map", "join", "pool"):
            credits = -(-schedule.delay // schedule.gap) + 1
        else:
            continue
        plan = plan.with_stage(index, credits=credits)
    return with_buffers(network, plan)


def with_buffers(network, plan):
    """The plan with a buffer at the inputs of joins where beats wait, as deep as it is used.

    The interval is that of buffers that never fill. What they then hold with the source no faster than that is what
    the ways differ by; with so much room the streams are as fast, for whoever finds room earlier is done no later. A
    buffer whose beats only pass through is left out, unless it is missed.

    Raises
    ------
    FitError
        If the streams cannot go on whatever is buffered.
    """
    groups = group_layers(network)
    meeting = [index for index, group in enumerate(groups) if len(group.inputs) > 1]
    if not meeting:
        return plan
    roomy = plan
    for index in meeting:
        beats = [beats_of(tensor, plan.stages[index].width) for tensor in groups[index].inputs]
        roomy = roomy.with_stage(index, buffers=tuple(
            0 if _is(groups, source, "constant") else ROOMY_FRAMES * count + ROOMY_BEATS  # constants never are late
            for source, count in zip(groups[index].sources, beats, strict=True)
        ))
    core, interval = run_plan(network, roomy)
    held = _held(core, {index: plan.stages[index].name for index in meeting}, interval)
    passing = plan.memory_latency + 3  # beats that a buffer holds of a stream of a beat a cycle that never waits
    for least, behind_states in ((passing, False), (passing, True), (0, True)):
        for index in meeting:
            states = [_is(groups, source, "state") for source in groups[index].sources]
            plan = plan.with_stage(index, buffers=tuple(
                depth if depth > least and (behind_states or not state) else 0
                for depth, state in zip(held[index], states, strict=True)
            ))
        with suppress(FitError):
            if run_plan(network, plan)[1] <= interval:
                return plan
    run_plan(network, plan)
    return plan


def _is(groups, source, kind):
    """Whether what gives a group's input is of a kind."""
    return source is not None and groups[source].kind == kind


ROOMY_FRAMES, ROOMY_BEATS = 2, 64  # buffers of so many frames and beats do not fill


def _held(core, names, interval):
    """Most beats in each buffer in front of some units, with a frame an interval.

    Parameters
    ----------
    core : Core
        With a buffer at each of their inputs that is to have one.
    names : dict of key to str

    Returns
    -------
    dict of key to list of int
    """
    links = run(core.units, core.input["beats"], core.output["beats"], FRAMES, ceil(interval))
    inputs = {unit.name: unit.inputs for unit in core.units}
    source = {unit.outputs[0]: unit.inputs[0] for unit in core.units
              if unit.inputs and unit.name.endswith("_buffer")}
    return {key: [most_held(links[source[link]], links[link]) if link in source else 0 for link in inputs[name]]
            for key, name in names.items()}


def run_plan(network, plan):
    """(core, cycles between its frames after the first few) of a plan; FitError for a deadlock."""
    core = Core(network, plan)
    beats = core.output["beats"]
    try:
        links = run(core.units, core.input["beats"], beats, FRAMES)
    except Deadlock as deadlock:
        raise FitError(f"the plan's streams cannot go on: {deadlock}; take --fps, for another plan") from None
    (sink,) = {link for unit in core.units for link in unit.outputs} - {
        link for unit in core.units for link in unit.inputs}
    interval = -((links[sink][-1 - 2 * beats] - links[sink][-1]) // 2)  # of two frames: it may alternate
    if interval < LONG:  # short frames come in bursts, which four do not show
        interval = predict(core.units, core.input["beats"], beats).interval_cycles
    return core, interval


FRAMES = 4  # after which the streams of a plan have found their pace, near enough to compare plans


def _names(groups):
    """A Verilog identifier a stage, unique."""
    names, taken = [], set()
    for group in groups:
        main = group.main
        name = identifier(main.name)
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _choose(groups, options, pace, have):
    """The cheapest option a stage such that stages and adapters keep the pace; None if they do not fit together.

    Where what is cheapest does not fit, single stages do with less of what is short; where that does not do, what is
    short becomes dearer, round by round.
    """
    search = _path if is_chain(groups) else _settle
    prices, before = dict(PRICES), None
    for _ in range(ROUNDS):
        chosen = search(groups, options, pace, have, prices)
        if chosen is None:
            return None
        repaired = chosen if chosen == before else _repaired(chosen, options, pace, have)
        before = chosen
        shares = _shares(_total(repaired), have)
        if max(shares.values()) <= 1:
            return repaired
        for what, share in shares.items():
            prices[what] *= min(max(share, 0.8), 2.0) ** 2
    return None


PRICES = {"lut4": 1.0, "ebr": 0.7, "dsp": 0.2}  # of all that a chip has; DSPs are there to be used
ROUNDS = 12


def _repaired(chosen, options, pace, have):
    """The choice with one stage after the other changed for an option of its widths, as long as less is short."""

    def gain(short, after, costs, now):
        return short - after, (costs - now) @ _prices(have)

    return _improved(chosen, options, pace, have, gain, lambda total: _short(total, have) > 0)


def _eased(chosen, options, pace, have):
    """The choice with fewer LUTs where they are many: what else there is would lie idle, and wires would be long."""

    def gain(short, after, costs, now):
        dearer = np.maximum(costs - now, 0) / np.maximum(_amounts(have), 1e-9)
        return (after == 0) * (now[0] - costs[:, 0]), dearer[:, 1:].sum(1)

    return _improved(chosen, options, pace, have, gain, lambda total: total[0] > EASY * have.lut4)


EASY = 0.6  # of the LUTs that may be taken


def _improved(chosen, options, pace, have, gain, wanted):
    """The choice with one stage changed after the other for an option of its widths: always the change that gains most
    for its price, while the total is ``wanted`` to change and something gains.

    Parameters
    ----------
    gain : function of what is short now, what is after each change (N,), costs (N, 3) and the present one (3,)
        Gives gains and prices (N,).
    wanted : function of the total (3,)
    """
    chosen, tables = list(chosen), []
    for option, stage in zip(chosen, options, strict=True):
        widths = option.stage.width, option.stage.out_width
        able = [o for o in stage if o.cost.cycles <= pace and (o.stage.width, o.stage.out_width) == widths]
        tables.append((able, np.array([_amounts(o.cost) for o in able])))
    total = sum(_amounts(option.cost) for option in chosen)
    while wanted(total):
        best = None
        for index, (able, costs) in enumerate(tables):
            now = _amounts(chosen[index].cost)
            gains, prices = gain(_short(total, have), _short(total - now + costs, have), costs, now)
            worth = np.where(gains > 1e-12, gains / np.maximum(prices, 1e-6), 0)
            if worth.max() > 0 and (best is None or worth.max() > best[0]):
                best = worth.max(), index, able[int(worth.argmax())]
        if best is None:
            break
        _, index, option = best
        total = total - _amounts(chosen[index].cost) + _amounts(option.cost)
        chosen[index] = option
    return chosen


def _amounts(cost):
    """LUTs, block RAMs and DSPs as an array."""
    return np.array([cost.lut4, cost.ebr, cost.dsp], float)


def _prices(have):
    """Of a LUT, a block RAM and a DSP."""
    return np.array([PRICES["lut4"], PRICES["ebr"], PRICES["dsp"]]) / np.maximum(_amounts(have), 1e-9)


def _short(total, have):
    """What is missing, of all that there is; of totals (..., 3)."""
    return np.maximum(total / np.maximum(_amounts(have), 1e-9) - 1, 0).sum(-1)


def _shares(total, have):
    """How much of what there is would be taken, by resource."""
    return {what: getattr(total, what) / max(getattr(have, what), 1e-9) for what in PRICES}


def _path(groups, options, pace, have, prices):
    """The choice of least weight whose neighbours' widths get along: the shortest way through the stages."""
    ways = {}  # output width -> (weight, options so far)
    for index, (group, stage) in enumerate(zip(groups, options, strict=True)):
        cheapest = {}
        for option in stage:
            if option.cost.cycles > pace:
                continue
            key, weight = (option.stage.width, option.stage.out_width), _weight(option.cost, have, prices)
            if key not in cheapest or weight < cheapest[key][0]:
                cheapest[key] = weight, option
        after = {}
        for (width, out_width), (weight, option) in cheapest.items():
            if index:
                able = [way for given, way in ways.items() if _passes(group, groups[index - 1], given, width, pace)]
                if not able:
                    continue
                before = min(able, key=lambda way: way[0])
                weight, taken = weight + before[0], [*before[1], option]
            else:
                taken = [option]
            if out_width not in after or weight < after[out_width][0]:
                after[out_width] = weight, taken
        ways = after
    return min(ways.values(), key=lambda way: way[0])[1] if ways else None


def _settle(groups, options, pace, have, prices):
    """A choice whose neighbours' widths get along, where streams part and meet: each stage in turn takes the option of
    least weight beside those that its neighbours have, until none changes."""
    able = [[option for option in stage if option.cost.cycles <= pace] for stage in options]
    if not all(able):
        return None
    readers = [[] for _ in groups]
    for index, group in enumerate(groups):
        for port, source in enumerate(group.sources):
            if source is not None:
                readers[source].append((index, port))
    chosen = [min(stage, key=lambda option: _weight(option.cost, have, prices)) for stage in able]

    def clashes(index, option):
        group, count = groups[index], 0
        for port, source in enumerate(group.sources):
            if source is not None:
                given = (option if source == index else chosen[source]).stage.out_width
                count += not _passes(group, groups[source], given, option.stage.width, pace, port)
        for reader, port in readers[index]:
            wanted = (option if reader == index else chosen[reader]).stage.width
            count += not _passes(groups[reader], group, option.stage.out_width, wanted, pace, port)
        return count

    for _ in range(SWEEPS):
        before = list(chosen)
        for index, stage in enumerate(able):
            chosen[index] = min(stage, key=lambda option: (clashes(index, option), _weight(option.cost, have, prices)))
        if chosen == before:
            break
    return None if any(clashes(index, option) for index, option in enumerate(chosen)) else chosen


SWEEPS = 12


def _passes(group, before, given, width, pace, port=0):
    """Whether a stream of ``given`` values a beat becomes one of ``width`` within the pace."""
    height, across, channels = image_of(group.inputs[port])
    common = gcd(given, width)
    if channels != before.channels_out:
        common = gcd(common, before.channels_out, channels)  # shaped anew: as lutloom.hw.build_stage.adapters do it
    return height * across * -(-channels // common) <= pace


def _weight(cost, have, prices=None):
    """How much of a chip a cost is."""
    prices = prices or PRICES
    return (prices["lut4"] * cost.lut4 / max(1, have.lut4) + prices["ebr"] * cost.ebr / max(1, have.ebr)
            + prices["dsp"] * cost.dsp / max(1, have.dsp or 1e-9))


def _total(chosen):
    return Cost(
        max(o.cost.cycles for o in chosen), sum(o.cost.lut4 for o in chosen), sum(o.cost.ebr for o in chosen),
        sum(o.cost.dsp for o in chosen),
    )


def _fastest(groups, options, paces, have):
    """The choice with the smallest pace that fits, by bisection."""
    low, high, best = 0, len(paces) - 1, None
    while low <= high:
        middle = (low + high) // 2
        chosen = _choose(groups, options, paces[middle], have)
        if chosen is None:
            low = middle + 1
        else:
            best, high = chosen, middle - 1
    return best


def check_weights(groups, chip):
    """FitError at once where the weights are more than all the memory of a chip, its LUTs included."""
    layers = [group.main for group in groups if hasattr(group.main, "weights")]
    need = sum(_least_bits(layer.weights) for layer in layers)
    have = chip.ebr_blocks * chip.ebr_bits + BITS_IN_A_LUT * chip.lut4
    if need > have:
        worst = max(layers, key=lambda layer: _least_bits(layer.weights))
        raise FitError(
            f"the weights take {need / 8192:,.0f} KiB, those of layer {worst.name!r} most, but {chip.device} holds "
            f"{chip.ebr_blocks * chip.ebr_bits / 8192:,.0f} KiB in block RAM; store fewer bits a weight (--weights "
            "bitmask:2) or take a larger board (lutloom boards)"
        )


BITS_IN_A_LUT = 16


def _least_bits(weights):
    """Bits of a layer's weights, however they are stored."""
    packed = -(-weights.stored_bits * TRIT_BITS // (2 * TRITS)) if weights.format.kind == "ternary" else np.inf
    return min(least_bits(weights), packed)


def _refuse(groups, options, pace, have, chip, fps):
    """FitError: need, have, the layer that costs most, a way out."""
    for group, stage in zip(groups, options, strict=True):
        if not stage:
            weights = getattr(group.main, "weights", None)
            if weights is None:
                raise FitError(
                    f"layer {group.main.name!r} keeps more rows than the {chip.ebr_blocks} block RAMs of {chip.device} "
                    "hold; take a larger board (lutloom boards)"
                )
            bits = least_bits(weights)
            raise FitError(
                f"layer {group.main.name!r} needs {bits / 8192:,.0f} KiB of block RAM for its weights, but "
                f"{chip.device} holds {chip.ebr_blocks * chip.ebr_bits / 8192:,.0f} KiB; store fewer bits a weight "
                "(--weights bitmask:2) or take a larger board (lutloom boards)"
            )
    least = [min((o for o in stage if o.cost.cycles <= pace), key=lambda o: _weight(o.cost, have)) for stage in options]
    need = _total(least)
    worst = max(zip(groups, least, strict=True), key=lambda pair: _weight(pair[1].cost, have))
    way = "ask for less with --fps, " if fps else ""
    raise FitError(
        f"the network needs about {need.lut4:,} LUT4, {need.ebr} EBR and {need.dsp} DSP, but {chip.device} has "
        f"{have.lut4:,}, {have.ebr} and {have.dsp} to use (the rest is kept for the shell and for place and route); "
        f"layer {worst[0].main.name!r} costs most "
        f"({worst[1].cost.lut4:,} LUT4, {worst[1].cost.ebr} EBR); {way}store fewer bits a weight (--weights bitmask:2) "
        "or take a larger board (lutloom boards)"
    )


def _buffer_blocks(group, stage, family, latency):
    """Block RAMs of the buffers in front of a stage."""
    return sum(ram_blocks(tensor.format.bits * stage.width, depth, family, latency)
               for tensor, depth in zip(group.inputs, stage.buffers, strict=False) if depth)


def estimate(network, plan, chip):
    """Resources that a plan is expected to take: dict of lut4, ebr, dsp."""
    total = Cost(0, 0, 0, 0)
    site = Site(chip.family, plan.memory_latency, plan.patchable)
    for group, stage in zip(group_layers(network), plan.stages, strict=True):
        cost = stage_cost(network, group, stage, site)
        ebr = cost.ebr + _buffer_blocks(group, stage, chip.family, plan.memory_latency)
        total = Cost(0, total.lut4 + cost.lut4, total.ebr + ebr, total.dsp + cost.dsp)
    return {"lut4": total.lut4, "ebr": total.ebr, "dsp": total.dsp}
