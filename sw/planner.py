"""Choosing the plan: widths, units and DSPs of every stage, so that the slowest is as fast as fits, or as is asked."""

from dataclasses import dataclass, replace
from math import gcd, prod

from lutloom import cost as costs
from lutloom.cost import Cost
from lutloom.errors import FitError
from lutloom.hw.build_stage import accumulator_shape, geometry
from lutloom.hw.core import Core
from lutloom.hw.requantise import same_everywhere
from lutloom.network import Dense, Flatten, Thresholds
from lutloom.plan import Plan, StagePlan, group_layers, identifier

LUT_SHARE = {"ice40": 0.78, "ecp5": 0.70, "generic": 1.0}  # of the chip, so that place and route still ends
MOST_LUTS = 30_000  # what nextpnr places as WebAssembly within minutes and 4 GB
MOST_PRODUCTS = 4096


@dataclass(frozen=True)
class Option:
    """One way to build a stage."""

    stage: StagePlan
    cost: Cost


def plan_network(network, chip, *, clock_mhz, fps=None, patchable=False, spare_ebr=0):
    """The plan for a chip.

    Parameters
    ----------
    network : Network
        A chain.
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
    options = [
        _options(network, group, name, family, latency, patchable, chip)
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
        chosen = _choose(groups, options, paces[-1], have)
    else:
        chosen = _fastest(groups, options, paces, have)
    if chosen is None:
        _refuse(groups, options, paces[-1], have, chip, fps)
    stages = [option.stage for option in chosen]
    plan = Plan("dataflow", family, stages[0].width, tuple(stages), patchable)
    return with_credits(network, plan)


def with_credits(network, plan):
    """The plan with output buffers as deep as keep every stage busy.

    A group's credits come back ``cost + delay + beats - 1`` cycles after its launch; as many groups are under way
    as are launched meanwhile.
    """
    stages = tuple(replace(stage, credits=max(stage.credits, stage.units)) for stage in plan.stages)
    roomy = replace(plan, stages=stages)
    schedules = dict(Core(network, roomy).schedules)
    for index, stage in enumerate(plan.stages):
        schedule = schedules[stage.name]
        if stage.kind in ("dot", "pool"):
            beats = schedule.room
            turn = schedule.cost + schedule.delay + beats - 1
            credits = beats * -(-turn // max(schedule.cost, beats))
        elif stage.kind == "map":
            credits = schedule.delay + 1
        else:
            continue
        plan = plan.with_stage(index, credits=credits)
    return plan


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


def _divisors(number):
    return [k for k in range(1, number + 1) if number % k == 0]


def _options(network, group, name, family, latency, patchable, chip):
    """Every sensible way to build a stage, none of them worse than another of the same widths in all respects."""
    layers = tuple(layer.name for layer in group.layers)
    height, across, channels = group.image
    if group.kind == "topk":
        stage = StagePlan(name, "topk", layers, 1, 1, 1)
        return [Option(stage, Cost(channels + group.main.k + 2, 60 + 4 * group.input.format.bits, 0, 0))]
    found = []
    for width in _widths(group):
        if group.kind == "dot":
            for units in _units(group):
                for dsp in _dsp(group, family):
                    found += _dots(network, group, name, layers, width, units, dsp, family, latency, patchable)
        elif group.kind == "pool":
            found += _pools(network, group, name, layers, width, family, latency, patchable)
        else:
            lut4, ebr, dsp = _requantise(network, group, width, width, family, latency, patchable)
            stage = StagePlan(name, "map", layers, width, width, width, parameters_place=_place(network, group, width))
            found.append(Option(stage, Cost(height * across * -(-channels // width), lut4 + 40, ebr, dsp)))
    return _pareto([option for option in found if option.cost.ebr <= chip.ebr_blocks])


def _pools(network, group, name, layers, width, family, latency, patchable):
    """Ways to build a pooling stage of a width: one an output width."""
    where = geometry(group, width, width)
    cycles = _cycles(where)
    bits = group.input.format.bits
    found = []
    for out_width in _out_widths(width, where.cost, group):
        requantise = _requantise(network, group, out_width, 1, family, latency, patchable)
        luts = costs.window_luts(where, bits, width) + width * bits * 2.5 * where.kernel[0] + requantise[0]
        ebr = costs.line_blocks(where, bits, width, family, latency) + requantise[1]
        stage = StagePlan(
            name, "pool", layers, width, width, out_width, parameters_place=_place(network, group, out_width)
        )
        found.append(Option(stage, Cost(cycles, int(luts), ebr, requantise[2])))
    return found


def _widths(group):
    """Words worth trying: divisors of the channels, and round numbers for long vectors."""
    channels = group.image[2]
    if group.kind == "dot" and not isinstance(group.main, Dense) and group.main.groups > 1:
        channels //= group.main.groups
    widths = {w for w in _divisors(channels) if w <= 256}
    if isinstance(group.main, Dense) or group.kind == "map":
        widths |= {w for w in (2, 4, 8, 16, 32, 64, 128) if w < channels and -channels % w <= channels / 8}
    return sorted(widths)


def _units(group):
    outputs = group.main.weights.codes.shape[0]
    if not isinstance(group.main, Dense):
        outputs //= group.main.groups
    return [u for u in _divisors(outputs) if u <= 512]


def _dsp(group, family):
    x, w = group.input.format, group.main.weights.format
    if family == "generic" or x.kind == "bipolar" or w.kind == "binary" or x.bits > 8 or w.high > 127:
        return [False]
    return [False, True]


def _dots(network, group, name, layers, width, units, dsp, family, latency, patchable):
    """Ways to build a stage of dot products with so many lanes and units: one an output width."""
    where = geometry(group, width, units)
    products = where.kernel[0] * width * units
    if products > MOST_PRODUCTS:
        return []
    weights = group.main.weights
    bits = group.input.format.bits
    cycles = _cycles(where)
    depth = where.cost * where.position_groups
    word = products * weights.format.bits
    in_logic = not patchable and depth * word <= 256
    ebr = costs.line_blocks(where, bits, width, family, latency)
    ebr += 0 if in_logic else costs.rom_blocks(word, depth, family, latency)
    acc_bits = accumulator_shape(network, group).width
    luts = costs.window_luts(where, bits, width) + units * acc_bits * 2 + (depth * word / 12 if in_logic else 0)
    luts += products * (bits * 0.3 + 2.5 if dsp else costs.product_luts(group.input.format, weights.format, family))
    blocks = costs.dsp_blocks(products, family) if dsp else 0
    found = []
    for out_width in _out_widths(units, where.cost, group):
        requantise = _requantise(network, group, out_width, units, family, latency, patchable)
        stage = StagePlan(
            name, "dot", layers, width, units, out_width, dsp=dsp, weights_place="lut" if in_logic else "ebr",
            parameters_place=_place(network, group, out_width),
        )
        cost = Cost(cycles, int(luts + requantise[0]), ebr + requantise[1], blocks + requantise[2])
        found.append(Option(stage, cost))
    return found


def _cycles(where):
    """Cycles a frame of a window: to read it, and to have it written."""
    groups = where.out_height * where.out_width * where.position_groups
    return max(groups * where.cost, where.height * where.row_words)


def _out_widths(units, cost, group):
    """Output widths by which a group's results leave before the next group's are there: the narrowest few."""
    flat = any(isinstance(layer, Flatten) for layer in group.layers[1:])
    able = [w for w in _divisors(units) if -(-units // w) <= cost and not (flat and group.channels_out % w)]
    return [*able[:3], *able[-1:]] if len(able) > 3 else able or [units]


def _parameter_beats(group, lanes):
    """Beats of a pixel that have numbers of their own."""
    if isinstance(group.requantise, Thresholds) and same_everywhere(group.requantise):
        return 1
    return -(-group.channels_out // lanes)


def _place(network, group, lanes):
    """Where the requantiser's numbers lie: in memory where they are many."""
    if group.requantise is None:
        return "lut"
    beats = _parameter_beats(group, lanes)
    steps = group.requantise.values.shape[1] if isinstance(group.requantise, Thresholds) else 1
    return "ebr" if beats * (steps + 1) > 256 else "lut"


