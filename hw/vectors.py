"""Codebooks of groups: a table for every index that is read in a cycle, between a weight ROM and its multipliers."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.memory import Rom
from lutloom.rom import pack


class VectorTables(wiring.Component):
    """Indices into the integers that they stand for: o = table[index] for each index of a word, a word a cycle.

    Each unit of a matrix-vector product has ``lanes`` weights in groups, one index a group; of a unit's last group
    members beyond its lanes are left out. Every index has a table of its own, as it is read in the same cycle: in block
    RAM one of 256 entries of four bytes is a block on ECP5 and two on iCE40.

    Latency: ``delay``. Throughput: a word a cycle. No flow control, no combinational path.

    Parameters
    ----------
    name : str
        Tables are the memories ``<name>0``, ``<name>1``, …, all of the same contents.
    format : WeightFormat
        Of groups.
    entry_bits : int
        Of an integer.
    lanes, units : int
    latency : 1, 2 or 3
        Of the tables.
    place : "ebr" or "lut"

    Members
    -------
    i : In(indices of a word)
    o : Out(units·lanes integers)
    """

    def __init__(self, *, name, format, entry_bits, lanes, units, latency=1, place="ebr"):
        if format.group == 1:
            raise ValueError(f"tables of vectors are of codebooks of groups, not of {format}")
        self._name, self._format, self._bits, self._lanes, self._units = name, format, entry_bits, lanes, units
        self._latency, self._place = latency, place
        super().__init__({"i": In(self.count * format.index_bits), "o": Out(units * lanes * entry_bits)})

    @property
    def count(self):
        """Indices of a word."""
        return self._units * -(-self._lanes // self._format.group)

    @property
    def delay(self):
        """Cycles from i to o."""
        return self._latency

    @property
    def words(self):
        """What every table holds."""
        group = self._format.group
        rows = [self._format.values[at:at + group] for at in range(0, len(self._format.values), group)]
        return pack(rows, self._bits)

    def model(self, indices):
        """Integers (units·lanes) of the indices of a word."""
        group, each = self._format.group, self.count // self._units
        found = []
        for unit in range(self._units):
            row = [value for index in indices[unit * each:(unit + 1) * each]
                   for value in self._format.values[int(index) * group:(int(index) + 1) * group]]
            found += row[:self._lanes]
        return found

    def elaborate(self, platform):
        m = Module()
        group, bits, each = self._format.group, self._format.index_bits, self.count // self._units
        parts = []
        for number in range(self.count):
            rom = Rom(name=f"{self._name}{number}", width=group * self._bits, depth=1 << bits, init=self.words,
                      latency=self._latency, place=self._place)
            m.submodules[f"table{number}"] = rom
            m.d.comb += rom.i_addr.eq(self.i[number * bits:(number + 1) * bits])
            taken = min(group, self._lanes - number % each * group)
            parts.append(rom.o_data[:taken * self._bits])
        m.d.comb += self.o.eq(Cat(parts))
        return m
