"""The ways to build a stage: every sensible width, number of units and use of DSPs, with what each costs."""

from dataclasses import dataclass, replace
from math import gcd

from lutloom import cost as costs
from lutloom.cost import Cost
from lutloom.hw.build_sparse import is_unfolded, skips_zeros, windows_of
from lutloom.hw.build_stage import able_width, accumulator_shape, filled, geometry, results_shape
from lutloom.hw.unfold import rows_held
from lutloom.hw.whole_pool import in_registers
from lutloom.network import Add, Conv, Dense, Flatten, Product, Sum, Times
from lutloom.plan import STEPS_IN_LUTS, StagePlan, beats_of, image_of, order_of, pools_whole_map
from lutloom.requantise_options import MOST_STEPS, multiply_luts, requantise_ways
from lutloom.sparse import Coding, best_run_bits, entries_of_layer, lengths_in_logic
from lutloom.stored import Stored

MOST_PRODUCTS = 4096
MOST_STREAMS = 64  # units times values a word of a stage that skips zeros: each has a memory of its own
SOFTMAX_CYCLES, SOFTMAX_VALUE_CYCLES = 318, 58  # of lutloom.hw.softmax: a vector, and each of its values
MOST_UNEVEN, MOST_IDLE = 33, 1 / 16  # units that do not divide the outputs: how many, and what share of them idles
IN_LUTS = (0, 1, 2, 3)  # quarters of a stage's units whose products are in LUTs, where the others' are on DSP blocks


@dataclass(frozen=True)
class Option:
    """One way to build a stage."""

    stage: StagePlan
    cost: Cost


def _divisors(number):
    return [k for k in range(1, number + 1) if number % k == 0]


def stage_options(network, group, name, site, chip):
    """Every sensible way to build a stage, none of them worse than another of the same widths in all respects.

    Parameters
    ----------
    network : Network
    group : lutloom.plan.Group
    name : str
        Of the stage.
    site : Site
    chip : Chip

    Returns
    -------
    list of Option
    """
    make = _Maker(network, group, name, tuple(layer.name for layer in group.layers), site)
    return unbeaten([option for option in make.all() if option.cost.ebr <= chip.ebr_blocks])


def stage_cost(network, group, stage, site):
    """Cost of a stage of a plan; of the option nearest to it, where it is none of them.

    Parameters
    ----------
    network : Network
    group : lutloom.plan.Group
    stage : StagePlan
    site : Site
    """
    make = _Maker(network, group, stage.name, stage.layers, site)
    if stage.kind == "dot":
        ways = (make.sparse if stage.run_bits else make.dot)(stage.width, stage.units, stage.dsp)
    elif stage.kind == "pool":
        ways = make.pool(stage.width)
    elif stage.kind == "join":
        ways = make.exact_join(stage.width) if isinstance(group.main, Sum | Times) else [
            make.join(stage.width, stage.steps, stage.dsp)]
    elif stage.kind == "map":
        ways = make.map(stage.width)
    else:
        ways = [option for option in make.all() if option.stage.width == stage.width]

    def far(option):
        other = option.stage
        places = (other.parameters_place != stage.parameters_place, other.rows_place != stage.rows_place,
                  other.table_place != stage.table_place, other.packed != stage.packed)
        return (abs(other.out_width - stage.out_width), abs(other.steps - stage.steps), *places,
                abs(other.lut_units - stage.lut_units))

    return min(ways, key=far).cost


