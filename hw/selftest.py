"""What drives the core on a board without a host: a known frame, again and again, and its known result compared."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.memory import MemorySpec, Rom

COUNTER_BITS = 24
LUT_DEPTH = 32  # a frame of at most so many beats lies in logic


def check_latency(family):
    """Latency of the memory that `FrameCheck` takes: an ECP5 block needs its output register."""
    return 2 if family == "ecp5" else 1


class FrameSource(wiring.Component):
    """Sends the beats of a frame from a ROM, from the first cycle on and without end, one a cycle.

    ``i_ready`` reaches the address of the ROM combinationally; the outputs are registers.

    Parameters
    ----------
    name : str
        Of its memory.
    width : int
        Bits a beat.
    words : list of int
        The beats.
    place : "ebr", "lut" or None
        Where the frame lies; by default in logic up to 32 beats, as wide and short memories fill block RAM badly.

    Members
    -------
    o_data : Out(width)
    o_valid, o_last : Out(1)
    i_ready : In(1)
    """

    def __init__(self, *, name, width, words, place=None):
        if not words:
            raise ValueError("a frame must have one beat or more")
        place = place or ("lut" if len(words) <= LUT_DEPTH else "ebr")
        self._rom = Rom(name=name, width=width, depth=len(words), init=words, place=place)
        super().__init__({"o_data": Out(width), "o_valid": Out(1), "o_last": Out(1), "i_ready": In(1)})

    @property
    def spec(self):
        """Its memory."""
        return self._rom.spec

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = self._rom
        end = rom.spec.depth - 1
        # The ROM reads one beat ahead: `here` is the beat that it shows, and its address is the next cycle's `here`.
        here = Signal(rom.spec.addr_bits)
        after = Signal(rom.spec.addr_bits, init=min(1, end))
        primed = Signal()
        advance = Signal()
        m.d.comb += [
            advance.eq(primed & (~self.o_valid | self.i_ready)),
            rom.i_addr.eq(Mux(advance, after, here)),
        ]
        m.d.sync += primed.eq(1)
        with m.If(advance):
            m.d.sync += [
                here.eq(after),
                after.eq(Mux(after == end, 0, after + 1)),
                self.o_data.eq(rom.o_data),
                self.o_last.eq(here == end),
                self.o_valid.eq(1),
            ]
        return m


class FrameCheck(wiring.Component):
    """Compares every beat of a stream with a frame in a ROM, again and again; takes a beat every cycle.

    ``o_passed`` rises when a whole frame was right, and falls for good with ``o_failed``, which stays.

    Parameters
    ----------
    name : str
        Of its memory.
    width : int
    words : list of int
    place : "ebr" or "lut"
    latency : 1 or 2
        Of its memory.

    Members
    -------
    i_data : In(width)
    i_valid, i_last : In(1)
    o_passed, o_failed : Out(1)
    """

    def __init__(self, *, name, width, words, place="ebr", latency=1):
        if not words:
            raise ValueError("a frame must have one beat or more")
        self._rom = Rom(name=name, width=width, depth=len(words), init=words, place=place, latency=latency)
        super().__init__(
            {"i_data": In(width), "i_valid": In(1), "i_last": In(1), "o_passed": Out(1), "o_failed": Out(1)}
        )

    @property
    def spec(self):
        """Its memory."""
        return self._rom.spec

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = self._rom
        here = Signal(rom.spec.addr_bits)
        at_end = Signal()
        m.d.comb += [rom.i_addr.eq(here), at_end.eq(here == rom.spec.depth - 1)]
        with m.If(self.i_valid):
            m.d.sync += here.eq(Mux(at_end, 0, here + 1))

        # The beat waits for the ROM, is compared in parts, and then judged.
        data, valid, end, bad = self.i_data, self.i_valid, at_end, self.i_last != at_end
        for k in range(rom.latency):
            data, next_data = Signal.like(self.i_data, name=f"s{k}_data", reset_less=True), data
            valid, next_valid = Signal(name=f"s{k}_valid"), valid
            end, next_end = Signal(name=f"s{k}_end", reset_less=True), end
            bad, next_bad = Signal(name=f"s{k}_bad", reset_less=True), bad
            m.d.sync += [data.eq(next_data), valid.eq(next_valid), end.eq(next_end), bad.eq(next_bad)]
        parts = [slice(low, low + 4) for low in range(0, len(data), 4)]
        compared_valid, compared_end = Signal(), Signal(reset_less=True)
        compared = Signal(len(parts) + 1, reset_less=True)
        m.d.sync += [
            compared_valid.eq(valid),
            compared_end.eq(end),
            compared.eq(Cat(*((data[part] != rom.o_data[part]) for part in parts), bad)),
        ]
        wrong = Signal()
        m.d.comb += wrong.eq(compared_valid & compared.any())
        with m.If(wrong):
            m.d.sync += [self.o_failed.eq(1), self.o_passed.eq(0)]
        with m.Elif(compared_valid & compared_end & ~self.o_failed):
            m.d.sync += self.o_passed.eq(1)
        return m


class Counters(wiring.Component):
    """Cycles between the last beats of output frames, and the cycles therein in which the source had to wait.

    Members
    -------
    i_done : In(1)
        The last beat of an output frame is transferred.
    i_stall : In(1)
        A beat of the input waits.
    o_done : Out(1)
        An interval is over: `i_done`, a cycle later; now the counts are those of the whole interval.
    o_cycles, o_stalls : Out(24)
        Since the interval began, modulo 2**24.
    o_beat : Out(1)
        Changes every so many frames.
    """

    i_done: In(1)
    i_stall: In(1)
    o_done: Out(1)
    o_cycles: Out(COUNTER_BITS)
    o_stalls: Out(COUNTER_BITS)
    o_beat: Out(1)

    def __init__(self, *, beat_frames_log2=10):
        self._beat_bits = beat_frames_log2
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        stall = Signal()
        frames = Signal(self._beat_bits + 1)
        m.d.sync += [
            self.o_done.eq(self.i_done),
            stall.eq(self.i_stall),
            self.o_cycles.eq(Mux(self.o_done, 1, self.o_cycles + 1)),
            self.o_stalls.eq(Mux(self.o_done, 0, self.o_stalls) + stall),
            frames.eq(frames + self.o_done),
        ]
        m.d.comb += self.o_beat.eq(frames[-1])
        return m


def selftest_specs(family, input_bits, input_words, output_bits, output_words, frame_place=None):
    """The memories that a self test takes: those of `FrameSource` and `FrameCheck`, for whoever plans."""
    place = frame_place or ("lut" if input_words <= LUT_DEPTH else "ebr")
    return (
        MemorySpec("selftest_frame", "rom", input_bits, input_words, 1, place),
        MemorySpec("selftest_result", "rom", output_bits, output_words, check_latency(family), "ebr"),
    )
