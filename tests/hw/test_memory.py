"""Memories in Amaranth's simulator, their errors, and what a target collects."""

import random

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module
from amaranth.sim import Simulator

from lutloom.hw.memory import MemorySpec, Ram, Rom, Target

# What refuses its parameters is never elaborated.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


def simulate(unit, bench):
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("place", ["ebr", "lut"])
@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("width,depth", [(1, 1), (5, 2), (8, 7), (33, 8), (200, 9)])
def test_rom_reads_its_words(width, depth, latency, place):
    rng = random.Random(width)
    words = [rng.getrandbits(width) for _ in range(max(1, depth - 1))]  # the last word is left out: zero
    rom = Rom(name="r", width=width, depth=depth, init=words, latency=latency, place=place)
    addresses = [rng.randrange(depth) for _ in range(40)]

    async def bench(ctx):
        for cycle, address in enumerate([*addresses, *[0] * latency]):
            if cycle >= latency:
                asked = addresses[cycle - latency]
                assert ctx.get(rom.o_data) == rom.model(asked), (cycle, asked)
            ctx.set(rom.i_addr, address)
            await ctx.tick()

    simulate(rom, bench)
    assert rom.model(depth - 1) == (words[0] if depth == 1 else 0)


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("width,depth", [(1, 2), (4, 5), (17, 8)])
def test_ram_gives_back_what_was_written(width, depth, latency):
    rng = random.Random(depth)
    ram = Ram(name="r", width=width, depth=depth, latency=latency)

    async def bench(ctx):
        held = {}
        for address in range(depth):
            held[address] = rng.getrandbits(width)
            ctx.set(ram.i_write_en, 1)
            ctx.set(ram.i_write_addr, address)
            ctx.set(ram.i_write_data, held[address])
            await ctx.tick()
        expected = []
        for cycle in range(60):
            if cycle >= latency:
                assert ctx.get(ram.o_data) == expected[cycle - latency], cycle
            address = rng.randrange(depth)
            other, word, write = (address + rng.randrange(1, depth)) % depth, rng.getrandbits(width), rng.randrange(2)
            expected.append(held[address])
            ctx.set(ram.i_addr, address)
            ctx.set(ram.i_write_en, write)
            ctx.set(ram.i_write_addr, other)
            ctx.set(ram.i_write_data, word)
            if write:
                held[other] = word
            await ctx.tick()

    simulate(ram, bench)


class Two(Elaboratable):
    def __init__(self, names):
        self.names = names

    def elaborate(self, platform):
        m = Module()
        m.submodules += [Rom(name=name, width=3, depth=4, init=[1, 2]) for name in self.names]
        m.submodules += Ram(name="buffer", width=3, depth=4)
        return m


@pytest.mark.parametrize("family", ["generic", "ice40", "ecp5"])
def test_target_collects_memories_and_gets_instances(family):
    target = Target(family)
    text = rtlil.convert(Two("ab"), platform=target, ports=[])
    assert list(target.specs) == ["a", "b", "buffer"] and target.images == {"a": [1, 2], "b": [1, 2]}
    assert r"cell \lutloom_rom_a" in text and r"cell \lutloom_ram_buffer" in text and "memory width" not in text


@pytest.mark.parametrize("platform", [None, Target("sim")])
def test_simulation_has_memories_of_amaranth(platform):
    text = rtlil.convert(Two("ab"), platform=platform, ports=[])
    assert "lutloom_rom" not in text and text.count("memory width 3 size 4") == 3


def test_names_must_be_unique():
    with pytest.raises(ValueError, match="memory name must be unique, but 'a' is there twice"):
        rtlil.convert(Two("aa"), platform=Target("ice40"), ports=[])


@pytest.mark.parametrize("change,message", [
    ({"name": "a b"}, "memory name must be a Verilog identifier, not 'a b'"),
    ({"width": 0}, "memory width must be a positive integer, not 0"),
    ({"depth": 2.5}, "memory depth must be a positive integer, not 2.5"),
    ({"latency": 4}, "memory latency must be 1, 2 or 3 cycles, not 4"),
    ({"place": "flash"}, "memory place must be ebr or lut, not 'flash'"),
    ({"init": [0] * 5}, "memory 'm' holds 4 words, not 5"),
    ({"init": [1, 4]}, r"word 1 of memory 'm' must be in 0 ... 2\*\*2 - 1, not 4"),
    ({"init": [-1]}, r"word 0 of memory 'm' must be in 0 ... 2\*\*2 - 1, not -1"),
])
def test_rom_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        Rom(**{"name": "m", "width": 2, "depth": 4, **change})


def test_others_refuse():
    with pytest.raises(ValueError, match="memory kind must be rom or ram, not 'flash'"):
        MemorySpec("m", "flash", 1, 1)
    with pytest.raises(ValueError, match="target family must be one of sim, generic, ice40, ecp5, not 'xc7'"):
        Target("xc7")
