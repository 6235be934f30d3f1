"""The shell's parts in Amaranth's simulator around a stand-in for the core, and its Verilog."""

import random

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from lutloom.board import load_board
from lutloom.hw.selftest import Counters, FrameCheck, FrameSource, selftest_specs
from lutloom.hw.shell import Bench, ResetHold, SelfTest, Shell, shell_verilog
from lutloom.hw.teller import Teller

# What refuses its parameters is never elaborated.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


def run(unit, bench):
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class Core(wiring.Component):
    """Stands in for a core: the sum of a frame's beats, `wait` cycles after each beat; ready in between."""

    def __init__(self, beats, wait, fault=None):
        self.beats, self.wait, self.fault = beats, wait, fault
        super().__init__({
            "s_axis_tdata": In(8), "s_axis_tvalid": In(1), "s_axis_tready": Out(1), "s_axis_tlast": In(1),
            "m_axis_tdata": Out(16), "m_axis_tvalid": Out(1), "m_axis_tready": In(1), "m_axis_tlast": Out(1),
            "frame_error": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        count, beat, frames, total = Signal(8), Signal(8), Signal(8), Signal(16)
        m.d.comb += self.s_axis_tready.eq(count == 0)
        with m.If(count != 0):
            m.d.sync += count.eq(count - 1)
        m.d.sync += self.m_axis_tvalid.eq(0)
        with m.If(self.s_axis_tvalid & self.s_axis_tready):
            end = beat == self.beats - 1
            wrong = frames == 3 if self.fault == "data" else 0
            m.d.sync += [
                count.eq(self.wait), total.eq(Mux(end, 0, total + self.s_axis_tdata)), beat.eq(Mux(end, 0, beat + 1)),
                self.m_axis_tdata.eq(total + self.s_axis_tdata + wrong), self.m_axis_tvalid.eq(end),
                frames.eq(frames + end), self.m_axis_tlast.eq(0 if self.fault == "last" else 1),
            ]
            with m.If(self.s_axis_tlast != end if self.fault != "error" else frames == 2):
                m.d.sync += self.frame_error.eq(1)
        return m


def board_of(beats, wait, fault=None, frame=None, latency=1):
    """A bench around the core: module, bench."""
    frame = frame or [random.Random(beats).randrange(256) for _ in range(beats)]
    test = SelfTest(tuple(frame), (sum(frame) & 0xFFFF,))
    bench = Bench(input_bits=8, output_bits=16, input_beats=beats, selftest=test, latency=latency, divisor=8,
                  slot_bits=6)
    core = Core(beats, wait, fault)
    m = Module()
    m.submodules.bench, m.submodules.core = bench, core
    for name in ("s_axis_tdata", "s_axis_tvalid", "s_axis_tlast", "m_axis_tready"):
        m.d.comb += getattr(core, name).eq(getattr(bench, name))
    for name in ("s_axis_tready", "m_axis_tdata", "m_axis_tvalid", "m_axis_tlast", "frame_error"):
        m.d.comb += getattr(bench, name).eq(getattr(core, name))
    return m, bench


@pytest.mark.parametrize("latency", [1, 2])
@pytest.mark.parametrize("beats,wait", [(1, 0), (2, 0), (5, 0), (40, 0), (5, 3), (7, 1)])
def test_selftest_passes_and_core_is_kept_busy(beats, wait, latency):
    m, bench = board_of(beats, wait, latency=latency)

    async def test(ctx):
        ends = []
        for cycle in range(12 * beats * (wait + 1) + 20):
            assert not ctx.get(bench.o_failed), cycle
            if ctx.get(bench.m_axis_tvalid):
                ends.append(cycle)
            await ctx.tick()
        assert ctx.get(bench.o_passed)
        assert {b - a for a, b in zip(ends, ends[1:], strict=False)} == {beats * (wait + 1)}  # no bubble anywhere

    run(m, test)


@pytest.mark.parametrize("fault", ["data", "last", "error"])
def test_selftest_fails_for_good(fault):
    m, bench = board_of(6, 1, fault)

    async def test(ctx):
        seen = []
        for _ in range(200):
            seen.append((ctx.get(bench.o_passed), ctx.get(bench.o_failed)))
            await ctx.tick()
        assert seen[0] == (0, 0) and seen[-1] == (0, 1)
        first = seen.index((0, 1))
        assert set(seen[first:]) == {(0, 1)}
        assert ((1, 0) in seen) == (fault != "last")  # right frames came first

    run(m, test)


def test_nothing_is_shown_before_a_frame_is_over():
    check = FrameCheck(name="m", width=4, words=[1, 2, 3])

    async def test(ctx):
        for _ in range(20):
            assert (ctx.get(check.o_passed), ctx.get(check.o_failed)) == (0, 0)
            await ctx.tick()

    run(check, test)


@pytest.mark.parametrize("place", ["ebr", "lut"])
@pytest.mark.parametrize("beats", [1, 2, 3, 33])
def test_source_sends_its_frame_whatever_the_stalls(beats, place):
    rng = random.Random(beats)
    words = [rng.randrange(1 << 12) for _ in range(beats)]
    source = FrameSource(name="m", width=12, words=words, place=place)

    async def test(ctx):
        got, held = [], None
        for _ in range(400):
            ready = rng.random() < 0.6
            ctx.set(source.i_ready, ready)
            if ctx.get(source.o_valid):
                item = (ctx.get(source.o_data), ctx.get(source.o_last))
                assert held in (None, item), "changed while it waited"
                held = None if ready else item
                if ready:
                    got.append(item)
            else:
                assert held is None and not got, "valid fell"
            await ctx.tick()
        assert got == [(words[k % beats], k % beats == beats - 1) for k in range(len(got))] and len(got) > 200

    run(source, test)


def test_counters_count():
    counters = Counters(beat_frames_log2=1)

    async def test(ctx):
        done, results, beats = [7, 20, 22, 23, 40], [], []
        for cycle in range(50):
            ctx.set(counters.i_done, cycle in done)
            ctx.set(counters.i_stall, cycle % 3 == 0)
            if ctx.get(counters.o_done):
                results.append((ctx.get(counters.o_cycles), ctx.get(counters.o_stalls)))
            beats.append(ctx.get(counters.o_beat))
            await ctx.tick()
        stalls = [sum(c % 3 == 0 for c in range(a + 1, b + 1)) for a, b in zip(done, done[1:], strict=False)]
        assert results[1:] == list(zip((13, 2, 1, 17), stalls, strict=True))
        changes = [cycle for cycle in range(1, 50) if beats[cycle] != beats[cycle - 1]]
        assert changes == [done[1] + 2, done[3] + 2]  # every second frame

    run(counters, test)


async def receive(ctx, tx, divisor, count):
    """Bytes of a serial line, sampled in the middle of each bit."""
    found = bytearray()
    for _ in range(60 * 10 * divisor):
        if len(found) == count:
            return bytes(found)
        if ctx.get(tx):
            await ctx.tick()
            continue
        await ctx.tick().repeat(divisor + divisor // 2)
        byte = 0
        for bit in range(8):
            byte |= ctx.get(tx) << bit
            await ctx.tick().repeat(divisor)
        assert ctx.get(tx), "no stop bit"
        found.append(byte)
    raise AssertionError(f"only {bytes(found)!r} came")


@pytest.mark.parametrize("passed,failed,cycles,stalls", [
    (0, 0, 0, 0), (1, 0, 0x123ABC, 0xFEDCBA), (0, 1, 0xFFFFFF, 9), (1, 0, 0x0A, 0x90000F),
])
@pytest.mark.parametrize("divisor", [8, 13])
def test_teller_tells(passed, failed, cycles, stalls, divisor):
    teller = Teller(divisor=divisor, slot_bits=5)

    async def test(ctx):
        ctx.set(teller.i_passed, passed)
        ctx.set(teller.i_failed, failed)
        ctx.set(teller.i_cycles, cycles)
        ctx.set(teller.i_stalls, stalls)
        ctx.set(teller.i_done, 1)
        line = Teller.model(passed, failed, cycles, stalls)
        for _ in range(2):
            assert await receive(ctx, teller.o_tx, divisor, len(line)) == line

    run(teller, test)


def test_bench_tells_interval_and_stalls():
    m, bench = board_of(6, 3)

    async def test(ctx):
        line = Teller.model(True, False, 24, 18)
        await receive(ctx, bench.o_tx, 8, 16)  # may begin before an interval was over
        await ctx.tick().repeat(10 * 8 * ((1 << 6) - 20))
        assert await receive(ctx, bench.o_tx, 8, 16) == line

    run(m, test)


def test_reset_is_held_and_comes_again():
    hold = ResetHold(cycles=10)

    async def test(ctx):
        async def until_released(limit):
            for cycle in range(limit):
                if not ctx.get(hold.o_reset):
                    return cycle
                await ctx.tick()
            return None

        assert ctx.get(hold.o_reset)
        assert await until_released(40) is None  # the clock is not good
        ctx.set(hold.i_good, 1)
        assert 10 <= await until_released(40) <= 30
        await ctx.tick().repeat(50)
        assert not ctx.get(hold.o_reset)
        ctx.set(hold.i_good, 0)
        await ctx.tick().repeat(6)
        assert ctx.get(hold.o_reset)
        ctx.set(hold.i_good, 1)
        assert 8 <= await until_released(40) <= 30

    run(hold, test)


@pytest.mark.parametrize("selftest", [True, False])
@pytest.mark.parametrize("name,cell", [("icebreaker", "SB_PLL40_PAD"), ("ice40-hx8k-b-evn", "SB_PLL40_CORE"),
                                       ("ulx3s-25f", "EHXPLLL")])
def test_shell_verilog(name, cell, selftest):
    board = load_board(name)
    test = SelfTest((1, 2, 3), (4,)) if selftest else None
    shell = Shell(board, 48, input={"tdata_bits": 8, "beats": 3}, output={"tdata_bits": 16, "beats": 1}, selftest=test)
    assert shell.clock_mhz <= 48
    text, target = shell_verilog(shell, board.family)
    assert text.count(cell) == 1 and "lutloom_core core" in text and "/" not in text.split("module ")[1]
    planned = selftest_specs(board.family, 8, 3, 16, 1) if selftest else ()
    assert tuple(target.specs.values()) == planned
    for port in board.pins:
        assert port in text


def test_shell_with_the_oscillator_itself():
    board = load_board("icebreaker")
    shell = Shell(board, 12, input={"tdata_bits": 8, "beats": 3}, output={"tdata_bits": 16, "beats": 1})
    assert shell.clock_mhz == 12 and "SB_PLL40" not in shell_verilog(shell, "ice40")[0]


def test_refusals():
    with pytest.raises(ValueError, match="a frame must have one beat or more"):
        FrameSource(name="m", width=1, words=[])
    with pytest.raises(ValueError, match="a frame must have one beat or more"):
        FrameCheck(name="m", width=1, words=[])
    with pytest.raises(ValueError, match="divisor must be 8 or more, not 7"):
        Teller(divisor=7)
    with pytest.raises(ValueError, match="slot_bits must be 5 or more, not 4"):
        Teller(divisor=8, slot_bits=4)
