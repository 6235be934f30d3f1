"""From plan to files: Verilog of the core, Verilog of its memories, ROM images and their manifest."""

import contextlib
import gc
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from amaranth.back import rtlil

from lutloom.hw.build_sparse import coding_of, zero_of
from lutloom.hw.core import Core
from lutloom.hw.memory import Target
from lutloom.memories import behavioural, hex_image
from lutloom.plan import FORMAT_VERSION, group_layers, window_of
from lutloom.sparse import entries_of, matrix_of
from lutloom.toolchain import tools

TOP = "lutloom_core"


def core_verilog(network, plan, family="generic", toolchain="yowasp"):
    """Verilog of the core without its memories' contents.

    Parameters
    ----------
    network : Network
    plan : Plan
    family : "generic", "ice40" or "ecp5"
        generic simulates everywhere; the others use the chip's DSP blocks where the plan says so.
    toolchain : "yowasp" or "native"
        Whose Yosys writes the Verilog.

    Returns
    -------
    text : str
    target : Target
        With the memories' specs and images.
    """
    target = Target(family)
    core = Core(network, plan)
    return to_verilog(core, TOP, target, toolchain), target


def to_verilog(unit, name, target, toolchain="yowasp"):
    """Verilog of a component and of the modules that its parts share.

    Units of one kind are instances of one module: Amaranth elaborates it once, whatever their number.

    Parameters
    ----------
    unit : Component
    name : str
        Of its module.
    target : Target
    toolchain : "yowasp" or "native"
    """
    texts = [_rtlil(unit, name, target)]
    done = set()
    while waiting := [module for module in target.modules if module not in done]:
        for module in waiting:
            texts.append(_rtlil(target.modules[module], module, target))
            done.add(module)
    with tempfile.TemporaryDirectory(prefix="lutloom-verilog-") as folder:
        folder = Path(folder)
        (folder / "units.il").write_text("\n".join(texts))
        # The passes are those of amaranth.back.verilog.
        attributes = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")
        removed = " ".join(f"-remove {attribute}" for attribute in attributes)
        script = (
            f"read_rtlil units.il; proc -nomux -norom; memory_collect; attrmap {removed}; attrmap -modattr {removed}; "
            "write_verilog -norename units.v"
        )
        yosys = tools.find("yosys", toolchain)
        tools.run(yosys, ["-q", "-p", script], folder=folder, log=folder / "log", what="writing Verilog")
        return (folder / "units.v").read_text()


def _rtlil(unit, name, target):
    with rarely_collected():
        return rtlil.convert(unit, name=name, platform=target, emit_src=False)


@contextlib.contextmanager
def rarely_collected():
    """Garbage is looked for among new objects alone, and only where these are many.

    Amaranth's netlists are very many objects, all in use: to look through them time and again takes a third of the
    time in which they are made.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000, 1000, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def write_rtl(network, plan, folder, toolchain="yowasp"):
    """Write ``rtl/``, ``rom/`` and ``plan.json`` into a folder.

    Returns
    -------
    core : Core
    text : str
        Its Verilog.
    target : Target
    prediction : Prediction
    """
    core = Core(network, plan)
    prediction = core.predict()
    target = Target("generic")
    text = to_verilog(core, TOP, target, toolchain)
    (folder / "rtl").mkdir(parents=True, exist_ok=True)
    (folder / "rom").mkdir(exist_ok=True)
    (folder / "rtl" / f"{TOP}.v").write_text(text)
    (folder / "rtl" / "lutloom_memories.v").write_text(behavioural(target.specs.values()))
    for name, image in target.images.items():
        spec = target.specs[name]
        words = list(image) + [0] * (spec.depth - len(image))
        (folder / "rom" / f"{name}.hex").write_text(hex_image(words, spec.width))
    (folder / "rom" / "manifest.json").write_text(json.dumps(manifest(network, plan, target), indent=1))
    kept = {
        **plan.as_dict(),
        "input": core.input,
        "output": core.output,
        "interval_cycles": prediction.interval_cycles,
        "latency_cycles": prediction.latency_cycles,
        "busy_cycles": {name: schedule.busy for name, schedule in core.schedules if schedule.busy},
        "memories": [asdict(spec) for spec in target.specs.values()],
    }
    (folder / "plan.json").write_text(json.dumps(kept, indent=1))
    return core, text, target, prediction


def _sparse_record(group, stage):
    """What the manifest says of weights that are stored without zeros."""
    fill, coding = zero_of(group), coding_of(group, stage)
    matrix = matrix_of(group.main, group.image[2], stage.width, fill)
    lengths = coding.lengths(entries_of(matrix, fill, stage.width, stage.run_bits))
    return {
        "order": "group of outputs; in a word unit, place in the word, code and above it the step; first lowest",
        "kernel": list(group.main.weights.codes.shape[1:3]) if group.main.weights.codes.ndim == 4 else [1, 1],
        "run_bits": stage.run_bits, "zero": fill, "lengths": lengths.tolist(),
    }


def manifest(network, plan, target):
    """What ``rom/manifest.json`` says: a record a memory image.

    A weights image has all that ``lutloom.manifest.read_weights`` needs to give the layer's weights back.
    """
    groups = {stage.name: (group, stage) for group, stage in zip(group_layers(network), plan.stages, strict=True)}
    records = []
    for name in target.images:
        spec = target.specs[name]
        record = {"name": name, "file": f"{name}.hex", "width": spec.width, "depth": spec.depth, "place": spec.place}
        stage_name = next((s for s in sorted(groups, key=len, reverse=True) if name.startswith(f"{s}_")), None)
        if stage_name is not None:
            group, stage = groups[stage_name]
            if name.removeprefix(f"{stage_name}_table").isdecimal():
                form = group.main.weights.format
                record |= {"layer": group.main.name, "holds": "codebook", "shape": [form.entries, form.group],
                           "entry_bits": spec.width // form.group}
            elif name == f"{stage_name}_weights":
                weights = group.main.weights
                record |= _sparse_record(group, stage) if stage.run_bits else {
                    "order": "block, replay, kernel column, word; in a word unit, kernel row, channel; first lowest",
                    "kernel": list(window_of(group)["kernel"]) if weights.codes.ndim == 4 else [1, 1],
                }
                record |= {
                    "layer": group.main.name, "holds": "weights", "shape": list(weights.codes.shape),
                    "format": str(weights.format), "values": list(weights.format.values),
                    "code_bits": weights.format.index_bits, "packed": stage.packed, "units": stage.units,
                    "lanes": stage.width, "groups": getattr(group.main, "groups", 1),
                }
            elif name == f"{stage_name}_lengths":
                record |= {"layer": group.main.name, "holds": "lengths"}
            else:  # a sum of matches has a constant even where the network has no requantisation
                layer = group.requantise or group.main
                record |= {"layer": layer.name, "holds": type(layer).__name__.lower()}
        records.append(record)
    return {"format_version": FORMAT_VERSION, "memories": records}