def _requantise(network, group, lanes, units, family, latency, patchable):
    """(LUT4s, EBRs, DSPs) of the requantiser."""
    layer = group.requantise
    if layer is None:
        return 0, 0, 0
    beats = _parameter_beats(group, lanes)
    acc = network.tensors[layer.input].format.bits
    out = group.output.format.bits
    in_memory = patchable or _place(network, group, lanes) == "ebr"
    if isinstance(layer, Thresholds):
        ebr = 0
        if in_memory:
            ebr = lanes * sum(costs.rom_blocks(acc + 1, beats << level, family, latency) for level in range(out))
        return int(costs.threshold_luts(acc + 1, out, lanes, beats, in_memory)), ebr, 0
    bits = acc + 4 if not hasattr(layer, "multiplier") else acc + 24
    ebr = costs.rom_blocks(bits * lanes, beats, family, latency) if in_memory else 0
    luts = lanes * (acc * 3 + (0 if in_memory else beats * bits / 12))
    if hasattr(layer, "multiplier"):
        return int(luts + lanes * 12 * (acc + 4)), ebr, 0
    return int(luts), ebr, 0


def _pareto(options):
    """Options that no other of the same widths beats in cycles, LUTs, EBRs and DSPs alike."""
    kept = {}
    for option in sorted(options, key=lambda o: (o.cost.cycles, o.cost.lut4, o.cost.ebr, o.cost.dsp)):
        c = option.cost
        same = kept.setdefault((option.stage.width, option.stage.out_width), [])
        if not any(k.cost.lut4 <= c.lut4 and k.cost.ebr <= c.ebr and k.cost.dsp <= c.dsp for k in same):
            same.append(option)
    return [option for same in kept.values() for option in same]


