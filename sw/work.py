"""Multiplications and parameters of layers by the usual formulas, and of cheaper layers in their place.

Of a convolution of N channels to M with a kernel of K² on F² places (of its output): F²·N·K²·M multiplications and
N·K²·M parameters; pointwise (K = 1) F²·N·M, depthwise F²·N·K². In its place:

- depthwise separable: F²·N·K² + F²·N·M, which is 1/M + 1/K² of it; with MobileNets' multipliers α of channels and ρ of
  resolution (ρF)²·αN·K² + (ρF)²·αN·αM
- inception: 1×1 to M/2 channels, then K² (the document's 5×5 of 192 to 32 behind 1×1 to 16)
- bottleneck (ResNet): 1×1 to M/4 channels, K² among these, 1×1 to M
- fire (SqueezeNet): 1×1 to M/8 channels, then half the outputs by 1×1 and half by K²
- grouped (ShuffleNet, also of pointwise ones): F²·N·K²·M / g

Biases are not counted, nor is the shuffling of channels, which multiplies nothing.
"""

# Ref: 003 of the sources (畳み込み層の計算量とパラメータ数); Howard et al., "MobileNets", 2017; Szegedy et al., "Going
# Deeper with Convolutions", 2015; He et al., "Deep Residual Learning for Image Recognition", 2015; Iandola et al.,
# "SqueezeNet", 2016; Zhang et al., "ShuffleNet", 2018.

from dataclasses import dataclass
from math import gcd

from lutloom.network import Conv, Dense
from lutloom.terminal import table

INCEPTION, BOTTLENECK = 2, 4
"""So many times fewer channels than the layer gives stand in the middle."""

FIRE = 8
"""A fire module squeezes to so many times fewer channels than it gives (SqueezeNet's own ratio)."""

GROUPS = 4


@dataclass(frozen=True)
class Work:
    """What a layer costs.

    Parameters
    ----------
    macs : int
        Multiplications a frame.
    parameters : int
        Weights, without biases.
    """

    macs: int
    parameters: int

    def __add__(self, other):
        return Work(self.macs + other.macs, self.parameters + other.parameters)


def convolution(places, channels, taps, outputs, groups=1):
    """Work of a convolution: F² places, N channels, K² taps, M outputs."""
    parameters = channels // groups * taps * outputs
    return Work(places * parameters, parameters)


def separable(places, channels, taps, outputs, width=1, resolution=1):
    """Work of a depthwise and a pointwise convolution, with MobileNets' width (α) and resolution (ρ) multipliers."""
    places, channels, outputs = (round(places * resolution**2), *(round(width * n) for n in (channels, outputs)))
    return convolution(places, channels, taps, channels, channels) + convolution(places, channels, 1, outputs)


def work_of(network):
    """What each layer with weights costs, and what would stand in for it.

    Returns
    -------
    list of dict
        ``name``, ``macs``, ``parameters`` and ``replacements``, a dict of name to {macs, parameters}; empty for layers
        that have none: dense ones, those of one channel, or in groups already.
    """
    rows = []
    for layer in network.layers:
        if isinstance(layer, Dense):
            outputs, channels = layer.weights.codes.shape
            rows.append(_row(layer, convolution(1, channels, 1, outputs), {}))
        elif isinstance(layer, Conv):
            outputs, kh, kw, depth = layer.weights.codes.shape
            height, width, _ = network.tensors[layer.output].shape
            shape = height * width, depth * layer.groups, kh * kw, outputs
            rows.append(_row(layer, convolution(*shape, layer.groups), replacements(*shape, layer.groups)))
    return rows


def replacements(places, channels, taps, outputs, groups=1):
    """Work of cheaper layers in a convolution's place, by name; of a pointwise one that in groups."""
    if channels == 1 or groups > 1:
        return {}
    middle, narrow, squeezed = (-(-outputs // share) for share in (INCEPTION, BOTTLENECK, FIRE))
    half = outputs // 2
    found = {} if taps == 1 else {
        "depthwise separable": separable(places, channels, taps, outputs),
        "depthwise separable, α 1/2": separable(places, channels, taps, outputs, width=0.5),
        f"inception 1/{INCEPTION}": convolution(places, channels, 1, middle)
        + convolution(places, middle, taps, outputs),
        f"bottleneck 1/{BOTTLENECK}": convolution(places, channels, 1, narrow)
        + convolution(places, narrow, taps, narrow) + convolution(places, narrow, 1, outputs),
        f"fire 1/{FIRE}": convolution(places, channels, 1, squeezed)
        + convolution(places, squeezed, 1, half) + convolution(places, squeezed, taps, outputs - half),
    }
    shared = gcd(GROUPS, gcd(channels, outputs))
    if shared > 1:
        found[f"{shared} groups"] = convolution(places, channels, taps, outputs, shared)
    return found


def _row(layer, work, others):
    return {"name": layer.name, "macs": work.macs, "parameters": work.parameters,
            "replacements": {name: {"macs": other.macs, "parameters": other.parameters}
                             for name, other in others.items()}}


def work_table(rows):
    """The rows of ``work_of`` for people: a layer, and under it what would stand in for it."""
    lines = []
    for row in rows:
        lines.append([row["name"], row["macs"], row["parameters"], None, None])
        for name, other in row["replacements"].items():
            lines.append([f"  {name}", other["macs"], other["parameters"], f"{other['macs'] / row['macs']:.0%}",
                          f"{other['parameters'] / row['parameters']:.0%}"])
    lines.append(["all", sum(row["macs"] for row in rows), sum(row["parameters"] for row in rows), None, None])
    return table(lines, ["layer, and in its place", "multiplications", "parameters", "", ""])
