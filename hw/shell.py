"""The top of a board: clock, reset, the core, and what drives it without a host."""

from dataclasses import dataclass

from amaranth.back import verilog
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, DomainRenamer, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from lutloom.hw.memory import Target
from lutloom.hw.pll import Pll
from lutloom.hw.selftest import Counters, FrameCheck, FrameSource, check_latency
from lutloom.hw.teller import Teller
from lutloom.pll import pll_settings
from lutloom.toolchain.tools import yosys_for_amaranth

TOP = "lutloom_top"
BAUD = 115_200
RESET_US = 20  # iCE40 block RAM reads zero for the first microseconds after configuration


@dataclass(frozen=True)
class SelfTest:
    """A frame and what the core makes of it, as beats of the core's ports.

    Parameters
    ----------
    frame, result : tuple of int
    frame_place : "ebr", "lut" or None
        See `FrameSource`.
    """

    frame: tuple
    result: tuple
    frame_place: str | None = None


class ResetHold(wiring.Component):
    """Reset for a clock domain: held until the clock is good, and some cycles longer; again whenever asked for.

    It has no reset itself: it counts from the state that configuration leaves.

    Parameters
    ----------
    cycles : int
        A power of two is counted.

    Members
    -------
    i_good : In(1)
        Asynchronous.
    o_reset : Out(1)
    """

    i_good: In(1)
    o_reset: Out(1, init=1)

    def __init__(self, *, cycles):
        self._bits = max(1, (cycles - 1).bit_length())
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        good = Signal()
        m.submodules.good = FFSynchronizer(self.i_good, good, reset_less=True)
        count = Signal(self._bits + 1, reset_less=True)
        with m.If(~good):
            m.d.sync += count.eq(0)
        with m.Elif(~count[-1]):
            m.d.sync += count.eq(count + 1)
        m.d.sync += self.o_reset.eq(~count[-1])
        return m


