"""Reports of builds: ``report.json`` read, and shown as tables."""

import json
from pathlib import Path

from lutloom.errors import BuildError
from lutloom.folder import check_build
from lutloom.network import Multiply, Thresholds
from lutloom.plan import window_of
from lutloom.terminal import table
from lutloom.weight_spec import shown

RESOURCES = {"lut4": "LUT4", "ff": "flip-flops", "carry": "carry", "ebr": "EBR", "spram": "SPRAM", "dsp": "DSP"}
REQUIRED = {"clock_mhz", "interval_cycles", "latency_cycles", "frames_per_second", "resources", "weight_bits", "layers"}


def load(folder):
    """The report of a build folder; BuildError if there is none."""
    path = check_build(folder) / "report.json"
    try:
        report = json.loads(path.read_text())
    except (OSError, ValueError):
        raise BuildError(f"{folder} has no report.json that can be read; build it again") from None
    if not isinstance(report, dict) or not REQUIRED <= set(report):
        raise BuildError(f"{path} is damaged; build it again")
    return report


def text(report):
    """A report as tables."""
    return "\n\n".join([compare({report["name"]: report}), _layers(report), _files(report)])


def compare(reports):
    """Several reports side by side.

    Parameters
    ----------
    reports : mapping of str to dict
        By the name that stands above the column.
    """
    rows = []

    def row(label, show):
        cells = [show(report) for report in reports.values()]
        if any(cell is not None for cell in cells):
            rows.append([label, *("-" if cell is None else cell for cell in cells)])

    for key in ("model", "board", "weights", "activations", "style"):
        row(key, lambda report, key=key: str(report[key]) if report.get(key) is not None else None)
    row("clock, Fmax", _clock)
    row("interval, cycles", lambda r: f"{r['interval_cycles']:,}")
    row("latency, cycles", lambda r: f"{r['latency_cycles']:,}")
    row("busy, slowest stage", lambda r: f"{r['busy_share']:.1%} ({r['slowest']})" if r.get("slowest") else None)
    row("frames a second", lambda r: f"{r['frames_per_second']:,.0f}")
    for key, label in RESOURCES.items():
        row(label, lambda r, key=key: _resource(r["resources"].get(key)))
    row("weight bits", lambda r: f"{r['weight_bits']:,}")
    for kind in ("float", "golden"):
        row(f"accuracy {kind}", lambda r, kind=kind: _accuracy(r.get("accuracy"), kind))
    row("seconds", _seconds)
    return table(rows, ["", *reports])


def _clock(report):
    fmax = report.get("fmax_mhz")
    return f"{report['clock_mhz']:g} MHz" + (f", {fmax:.1f} MHz" if fmax else " (planned)")


def _seconds(report):
    """Of all steps; none of synthesis, place and route where the placed design was there already."""
    if not report.get("seconds"):
        return None
    return f"{sum(report['seconds'].values()):.0f}" + (" (from cache)" if report.get("from_cache") else "")


def _resource(entry):
    if not entry:
        return None
    used, estimated = entry.get("used"), entry.get("estimated")
    if used is None and not estimated:
        return None
    shown = f"{used:,}" if used is not None else f"about {estimated:,}"
    of = f" of {entry['available']:,}" if entry.get("available") is not None else ""
    return shown + of + (" (core alone)" if used is None else "")


def _accuracy(accuracy, kind):
    if not accuracy or accuracy.get(kind) is None:
        return None
    return f"{accuracy[kind]:.2%} of {accuracy['count']:,}"


def _layers(report):
    header = ["layer", "op", "format", "lanes", "units", "cycles", "weights in"]
    keys = ("name", "op", "format", "lanes", "units", "interval_cycles", "memory")
    return table([[layer.get(key) for key in keys] for layer in report["layers"]], header)


def _files(report):
    return "files: " + ", ".join(report["files"]) + (f"  (in {report['folder']})" if report.get("folder") else "")


def weights_of(network):
    """Formats of the weights of a network, where nobody chose them: the model's own, or the default."""
    found = [str(layer.weights.format) for layer in network.layers if hasattr(layer, "weights")]
    return ", ".join(dict.fromkeys(found)) or "none"


def activations_of(network):
    """Formats of what the requantisers of a network give, where nobody chose them."""
    found = [str(network.tensors[layer.output].format) for layer in network.layers
             if isinstance(layer, Thresholds | Multiply)]
    return ", ".join(dict.fromkeys(found)) or "none"


def layers_of(groups, plan, schedules, info):
    """The ``layers`` of a report.

    Parameters
    ----------
    groups : list of lutloom.plan.Group
    plan : Plan
    schedules : mapping of str to schedule
        By stage name.
    info : mapping of str to str
        The network's.
    """
    rows = []
    for group, stage in zip(groups, plan.stages, strict=True):
        weights = getattr(group.main, "weights", None)
        rows_of_kernel = window_of(group)["kernel"][0] if weights is not None and weights.codes.ndim == 4 else 1
        rows.append({
            "name": group.main.name,
            "op": type(group.main).__name__.lower(),
            "format": (str(group.output.format) if weights is None
                       else shown(group.main, info, sparse=bool(stage.run_bits))),
            "lanes": rows_of_kernel * (1 if group.depthwise else stage.width) if stage.kind == "dot" else stage.width,
            "units": stage.units,
            "interval_cycles": schedules[stage.name].busy or None,
            "memory": stage.weights_place if weights is not None else None,
        })
    return rows


def write(folder, report):
    """Write ``report.json``."""
    (Path(folder) / "report.json").write_text(json.dumps(report, indent=1))
