"""The whole core: beat by beat against its schedules, and benches that see what is wrong with it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lutloom.emit import write_rtl
from lutloom.executor import in_a_row, run
from lutloom.hw.core import Core
from lutloom.manifest import read_weights
from lutloom.memories import hex_image, read_hex_image
from lutloom.network import Network
from lutloom.sim.random_network import random_inputs, random_network, random_plan
from lutloom.simulate import simulate

SEED = 239  # an input requantised, a convolution, two dense layers; one bit of the first weight shows at the output
FRAMES = 6


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build folder without synthesis: (folder, network, plan, inputs)."""
    folder = tmp_path_factory.mktemp("core")
    network = random_network(SEED)
    plan = random_plan(network, SEED, "ecp5")
    write_rtl(network, plan, folder)
    network.save(folder / "network.npz")
    return folder, network, plan, random_inputs(network, FRAMES, 1)


@pytest.fixture
def corrupt(built):
    """Changes a file of the build for one test: corrupt(path, function of its text)."""
    folder = built[0]
    kept = {}

    def change(name, function):
        path = folder / name
        kept.setdefault(path, path.read_text())
        path.write_text(function(path.read_text()))

    yield change
    for path, text in kept.items():
        path.write_text(text)


def images(folder, ending):
    """Names of ROM images that end so."""
    return sorted(str(path.relative_to(folder)) for path in (folder / "rom").glob(f"*{ending}.hex"))


def edit(word_index, function):
    """A change of one word of a ROM image."""
    def change(text):
        lines = text.split()
        width = 4 * len(lines[0])
        words = read_hex_image(text)
        words[word_index] = function(words[word_index]) % (1 << width)
        return hex_image(words, width)
    return change


def test_every_beat_is_where_the_schedules_say(built):
    folder, network, plan, x = built
    result = simulate(folder, x, count=FRAMES, record=FRAMES, alone=False)
    assert (result.frames, result.differ) == (FRAMES, 0)
    core = Core(network, plan)
    schedules = [schedule for _, schedule in core.schedules]
    links = run(in_a_row(schedules), core.input["beats"], core.output["beats"], FRAMES)
    first = int(result.input_cycles.ravel()[0])
    assert [int(cycle) - first for cycle in result.input_cycles.ravel()] == links[0]
    assert [int(cycle) - first for cycle in result.output_cycles.ravel()] == links[-1]


def test_the_same_frame_twice_and_stalls(built):
    folder, _, _, x = built
    for stalls in (0.1, 0.7):
        result = simulate(folder, np.repeat(x[:3], 2, axis=0), count=6, stalls=stalls, seed=5)
        assert (result.frames, result.differ) == (6, 0)


def test_clear_drops_a_frame_under_way(built):
    folder, _, _, x = built
    result = simulate(folder, x, count=FRAMES, clear_after=(1, 7), break_last=True)
    assert (result.frames, result.differ) == (FRAMES, 0)


def test_cocotb_gives_the_same(built):
    folder, _, _, x = built
    result = simulate(folder, x[:2], count=2, engine="cocotb", stalls=0.3)
    assert (result.frames, result.differ) == (2, 0)


def test_rom_images_give_the_weights_back(built):
    folder, network, _, _ = built
    weights = read_weights(folder)
    layers = {layer.name: layer for layer in network.layers if hasattr(layer, "weights")}
    assert set(weights) == set(layers) and len(layers) == 3
    for name, codes in weights.items():
        assert (codes == layers[name].weights.codes).all()


def seen(folder, x, corrupt, changes):
    """Whether one of some changes, (image, function) each made alone, gives frames that differ."""
    for name, function in changes:
        before = (folder / name).read_text()
        corrupt(name, function)
        differ = simulate(folder, x, count=len(x), alone=False).differ
        corrupt(name, lambda _, before=before: before)
        if differ:
            return True
    return False


def test_one_flipped_weight_bit_is_seen(built, corrupt):
    folder, _, _, x = built
    assert seen(folder, x, corrupt, [(name, edit(0, lambda word: word ^ 1)) for name in images(folder, "_weights")])


def test_one_threshold_off_by_one_is_seen(built, corrupt):
    folder, network, _, _ = built
    # Some position of so many frames meets the very step.
    x = random_inputs(network, 40, 3)
    steps = [(name, edit(word, lambda word: word + 1)) for name in images(folder, "_level0")
             for word in range(len((folder / name).read_text().split()))]
    assert seen(folder, x, corrupt, steps)


def test_two_swapped_channels_are_seen(built, corrupt, tmp_path):
    folder, network, plan, x = built
    index = max(i for i, layer in enumerate(network.layers) if hasattr(layer, "weights"))
    layer = network.layers[index]
    codes = layer.weights.codes.copy()
    codes[[0, 1]] = codes[[1, 0]]
    swapped = replace(layer, weights=replace(layer.weights, codes=codes))
    write_rtl(replace(network, layers=(*network.layers[:index], swapped, *network.layers[index + 1:])), plan, tmp_path)
    changed = [name for name in images(folder, "") if (tmp_path / name).read_text() != (folder / name).read_text()]
    assert len(changed) == 1 and changed[0].endswith("_weights.hex")
    corrupt(changed[0], lambda _: (tmp_path / changed[0]).read_text())
    found = simulate(folder, x, count=FRAMES)
    assert 0 < found.differ <= found.frames == FRAMES  # whatever else was run


def test_a_changed_network_is_seen(built, tmp_path):
    folder, network, _, x = built
    layers = list(network.layers)
    index = next(i for i, layer in enumerate(layers) if hasattr(layer, "weights"))
    weights = layers[index].weights
    codes = weights.codes.copy()
    codes.flat[0] ^= 1
    layers[index] = replace(layers[index], weights=replace(weights, codes=codes))
    other = replace(network, layers=tuple(layers))
    assert isinstance(other, Network) and (other(x) != network(x)).any()
    assert simulate(folder, x, count=FRAMES, expected=other(x)).differ > 0


def test_a_wrong_schedule_is_seen(built):
    folder, network, plan, x = built
    result = simulate(folder, x, count=FRAMES, record=FRAMES, alone=False)
    first = int(result.input_cycles.ravel()[0])
    counted = [int(cycle) - first for cycle in result.output_cycles.ravel()]
    core = Core(network, plan)
    right = [schedule for _, schedule in core.schedules]
    ports = core.input["beats"], core.output["beats"], FRAMES
    assert run(in_a_row(right), *ports)[-1] == counted
    for index, schedule in enumerate(right):
        if not schedule.busy:
            continue
        for wrong in (replace(schedule, delay=schedule.delay + 1), replace(schedule, cost=schedule.cost + 1)):
            assert run(in_a_row([*right[:index], wrong, *right[index + 1 :]]), *ports)[-1] != counted


def test_prediction_is_what_plan_json_says(built):
    folder, _, _, x = built
    result = simulate(folder, x, count=FRAMES)
    kept = json.loads((folder / "plan.json").read_text())
    assert (result.interval_cycles, result.latency_cycles) == (kept["interval_cycles"], kept["latency_cycles"])
