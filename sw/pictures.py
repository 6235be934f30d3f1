"""Pictures as PNG: histograms of weights over the levels of their formats, and the points of a search."""

from pathlib import Path

import numpy as np

from lutloom.errors import ModelError, ToolError
from lutloom.frontend import load_graph
from lutloom.passes.fold import fold
from lutloom.plan import identifier
from lutloom.weight_spec import shown

BINS = 120
MOST_LEVELS = 1024  # more are drawn as a band
MISSING = "pictures need matplotlib, which is not installed; pip install 'lutloom[plots]'"
FAR = 10.0  # points of accuracy: combinations further below the best few are not drawn
GREY, DARK, ACCENT = "#b8bcc2", "#3c4654", "#c8452d"


def has_matplotlib():
    """Whether pictures can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def _figure(width, height, rows, columns, **more):
    """(figure, axes) that need no screen."""
    if not has_matplotlib():
        raise ToolError(MISSING)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **more)


def check_pictures(model, folder):
    """ModelError or ToolError where ``of_model`` would end with one."""
    if Path(model).suffix == ".npz":
        raise ModelError(f"{model} has no real weights to draw; leave out --pictures, or give the model it is made of")
    if not has_matplotlib():
        raise ToolError(MISSING)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder} is a file; give a folder for the pictures")
    if not folder.resolve().parent.is_dir():
        raise ModelError(f"{folder} cannot be made: there is no folder {folder.resolve().parent}")


def of_model(model, network, folder):
    """``weight_pictures`` of a model file."""
    graph = load_graph(model)
    return weight_pictures(fold(graph) if graph.arithmetic == "real" else graph, folder, network)


def weight_pictures(model, folder, network):
    """One picture a layer with real weights: ``FOLDER/LAYER.png``.

    Parameters
    ----------
    model : Graph
        Folded: layers with their real weights.
    folder : path
        Is made where it is not there.
    network : Network
        Of the same layers, quantised.

    Returns
    -------
    list of Path
    """
    real = {node.name: np.asarray(node.params["weight"]) for node in model.nodes
            if node.op in ("conv", "dense") and node.params.get("weight_quant") is None}
    layers = [layer for layer in network.layers if layer.name in real and hasattr(layer, "weights")]
    if not layers:
        raise ModelError(f"model {model.name!r} brings all its weights quantised, so that there are no real weights to "
                         "draw; leave out --pictures")
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    paths = []
    for number, layer in enumerate(layers):
        path = folder / f"{identifier(layer.name)}.png"
        path = folder / f"{identifier(layer.name)}_{number}.png" if path in paths else path
        paths.append(weight_picture(path, layer.name, real[layer.name], layer.weights,
                                    shown(layer, network.info)))
    return paths


def weight_picture(path, name, real, weights, format=None):
    """A layer's histogram of real weights with the levels of its format under it; in units of scales where they differ.

    Parameters
    ----------
    path : path
    name : str
    real : float array (N, ...)
    weights : lutloom.network.Weights
        What they became.
    format : str, optional
        What it is called, where that is not its own name.

    Returns
    -------
    Path
    """
    format, scales = format or weights.format, [float(one) for one in weights.scale]
    one = scales[0] if len(scales) == 1 else 1.0  # a level stands for one number: figures 2 and 3 of the source
    normal = (real * one / np.array(scales).reshape((-1,) + (1,) * (real.ndim - 1))).ravel()
    levels = np.asarray(weights.format.levels, np.float64) * one
    used, counts = np.unique(weights.integers, return_counts=True)
    used = used * one
    figure, (above, below) = _figure(7, 4.2, 2, 1, sharex=True, height_ratios=(3, 2))
    low, high = min(normal.min(), levels[0]), max(normal.max(), levels[-1])
    if len(levels) > 64:  # wide formats: levels far outside the weights would hide them
        low, high = normal.min(), normal.max()
    edge = 0.03 * (high - low)
    above.hist(normal, bins=BINS, range=(low, high), color=GREY, edgecolor="none")
    above.set_ylabel("weights")
    above.margins(y=0.16)
    below.vlines(used, 0, counts, color=ACCENT, linewidth=1.6 if len(levels) <= 64 else 0.6)
    inside = levels[(levels >= low) & (levels <= high)]
    if len(inside) <= MOST_LEVELS:
        below.vlines(inside, -0.14 * counts.max(), -0.03 * counts.max(), color=DARK, linewidth=1.0 if len(
            levels) <= 64 else 0.4)
    else:
        below.axhspan(-0.14 * counts.max(), -0.03 * counts.max(), color=DARK)
    below.axhline(0, color=DARK, linewidth=0.6)
    below.set_ylabel("at a level")
    unit = "weight" if len(scales) == 1 else "weight / scale of its output"
    below.set_xlabel(f"{unit} (below the line: every level of {format})")
    below.set_xlim(low - edge, high + edge)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    scale = f"{scales[0]:.4g}" if len(scales) == 1 else f"{min(scales):.4g} to {max(scales):.4g}, one an output"
    outside = np.mean((normal < levels[0] - one / 2) | (normal > levels[-1] + one / 2))
    above.set_title(f"{name}: {format}, {len(levels):,} levels, scale {scale}", loc="left", fontsize=10)
    above.text(0.99, 0.95, f"{real.size:,} weights, {outside:.2%} beyond the levels", transform=above.transAxes,
               ha="right", va="top", fontsize=8, color=DARK)
    figure.savefig(path)
    return Path(path)


def pareto_picture(result, path):
    """Accuracy of a search's combinations against weight bits and against LUTs, with the front and what was chosen.

    Parameters
    ----------
    result : dict
        Of ``lutloom.search``.
    path : path
    """
    figure, panels = _figure(9, 4, 1, 2, sharey=True)
    finals = [row for row in result["finals"] if row["golden"] is not None]
    drawn = [100 * row["accuracy"] for row in result["combinations"]] + [100 * row["golden"] for row in finals]
    lowest = max(min(drawn), min(100 * row["accuracy"] for row in result["finals"]) - FAR)
    highest = max(*drawn, 100 * result["float"]["calibration"])
    room = 0.06 * (highest - lowest) + 0.05
    for axes, key, label in zip(panels, ("weight_bits", "luts"), ("weight bits", "LUTs of products (rough)"),
                                strict=True):
        _points(axes, result["combinations"], key, "s", GREY, "combinations", 12)
        best = sorted(_best(result["front"], key), key=lambda row: row[key])
        axes.plot([row[key] for row in best], [100 * row["accuracy"] for row in best], color=DARK, linewidth=1,
                  marker="o", markersize=4, label="front", drawstyle="steps-post")
        axes.scatter([row[key] for row in finals], [100 * row["golden"] for row in finals], marker="x", s=28,
                     color=ACCENT, label="golden, on the test data", zorder=4)
        chosen = next(row for row in result["finals"] if row["chosen"])
        axes.scatter([chosen[key]], [100 * chosen["accuracy"]], s=110, facecolors="none", edgecolors=ACCENT,
                     linewidths=1.4, label="chosen", zorder=5)
        axes.axhline(100 * result["float"]["calibration"], color=DARK, linewidth=0.6, linestyle=":", label="float")
        axes.set_xlabel(label)
        axes.set_ylim(lowest - room, highest + room)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelrotation=20)
    panels[0].set_ylabel("accuracy on calibration data, %" if result["labels"] else "agreement with float, %")
    panels[1].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(f"{result['model']}: formats of {len(result['layers'])} layers", fontsize=10)
    figure.savefig(path)


def _points(axes, rows, key, marker, color, label, size):
    axes.scatter([row[key] for row in rows], [100 * row["accuracy"] for row in rows], s=size, marker=marker,
                 color=color, label=label, linewidths=0)


def _best(rows, key):
    """Rows that no other beats in accuracy at a cost as low."""
    found, highest = [], -1.0
    for row in sorted(rows, key=lambda row: (row[key], -row["accuracy"])):
        if row["accuracy"] > highest:
            highest = row["accuracy"]
            found.append(row)
    return found