def _choose(groups, options, pace, have):
    """The cheapest option a stage such that stages and adapters keep the pace; None if they do not fit together."""
    barred = set()
    while True:
        chosen = _path(groups, options, pace, have, barred)
        if chosen is None:
            return None
        total = _total(chosen)
        if total.lut4 <= have.lut4 and total.ebr <= have.ebr and total.dsp <= have.dsp:
            return chosen
        if total.dsp <= have.dsp:
            return None
        users = [index for index, option in enumerate(chosen) if option.cost.dsp]
        barred.add(max(users, key=lambda index: chosen[index].cost.dsp))


def _path(groups, options, pace, have, barred):
    """The choice of least weight whose neighbours' widths get along: the shortest way through the stages."""
    ways = {}  # output width -> (weight, options so far)
    for index, (group, stage) in enumerate(zip(groups, options, strict=True)):
        cheapest = {}
        for option in stage:
            if option.cost.cycles > pace or (index in barred and option.cost.dsp):
                continue
            key, weight = (option.stage.width, option.stage.out_width), _weight(option.cost, have)
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


def _passes(group, before, given, width, pace):
    """Whether a stream of ``given`` values a beat becomes one of ``width`` within the pace."""
    height, across, channels = group.image
    if channels != before.channels_out and before.channels_out % given:
        return False  # flattened: pixels must be whole beats
    return height * across * -(-channels // gcd(given, width)) <= pace


def _weight(cost, have):
    """How much of a chip a cost is; DSPs are there to be used."""
    return cost.lut4 / max(1, have.lut4) + 0.7 * cost.ebr / max(1, have.ebr) + 0.2 * cost.dsp / max(1, have.dsp or 1e-9)


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
            bits = prod(weights.codes.shape) * weights.format.bits
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
        f"{have.lut4:,}, {have.ebr} and {have.dsp} to use; layer {worst[0].main.name!r} costs most "
        f"({worst[1].cost.lut4:,} LUT4, {worst[1].cost.ebr} EBR); {way}store fewer bits a weight (--weights bitmask:2) "
        "or take a larger board (lutloom boards)"
    )


def estimate(network, plan, chip):
    """Resources that a plan is expected to take: dict of lut4, ebr, dsp."""
    total = Cost(0, 0, 0, 0)
    shared = (chip.family, plan.memory_latency, plan.patchable)
    for group, stage in zip(group_layers(network), plan.stages, strict=True):
        if stage.kind == "dot":
            ways = _dots(network, group, stage.name, stage.layers, stage.width, stage.units, stage.dsp, *shared)
        elif stage.kind == "pool":
            ways = _pools(network, group, stage.name, stage.layers, stage.width, *shared)
        else:
            ways = [o for o in _options(network, group, stage.name, *shared, chip) if o.stage.width == stage.width]
        cost = min(ways, key=lambda option: abs(option.stage.out_width - stage.out_width)).cost
        total = Cost(0, total.lut4 + cost.lut4, total.ebr + cost.ebr, total.dsp + cost.dsp)
    return {"lut4": total.lut4, "ebr": total.ebr, "dsp": total.dsp}
