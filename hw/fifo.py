"""A shallow first-in first-out buffer of registers: no memory block, data visible the cycle after they came."""

from amaranth.hdl import Array, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


def values_stream(bits, width):
    """Signature of a stream with ``width`` values of ``bits`` bits a beat."""
    return stream.Signature(data.ArrayLayout(unsigned(bits), width))


class ShiftFifo(wiring.Component):
    """Registers that shift towards the output; a beat that comes into an empty buffer is offered one cycle later.

    One beat a cycle in and out at once, also when full but for one place. No combinational path between the sides.
    Cost: about one LUT and one flip-flop a bit stored.

    Parameters
    ----------
    bits, width : int
        Shape of the payload: ``width`` values of ``bits`` bits.
    depth : int
        Beats held, at least 1.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    """

    def __init__(self, *, bits, width, depth):
        if depth < 1:
            raise ValueError(f"FIFO depth must be at least 1, not {depth!r}")
        self._depth = depth
        super().__init__({"i": In(values_stream(bits, width)), "o": Out(values_stream(bits, width))})

    @property
    def depth(self):
        """Beats held."""
        return self._depth

    def elaborate(self, platform):
        m = Module()
        depth = self._depth
        shape = self.o.payload.shape()
        entries = Array(Signal(shape, name=f"entry_{index}", reset_less=True) for index in range(depth))
        full = Signal(depth)  # bit k: entry k holds a beat (a thermometer, so no decoder stands before the data)
        m.d.comb += [self.o.valid.eq(full[0]), self.o.payload.eq(entries[0]), self.i.ready.eq(~full[-1])]
        push = Signal()
        pop = Signal()
        m.d.comb += [push.eq(self.i.valid & self.i.ready), pop.eq(self.o.valid & self.o.ready)]
        for index in range(depth):
            above = full[index + 1] if index + 1 < depth else 0
            below = full[index - 1] if index else 1
            # Where the new beat lands: behind the last one, one place lower if the head leaves at once.
            lands = (full[index] & ~above) if index + 1 < depth else full[index]
            with m.If(pop):
                if index + 1 < depth:
                    with m.If(above):
                        m.d.sync += entries[index].eq(entries[index + 1])
                    with m.Elif(push & lands):
                        m.d.sync += entries[index].eq(self.i.payload)
                    m.d.sync += full[index].eq(above | (push & full[index]))
                else:
                    m.d.sync += full[index].eq(push & full[index])
                    with m.If(push & full[index]):
                        m.d.sync += entries[index].eq(self.i.payload)
            with m.Elif(push & ~full[index] & below):
                m.d.sync += [entries[index].eq(self.i.payload), full[index].eq(1)]
        return m


def lookahead(m, head, memory, latency, reads, leaves):
    """A memory read ahead into a buffer; ``reads`` goes on as long as the buffer has places.

    Parameters
    ----------
    m : Module
    head : ShiftFifo
        Of ``latency + 2`` beats: those on the way, and one to hide the way of a credit.
    memory : Rom or Ram
        Its address stands.
    latency : int
    reads, leaves : Signal
        A beat is read; a beat leaves the head.

    Returns
    -------
    Signal
        There is a place.
    """
    held = latency + 2
    places = Signal(range(held + 1), init=held)
    m.d.sync += places.eq(places + leaves - reads)
    valid = reads
    for stage in range(latency):
        after = Signal(name=f"s{stage}_valid")
        m.d.sync += after.eq(valid)
        valid = after
    m.d.comb += [head.i.valid.eq(valid), head.i.payload.eq(memory.o_data)]
    return places != 0