class Bench(wiring.Component):
    """Drives a core's streams with the self test, or without one with a changing pattern, and counts.

    Parameters
    ----------
    input_bits, output_bits : int
        Of the core's tdata ports.
    input_beats : int
        Beats of a frame of the core's input.
    selftest : SelfTest or None
    latency : 1 or 2
        Of the memory with the result.
    divisor, slot_bits : int
        Of the `Teller`.

    Members
    -------
    s_axis_*, m_axis_*, frame_error
        As the core has them, seen from the other side.
    o_passed, o_failed, o_beat, o_tx : Out(1)
        Without a self test, ``o_passed`` is a parity of the results.
    """

    def __init__(self, *, input_bits, output_bits, input_beats, selftest, latency=1, divisor=868, slot_bits=12):
        self._selftest, self._input_beats, self._latency = selftest, input_beats, latency
        self._divisor, self._slot_bits = divisor, slot_bits
        super().__init__({
            "s_axis_tdata": Out(input_bits), "s_axis_tvalid": Out(1), "s_axis_tready": In(1), "s_axis_tlast": Out(1),
            "m_axis_tdata": In(output_bits), "m_axis_tvalid": In(1), "m_axis_tready": Out(1), "m_axis_tlast": In(1),
            "frame_error": In(1), "o_passed": Out(1), "o_failed": Out(1), "o_beat": Out(1), "o_tx": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.m_axis_tready.eq(1)
        (self._pattern if self._selftest is None else self._test)(m)
        m.submodules.counters = counters = Counters()
        m.submodules.teller = teller = Teller(divisor=self._divisor, slot_bits=self._slot_bits)
        m.d.comb += [
            counters.i_done.eq(self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast),
            counters.i_stall.eq(self.s_axis_tvalid & ~self.s_axis_tready),
            self.o_beat.eq(counters.o_beat),
            teller.i_passed.eq(self.o_passed),
            teller.i_failed.eq(self.o_failed),
            teller.i_done.eq(counters.o_done),
            teller.i_cycles.eq(counters.o_cycles),
            teller.i_stalls.eq(counters.o_stalls),
            self.o_tx.eq(teller.o_tx),
        ]
        return m

    def _test(self, m):
        test = self._selftest
        m.submodules.source = source = FrameSource(
            name="selftest_frame", width=len(self.s_axis_tdata), words=list(test.frame), place=test.frame_place
        )
        m.submodules.check = check = FrameCheck(
            name="selftest_result", width=len(self.m_axis_tdata), words=list(test.result), latency=self._latency
        )
        m.d.comb += [
            self.s_axis_tdata.eq(source.o_data),
            self.s_axis_tvalid.eq(source.o_valid),
            self.s_axis_tlast.eq(source.o_last),
            source.i_ready.eq(self.s_axis_tready),
            check.i_data.eq(self.m_axis_tdata),
            check.i_valid.eq(self.m_axis_tvalid),
            check.i_last.eq(self.m_axis_tlast),
        ]
        m.d.sync += [
            self.o_passed.eq(check.o_passed & ~self.frame_error),
            self.o_failed.eq(check.o_failed | self.frame_error),
        ]

    def _pattern(self, m):
        """Beats from a shift register with feedback (x**16 + x**15 + x**13 + x**4 + 1), so that nothing is constant."""
        state = Signal(16, init=1)
        beat = Signal(range(max(2, self._input_beats)))
        last = Signal()
        m.d.comb += [
            last.eq(beat == self._input_beats - 1),
            self.s_axis_tdata.eq(Cat(*[state] * -(-len(self.s_axis_tdata) // 16))),
            self.s_axis_tvalid.eq(1),
            self.s_axis_tlast.eq(last),
        ]
        with m.If(self.s_axis_tready):
            m.d.sync += [
                state.eq(Cat(state[15] ^ state[14] ^ state[12] ^ state[3], state[:15])),
                beat.eq(beat + 1),
            ]
            with m.If(last):
                m.d.sync += beat.eq(0)
        held = Signal(len(self.m_axis_tdata), reset_less=True)
        with m.If(self.m_axis_tvalid):
            m.d.sync += held.eq(self.m_axis_tdata)
        m.d.sync += [self.o_passed.eq(held.xor()), self.o_failed.eq(self.frame_error)]


class Shell(wiring.Component):
    """The whole top: PLL, reset, ``lutloom_core`` as an instance of its Verilog module, self test and counters.

    Parameters
    ----------
    board : lutloom.board.Board
    clock_mhz : float
        The core's clock; the PLL gives this or the next lower one that it can.
    input, output : dict
        What plan.json says of the core's ports: ``tdata_bits``, ``beats``.
    selftest : SelfTest or None

    Members
    -------
    pin_* : In(1) or Out(1)
        As the board has them, polarity of the pin.
    """

    def __init__(self, board, clock_mhz, *, input, output, selftest=None):
        self._board, self._input, self._output, self._selftest = board, input, output, selftest
        self._pll = pll_settings(board.family, board.clock_mhz, clock_mhz)
        inputs = ("pin_clk", "pin_button")
        super().__init__({port: (In if port in inputs else Out)(1) for port in board.pins})

    @property
    def clock_mhz(self):
        """What the PLL gives, exactly: a Fraction."""
        return self._pll.output_mhz

    def elaborate(self, platform):
        m = Module()
        board = self._board
        m.submodules.pll = pll = Pll(self._pll, board.pll)
        # `raw` is the core's clock without its reset.
        m.domains.raw = ClockDomain("raw", reset_less=True)
        m.domains.sync = ClockDomain("sync")
        core_clk = Signal()
        m.d.comb += [
            pll.i_clk.eq(self.pin_clk),
            core_clk.eq(pll.o_clk),
            ClockSignal("raw").eq(core_clk),
            ClockSignal("sync").eq(core_clk),
        ]
        hold = ResetHold(cycles=int(RESET_US * self.clock_mhz) + 1)
        m.submodules.hold = DomainRenamer("raw")(hold)
        m.d.comb += [hold.i_good.eq(pll.o_locked & ~self._pressed()), ResetSignal("sync").eq(hold.o_reset)]

        m.submodules.bench = bench = Bench(
            input_bits=self._input["tdata_bits"],
            output_bits=self._output["tdata_bits"],
            input_beats=self._input["beats"],
            selftest=self._selftest,
            latency=check_latency(board.family),
            divisor=round(self.clock_mhz * 1_000_000 / BAUD),
        )
        m.submodules.core = Instance(
            "lutloom_core",
            i_clk=ClockSignal("sync"),
            i_rst=ResetSignal("sync"),
            i_clear=Const(0, 1),
            i_s_axis_tdata=bench.s_axis_tdata,
            i_s_axis_tvalid=bench.s_axis_tvalid,
            o_s_axis_tready=bench.s_axis_tready,
            i_s_axis_tlast=bench.s_axis_tlast,
            o_m_axis_tdata=bench.m_axis_tdata,
            o_m_axis_tvalid=bench.m_axis_tvalid,
            i_m_axis_tready=bench.m_axis_tready,
            o_m_axis_tlast=bench.m_axis_tlast,
            o_frame_error=bench.frame_error,
        )
        shown = {"pin_passed": bench.o_passed, "pin_failed": bench.o_failed, "pin_beat": bench.o_beat,
                 "pin_tx": bench.o_tx}  # fmt: skip
        for port, signal in shown.items():
            if port in board.pins:
                m.d.comb += getattr(self, port).eq(signal ^ board.pins[port].inverted)
        return m

    def _pressed(self):
        pin = self._board.pins.get("pin_button")
        return Const(0, 1) if pin is None else self.pin_button ^ pin.inverted


def shell_verilog(shell, family):
    """Verilog of the top without the core.

    Parameters
    ----------
    shell : Shell
    family : "ice40" or "ecp5"

    Returns
    -------
    (str, Target)
        Its memories are in the target.
    """
    target = Target(family)
    ports = [getattr(shell, name) for name in shell.signature.members]
    with yosys_for_amaranth():
        text = verilog.convert(shell, name=TOP, platform=target, ports=ports, emit_src=False, strip_internal_attrs=True)
    return text, target
