"""Memories as the units see them: a ROM or a RAM of given width and depth, whatever it is made of."""

import re
from dataclasses import dataclass, field

from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from lutloom.hw.delay import delayed

FAMILIES = ("sim", "generic", "ice40", "ecp5")


@dataclass(frozen=True)
class MemorySpec:
    """What a memory is, apart from its contents.

    Parameters
    ----------
    name : str
        Unique in a design; a Verilog identifier. The image is ``rom/<name>.hex``.
    kind : "rom" or "ram"
    width, depth : int
        Bits a word, number of words.
    latency : 1, 2 or 3
        Cycles from address to data. 2 uses the output register of an ECP5 block, and flip-flops on an iCE40; 3 has
        another register on the way, between the blocks of a deep ROM and the choice among them on an ECP5.
    place : "ebr" or "lut"
        Block RAM, or logic.
    """

    name: str
    kind: str
    width: int
    depth: int
    latency: int = 1
    place: str = "ebr"

    def __post_init__(self):
        if not (isinstance(self.name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name)):
            raise ValueError(f"memory name must be a Verilog identifier, not {self.name!r}")
        if self.kind not in ("rom", "ram"):
            raise ValueError(f"memory kind must be rom or ram, not {self.kind!r}")
        for what in ("width", "depth"):
            number = getattr(self, what)
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise ValueError(f"memory {what} must be a positive integer, not {number!r}")
        if self.latency not in (1, 2, 3):
            raise ValueError(f"memory latency must be 1, 2 or 3 cycles, not {self.latency!r}")
        if self.place not in ("ebr", "lut"):
            raise ValueError(f"memory place must be ebr or lut, not {self.place!r}")

    @property
    def addr_bits(self):
        """Bits of the address port; a memory of one word has one as well, which it ignores."""
        return max(1, ceil_log2(self.depth))

    @property
    def module(self):
        """Name of the Verilog module."""
        return f"lutloom_{self.kind}_{self.name}"


@dataclass
class Target:
    """What a design is elaborated for, given to Amaranth as its platform; collects the memories of the design.

    Parameters
    ----------
    family : "generic", "ice40", "ecp5" or "sim"
        With "sim" memories are Amaranth's own and nothing is collected; otherwise each becomes an instance of a module
        of its own, whose Verilog `lutloom.memories` writes: behavioural to simulate, native to build.

    Attributes
    ----------
    specs : dict of str to MemorySpec
        In order of elaboration.
    images : dict of str to list of int
        The words of the ROMs.
    modules : dict of str to component
        Units that are emitted once, as modules of these names, and used as instances.
    """

    family: str = "generic"
    specs: dict = field(default_factory=dict)
    images: dict = field(default_factory=dict)
    modules: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"target family must be one of {', '.join(FAMILIES)}, not {self.family!r}")

    def add(self, spec, init=None):
        """Take note of a memory; its name must be new.

        Parameters
        ----------
        spec : MemorySpec
        init : list of int or None
            The words of a ROM.
        """
        if spec.name in self.specs:
            raise ValueError(f"memory name must be unique, but {spec.name!r} is there twice")
        self.specs[spec.name] = spec
        if spec.kind == "rom":
            self.images[spec.name] = list(init)


class Rom(wiring.Component):
    """Read-only memory that reads every cycle: ``o_data`` is word ``i_addr`` of `latency` cycles ago.

    No combinational path, no flow control. What an address of `depth` or more reads is not defined.

    Parameters
    ----------
    name : str
        Unique in the design.
    width, depth : int
    init : iterable of int
        Words 0, 1, …, at most `depth` of them; the rest is zero.
    latency : 1, 2 or 3
    place : "ebr" or "lut"

    Members
    -------
    i_addr : In(addr_bits)
    o_data : Out(width)

    Raises
    ------
    ValueError
        For a parameter out of range, or a word that does not fit.
    """

    def __init__(self, *, name, width, depth, init=(), latency=1, place="ebr"):
        self._spec = MemorySpec(name, "rom", width, depth, latency, place)
        self._init = [int(word) for word in init]
        if len(self._init) > depth:
            raise ValueError(f"memory {name!r} holds {depth} words, not {len(self._init)}")
        for index, word in enumerate(self._init):
            if not 0 <= word < 1 << width:
                raise ValueError(f"word {index} of memory {name!r} must be in 0 ... 2**{width} - 1, not {word}")
        super().__init__({"i_addr": In(self._spec.addr_bits), "o_data": Out(width)})

    @property
    def spec(self):
        return self._spec

    @property
    def init(self):
        return list(self._init)

    @property
    def latency(self):
        return self._spec.latency

    def model(self, address):
        """The word at an address."""
        return self._init[address] if address < len(self._init) else 0

    def elaborate(self, platform):
        m = Module()
        if isinstance(platform, Target) and platform.family != "sim":
            platform.add(self._spec, self._init)
            m.submodules.rom = Instance(
                self._spec.module, i_clk=ClockSignal(), i_i_addr=self.i_addr, o_o_data=self.o_data
            )
            return m
        m.submodules.memory = memory = Memory(shape=self._spec.width, depth=self._spec.depth, init=self._init)
        _connect_read(m, memory, self)
        return m


class Ram(wiring.Component):
    """Memory with a write port and a read port on one clock: ``o_data`` is word ``i_addr`` of `latency` cycles ago.

    Reads every cycle. What is read of a word that is written in the very cycle of its address is not defined, nor are
    the contents before the first write. No combinational path, no flow control.

    Parameters
    ----------
    name : str
        Unique in the design.
    width, depth : int
    latency : 1, 2 or 3
    place : "ebr" or "lut"
        With "lut": distributed RAM on ECP5, flip-flops on iCE40.

    Members
    -------
    i_write_en : In(1)
    i_write_addr : In(addr_bits)
    i_write_data : In(width)
    i_addr : In(addr_bits)
    o_data : Out(width)
    """

    def __init__(self, *, name, width, depth, latency=1, place="ebr"):
        self._spec = MemorySpec(name, "ram", width, depth, latency, place)
        super().__init__({
            "i_write_en": In(1),
            "i_write_addr": In(self._spec.addr_bits),
            "i_write_data": In(width),
            "i_addr": In(self._spec.addr_bits),
            "o_data": Out(width),
        })

    @property
    def spec(self):
        return self._spec

    @property
    def latency(self):
        return self._spec.latency

    def elaborate(self, platform):
        m = Module()
        if isinstance(platform, Target) and platform.family != "sim":
            platform.add(self._spec)
            m.submodules.ram = Instance(
                self._spec.module, i_clk=ClockSignal(), i_i_write_en=self.i_write_en,
                i_i_write_addr=self.i_write_addr, i_i_write_data=self.i_write_data,
                i_i_addr=self.i_addr, o_o_data=self.o_data,
            )
            return m
        m.submodules.memory = memory = Memory(shape=self._spec.width, depth=self._spec.depth, init=())
        write = memory.write_port()
        m.d.comb += [
            write.en.eq(self.i_write_en),
            write.addr.eq(self.i_write_addr),
            write.data.eq(self.i_write_data),
        ]
        _connect_read(m, memory, self)
        return m


def _connect_read(m, memory, unit):
    read = memory.read_port()
    m.d.comb += read.addr.eq(unit.i_addr)
    m.d.comb += unit.o_data.eq(delayed(m, read.data, unit.latency - 1, "held"))
