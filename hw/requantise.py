"""From a requantising layer of the network to the unit that computes it, its numbers laid out beat by beat."""

from functools import partial

import numpy as np
from amaranth.hdl import Cat, Const, Module, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw import multiply, multiply_steps, offset, thresholds
from lutloom.network import Multiply, Offset, Thresholds


def by_beat(values, lanes, fill=0):
    """Numbers a channel, (C, ...), as (beats, lanes, ...); the last beat filled up."""
    values = np.asarray(values)
    spare = -len(values) % lanes
    padded = np.concatenate([values, np.full((spare, *values.shape[1:]), fill, values.dtype)]) if spare else values
    return padded.reshape(-1, lanes, *values.shape[1:])


def same_everywhere(layer):
    """Whether a requantisation is that of the first channel in all of them, as for the pixels of a flat input."""
    numbers = (layer.values, layer.falling) if isinstance(layer, Thresholds) else (
        layer.multiplier, layer.shift, layer.offset, layer.fraction)
    return all((array == array[:1]).all() for array in numbers)


class Doubled(wiring.Component):
    """A requantiser of sums 2p - center behind counts p: doubling is wiring, the constant is its own business.

    Parameters
    ----------
    inner : component
        Takes accumulators of twice the counts.
    count_shape : Shape
    lanes : int
    """

    def __init__(self, inner, count_shape, lanes):
        self._inner, self._lanes = inner, lanes
        members = inner.signature.members
        super().__init__(
            {
                "i_valid": In(1),
                "i_acc": In(data.ArrayLayout(count_shape, lanes)),
                "i_beat": In(members["i_beat"].shape),
                "o_valid": Out(1),
                "o": Out(members["o"].shape),
            }
        )

    @property
    def beats(self):
        """Beats with parameters of their own."""
        return self._inner.beats

    @property
    def steps(self):
        """Cycles from a beat to the next one, at least."""
        return steps_of(self._inner)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._inner.delay

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self._inner
        m.d.comb += [
            inner.i_valid.eq(self.i_valid),
            inner.i_beat.eq(self.i_beat),
            self.o_valid.eq(inner.o_valid),
            self.o.eq(inner.o),
        ]
        for lane in range(self._lanes):
            m.d.comb += inner.i_acc[lane].eq(Cat(Const(0, 1), self.i_acc[lane]))
        return m


def steps_of(requantise):
    """Cycles from a beat to the next one that a requantiser (or none) can take."""
    return getattr(requantise, "steps", 1)


def make_requantise(
    layer, *, name, tensor, acc_shape, lanes, out_format, place, channels, dsp, latency, center=None, patchable=False,
    steps=1, paired=False,
):
    """The unit for a layer; None where nothing is to be done.

    Parameters
    ----------
    layer : Thresholds, Multiply, Offset or None
    name : str
        Prefix of its memories' names.
    tensor : Tensor
        In front of the layer.
    acc_shape : Shape
        What the hardware gives in front of it.
    lanes : int
        Values a beat.
    out_format : Format
    place : "ebr" or "lut"
    channels : int
    dsp : bool
    latency : 1 or 2
        Of memories.
    center : int, optional
        The hardware gives counts of matches p, and the sum is 2p - center.
    patchable : bool
        No width may depend on the numbers themselves.
    steps : int
        In which a multiplication is done; beats are then so many cycles apart.
    paired : bool
        For a chip whose adders gate their operands.
    """
    shared = dict(name=name, lanes=lanes, latency=latency, place=place)
    if isinstance(layer, Thresholds):
        values, falling = layer.values, layer.falling
        low, high = tensor.low, tensor.high
        if center is not None:
            values = -((-(values + center)) // 2)
            low, high = 0, center
        if patchable:
            low = high = None
        has_falling = patchable or bool(falling.any())
        if not patchable and same_everywhere(layer):  # one beat's thresholds serve all
            values, falling = values[:1].repeat(lanes, axis=0), falling[:1].repeat(lanes)
        return thresholds.Thresholds(
            acc_shape=acc_shape, values=by_beat(values, lanes), base=layer.base, out_format=out_format,
            falling=by_beat(falling, lanes) if has_falling else None, acc_low=low, acc_high=high, **shared,
        )
    doubled = unsigned(acc_shape.width + 1)
    if isinstance(layer, Multiply):
        make = multiply.Multiply
        if steps > 1:
            make = partial(multiply_steps.SteppedMultiply, steps=steps)
        numbers = {
            "multiplier": layer.multiplier, "shift": layer.shift, "offset": layer.offset - (center or 0),
            "fraction": layer.fraction,
        }
        if not patchable and same_everywhere(layer):
            numbers = {what: array[:1].repeat(lanes) for what, array in numbers.items()}
        numbers = {what: by_beat(array, lanes, int(what == "shift") * int(array[0])) for what, array in numbers.items()}
        unit = make(
            acc_shape=acc_shape if center is None else doubled, **numbers,
            zero_point=layer.zero_point, low=layer.low, high=layer.high, rounding=layer.rounding,
            out_format=out_format, dsp=dsp, paired=paired, **shared,
        )
        return unit if center is None else Doubled(unit, acc_shape, lanes)
    if layer is None and center is None:
        return None
    values = layer.values if isinstance(layer, Offset) else np.zeros(channels, np.int64)
    unit = offset.Offset(
        acc_shape=acc_shape if center is None else doubled, values=by_beat(values - (center or 0), lanes),
        out_shape=signed(out_format.bits) if out_format.signed else unsigned(out_format.bits),
        value_shape=signed(out_format.bits) if patchable else None, **shared,
    )
    return unit if center is None else Doubled(unit, acc_shape, lanes)
