"""A hand-made core with a known golden result, and the ways in which it can be wrong."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lutloom.formats import Format
from lutloom.sim.stream import StreamLayout

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("sim", "hw", "sw")]  # helpers beside the tests

# What can go wrong; rom/fault.hex holds the place in this list, so one compiled model serves all of them.
FAULTS = ["", "dropped beat", "doubled beat", "extra beat", "swapped values", "wrong last", "stuck ready",
          "stuck valid", "valid falls", "unstable data", "false error", "deaf error", "clear ignored", "unused bits"]

_CORE = """
module lutloom_core(clk, rst, clear, s_axis_tdata, s_axis_tvalid, s_axis_tready, s_axis_tlast,
    m_axis_tdata, m_axis_tvalid, m_axis_tready, m_axis_tlast, frame_error);
  input clk, rst, clear, s_axis_tvalid, s_axis_tlast, m_axis_tready;
  input [@intop:0] s_axis_tdata;
  output [@outtop:0] m_axis_tdata;
  output s_axis_tready, m_axis_tvalid, m_axis_tlast, frame_error;
  reg [@outtop:0] data; reg [15:0] beat; reg [7:0] count; reg [31:0] frames; reg full, last, error, blink, twice;
  reg [7:0] fault [0:0];
  initial $readmemh("rom/fault.hex", fault);
  wire [@faults:0] has = 1 << fault[0];
  wire [@ib-1:0] bias; lutloom_rom_bias rom(.addr(beat), .data(bias));
  wire [@outtop:0] sum = {@terms};
  wire [@outtop:0] swapped = {data[@ob-1:0], data[@used-1:@ob]};
  wire end_of_frame = beat == @beats - 1;
  wire again = (has[@doubled_beat] && frames == 2 || has[@extra_beat] && frames == 12) && !twice;
  assign m_axis_tdata = has[@swapped_values] ? swapped : has[@unused_bits] ? data | 1 << @outtop : data;
  assign m_axis_tvalid = full && count == 0 && !(has[@valid_falls] && blink) && !(has[@stuck_valid] && frames == 2);
  assign m_axis_tlast = last;
  assign s_axis_tready = !full && !(has[@stuck_ready] && frames == 2);
  assign frame_error = error;
  always @(posedge clk) begin
    blink <= m_axis_tvalid && !m_axis_tready;
    if (count != 0) count <= count - 1;
    if (m_axis_tvalid && m_axis_tready) begin full <= again; twice <= twice || again; end
    if (has[@unstable_data] && m_axis_tvalid && !m_axis_tready) data <= ~data;
    if (s_axis_tvalid && s_axis_tready) begin
      data <= sum;
      full <= !(has[@dropped_beat] && frames == 2 && beat == 1);
      count <= @wait;
      last <= end_of_frame ^ (has[@wrong_last] && frames == 3 && beat == 0);
      beat <= end_of_frame ? 0 : beat + 1;
      frames <= frames + end_of_frame;
      error <= error || s_axis_tlast != end_of_frame && !has[@deaf_error];
    end
    if (has[@false_error]) error <= 1;
    if (rst || clear && !has[@clear_ignored]) begin
      full <= 0; beat <= 0; count <= 0; error <= 0; frames <= 0; blink <= 0; twice <= 0;
    end
  end
endmodule
"""

_ROM = """
module lutloom_rom_bias(input [15:0] addr, output [@ib-1:0] data);
  reg [@ib-1:0] words [0:@beats-1];
  initial $readmemh("rom/bias.hex", words);
  assign data = words[addr];
endmodule
"""


def _fill(text, numbers):
    for key in sorted(numbers, key=len, reverse=True):
        text = text.replace("@" + key, str(numbers[key]))
    return text


def _make(folder, *, shape=(3, 2, 5), bits=4, width=2, wait=1, frames=12, fault="", seed=0):
    """Writes a build folder; the core subtracts a constant of each beat from its values, ``wait`` + 2 cycles a beat.

    Returns
    -------
    namespace of folder, x, y (codes), input, output (StreamLayout), interval, latency
    """
    rng = np.random.default_rng(seed)
    layouts = StreamLayout(shape, Format("uint", bits), width), StreamLayout(shape, Format("int", bits + 1), width)
    beats, used, total = layouts[1].beats, width * (bits + 1), layouts[1].tdata_bits
    bias = rng.integers(0, 1 << bits, beats)
    # unused values stay zero: the channels of the last beat of a pixel may be fewer
    spare = layouts[1].pixel_beats * width - shape[-1]
    last = f"(beat % {layouts[1].pixel_beats} == {layouts[1].pixel_beats - 1})"
    terms = [f"{{1'b0, s_axis_tdata[{(i + 1) * bits - 1}:{i * bits}]}} - {{1'b0, bias}}" for i in range(width)]
    terms = [f"({last} && {i} >= {width - spare} ? {bits + 1}'d0 : {term})" for i, term in enumerate(terms)]
    padding = [f"{total - used}'d0"] if total > used else []
    numbers = {"intop": layouts[0].tdata_bits - 1, "outtop": total - 1, "ib": bits, "ob": bits + 1, "used": used,
               "beats": beats, "wait": wait, "terms": ", ".join(padding + terms[::-1]), "faults": len(FAULTS),
               **{name.replace(" ", "_"): number for number, name in enumerate(FAULTS) if name}}
    if width == 1:  # no second value: nothing to swap, and no bits to take it from
        numbers["used-1:@ob"] = numbers["ob-1:0"] = f"{bits}:0"
    for name, content in (("rtl/lutloom_core.v", _fill(_CORE, numbers)),
                          ("rtl/lutloom_memories.v", _fill(_ROM, numbers)),
                          ("rom/bias.hex", "".join(f"{word:x}\n" for word in bias)),
                          ("rom/fault.hex", f"{FAULTS.index(fault):x}"), ("network.npz", "")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    interval = beats * (wait + 2)
    plan = {"format_version": 1, "input": layouts[0].to_plan(), "output": layouts[1].to_plan(),
            "interval_cycles": interval, "latency_cycles": interval - 1, "stages": [], "memories": []}
    (folder / "plan.json").write_text(json.dumps(plan))
    x = rng.integers(0, 1 << bits, (frames, *shape))
    spread = np.repeat(bias.reshape(layouts[0].pixels, -1), width, axis=1)[:, :shape[-1]].reshape(shape)
    return SimpleNamespace(folder=folder, x=x, y=x - spread, input=layouts[0], output=layouts[1], interval=interval,
                           latency=interval - 1)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """An empty cache for the whole session, so that nothing found compiled hides an error."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTLOOM_CACHE", str(folder))
        yield folder


@pytest.fixture
def core(tmp_path, cache):
    """Maker of cores in folders of their own: core(shape=..., bits=..., width=..., wait=..., frames=..., fault=...)."""
    count = iter(range(sys.maxsize))
    return lambda **options: _make(tmp_path / f"core{next(count)}", **options)
