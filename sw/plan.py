"""The plan: which layers make which stage, and what hardware each stage gets. The network knows none of it."""

import json
from dataclasses import asdict, dataclass, field, replace

from lutloom.errors import BuildError, ModelError
from lutloom.network import (
    Add,
    Broadcast,
    Concat,
    Constant,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Offset,
    Pad,
    Product,
    Reshape,
    Slice,
    Softmax,
    State,
    Sum,
    SumPool,
    Table,
    Thresholds,
    Times,
    TopK,
    Transpose,
    inputs_of,
)

FORMAT_VERSION = 1
STEPS_IN_LUTS = 4  # from here on a step's product is so narrow that DSP blocks serve better elsewhere


@dataclass(frozen=True)
class StagePlan:
    """Hardware of one stage.

    Parameters
    ----------
    name : str
        Of its first layer that does something; a Verilog identifier.
    kind : "dot", "pool", "map", "topk", "join", "softmax", "concat", "slice", "pad", "order", "constant" or "state"
    layers : tuple of str
        Names of the network's layers that it computes, in order.
    width : int
        Values a word that the stage reads; a dot product has ``kernel rows · width`` lanes.
    units : int
        Outputs computed side by side.
    out_width : int
        Values a beat that the stage gives.
    dsp : bool
        Products on DSP blocks; those of a requantisation only if it takes fewer than ``STEPS_IN_LUTS`` steps.
    lut_units : int
        With ``dsp``: so many of the units have their products in LUTs all the same.
    steps : int
        Cycles of a requantisation by multiplying: 1 pipelined, more with a narrower multiplier used again and again.
    credits : int
        Output beats that its buffer holds.
    weights_place, parameters_place, rows_place : "ebr" or "lut"
        Of weights, of the requantiser's numbers, and of the rows (or vectors) that a window holds.
    run_bits : int
        Of the step from one weight that is not zero to the next, where zeros are skipped; 0: all weights are stored.
    table_place : "ebr" or "lut"
        Of the table of a codebook of groups.
    packed : bool
        Ternary weights lie in their ROM five in a byte.
    buffers : tuple of int
        Beats held by a buffer in front of each input, where ways of different length meet; 0: there is none.
    """

    name: str
    kind: str
    layers: tuple[str, ...]
    width: int
    units: int
    out_width: int
    dsp: bool = False
    lut_units: int = 0
    steps: int = 1
    credits: int = 2
    weights_place: str = "ebr"
    parameters_place: str = "lut"
    rows_place: str = "ebr"
    run_bits: int = 0
    table_place: str = "ebr"
    packed: bool = False
    buffers: tuple[int, ...] = ()

    @property
    def requantise_dsp(self):
        """Whether the requantisation multiplies on DSP blocks."""
        return self.dsp and self.steps < STEPS_IN_LUTS


@dataclass(frozen=True)
class Plan:
    """Stages in order, and what holds for all of them.

    Parameters
    ----------
    style : "dataflow"
    family : "ice40", "ecp5" or "generic"
    input_width : int
        Values a beat at the core's input.
    stages : tuple of StagePlan
    patchable : bool
        Widths by the formats' bounds, and every number that depends on the weights in memories.
    """

    style: str
    family: str
    input_width: int
    stages: tuple[StagePlan, ...]
    patchable: bool = False

    @property
    def memory_latency(self):
        """Cycles from address to data: ECP5 blocks have an output register, and need it for their clock."""
        return 2 if self.family == "ecp5" else 1

    @property
    def paired(self):
        """Whether adders gate their operands: an ECP5's carry chain has a LUT of four inputs at each bit."""
        return self.family == "ecp5"

    def with_stage(self, index, **changes):
        """The same plan with one stage changed."""
        stages = list(self.stages)
        stages[index] = replace(stages[index], **changes)
        return replace(self, stages=tuple(stages))

    def as_dict(self):
        """What ``plan.json`` keeps of it."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, kept):
        """The plan that ``as_dict`` gave; BuildError for another version."""
        if kept.get("format_version") != FORMAT_VERSION:
            raise BuildError(
                f"plan.json has format version {kept.get('format_version')!r}, but this Lutloom reads "
                f"{FORMAT_VERSION}; build the folder again"
            )
        tuples = ("layers", "buffers")
        stages = tuple(
            StagePlan(**{what: tuple(value) if what in tuples else value for what, value in stage.items()})
            for stage in kept["stages"]
        )
        return cls(kept["style"], kept["family"], kept["input_width"], stages, kept["patchable"])

    @classmethod
    def load(cls, path):
        """Read ``plan.json``."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BuildError(f"{path} is not a plan ({error}); build the folder again") from None


