"""The core: all stages of a plan in a row, with AXI4-Stream style ports."""

import warnings

from amaranth.hdl import Const, Module, Mux, ResetInserter, Signal, UnusedElaboratable
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.executor import in_a_row, predict
from lutloom.hw.build_stage import adapters, make_stage
from lutloom.plan import group_layers

# Planning makes units for their schedules alone, and drops them.
warnings.filterwarnings("ignore", category=UnusedElaboratable)


class Core(wiring.Component):
    """A network in hardware.

    Codes of a frame go in and out in raster order, channels innermost, a pixel's ``width`` values a beat, the first
    in the lowest bits; a port is as many whole bytes as they need. ``tlast`` goes with a frame's last beat;
    ``frame_error`` rises when it came elsewhere and stays until ``clear``, which also drops every frame under way.
    No combinational path between the two sides.

    Parameters
    ----------
    network : Network
    plan : Plan

    Members
    -------
    clear : In(1)
    s_axis_tdata, s_axis_tvalid, s_axis_tlast : In
    s_axis_tready : Out(1)
    m_axis_tdata, m_axis_tvalid, m_axis_tlast : Out
    m_axis_tready : In(1)
    frame_error : Out(1)
    """

    def __init__(self, network, plan):
        self._network, self._plan = network, plan
        groups = group_layers(network)
        if [group.layers[-1].name for group in groups] != [stage.layers[-1] for stage in plan.stages]:
            raise ValueError("plan stages must be those of the network")
        self._units = []  # (name, component)
        width, tensor = plan.input_width, groups[0].input
        for group, stage in zip(groups, plan.stages, strict=True):
            channels = group.image[2]
            for name, unit in adapters(stage.name, group.input.format.bits, channels, width, stage.width):
                self._units.append((name, unit))
            self._units.append((stage.name, make_stage(network, plan, group, stage)))
            width, tensor = stage.out_width, group.output
        self._input = port(groups[0].input, plan.input_width)
        results = groups[-1].results
        self._output = port(results, width, tensor)
        super().__init__(
            {
                "clear": In(1),
                "s_axis_tdata": In(self._input["tdata_bits"]),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "s_axis_tlast": In(1),
                "m_axis_tdata": Out(self._output["tdata_bits"]),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "m_axis_tlast": Out(1),
                "frame_error": Out(1),
            }
        )

    @property
    def input(self):
        """What ``plan.json`` says of the input port: shape, format, width, bits, beats, tdata_bits."""
        return self._input

    @property
    def output(self):
        """The same of the output port."""
        return self._output

    @property
    def schedules(self):
        """(name, schedule) of every unit in order."""
        return [(name, unit.schedule) for name, unit in self._units]

    def predict(self):
        """Interval, latency and every transfer, from the schedules alone."""
        names, schedules = zip(*self.schedules, strict=True)
        return predict(in_a_row(schedules, names), self._input["beats"], self._output["beats"])

    def elaborate(self, platform):
        m = Module()
        chain = Module()
        links = []
        for name, unit in self._units:
            chain.submodules[name] = unit
            if links:
                wiring.connect(chain, links[-1].o, unit.i)
            links.append(unit)
        first, last = links[0].i, links[-1].o
        frame_in = self._count(chain, self._input["beats"], first.valid & first.ready, "in")
        frame_out = self._count(chain, self._output["beats"], last.valid & last.ready, "out")
        chain.d.comb += [
            first.valid.eq(self.s_axis_tvalid),
            first.payload.eq(self.s_axis_tdata[: len(first.payload.as_value())]),
            self.s_axis_tready.eq(first.ready),
            self.m_axis_tvalid.eq(last.valid),
            self.m_axis_tdata.eq(last.payload),
            self.m_axis_tlast.eq(frame_out),
            last.ready.eq(self.m_axis_tready),
        ]
        with chain.If(first.valid & first.ready & (self.s_axis_tlast != frame_in)):
            chain.d.sync += self.frame_error.eq(1)
        m.submodules.chain = ResetInserter(self.clear)(chain)
        return m

    @staticmethod
    def _count(m, beats, moves, name):
        """High at a frame's last beat."""
        if beats == 1:
            return Const(1)
        left = Signal(range(beats), init=beats - 1, name=f"{name}_left")
        last = Signal(name=f"{name}_last")
        m.d.comb += last.eq(left == 0)
        with m.If(moves):
            m.d.sync += left.eq(Mux(last, beats - 1, left - 1))
        return last


def port(tensor, width, final=None):
    """What ``plan.json`` says of a port.

    Parameters
    ----------
    tensor : Tensor
        As it streams.
    width : int
        Values a beat.
    final : Tensor, optional
        As the network means it (flattened, perhaps).
    """
    shape = tensor.shape if len(tensor.shape) == 3 else (1, 1, *tensor.shape)
    final = final or tensor
    pixel_beats = -(-shape[2] // width)
    return {
        "tensor": final.name,
        "shape": list(final.shape),
        "stream_shape": list(shape),
        "format": str(final.format),
        "width": width,
        "bits": final.format.bits,
        "beats": shape[0] * shape[1] * pixel_beats,
        "tdata_bits": -(-width * final.format.bits // 8) * 8,
    }
