"""The ways to build a stage: every sensible width, number of units and use of DSPs, with what each costs."""

from dataclasses import dataclass
from math import gcd

from lutloom import cost as costs
from lutloom.cost import Cost
from lutloom.hw.build_stage import accumulator_shape, geometry
from lutloom.hw.requantise import same_everywhere
from lutloom.network import Add, Conv, Dense, Flatten, Multiply, Table, Thresholds
from lutloom.plan import StagePlan, beats_of, image_of

MOST_PRODUCTS = 4096
SOFTMAX_CYCLES, SOFTMAX_VALUE_CYCLES = 330, 45  # of lutloom.hw.softmax: a vector, and each of its values


@dataclass(frozen=True)
class Option:
    """One way to build a stage."""

    stage: StagePlan
    cost: Cost


def _divisors(number):
    return [k for k in range(1, number + 1) if number % k == 0]


def stage_options(network, group, name, family, latency, patchable, chip):
    """Every sensible way to build a stage, none of them worse than another of the same widths in all respects."""
    layers = tuple(layer.name for layer in group.layers)
    height, across, channels = group.image
    if group.kind == "topk":
        stage = StagePlan(name, "topk", layers, 1, 1, 1)
        return [Option(stage, Cost(channels + group.main.k + 2, 60 + 4 * group.input.format.bits, 0, 0))]
    if group.kind not in ("dot", "pool", "map"):
        found = [_stream_option(group, name, layers, width, family, latency, dsp)
                 for width in _stream_widths(group) for dsp in _join_dsp_choices(group, family)]
        return unbeaten([option for option in found if option.cost.ebr <= chip.ebr_blocks])
    found = []
    for width in _word_widths(group):
        if group.depthwise:
            outputs = group.main.weights.codes.shape[0] // channels * width
            for dsp in _dsp_choices(group, family):
                found += dot_options(network, group, name, layers, width, outputs, dsp, family, latency, patchable)
        elif group.kind == "dot":
            for units in _units(group):
                for dsp in _dsp_choices(group, family):
                    found += dot_options(network, group, name, layers, width, units, dsp, family, latency, patchable)
        elif group.kind == "pool":
            found += pool_options(network, group, name, layers, width, family, latency, patchable)
        else:
            lut4, ebr, dsp = _requantise_cost(network, group, width, width, family, latency, patchable)
            place = _parameters_place(network, group, width)
            stage = StagePlan(name, "map", layers, width, width, width, parameters_place=place)
            found.append(Option(stage, Cost(height * across * -(-channels // width), lut4 + 40, ebr, dsp)))
    return unbeaten([option for option in found if option.cost.ebr <= chip.ebr_blocks])


def _stream_widths(group):
    """Widths at which streams are joined and parted: so that every part is whole beats."""
    if group.kind == "softmax":
        return [1]
    channels = [image_of(tensor)[2] for tensor in group.inputs]
    layer = group.main
    if group.kind in ("slice", "pad"):
        parts = (layer.begin, layer.sizes) if group.kind == "slice" else (layer.before, layer.after)
        channels += [part[-1] for part in parts if part[-1]]
        if group.kind == "slice" and layer.steps[-1] != 1:
            return [1]
    return [width for width in _divisors(gcd(*channels)) if width <= 64]


def _join_dsp_choices(group, family):
    return [False, True] if group.kind == "join" and family != "generic" else [False]


def _stream_option(group, name, layers, width, family, latency, dsp):
    """A stage that joins, parts or keeps streams."""
    cycles = max(beats_of(tensor, width) for tensor in (*group.inputs, group.results))
    bits = group.input.format.bits
    stage = StagePlan(name, group.kind, layers, width, 1, width, dsp=dsp)
    luts, ebr, blocks = 40 + 2 * width * bits, 0, 0
    if group.kind == "join":
        tables = 2 * width * costs.rom_blocks(30, 256, family, latency) if isinstance(group.main, Add) else 0
        requantise = _multiply_cost(32, width, dsp)
        luts, ebr, blocks = luts + requantise[0], tables, requantise[1]
    elif group.kind == "softmax":
        ebr = costs.rom_blocks(32, 256, family, latency) + costs.ram_blocks(8, group.image[2], family, latency)
        pixel = group.image[2]
        cycles = group.image[0] * group.image[1] * (pixel + SOFTMAX_CYCLES + SOFTMAX_VALUE_CYCLES * pixel)
        luts = 700
    elif group.kind == "concat":
        cycles, luts = beats_of(group.results, width), 60 + 3 * width * bits * len(group.inputs)
    elif group.kind == "state":
        ebr = costs.ram_blocks(bits * width, beats_of(group.input, width), family, latency)
        luts = 120 + 6 * width * bits
    return Option(stage, Cost(cycles, luts, ebr, blocks))


def _multiply_cost(acc_bits, lanes, dsp):
    """(LUT4s, DSPs) of multipliers by 32 bits with two roundings."""
    if dsp:
        pieces = -(-acc_bits // 16) * 2
        return lanes * (10 * acc_bits + 60), lanes * pieces
    return lanes * (40 * acc_bits + 250), 0


def pool_options(network, group, name, layers, width, family, latency, patchable):
    """Ways to build a pooling stage of a width: one an output width."""
    where = geometry(group, width, width)
    cycles = _window_cycles(where)
    bits = group.input.format.bits
    found = []
    for out_width in _out_widths(width, where.cost, group):
        requantise = _requantise_cost(network, group, out_width, 1, family, latency, patchable)
        luts = costs.window_luts(where, bits, width) + costs.row_luts(where, bits, width, family)
        luts += width * bits * 2.5 * where.kernel[0] + requantise[0]
        ebr = costs.line_blocks(where, bits, width, family, latency) + requantise[1]
        stage = StagePlan(
            name, "pool", layers, width, width, out_width,
            parameters_place=_parameters_place(network, group, out_width), rows_place=costs.rows_place(where, family),
        )
        found.append(Option(stage, Cost(cycles, int(luts), ebr, requantise[2])))
    return found


def _word_widths(group):
    """Words worth trying: divisors of the channels, and round numbers for long vectors."""
    channels = group.image[2]
    if isinstance(group.main, Conv) and not group.depthwise:
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


def _dsp_choices(group, family):
    x, w = group.input.format, group.main.weights.format
    if family == "generic" or x.kind == "bipolar" or w.kind == "binary" or x.bits > 8 or w.high > 127:
        return [False]
    return [False, True]


def dot_options(network, group, name, layers, width, units, dsp, family, latency, patchable):
    """Ways to build a stage of dot products with so many lanes and units: one an output width."""
    where = geometry(group, width, units)
    products = where.kernel[0] * (1 if group.depthwise else width) * units
    if products > MOST_PRODUCTS:
        return []
    weights = group.main.weights
    bits = group.input.format.bits
    cycles = _window_cycles(where)
    depth = where.cost * where.position_groups
    word = products * weights.format.bits
    in_logic = not patchable and depth * word <= 256
    ebr = costs.line_blocks(where, bits, width, family, latency)
    ebr += 0 if in_logic else costs.rom_blocks(word, depth, family, latency)
    acc_bits = accumulator_shape(network, group).width
    luts = costs.window_luts(where, bits, width) + costs.row_luts(where, bits, width, family)
    luts += units * acc_bits * 2 + (depth * word / 12 if in_logic else 0)
    luts += products * (bits * 0.3 + 2.5 if dsp else costs.product_luts(group.input.format, weights.format, family))
    blocks = costs.dsp_blocks(products, family) if dsp else 0
    found = []
    for out_width in _out_widths(units, where.cost, group):
        requantise = _requantise_cost(network, group, out_width, units, family, latency, patchable, dsp)
        stage = StagePlan(
            name, "dot", layers, width, units, out_width, dsp=dsp, weights_place="lut" if in_logic else "ebr",
            parameters_place=_parameters_place(network, group, out_width), rows_place=costs.rows_place(where, family),
        )
        cost = Cost(cycles, int(luts + requantise[0]), ebr + requantise[1], blocks + requantise[2])
        found.append(Option(stage, cost))
    return found


def _window_cycles(where):
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


def _parameters_place(network, group, lanes):
    """Where the requantiser's numbers lie: in memory where they are many."""
    if group.requantise is None:
        return "lut"
    if isinstance(group.requantise, Table):
        return "ebr"
    beats = _parameter_beats(group, lanes)
    steps = group.requantise.values.shape[1] if isinstance(group.requantise, Thresholds) else 1
    return "ebr" if beats * (steps + 1) > 256 else "lut"


def _requantise_cost(network, group, lanes, units, family, latency, patchable, dsp=False):
    """(LUT4s, EBRs, DSPs) of the requantiser."""
    layer = group.requantise
    if layer is None:
        return 0, 0, 0
    beats = _parameter_beats(group, lanes)
    acc = network.tensors[layer.input].format.bits
    out = group.output.format.bits
    in_memory = patchable or _parameters_place(network, group, lanes) == "ebr"
    if isinstance(layer, Thresholds):
        ebr = 0
        if in_memory:
            ebr = lanes * sum(costs.rom_blocks(acc + 1, beats << level, family, latency) for level in range(out))
        return int(costs.threshold_luts(acc + 1, out, lanes, beats, in_memory)), ebr, 0
    if isinstance(layer, Table):
        place = in_memory or 2**group.input.format.bits * out > 512
        return 30, lanes * costs.rom_blocks(out, 2**group.input.format.bits, family, latency) * place, 0
    bits = acc + 40 if isinstance(layer, Multiply) else acc + 4
    ebr = costs.rom_blocks(bits * lanes, beats, family, latency) if in_memory else 0
    luts = lanes * (acc * 3 + (0 if in_memory else beats * bits / 12))
    if isinstance(layer, Multiply):
        wide = _multiply_cost(acc, lanes, dsp)
        return int(luts + wide[0]), ebr, wide[1]
    return int(luts), ebr, 0


def unbeaten(options):
    """Options that no other of the same widths beats in cycles, LUTs, EBRs and DSPs alike."""
    kept = {}
    for option in sorted(options, key=lambda o: (o.cost.cycles, o.cost.lut4, o.cost.ebr, o.cost.dsp)):
        c = option.cost
        same = kept.setdefault((option.stage.width, option.stage.out_width), [])
        if not any(k.cost.lut4 <= c.lut4 and k.cost.ebr <= c.ebr and k.cost.dsp <= c.dsp for k in same):
            same.append(option)
    return [option for same in kept.values() for option in same]