@dataclass(frozen=True)
class Group:
    """Layers that one stage computes: the work, and the requantisation behind it.

    Parameters
    ----------
    kind : as in StagePlan
    layers : tuple of layers
    main : the layer that does the work
    requantise : Thresholds, Multiply, Offset, Table or None
        What is done to main's results; for a map stage main itself.
    inputs : tuple of Tensor
        What main takes, as it sees them: flattened, perhaps.
    output : Tensor
        What the stage gives, as the network means it (flattened, perhaps, at the network's end).
    results : Tensor
        What the stage gives, as it streams.
    sources : tuple of int or None
        Which group gives each input; None: the network's input.
    """

    kind: str
    layers: tuple
    main: object
    requantise: object
    inputs: tuple
    output: object
    results: object = field(default=None)
    sources: tuple = ()

    @property
    def input(self):
        """The first input."""
        return self.inputs[0]

    @property
    def image(self):
        """(H, W, C) of the first input, of the results where there is none; a vector is one pixel."""
        return image_of(self.input if self.inputs else self.results)

    @property
    def channels_out(self):
        """Channels of the output, before a flattening behind it."""
        return self.results.shape[-1]

    @property
    def depthwise(self):
        """Whether it is a convolution of each channel by itself."""
        main = self.main
        return isinstance(main, Conv) and main.groups > 1 and main.weights.codes.shape[3] == 1


def window_of(group):
    """The window of a convolution or pooling as hardware runs it.

    A feature map one pixel wide, and one that the window covers as a whole, are taken as a single row: the stream is
    the same, and one memory serves where each row of the kernel would have its own.

    Parameters
    ----------
    group : Group

    Returns
    -------
    dict of height, width, kernel, stride, dilation, pads
        As ``lutloom.hw.geometry.Geometry`` takes them.
    """
    main, (height, across, channels) = group.main, group.image
    kernel = tuple(main.weights.codes.shape[1:3]) if isinstance(main, Conv) else tuple(main.kernel)
    stride, dilation, pads = tuple(main.stride), tuple(getattr(main, "dilation", (1, 1))), tuple(main.pads)
    # Groups of weights may go across the rows of a kernel column, which then must stay side by side.
    upright = isinstance(main, Conv) and channels // main.groups % main.weights.format.group > 0
    if upright:
        pass
    elif kernel[0] > 1 and across == kernel[1] == 1 and not pads[1] and not pads[3]:
        height, across, kernel, stride, dilation = 1, height, (1, kernel[0]), (1, stride[0]), (1, dilation[0])
        pads = 0, pads[0], 0, pads[2]
    elif kernel[0] > 1 and kernel == (height, across) and not any(pads):
        height, across, kernel, stride, dilation = 1, height * across, (1, kernel[0] * kernel[1]), (1, 1), (1, 1)
    return dict(height=height, width=across, kernel=kernel, stride=stride, dilation=dilation, pads=pads)


def image_of(tensor):
    """(H, W, C) of a tensor; a vector is one pixel."""
    shape = tensor.shape
    return shape if len(shape) == 3 else (1, 1, shape[0])


