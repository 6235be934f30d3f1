"""The sub-commands of ``lutloom``, one function each: from parsed options to what is printed.

Everything is imported inside the functions, so that ``lutloom boards`` does not wait for the libraries of ``build``.
"""

import dataclasses
from pathlib import Path

from lutloom.errors import ModelError
from lutloom.terminal import table


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command gives.

    Parameters
    ----------
    data : dict
        For ``--json``.
    text : str
        For people.
    failure : str
        One sentence if the results are wrong although the command ran: exit status 1 after printing them.
    """

    data: dict
    text: str
    failure: str = ""


def _quantisation(options):
    """Keyword arguments of lutloom.quantize that were given on the command line.

    Raises ModelError where there are some for a model that is integer already: they would do nothing.
    """
    names = {"weights": "weights", "activations": "activations", "calibrate": "calibrate", "rounding": "rounding",
             "prune": "prune", "equalise": "equalise", "binarize": "binarize", "statistics": "statistics",
             "input_scale": "input_scale", "input_zero": "input_zero", "input": "input_format"}
    given = {option: value for option in names if (value := getattr(options, option, None)) is not None}
    model = Path(options.model)
    if given and (model.suffix == ".npz" or model.is_dir()):
        option = "--" + next(iter(given)).replace("_", "-")
        raise ModelError(f"{options.model} is integer already; leave {option} out, or give the model it is made of")
    meaningless = [option for option in given if option not in ("weights", "rounding")]
    if model.suffix.lower() == ".tflite" and meaningless:
        option = "--" + meaningless[0].replace("_", "-")
        raise ModelError(f"{options.model} brings its own integer arithmetic, so that {option} means nothing; leave it "
                         "out")
    return {names[option]: value for option, value in given.items()}


def _hardware(options):
    """Keyword arguments of lutloom.build that both ``build`` and ``verilog`` take."""
    names = ["fps", "clock_mhz", "toolchain", "jobs"]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return given | {"style": options.style, "seed": options.seed, "patchable": options.patchable,
                    "selftest": not options.no_selftest}


def build(options, progress):
    """Model file to bitstream and report."""
    from lutloom.build import build as run
    from lutloom.report import text

    report = run(options.model, board=options.board, output=options.output, data=options.data, progress=progress,
                 **_hardware(options), **_quantisation(options))
    return Outcome(report, text(report))


def verilog(options, progress):
    """Model file to Verilog and ROM images."""
    from lutloom.build import verilog as run
    from lutloom.report import text

    report = run(options.model, board=options.board, output=options.output, top=options.top, progress=progress,
                 **_hardware(options), **_quantisation(options))
    return Outcome(report, text(report))


def check(options, progress):
    """What of a model is supported."""
    from lutloom.check import check as run

    found = run(options.model)
    return Outcome(found.data, found.text, found.sentence)


def quantize(options, progress):
    """Float model to integer network."""
    from lutloom.quantize import quantize as run

    path = Path(options.output)
    if path.suffix != ".npz":
        raise ModelError(f"the network's file must end in .npz, not {options.output!r}")
    if not path.parent.is_dir():
        raise ModelError(f"{options.output} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise ModelError(f"{options.output} is a folder; give the path of a file")
    pictures = []
    if options.pictures is not None:
        from lutloom.pictures import check_pictures, of_model

        check_pictures(options.model, options.pictures)
    import numpy as np

    from lutloom.quantize import pruned
    from lutloom.sparse import least_bits
    from lutloom.weight_spec import shown

    network = run(options.model, progress=progress, **_quantisation(options))
    network.save(path)
    if options.pictures is not None:
        pictures = of_model(options.model, network, options.pictures)
    layers = [{"name": layer.name, "op": type(layer).__name__.lower(), "format": shown(layer, network.info),
               "weights": layer.weights.codes.size, "not_zero": int(np.count_nonzero(layer.weights.integers)),
               "bits": least_bits(layer.weights)}
              for layer in network.layers if hasattr(layer, "weights")]
    data = {"network": str(path), "pictures": list(map(str, pictures)), "layers": layers,
            "weights": sum(layer["weights"] for layer in layers),
            "weight_bits": sum(layer["bits"] for layer in layers)}
    rows = [[*layer.values()] for layer in layers]
    data |= pruned(network)
    rows.append(["total", "", "", data["weights"], sum(layer["not_zero"] for layer in layers), data["weight_bits"]])
    written = "".join(f"\nwritten: {each}" for each in (path, *pictures))
    lines = [table(rows, ["layer", "operator", "format", "weights", "not zero", "bits"]), *_pruned_lines(data)]
    return Outcome(data, "\n".join(lines) + written)


def _pruned_lines(result):
    """What pruning left, in words."""
    lines = [f"weights left, of all: {result['weights_left']}"] if "weights_left" in result else []
    return lines + ([f"channels removed, which did nothing: {result['removed']}"] if "removed" in result else [])


def evaluate(options, progress):
    """Accuracy and confusion matrix."""
    from lutloom.evaluate import evaluate as run

    result = run(options.model, data=options.data, outputs=options.outputs, mode=options.mode, count=options.count,
                 progress=progress, **_quantisation(options))
    written = f"written: {options.outputs}" if options.outputs else ""
    return Outcome(result, "\n".join(filter(None, [_accuracy_text(result), written])))


def _accuracy_text(result):
    """Accuracy before and after, of all and of each class, and the confusion matrices of both."""
    from lutloom.difference import sentence

    shares = {name: share for name, share in (result.get("accuracy") or {}).items() if share is not None}
    width = max(map(len, shares), default=0)
    lines = [f"accuracy {name:{width}} {share:.2%} of {result['count']:,} frames" for name, share in shares.items()]
    lines += _pruned_lines(result)
    if result.get("difference"):
        lines.append(sentence(result["difference"]))
    elif "no_golden" in result:
        lines.append(f"no integer network to compare with: {result['no_golden']}")
    classes = result.get("classes")
    if not classes:
        return "\n".join(lines)
    rows = [[row["class"], row["count"], *("-" if row[name] is None else f"{row[name]:.2%}" for name in shares)]
            for row in classes]
    lines += ["", table(rows, ["class", "frames", *shares])]
    for name, confusion in result["confusions"].items():
        header = [f"{name}: true \\ found", *map(str, range(len(confusion)))]
        lines += ["", table([[index, *row] for index, row in enumerate(confusion)], header)]
    return "\n".join(lines)


def search(options, progress):
    """Formats of every layer, searched."""
    from lutloom.search import search as run
    from lutloom.search.report import text

    names = ["formats", "layers", "budget", "drop", "best", "finals", "board", "jobs", "scheduler"]
    result = run(options.model, data=options.data, output=options.output, progress=progress,
                 **{name: getattr(options, name) for name in names}, **_quantisation(options))
    return Outcome(result, text(result))


def simulate(options, progress):
    """The Verilog of a build folder against the golden model."""
    from lutloom.data import load_for
    from lutloom.simulate import load_ports
    from lutloom.simulate import simulate as run

    load_ports(options.folder)
    x = load_for(options.folder, options.data, options.count)
    count = len(x) if options.count is None else options.count
    result = run(options.folder, x, count=count, stalls=options.stalls, engine=options.engine, seed=options.seed,
                 jobs=options.jobs, progress=progress)
    data = {name: getattr(result, name) for name in
            ("frames", "differ", "cycles", "interval_cycles", "latency_cycles", "predicted_interval_cycles",
             "predicted_latency_cycles", "first_difference")}
    failure = ""
    if result.differ:
        failure = f"{result.differ} of {result.frames} frames differ from the golden model; {result.first_difference}"
    elif result.frames < count:
        failure = f"only {result.frames} of the {count} frames that were asked for ran"
    else:
        failure = result.cycles_differ
    text = table([["frames compared", result.frames], ["frames that differ", result.differ], ["cycles", result.cycles]])
    alone = ", of a run without stalls" if options.stalls else ""
    text += "\n\n" + table([["interval", result.interval_cycles, result.predicted_interval_cycles],
                            ["latency", result.latency_cycles, result.predicted_latency_cycles]],
                           [f"cycles{alone}", "counted", "predicted"])
    return Outcome(data, text, failure)


def report(options, progress):
    """Reports of finished builds, side by side."""
    from lutloom.folder import load_network
    from lutloom.report import compare, load
    from lutloom.work import work_of, work_table

    reports = {folder: load(folder) for folder in options.folders}
    work = {folder: work_of(load_network(folder)) for folder in options.folders}
    tables = {}
    for folder, rows in work.items():  # builds of one model have one table
        tables.setdefault(work_table(rows), []).append(str(folder))
    text = "\n\n".join([compare(reports), *(f"{', '.join(names)}:\n{shown}" for shown, names in tables.items())])
    return Outcome({"builds": reports, "work": {str(folder): rows for folder, rows in work.items()}}, text)


def boards(options, progress):
    """The boards that are known."""
    from lutloom.board import boards_list

    rows = [{"name": board.name, "device": board.chip.device, "family": board.family, "lut4": board.chip.lut4,
             "ebr": board.chip.ebr_blocks, "ebr_bits": board.chip.ebr_bits, "spram": board.chip.spram,
             "dsp": board.chip.dsp} for board in boards_list()]
    header = ["board", "chip", "family", "LUT4", "EBR", "bits an EBR", "SPRAM", "DSP"]
    return Outcome({"boards": rows}, table([list(row.values()) for row in rows], header))


def doctor(options, progress):
    """Tools found and missing."""
    from lutloom.doctor import doctor as run

    result = run(options.toolchain)
    return Outcome(result.data, result.text, result.failure)
