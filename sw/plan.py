"""The plan: which layers make which stage, and what hardware each stage gets. The network knows none of it."""

import json
from dataclasses import asdict, dataclass, field, replace

from lutloom.errors import BuildError, ModelError
from lutloom.network import Conv, Dense, Flatten, MaxPool, Multiply, Offset, State, SumPool, Thresholds, TopK

FORMAT_VERSION = 1


@dataclass(frozen=True)
class StagePlan:
    """Hardware of one stage.

    Parameters
    ----------
    name : str
        Of its first layer that does something; a Verilog identifier.
    kind : "dot", "pool", "map" or "topk"
    layers : tuple of str
        Names of the network's layers that it computes, in order.
    width : int
        Values a word that the stage reads; a dot product has ``kernel rows · width`` lanes.
    units : int
        Outputs computed side by side.
    out_width : int
        Values a beat that the stage gives.
    dsp : bool
        Products on DSP blocks.
    credits : int
        Output beats that its buffer holds.
    weights_place, parameters_place : "ebr" or "lut"
    """

    name: str
    kind: str
    layers: tuple[str, ...]
    width: int
    units: int
    out_width: int
    dsp: bool = False
    credits: int = 2
    weights_place: str = "ebr"
    parameters_place: str = "lut"


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
        stages = tuple(StagePlan(**{**stage, "layers": tuple(stage["layers"])}) for stage in kept["stages"])
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
    main : the Conv, Dense, MaxPool, SumPool, Thresholds, Multiply or TopK
    requantise : Thresholds, Multiply, Offset or None
        What is done to main's results; for a map stage main itself.
    input, output : Tensor
    """

    kind: str
    layers: tuple
    main: object
    requantise: object
    input: object
    output: object
    results: object = field(default=None)

    @property
    def image(self):
        """(H, W, C) of the input; a vector is one pixel."""
        shape = self.input.shape
        return shape if len(shape) == 3 else (1, 1, shape[0])

    @property
    def channels_out(self):
        """Channels of the output, before a flattening behind it."""
        return self.results.shape[-1]


def group_layers(network):
    """Cut a chain of layers into stages' worth, in order.

    A requantisation belongs to the work in front of it; a flattening costs nothing and belongs to the work behind it,
    or to the last one.

    Raises
    ------
    ModelError
        If the network is not a chain.
    """
    layers = _chain(network)
    groups = []
    while layers:
        flat = _leading(layers, Flatten)
        if len(flat) == len(layers):
            if not groups:
                raise ModelError("the network only flattens its input: there is nothing to build")
            output = network.tensors[flat[-1].output]
            groups[-1] = replace(groups[-1], layers=(*groups[-1].layers, *flat), output=output)
            return groups
        main, rest = layers[len(flat)], layers[len(flat) + 1 :]
        kind = _kind(main)
        requantise = main if kind == "map" else None
        taken = [*flat, main]
        if kind in ("dot", "pool") and rest and isinstance(rest[0], Thresholds | Multiply | Offset):
            requantise = rest.pop(0)
            taken.append(requantise)
        results = network.tensors[taken[-1].output]
        groups.append(Group(kind, tuple(taken), main, requantise, network.tensors[main.input], results, results))
        layers = rest
    return groups


def _chain(network):
    """The layers as a list; ModelError unless each reads what the one before gives."""
    tensor = network.input
    for layer in network.layers:
        if not hasattr(layer, "input") or isinstance(layer, State):
            raise ModelError(f"layer {layer.name!r} ({type(layer).__name__}) is not supported in hardware yet")
        if layer.input != tensor:
            raise ModelError(
                f"layer {layer.name!r} reads {layer.input!r}, but the chain is at {tensor!r}; "
                "branches are not supported in hardware yet"
            )
        tensor = layer.output
    return list(network.layers)


def _leading(layers, kind):
    """The layers of a kind at the front."""
    count = next((index for index, layer in enumerate(layers) if not isinstance(layer, kind)), len(layers))
    return layers[:count]


def _kind(layer):
    """The kind of stage that does a layer's work."""
    if isinstance(layer, Conv | Dense):
        return "dot"
    if isinstance(layer, MaxPool | SumPool):
        return "pool"
    if isinstance(layer, Thresholds | Multiply | Offset):
        return "map"
    if isinstance(layer, TopK):
        return "topk"
    raise ModelError(f"layer {layer.name!r} ({type(layer).__name__}) is not supported in hardware yet")


def identifier(name):
    """A Verilog identifier made of a layer's name."""
    kept = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).strip("_") or "layer"
    return kept if kept[0].isalpha() else f"l{kept}"