def beats_of(tensor, width):
    """Beats of a frame of a tensor that streams ``width`` values a beat."""
    height, across, channels = image_of(tensor)
    return height * across * -(-channels // width)


def pools_whole_map(group):
    """Whether a pooling's only window is the whole feature map, all of whose pixels count alike."""
    main, (height, across, _) = group.main, group.image
    if not isinstance(main, MaxPool | SumPool) or height * across == 1:
        return False
    alike = isinstance(main, MaxPool) or bool((main.factors == 1).all())
    return alike and tuple(main.kernel) == (height, across) and not any(main.pads)


def order_of(group):
    """How a stage's results stand in its input's raster, in values: sizes, strides and base as ``Reorder`` takes them.

    Parameters
    ----------
    group : Group
        Of a Transpose, a Broadcast or a Slice.
    """
    layer, shape = group.main, group.image
    strides = shape[1] * shape[2], shape[2], 1
    sizes = image_of(group.results)
    if isinstance(layer, Transpose):
        return sizes, tuple(strides[axis] for axis in layer.order), 0
    if isinstance(layer, Broadcast):
        return sizes, tuple(0 if side == 1 else stride for side, stride in zip(shape, strides, strict=True)), 0
    missing = 3 - len(layer.begin)
    begin, steps = (0,) * missing + tuple(layer.begin), (1,) * missing + tuple(layer.steps)
    return (sizes, tuple(step * stride for step, stride in zip(steps, strides, strict=True)),
            sum(start * stride for start, stride in zip(begin, strides, strict=True)))


VIEWS = Flatten | Reshape
REQUANTISERS = Thresholds | Multiply | Offset


def group_layers(network):
    """Cut a network into stages' worth, in the order of its layers.

    A requantisation belongs to the work in front of it where nothing else reads that; a flattening costs nothing and
    belongs to the work behind it, or to the last one.

    Raises
    ------
    ModelError
        For what has no hardware.
    """
    readers = {}
    for layer in network.layers:
        for name in inputs_of(layer):
            readers.setdefault(name, []).append(layer)
    views, waiting, taken, groups = {}, {}, set(), []
    for layer in network.layers:
        if layer.name in taken:
            continue
        if isinstance(layer, VIEWS):
            base = views.get(layer.input, layer.input)
            views[layer.output] = base
            waiting[layer.output] = (*waiting.pop(layer.input, ()), layer)
            continue
        kind, requantise = _kind(layer), None
        layers = [view for name in inputs_of(layer) for view in waiting.pop(name, ())] + [layer]
        if kind == "map":
            requantise = layer
        elif (kind in ("dot", "pool") or isinstance(layer, Sum | Times)) and layer.output != network.output:
            behind = readers.get(layer.output, [])
            if len(behind) == 1 and isinstance(behind[0], REQUANTISERS):
                requantise = behind[0]
                layers.append(requantise)
                taken.add(requantise.name)
        results = network.tensors[layers[-1].output]
        inputs = tuple(network.tensors[name] for name in inputs_of(layer))
        groups.append(Group(kind, tuple(layers), layer, requantise, inputs, results, results))
    if not groups:
        raise ModelError("the network only flattens its input: there is nothing to build")
    return _with_sources(network, groups, views, waiting)


def _with_sources(network, groups, views, waiting):
    """The groups with the numbers of those that feed them; views at the network's end belong to what feeds them."""
    by_result = {group.results.name: index for index, group in enumerate(groups)}
    base = views.get(network.output, network.output)
    if base not in by_result:
        raise ModelError("the network's output is its input, only shaped anew: there is nothing to build")
    last = groups[by_result[base]]
    if network.output in views:
        groups[by_result[base]] = replace(
            last, layers=(*last.layers, *waiting.pop(network.output, ())), output=network.tensors[network.output]
        )
    found = []
    for group in groups:
        names = [views.get(tensor.name, tensor.name) for tensor in group.inputs]
        sources = tuple(by_result.get(name) for name in names)
        for name, source in zip(names, sources, strict=True):
            if source is None and name != network.input:
                raise ModelError(f"layer {group.main.name!r} reads {name!r}, which no stage gives")
        found.append(replace(group, sources=sources))
    return found


def is_chain(groups):
    """Whether each group takes only what the one before gives."""
    return all(group.sources == ((index - 1) if index else None,) for index, group in enumerate(groups))


def last_group(network, groups):
    """Number of the group that gives the network's output."""
    return next(index for index, group in enumerate(groups) if group.output.name == network.output)


_KINDS = (
    (Conv | Dense, "dot"), (MaxPool | SumPool, "pool"), (Thresholds | Multiply | Offset | Table, "map"),
    (TopK, "topk"), (Add | Product | Sum | Times, "join"), (Softmax, "softmax"), (Concat, "concat"), (Slice, "slice"),
    (Pad, "pad"), (State, "state"), (Transpose | Broadcast, "order"), (Constant, "constant"),
)


def _kind(layer):
    """The kind of stage that does a layer's work."""
    if isinstance(layer, Slice) and any(size > 1 > step for size, step in zip(layer.sizes, layer.steps, strict=True)):
        return "order"  # backwards
    for types, kind in _KINDS:
        if isinstance(layer, types):
            return kind
    raise ModelError(f"layer {layer.name!r} ({type(layer).__name__}) is not supported in hardware yet")


def identifier(name):
    """A Verilog identifier made of a layer's name."""
    kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_") or "layer"
    return kept if kept[0].isalpha() else f"l{kept}"
