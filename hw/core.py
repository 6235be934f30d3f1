"""The core: all stages of a plan and the streams between them, with AXI4-Stream style ports."""

import warnings

from amaranth.hdl import Const, Module, Mux, ResetInserter, Signal, UnusedElaboratable
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.executor import Unit, predict
from lutloom.hw.branch import Buffer, Fork
from lutloom.hw.build_sparse import unfold
from lutloom.hw.build_stage import adapters, make_stage
from lutloom.plan import group_layers, image_of, last_group

# Planning makes units for their schedules alone, and drops them.
warnings.filterwarnings("ignore", category=UnusedElaboratable)


class Core(wiring.Component):
    """A network in hardware.

    Codes of a frame go in and out in raster order, channels innermost, a pixel's ``width`` values a beat, the first
    in the lowest bits; a port is as many whole bytes as they need. ``tlast`` goes with a frame's last beat;
    ``frame_error`` rises when it came elsewhere and stays until ``clear``, which also drops every frame under way.
    No combinational path between the two sides. Where a frame's first outputs depend on constants or on the frame
    before alone (a pad or a state, and nothing behind it that waits), they are offered before its input comes.

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
        last = last_group(network, groups)
        self._units = []  # (name, component, links in, links out)
        self._links = 0
        self._taps = {}  # (group that gives, its how manieth reader) -> link
        readers = {}  # group that gives -> readers, as (group, port); the sink is (None, 0)
        for index, group in enumerate(groups):
            for port, source in enumerate(group.sources):
                readers.setdefault(source, []).append((index, port))
        readers.setdefault(last, []).append((None, 0))
        reader, port = readers[None][0]
        first = groups[reader].inputs[port]  # the input as it streams: as its first reader sees it
        self._source = self._tap(None, 0) if len(readers[None]) == 1 else self._link()
        if len(readers[None]) > 1:
            self._fork("input", None, self._source, first.format.bits, plan.input_width, len(readers[None]))
        for index, (group, stage) in enumerate(zip(groups, plan.stages, strict=True)):
            into = []
            for port, (source, tensor) in enumerate(zip(group.sources, group.inputs, strict=True)):
                given = plan.input_width if source is None else plan.stages[source].out_width
                whole = first if source is None else groups[source].results
                link = self._tap(source, readers[source].index((index, port)))
                into.append(self._adapted(plan, stage, port, whole, tensor, given, link, len(group.inputs) > 1))
            vectors = unfold(plan, group, stage)
            if vectors is not None:
                after = self._link()
                self._units.append((f"{stage.name}_unfold", vectors, tuple(into), (after,)))
                into = [after]
            out = self._link() if len(readers.get(index, ())) > 1 else self._tap(index, 0)
            self._units.append((stage.name, make_stage(network, plan, group, stage), tuple(into), (out,)))
            if len(readers.get(index, ())) > 1:
                self._fork(stage.name, index, out, group.results.format.bits, stage.out_width, len(readers[index]))
        self._sink = self._taps[last, readers[last].index((None, 0))]
        self._input = port_of(first, plan.input_width)
        final = groups[last]
        self._output = port_of(final.results, plan.stages[last].out_width, final.output)
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
        return [(name, unit.schedule) for name, unit, _, _ in self._units]

    @property
    def units(self):
        """Every unit as the executor takes it."""
        return [Unit(name, unit.schedule, into, out) for name, unit, into, out in self._units]

    def predict(self):
        """Interval, latency and every transfer, from the schedules alone."""
        return predict(self.units, self._input["beats"], self._output["beats"])

    def _link(self):
        """The number of a new link."""
        self._links += 1
        return self._links - 1

    def _tap(self, source, way):
        """The link from a group (None: the input) to one of its readers."""
        if (source, way) not in self._taps:
            self._taps[source, way] = self._link()
        return self._taps[source, way]

    def _fork(self, name, source, link, bits, width, ways):
        """A fork behind a link that several read."""
        taps = tuple(self._tap(source, way) for way in range(ways))
        self._units.append((f"{name}_fork", Fork(bits=bits, width=width, ways=ways), (link,), taps))

    def _adapted(self, plan, stage, port, whole, tensor, given, link, several):
        """The link into a stage's port, behind width adapters and a buffer where there are such.

        ``whole`` is the tensor as it streams, ``tensor`` the same as the stage sees it: shaped anew, perhaps.
        """
        name = f"{stage.name}_{port}" if several else stage.name
        bits = tensor.format.bits
        for unit_name, unit in adapters(name, bits, image_of(whole)[2], image_of(tensor)[2], given, stage.width):
            after = self._link()
            self._units.append((unit_name, unit, (link,), (after,)))
            link = after
        depth = stage.buffers[port] if stage.buffers else 0
        if depth:
            after = self._link()
            buffer = Buffer(name=f"{name}_buffer", bits=bits, width=stage.width, depth=depth,
                            latency=plan.memory_latency)
            self._units.append((f"{name}_buffer", buffer, (link,), (after,)))
            link = after
        return link

    def elaborate(self, platform):
        m = Module()
        chain = Module()
        gives, takes = {}, {}
        for name, unit, into, out in self._units:
            chain.submodules[name] = unit
            takes |= zip(into, unit.inputs if hasattr(unit, "inputs") else [unit.i], strict=True)
            gives |= zip(out, getattr(unit, "outputs", None) or [unit.o], strict=True)
        for link in sorted(gives.keys() & takes.keys()):
            wiring.connect(chain, gives[link], takes[link])
        first, last = takes[self._source], gives[self._sink]
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


def port_of(tensor, width, final=None):
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
