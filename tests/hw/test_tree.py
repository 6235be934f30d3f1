"""Adder trees with carries and offcuts, and trees that find the greatest: against their models, cycle for cycle."""

import numpy as np
import pytest
from amaranth.hdl import Const, Elaboratable, Module, Signal, signed, unsigned
from bench import differences, packed, play

from lutloom.hw.planes import Plane, add_planes, plane_levels
from lutloom.hw.tree import AdderTree, MaxTree, Term, add_terms, range_of, shape_of

COUNTS = [1, 2, 3, 4, 5, 7, 8, 9]


@pytest.mark.parametrize("kind", [AdderTree, MaxTree])
@pytest.mark.parametrize("shape", [unsigned(1), unsigned(5), signed(4)], ids=str)
@pytest.mark.parametrize("count", COUNTS)
def test_trees(kind, shape, count):
    low, high = range_of(shape)
    rng = np.random.default_rng(count)
    corners = [np.full(count, low), np.full(count, high), np.where(np.arange(count) % 2, low, high)]
    values = np.concatenate([corners, rng.integers(low, high + 1, (30, count))])
    unit = kind(shape=shape, count=count)
    words = packed(values, shape.width) + [0] * (unit.delay + 1)
    assert differences(play(unit, {"i": words}, ["o"])["o"], unit.model(values).tolist(), unit.delay) == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("carries", ["none", "some", "all"])
def test_carries_are_added(count, carries):
    # Constants are enough: each adder must take in a carry, or hand on the one that it does not take in.
    chosen = {"none": [], "some": range(0, count, 2), "all": range(count)}[carries]
    terms = [Term(Const(n - 3, signed(8)), n - 3, n - 3, Const(1, 1) if n in chosen else None) for n in range(count)]

    class Sum(Elaboratable):
        i, o = Signal(), Signal(signed(12))

        def elaborate(self, platform):
            m = Module()
            total, Sum.levels = add_terms(m, terms)
            assert total.carry is None
            m.d.comb += self.o.eq(total.value)
            return m

    got = play(Sum(), {"i": [0] * 12}, ["o"])["o"]
    assert got[-1] == sum(range(-3, count - 3)) + len(chosen)
    assert Sum.levels <= max(1, count).bit_length() + 1


@pytest.mark.parametrize("shifts", [(0,), (2,), (0, 1), (0, 3, 9), (1, 1, 2), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("low,high", [(0, 5), (-4, 3)])
def test_planes(shifts, negative, low, high):
    class Sum(Elaboratable):
        i, o = Signal(8 * len(shifts)), Signal(signed(24))

        def elaborate(self, platform):
            m = Module()
            values = [self.i.word_select(n, 8).as_signed() for n in range(len(shifts))]
            planes = [
                Plane(value, low, high, shift, negative and n == len(shifts) - 1)
                for n, (value, shift) in enumerate(zip(values, shifts, strict=True))
            ]
            total = add_planes(m, planes)
            m.d.comb += self.o.eq(total.value << total.shift)
            return m

    values = np.random.default_rng(1).integers(low, high + 1, (40, len(shifts)))
    signs = np.where(np.arange(len(shifts)) == len(shifts) - 1, -1 if negative else 1, 1)
    expected = (values * signs << np.array(shifts)).sum(axis=-1)
    delay = plane_levels(len(shifts), negative)
    got = play(Sum(), {"i": packed(values, 8) + [0] * (delay + 1)}, ["o"])["o"]
    assert differences(got, expected.tolist(), delay) == []


def test_shape_of():
    shapes = [shape_of(*ends) for ends in ((0, 0), (0, 1), (0, 8), (-1, 0), (-8, 7), (-8, 8), (-9, -9))]
    assert shapes == [unsigned(1), unsigned(1), unsigned(4), signed(1), signed(4), signed(5), signed(5)]


def test_errors():
    with pytest.raises(ValueError, match="count must be a positive integer, not 0"):
        AdderTree(shape=unsigned(2), count=0)
    with pytest.raises(ValueError, match="count must be a positive integer, not True"):
        MaxTree(shape=unsigned(2), count=True)
    with pytest.raises(ValueError, match="a number must have at least one bit, not unsigned\\(0\\)"):
        MaxTree(shape=unsigned(0), count=2)
    with pytest.raises(ValueError, match="low must be at most high, not 2 with 1"):
        shape_of(2, 1)