@dataclass(frozen=True)
class _Maker:
    """Makes the options of one stage."""

    network: object
    group: object
    name: str
    layers: tuple
    site: object

    def all(self):
        """Every option."""
        group, found = self.group, []
        if group.kind == "topk":
            stage = StagePlan(self.name, "topk", self.layers, 1, 1, 1)
            bits = group.input.format.bits
            return [Option(stage, Cost(group.image[2] + group.main.k + 2, 60 + 4 * bits, 0, 0))]
        if group.kind == "join" and group.requantise is not None:
            return [option for width in _stream_widths(group) for option in self.exact_join(width)]
        if group.kind == "join":
            steps = (1, 2, 4, 8, MOST_STEPS)
            return [self.join(width, s, dsp) for width in _stream_widths(group) for s in steps
                    for dsp in self._dsp(s < STEPS_IN_LUTS or isinstance(group.main, Product))]
        if group.kind not in ("dot", "pool", "map"):
            return [self.stream(width) for width in _stream_widths(group)]
        sparse = group.kind == "dot" and skips_zeros(group) and not self.site.patchable
        for width in _word_widths(group):
            if group.kind == "pool":
                found += self.pool(width)
            elif group.kind == "map":
                found += self.map(width)
            else:
                units = _units(group)
                if group.depthwise:
                    units = [group.main.weights.codes.shape[0] // group.image[2] * width]
                for count in units:
                    for dsp in self._dsp(_multiplies(group)):
                        found += self.dot(width, count, dsp)
                        if sparse and width * count <= MOST_STREAMS:
                            found += self.sparse(width, count, dsp)
        return found

    def _dsp(self, able):
        """Whether to use DSP blocks: the choices."""
        return [False, True] if able and self.site.family != "generic" else [False]

    def _blocks(self, kind, width, depth):
        """Block RAMs of a memory: ``kind`` "rom" or "ram"."""
        count = costs.rom_blocks if kind == "rom" else costs.ram_blocks
        return count(width, depth, self.site.family, self.site.latency)

    def stream(self, width):
        """A stage that parts or keeps streams."""
        group = self.group
        bits, pixel = group.results.format.bits if group.kind == "constant" else group.input.format.bits, group.image[2]
        cycles = max(beats_of(tensor, width) for tensor in (*group.inputs, group.results))
        weights_place = "ebr"
        luts, ebr = 40 + 2 * width * bits, 0
        if group.kind == "softmax":
            ebr = self._blocks("rom", 32, 256) + self._blocks("ram", 8, pixel)
            cycles = group.image[0] * group.image[1] * (pixel + SOFTMAX_CYCLES + SOFTMAX_VALUE_CYCLES * pixel)
            luts = 700
        elif group.kind == "concat":
            cycles, luts = beats_of(group.results, width), 60 + 3 * width * bits * len(group.inputs)
        elif group.kind == "state":
            ebr = self._blocks("ram", bits * width, beats_of(group.input, width))
            luts = 120 + 6 * width * bits
        elif group.kind == "order":
            ebr = self._blocks("ram", bits * width, 2 * beats_of(group.input, width))
            luts = 160 + 6 * width * bits
        elif group.kind == "constant":
            depth = beats_of(group.results, width)
            if depth * width * bits <= 512 and not self.site.patchable:
                weights_place, luts = "lut", 30 + depth * width * bits // 12 + 4 * width * bits
            else:
                ebr, luts = self._blocks("rom", bits * width, depth), 60 + 6 * width * bits
        stage = StagePlan(self.name, group.kind, self.layers, width, 1, width, weights_place=weights_place)
        return Option(stage, Cost(cycles, luts, ebr, 0))

    def join(self, width, steps, dsp):
        """A stage that joins two streams."""
        group = self.group
        bits = group.input.format.bits
        tables = 2 * width * self._blocks("rom", 30, 256) if isinstance(group.main, Add) else 0
        on_dsp = dsp and steps < STEPS_IN_LUTS
        # The sum of an addition is of 31 bits or so; a product of codes has twice theirs.
        acc_bits = 30 if isinstance(group.main, Add) else 2 * bits + 2
        lut4, blocks = multiply_luts(acc_bits, steps, on_dsp, self.site.family)
        if not isinstance(group.main, Add):  # the product of the codes
            lut4, blocks = (lut4, blocks + 1) if dsp else (lut4 + 2 * bits * bits, blocks)
        stage = StagePlan(self.name, "join", self.layers, width, 1, width, dsp=dsp, steps=steps)
        cost = Cost(beats_of(group.results, width) * steps, 80 + width * (6 * bits + lut4), tables, width * blocks)
        return Option(stage, cost)

    def exact_join(self, width):
        """Ways to join two streams in an exact sum or product with a requantisation behind it."""
        group, bits = self.group, self.group.input.format.bits
        summed = isinstance(group.main, Sum)
        tables = 2 * width * self._blocks("rom", 30, 256) if summed else 0
        luts = 80 + width * (6 * bits if summed else bits * (6 + 2 * bits))
        beats = beats_of(group.results, width)
        return self._spaced(StagePlan(self.name, "join", self.layers, width, 1, width), luts, tables, 0, beats)

    def map(self, width):
        """Ways to requantise alone."""
        stage = StagePlan(self.name, "map", self.layers, width, width, width)
        return self._spaced(stage, 40, 0, 0, beats_of(self.group.input, width))

    def _spaced(self, stage, luts, ebr, beats, spaced):
        """Options of a stage that takes ``beats`` beats a frame as they come, and ``spaced`` more with the steps of a
        requantisation between: some numbers of steps."""
        found = []
        for most in (1, STEPS_IN_LUTS, MOST_STEPS):
            for way in requantise_ways(self.network, self.group, stage.out_width, most, False, self.site):
                cost = Cost(beats + spaced * way.steps, luts + way.lut4, ebr + way.ebr, way.dsp)
                found.append(Option(replace(stage, parameters_place=way.place, steps=way.steps), cost))
        return found

    def pool(self, width):
        """Ways to build a pooling stage of a width: some an output width."""
        group = self.group
        if pools_whole_map(group):
            return self._whole_pool(width)
        where = geometry(group, width, width)
        bits = group.input.format.bits
        luts = costs.window_luts(where, bits, width) + width * bits * 2.5 * where.kernel[0]
        stage = StagePlan(self.name, "pool", self.layers, width, width, width)
        return self._with_requantisation(stage, Cost(_window_cycles(where), int(luts), 0, 0), where)

    def _whole_pool(self, width):
        """Ways to pool whole feature maps."""
        height, across, channels = self.group.image
        words = -(-channels // width)
        bits = results_shape(self.network, self.group).width * width
        ebr = 0 if in_registers(words, bits, self.site.latency) else self._blocks("ram", bits, words)
        luts = 60 + 2 * bits + (0 if ebr else words * bits // 2)
        stage = StagePlan(self.name, "pool", self.layers, width, width, width)
        return self._spaced(stage, luts, ebr, words * (height * across - 1), words)

    def dot(self, width, units, dsp):
        """Ways to build a stage of dot products with so many lanes and units: some an output width."""
        group, site = self.group, self.site
        where = geometry(group, width, units)
        lanes = where.kernel[0] * (1 if group.depthwise else width)
        products = lanes * units
        if products > MOST_PRODUCTS:
            return []
        weights = group.main.weights
        depth = where.cost * where.position_groups
        found = []
        for packed in (False, True) if weights.format.kind == "ternary" else (False,):
            stored = Stored.of(weights.format, lanes, units, packed)
            in_logic = not site.patchable and depth * stored.width <= 256
            ebr = 0 if in_logic else self._blocks("rom", stored.width, depth)
            decoded = stored.numbers * costs.TRITS[site.family != "ice40"] if packed else 0
            fixed = (depth * stored.width / 12 if in_logic else 0) + decoded, ebr
            for place, luts, blocks in self._tables(stored, weights.format):
                stage = StagePlan(self.name, "dot", self.layers, width, units, units, dsp=dsp, packed=packed,
                                  table_place=place, weights_place="lut" if in_logic else "ebr")
                found += self._products(stage, where, lanes, fixed[0] + luts, fixed[1] + blocks)
        return found

    def _tables(self, stored, format):
        """(place, LUTs, block RAMs) of the tables of a codebook of groups: in blocks, or in logic."""
        if stored.form != "indices":
            return [("ebr", 0, 0)]
        depth, width = 1 << format.index_bits, format.group * format.decoded.bits
        ways = [("ebr", 0, stored.numbers * self._blocks("rom", width, depth))]
        if not self.site.patchable:
            ways.append(("lut", stored.numbers * costs.table_luts(format), 0))
        return ways

    def _products(self, stage, where, lanes, extra, ebr):
        """Ways to make the products of a stage that takes ``extra`` LUTs and some block RAMs for its weights."""
        group, site, width, units, dsp = self.group, self.site, stage.width, stage.units, stage.dsp
        weights, bits = group.main.weights, group.input.format.bits
        acc_bits = accumulator_shape(self.network, group).width
        luts = costs.window_luts(where, bits, width)
        luts += units * acc_bits * 2 + extra
        in_luts = costs.product_luts(group.input.format, weights.format, site.family, lanes)
        found = []
        for quarters in IN_LUTS if dsp else (4,):
            lut_units = units * quarters // 4
            if dsp and quarters and lut_units == units * (quarters - 1) // 4:
                continue  # as with a quarter less
            on_dsp = lanes * (units - lut_units)
            decoded = weights.format.decoded.bits + costs.decode_luts(group.input.format, weights.format, site.family)
            luts_here = luts + lanes * lut_units * in_luts + on_dsp * (bits + decoded)
            stage = replace(stage, lut_units=lut_units if dsp else 0)
            blocks = (units - lut_units) * costs.dsp_blocks(lanes, site.family)  # a unit shares none with others
            found += self._with_requantisation(stage, Cost(_window_cycles(where), int(luts_here), ebr, blocks), where)
        return found

    def sparse(self, width, units, dsp):
        """Ways to build a stage of dot products that skips zeros."""
        group, site = self.group, self.site
        weights, source, where = group.main.weights, group.input.format, windows_of(group, width)
        code_bits, streams, positions = weights.format.bits, units * width, where.out_height * where.out_width
        run_bits = best_run_bits(group.main, group.image[2], width, units)
        entries, words = entries_of_layer(group.main, group.image[2], width, run_bits)
        plain = Coding(width, units, run_bits).lengths(entries)
        acc_bits = accumulator_shape(self.network, group).width
        place_bits = (2 * words).bit_length()
        luts = costs.STAGE + streams * 2 * place_bits + units * acc_bits * 2
        ebr = 0
        if is_unfolded(where):
            luts += costs.STAGE
            ebr += self._blocks("ram", source.bits * width, rows_held(where) * where.row_words)
        if not lengths_in_logic(plain) and plain.min() != plain.max():
            ebr += self._blocks("rom", int(plain.max()).bit_length(), len(plain))
        in_luts = costs.product_luts(source, weights.format, site.family, width)
        on_dsp_luts = source.bits + code_bits + costs.decode_luts(source, weights.format, site.family)
        typical = max(int(plain.min()), int(plain.mean()) // 2)
        found = []
        for place, place_luts, blocks in self._vectors(source.bits, 2 * words):
            stage = StagePlan(self.name, "dot", self.layers, width, units, units, dsp=dsp, rows_place=place,
                              run_bits=run_bits)
            products = streams * (on_dsp_luts if dsp else in_luts)
            dsps = units * costs.dsp_blocks(width, site.family) if dsp else 0
            for out_width in _out_widths(units, typical, group):
                beats = -(-units // out_width)
                for way in requantise_ways(self.network, group, out_width, typical // beats, dsp, site):
                    lengths = Coding(width, units, run_bits, max(2, beats * way.steps)).lengths(entries)
                    depth, word = int(lengths.sum()), streams * (code_bits + run_bits)
                    in_logic = depth * word <= 256
                    roms = 0 if in_logic else self._blocks("rom", word, depth)
                    filled_in = words + 3 * site.latency + 1  # from when there is room to when it can be read
                    cycles = max(positions * max(depth, filled_in), where.height * where.row_words)
                    cost = Cost(cycles, int(luts + products + streams * place_luts + way.lut4),
                                ebr + roms + streams * blocks + way.ebr, dsps + way.dsp)
                    found.append(Option(replace(
                        stage, out_width=out_width, parameters_place=way.place, steps=way.steps,
                        weights_place="lut" if in_logic else "ebr"), cost))
        return found

    def _vectors(self, bits, depth):
        """(place, LUT4s, block RAMs) of a memory of vectors: in block RAM, and in LUTs where it is short."""
        ways = [("ebr", 0, self._blocks("ram", bits, depth))]
        if self.site.family == "ecp5" and depth <= costs.ROWS_IN_LUTS:
            sixteens = -(-depth // 16)
            ways.append(("lut", -(-bits // 4) * (6 * sixteens + 4 * (sixteens - 1)), 0))
        return ways

    def _with_requantisation(self, stage, base, where):
        """A stage's options of different output widths and requantisers, and of its rows in blocks or LUTs."""
        found, bits, width = [], self.group.input.format.bits, stage.width
        rows = [
            (place, costs.row_luts(where, bits, width, place),
             costs.line_blocks(where, bits, width, self.site.family, self.site.latency, place))
            for place in costs.rows_places(where, self.site.family)
        ]
        for out_width in _out_widths(stage.units, where.cost, self.group):
            most_steps = where.cost // -(-stage.units // out_width)
            for way in requantise_ways(self.network, self.group, out_width, most_steps, stage.dsp, self.site):
                chosen = replace(stage, out_width=out_width, parameters_place=way.place, steps=way.steps)
                for place, luts, ebr in rows:
                    cost = Cost(base.cycles, base.lut4 + way.lut4 + luts, base.ebr + way.ebr + ebr, base.dsp + way.dsp)
                    found.append(Option(replace(chosen, rows_place=place), cost))
        return found


def _multiplies(group):
    """Whether the products of a stage of dot products can be on DSP blocks."""
    x, w = group.input.format, group.main.weights.format
    if x.kind == "bipolar" or x.bits > 8:
        return False
    return w.kind in ("codebook", "float16") or (w.kind in ("int", "bitmask") and w.high <= 127)


def _stream_widths(group):
    """Widths at which streams are joined and parted: so that every part is whole beats."""
    if group.kind == "softmax":
        return [1]
    channels = [image_of(tensor)[2] for tensor in group.inputs or [group.results]]
    layer = group.main
    if group.kind == "order":
        (*_, size), (*_, stride), base = order_of(group)
        if stride != 1:
            return [1]
        channels += [size, base] if base else [size]
    if group.kind in ("slice", "pad"):
        parts = (layer.begin, layer.sizes) if group.kind == "slice" else (layer.before, layer.after)
        channels += [part[-1] for part in parts if part[-1]]
        if group.kind == "slice" and layer.steps[-1] != 1:
            return [1]
    return [width for width in _divisors(gcd(*channels)) if width <= 64]


def _word_widths(group):
    """Words worth trying: divisors of the channels, and round numbers for long vectors."""
    channels = group.image[2]
    if isinstance(group.main, Conv) and not group.depthwise:
        channels //= group.main.groups
    widths = {w for w in _divisors(channels) if w <= 256}
    if (isinstance(group.main, Dense) and filled(group.main.weights.format)) or group.kind == "map":
        widths |= {w for w in (2, 4, 8, 16, 32, 64, 128) if w < channels and -channels % w <= channels / 8}
    if hasattr(group.main, "weights"):
        widths = {w for w in widths if able_width(group, w)} or {channels}
    return sorted(widths)


def _units(group):
    outputs = group.main.weights.codes.shape[0]
    if not isinstance(group.main, Dense):
        outputs //= group.main.groups
    units = {u for u in _divisors(outputs) if u <= 512}
    if isinstance(group.main, Dense) or group.main.groups == 1:  # the last group of a pixel may have idle units
        units |= {u for u in range(3, min(outputs, MOST_UNEVEN)) if -outputs % u <= outputs * MOST_IDLE}
    return sorted(units)


def _window_cycles(where):
    """Cycles a frame of a window: to read it, and to have it written."""
    groups = where.out_height * where.out_width * where.position_groups
    return max(groups * where.cost, where.height * where.row_words)


def _out_widths(units, cost, group):
    """Output widths by which a group's results leave before the next group's are there: the narrowest few."""
    flat = any(isinstance(layer, Flatten) for layer in group.layers[1:])
    able = [w for w in _divisors(units) if -(-units // w) <= cost and not (flat and group.channels_out % w)]
    return [*able[:3], *able[-1:]] if len(able) > 3 else able or [units]


def unbeaten(options):
    """Options that no other of the same widths beats in cycles, LUTs, EBRs and DSPs alike."""
    kept = {}
    for option in sorted(options, key=lambda o: (o.cost.cycles, o.cost.lut4, o.cost.ebr, o.cost.dsp)):
        c = option.cost
        same = kept.setdefault((option.stage.width, option.stage.out_width), [])
        if not any(k.cost.lut4 <= c.lut4 and k.cost.ebr <= c.ebr and k.cost.dsp <= c.dsp for k in same):
            same.append(option)
    return [option for same in kept.values() for option in same]
