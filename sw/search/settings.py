"""What a search is given, checked: data, budget, and what its trials depend on."""

import hashlib
from pathlib import Path

import numpy as np

from lutloom import __version__
from lutloom.data import NAMES, load, shaped
from lutloom.errors import DataError, ModelError
from lutloom.frontend import load_graph
from lutloom.graph import Graph
from lutloom.quantize import is_network
from lutloom.search.choice import Point, refuse

LEAST_CALIBRATION = 100
"""Frames: with fewer, one frame is more than a point of accuracy."""


def load_model(model):
    """The Graph of a float model; ModelError for another."""
    if not isinstance(model, Graph):
        if Path(model).is_dir() or is_network(model):
            raise ModelError(f"{model} is integer already, so that there is nothing to search; give the model it is "
                             "made of")
        model = load_graph(model)
    if model.arithmetic != "real":
        raise ModelError(f"model {model.name!r} is integer already, so that there is nothing to search; give the float "
                         "model it is made of")
    return model


def load_data(data, calibrate, stub):
    """(what scores, what chooses) as Data; DataError where they do not serve.

    Parameters
    ----------
    data, calibrate : str, path or Data; ``calibrate`` may be None
    stub : Network
        Of nothing but the input.
    """
    if calibrate is None:
        if str(data) not in NAMES:
            raise DataError("a search chooses by calibration data, which are not those that score; give them with "
                            "--calibrate")
        calibrate = data
    elif str(calibrate) not in NAMES and _same(data, calibrate):
        raise DataError(f"--data and --calibrate are both {str(data)!r}, but what chooses must not score; give other "
                        "data for one of them")
    scoring, choosing = load(data, "test"), load(calibrate, "calibrate")
    if scoring.y is None:
        raise DataError(f"data {scoring.name!r} hold no labels, which accuracy needs; add an array 'y' or 'label'")
    if not len(scoring.x):
        raise DataError(f"data {scoring.name!r} hold no frames")
    if len(choosing.x) < LEAST_CALIBRATION:
        raise DataError(f"calibration data {choosing.name!r} hold {len(choosing.x)} frames, but a search needs "
                        f"{LEAST_CALIBRATION} at least; give some hundred")
    if np.array_equal(scoring.x, choosing.x):
        raise DataError(f"data {scoring.name!r} and calibration data {choosing.name!r} hold the same frames, but what "
                        "chooses must not score; give other data for one of them")
    for what, each in (("data", scoring), ("calibration data", choosing)):
        try:
            stub.encode(shaped(stub, each.x[:1]))
        except DataError as error:
            raise DataError(f"{what} {each.name!r} do not fit the model: {error}") from None
    return scoring, choosing


def _same(data, calibrate):
    if data is calibrate:
        return True
    return all(isinstance(one, (str, Path)) for one in (data, calibrate)) and Path(data).resolve() == Path(
        calibrate).resolve()


def check_labels(data, classes):
    """DataError where labels are none of the model's classes."""
    if data.y is not None and (data.y.min() < 0 or data.y.max() >= classes):
        raise DataError(f"data {data.name!r} have labels {int(data.y.min())} to {int(data.y.max())}, but the model "
                        f"knows {classes} classes")


def check_rounding(rounding, space):
    """ModelError where nothing is rounded that way."""
    if rounding == "mask" and not any("bitmask" in one.text for ones in space.values() for one in ones):
        raise ModelError("--rounding mask is of weights as bit masks, but --formats has none; leave it out, or "
                         "add a bit mask")


def check_budget(budget, space, costs):
    """FitError where not even the cheapest candidates meet a budget: nothing needs to be tried."""
    if budget is None:
        return
    place = 0 if budget.of == "bits" else 1
    least = {name: min(ones, key=lambda one: costs.layer(name, one.choice)[place])
             for name, ones in space.items()}
    cheapest = costs.of({name: one.choice for name, one in least.items()})
    if budget.excess(cheapest) > 0:
        refuse(budget, Point({name: one.text for name, one in least.items()}, cheapest, 0.0, 0.0, 0.0))


def settings(graph, calibration, choices):
    """What a trial's result depends on: a dict of str to str."""
    names = "input_scale", "input_zero", "input_format", "rounding", "prune", "equalise"
    given = {name: str(choices.get(name)) for name in names}
    return {"lutloom": __version__, "model": digest_graph(graph),
            "calibration data": digest(calibration.x, calibration.y),
            "calibration frames": str(len(calibration.x)),
            **{"--" + name.replace("_format", "").replace("_", "-"): text for name, text in given.items()}}


def final_settings(choices, data=None):
    """What a golden accuracy depends on besides, on data that score: one str."""
    rest = {name: str(choices.get(name)) for name in ("activations", "method", "requant")}
    if data is not None:
        rest = {"data": digest(data.x, data.y), **rest}
    return " ".join(f"{name}={text}" for name, text in rest.items())


def digest(*arrays):
    """A short hash of arrays; None is one of its own."""
    total = hashlib.sha256()
    for array in arrays:
        if array is None:
            total.update(b"none")
        else:
            array = np.ascontiguousarray(array)
            total.update(f"{array.dtype} {array.shape}".encode())
            total.update(array.data)
    return total.hexdigest()[:16]


def digest_graph(graph):
    """A short hash of what a graph computes."""
    total = hashlib.sha256(f"{graph.input} {graph.output} {graph.input_shape} {graph.input_layout}".encode())
    for node in graph.nodes:
        total.update(f"{node.op} {node.name} {node.inputs} {node.output}".encode())
        for name, value in sorted(node.params.items()):
            if name == "norm":
                continue  # what scale and offset are made of
            if name == "weight_quant" and value is not None:
                value = digest(value.codes, value.scale, value.zero_point)
            total.update(f"{name} {digest(value) if isinstance(value, np.ndarray) else value}".encode())
    return total.hexdigest()[:16]
