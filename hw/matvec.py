"""Matrix times vector: ``units`` dot products side by side, their accumulators, and the ROM with the weights."""

from functools import partial

from amaranth.hdl import Cat, ClockSignal, Instance, Module, Mux, ResetSignal, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from lutloom.hw.delay import delayed
from lutloom.hw.dot import dot_for
from lutloom.hw.memory import Target


class MatVec(wiring.Component):
    """``units`` dot products over ``lanes`` values a fold, accumulated over the folds of a group.

    acc[u] = sum over the group's folds and lanes of w·x, exact; with bipolar values, binary weights and no mask the
    number of matches instead (the sum is twice that less the number of products).

    Latency: ``delay`` cycles from a group's last fold to o_valid. Throughput: a fold a cycle, no bubble between groups.
    No flow control. No combinational path.

    Parameters
    ----------
    lanes, units : int
    x_format : Format
    w_format : WeightFormat
    acc_shape : Shape
        Holds every sum (sums that wrap on the way come out right).
    masked : bool
        Lanes whose tap is invalid contribute nothing (bipolar values have no zero).
    dsp : bool
        Products on the chip's DSP blocks.
    lut_units : int
        With ``dsp``: the last so many units have their products in LUTs all the same.
    channels : int or None
        Depthwise: so many values stand side by side for each lane, and unit u takes those of channel
        u // (units / channels); None: all units take the same.
    paired : bool
        As ``lutloom.hw.dot.dot_for`` takes it.

    Members
    -------
    i_valid, i_first, i_last : In(1)
    i_x : In(lanes values, or lanes x channels)
    i_lanes : In(lanes)
        Which lanes count; only if masked.
    i_w : In(units x lanes codes)
    o_valid : Out(1)
    o_acc : Out(units accumulators)
    """

    def __init__(self, *, lanes, units, x_format, w_format, acc_shape, masked=False, dsp=False, lut_units=0,
                 channels=None, paired=False):
        self._lanes, self._units, self._masked, self._channels = lanes, units, masked, channels
        if channels is not None and units % channels:
            raise ValueError(f"depthwise units must be a multiple of the {channels} channels, not {units}")
        self._acc_shape = acc_shape
        if not 0 <= lut_units <= (units if dsp else 0):
            raise ValueError(f"units in LUTs must be 0 to {units if dsp else 0}, not {lut_units}")
        self._dsp_units = units - lut_units if dsp else 0
        self._make = partial(dot_for, x_format, w_format, lanes, masked=masked, paired=paired)
        kinds = sorted({unit < self._dsp_units for unit in range(units)})
        self._dots = {on_dsp: self._make(dsp=on_dsp) for on_dsp in kinds}
        members = {
            "i_valid": In(1),
            "i_first": In(1),
            "i_last": In(1),
            "i_x": In(data.ArrayLayout(unsigned(x_format.bits), lanes * (channels or 1))),
            "i_w": In(data.ArrayLayout(unsigned(w_format.bits), units * lanes)),
            "o_valid": Out(1),
            "o_acc": Out(data.ArrayLayout(acc_shape, units)),
        }
        if masked:
            members["i_lanes"] = In(lanes)
        super().__init__(members)

    @property
    def delay(self):
        """Cycles from a group's last fold to o_valid."""
        return self._dot_delay + 1

    @property
    def _dot_delay(self):
        """Cycles of the slower dot product."""
        return max(dot.delay for dot in self._dots.values())

    def elaborate(self, platform):
        m = Module()
        flags = Cat(self.i_valid, self.i_first, self.i_last)
        for stage in range(self._dot_delay):
            after = Signal(3, name=f"s{stage}_flags")
            m.d.sync += after.eq(flags)
            flags = after
        valid, first, last = flags
        m.d.sync += self.o_valid.eq(valid & last)
        for unit in range(self._units):
            w = Cat(self.i_w[unit * self._lanes + lane] for lane in range(self._lanes))
            acc = Signal(self._acc_shape, name=f"acc{unit}", reset_less=True)
            product = self._product(m, unit, w, platform)
            late = self._dot_delay - self._dots[unit < self._dsp_units].delay
            product = delayed(m, product, late, f"dot{unit}_held")
            with m.If(valid):
                # The old sum is masked, not chosen against: one LUT a bit with its carry.
                m.d.sync += acc.eq(Mux(first, 0, acc) + product)
            m.d.comb += self.o_acc[unit].eq(acc)
        return m

    def _values(self, unit):
        """The values that a unit takes."""
        if self._channels is None:
            return self.i_x
        channel = unit * self._channels // self._units
        return Cat(self.i_x[lane * self._channels + channel] for lane in range(self._lanes))

    def _product(self, m, unit, w, platform):
        """One unit's dot product: a component, or where Verilog is made an instance of the module that all share."""
        on_dsp, x = unit < self._dsp_units, self._values(unit)
        dot = self._dots[on_dsp]
        if not isinstance(platform, Target) or platform.family == "sim":
            m.submodules[f"dot{unit}"] = dot = self._make(dsp=on_dsp)
            m.d.comb += [dot.i_x.eq(x), dot.i_w.eq(w)]
            if self._masked:
                m.d.comb += dot.i_valid.eq(self.i_lanes)
            return dot.o
        formats = f"{dot.x_format}".replace(":", "") + f"_{dot.w_format.key}"
        name = f"lutloom_{type(dot).__name__.lower()}_{self._lanes}_{formats}" + "_masked" * self._masked
        platform.modules.setdefault(name, dot)
        o = Signal(dot.acc_shape, name=f"dot{unit}_o")
        mask = {"i_i_valid": self.i_lanes} if self._masked else {}
        m.submodules[f"dot{unit}"] = Instance(
            name, i_clk=ClockSignal(), i_rst=ResetSignal(), i_i_x=x, i_i_w=w, o_o=o, **mask
        )
        return o
