"""From plan to files: Verilog of the core, Verilog of its memories, ROM images and their manifest."""

import json
from dataclasses import asdict

from amaranth.back import verilog

from lutloom.hw.core import Core
from lutloom.hw.memory import Target
from lutloom.memories import behavioural, hex_image
from lutloom.plan import FORMAT_VERSION, group_layers
from lutloom.toolchain.tools import yosys_for_amaranth

TOP = "lutloom_core"


def core_verilog(network, plan, family="generic"):
    """Verilog of the core without its memories' contents.

    Parameters
    ----------
    network : Network
    plan : Plan
    family : "generic", "ice40" or "ecp5"
        generic simulates everywhere; the others use the chip's DSP blocks where the plan says so.

    Returns
    -------
    text : str
    target : Target
        With the memories' specs and images.
    """
    core = Core(network, plan)
    target = Target(family)
    ports = [getattr(core, name) for name in core.signature.members]
    with yosys_for_amaranth():
        text = verilog.convert(core, name=TOP, platform=target, ports=ports, emit_src=False, strip_internal_attrs=True)
    return text, target


def write_rtl(network, plan, folder):
    """Write ``rtl/``, ``rom/`` and ``plan.json`` into a folder.

    Returns
    -------
    core : Core
    target : Target
    prediction : Prediction
    """
    core = Core(network, plan)
    prediction = core.predict()
    text, target = core_verilog(network, plan)
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
    return core, target, prediction


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
            if name == f"{stage_name}_weights":
                weights = group.main.weights
                record |= {
                    "layer": group.main.name, "holds": "weights", "shape": list(weights.codes.shape),
                    "format": str(weights.format), "code_bits": weights.format.bits,
                    "order": "block, replay, kernel column, word; in a word unit, kernel row, channel; first lowest",
                    "units": stage.units, "lanes": stage.width, "groups": getattr(group.main, "groups", 1),
                }
            else:
                record |= {"layer": group.requantise.name, "holds": type(group.requantise).__name__.lower()}
        records.append(record)
    return {"format_version": FORMAT_VERSION, "memories": records}
