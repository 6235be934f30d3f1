"""Accuracy of a model: the float model and the integer network on the same frames, side by side."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from lutloom.classes import classes, is_binary, is_binary_network
from lutloom.data import codes_of, load, shaped
from lutloom.difference import difference, without_closings
from lutloom.errors import DataError, ModelError
from lutloom.floating import model_layout, run, run_part
from lutloom.folder import load_network
from lutloom.frontend import load_graph
from lutloom.golden.topk import top_k
from lutloom.graph import Graph
from lutloom.network import Flatten, Multiply, Network, Reshape, Softmax, Table, TopK
from lutloom.quantize import checked, fake_quantised, input_network, is_network, lowered, pruned, quantize, reals_of

MODES = ("integer", "simulated")
CHUNK = 500
"""Frames between two signs of progress."""


def evaluate(model, *, data, graph=None, outputs=None, mode="integer", count=None, progress=None, **choices):
    """Score a model.

    Parameters
    ----------
    model : path, Graph or Network
        A model file, which is quantised on the way; a ``network.npz`` or a build folder, which are taken as they are.
    data : str, path or Data
        What scores: see ``lutloom.data.load``.
    graph : path or Graph, optional
        The float model of a Network, for the accuracy beside it.
    outputs : path, optional
        An ``.npz`` that is written with every output: ``golden`` (codes in the model's own layout), ``scale``,
        ``zero_point``, ``logits`` (codes in front of a softmax, logistic or argmax, where there is one), ``float``.
    mode : "integer" or "simulated"
        simulated: the quantised graph is computed in floats, and compared with the golden model; activations="float"
        leaves activations alone, and there is no golden model then.
    count : int, optional
        Only the first frames.
    progress : function of (step, done, total), optional
    choices
        As ``lutloom.quantize`` takes, for a model file.

    Returns
    -------
    dict
        ``accuracy`` {float, golden, and simulated in that mode} (None where not known; of a model with one output
        behind a sigmoid: above 0.5 is class 1), ``count``, ``confusion`` (rows: true class; of what was asked for),
        ``confusions`` and ``per_class`` (the confusion matrix, and the share of each class that is right, of all that
        ``accuracy`` has: {float, golden ...}), ``classes`` (list of {class, count, float, golden}); None without
        labels, all but accuracy and count. In mode simulated also ``difference`` (see ``lutloom.difference``), None
        with the reason in ``no_golden`` where there is no integer network.

    Raises
    ------
    DataError
        There are no labels, and no outputs were asked for either.
    """
    progress = progress or (lambda *_: None)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    if outputs is not None and (Path(outputs).is_dir() or not Path(outputs).absolute().parent.is_dir()):
        raise DataError(f"outputs {str(outputs)!r} cannot be written; give a file in a folder that is there")
    model = _opened(model, mode, progress, choices)
    data = load(data, "test").first(count)
    if data.y is None and outputs is None:
        raise DataError(f"data {data.name!r} hold no labels, which accuracy needs; add an array 'y' or 'label' of "
                        "class numbers (of one-hot rows, their argmax)")
    if not len(data.x):
        raise DataError(f"data {data.name!r} hold no frames")
    if mode == "simulated":
        results = _simulated(model, data, progress, choices)
    else:
        results = _integer(model, graph, data, progress, choices)
    if outputs is not None:
        save_outputs(outputs, results)
    return scores(results, data) | (pruned(results["network"]) if "network" in results else {})


def _opened(model, mode, progress, choices):
    """A Network, or the Graph of a model file whose choices are checked: before data are read, which takes its time."""
    if isinstance(model, Network) or (not isinstance(model, Graph) and (Path(model).is_dir() or is_network(model))):
        if mode == "simulated":
            raise ModelError("mode simulated needs the model file, not a network; give the model file itself")
        return model if isinstance(model, Network) else load_network(model) if Path(model).is_dir() else (
            Network.load(model))
    return checked(model, simulated=mode == "simulated", progress=progress, **choices)[0]


def _integer(model, graph, data, progress, choices):
    """Outputs of the integer network and of the float model, where there is one."""
    if isinstance(model, Graph):
        network, graph = quantize(model, progress=progress, **choices), model
    else:
        network, graph = model, load_graph(graph) if isinstance(graph, str | Path) else graph
    codes = codes_of(network, data)
    results, _ = _golden(network, codes, progress)
    if graph is not None:
        tensor = network.tensors[network.input]
        codes = codes.reshape(len(codes), *graph.shapes[graph.input])
        x = _real_frames(graph, network, data.x) if data.x.dtype.kind == "f" else reals_of(tensor, codes)
        _float(graph, x, results, progress)
    return results


def _golden(network, codes, progress):
    """(outputs of the integer network, codes in front of a closing choice)."""
    front, chosen = without_choice(network)
    logits = logits_of(front)
    names = (front.output,) if logits is None else (front.output, logits)
    step = len(codes) if network.has_state else CHUNK
    last, before = _chunked(lambda part: tuple(front.run(part, names)[name] for name in (names[0], names[-1])), codes,
                            progress, "golden model", step)
    golden = top_k(last, network.layers[-1].k) if chosen else last
    results = {"golden": _own_layout(network, golden), "network": network,
               "scale": float(network.tensors[network.output].scale),
               "zero_point": float(network.tensors[network.output].zero_point)}
    if chosen or network.closing or logits is not None:
        results["logits"] = before
    results["binary"] = binary = not chosen and is_binary_network(network)
    shown = network.decode(golden) if binary else results["golden"]
    results["found"] = {"golden": golden[:, 0] if chosen else classes(shown, binary)}
    return results, last


def _simulated(graph, data, progress, choices):
    """Outputs of the quantised graph computed in floats, of its integer network, and of the float model."""
    fake, options = fake_quantised(graph, progress=progress, **choices)
    stub = input_network(graph, options.input)
    codes = codes_of(stub, data)
    x = reals_of(options.input, codes)
    front, ends = without_closings(fake)
    reals, = _chunked(lambda part: (run(front, part),), x.reshape(len(x), *fake.shapes[fake.input]), progress,
                      "simulated model")
    y = run_part(ends, {ends.input: reals})
    found, results = {"simulated": _graph_classes(fake, y)}, {"difference": None, "binary": is_binary(fake)}
    try:
        if options.simulated:
            raise ModelError("activations stay real numbers")
        network = lowered(fake, options)
        codes = codes.reshape(len(codes), *network.tensors[network.input].shape)
    except ModelError as error:
        results["no_golden"] = str(error)
    else:
        results, last = _golden(network, codes, progress)
        found |= results["found"]
        results["difference"] = difference(without_choice(network)[0], last, reals, found["golden"], found["simulated"])
    results |= {"simulated": y, "found": found}
    _float(graph, _real_frames(graph, stub, data.x) if data.x.dtype.kind == "f" else x, results, progress)
    return results


def _real_frames(graph, network, x):
    """Real frames in the model's own layout or in NHWC, as the float model takes them."""
    x = shaped(network, x)
    return x if x.shape[1:] == tuple(graph.input_shape) else x.reshape(len(x), *graph.shapes[graph.input])


def _float(graph, x, results, progress):
    """Add the float model's outputs."""
    step = len(x) if any(node.op == "read" for node in graph.nodes) else CHUNK
    y, = _chunked(lambda part: (run(graph, part),), x, progress, "float model", step)
    results["found"]["float"] = _graph_classes(graph, y)
    results["float"] = model_layout(graph, y)


def without_choice(network):
    """(network without a closing TopK, whether it had one)."""
    if not isinstance(network.layers[-1], TopK):
        return network, False
    layers, source = network.layers[:-1], network.layers[-1].input
    tensors = {name: tensor for name, tensor in network.tensors.items() if name != network.output}
    return replace(network, layers=layers, tensors=tensors, output=source, output_shape=tensors[source].shape), True


def logits_of(network):
    """Name of the tensor in front of an integer softmax or logistic that the network ends with; None without one."""
    layers, name = {layer.output: layer for layer in network.layers}, network.output
    while (layer := layers.get(name)) is not None:
        if isinstance(layer, Softmax) or (isinstance(layer, Table) and layer.function == "logistic"):
            return layer.input
        if not isinstance(layer, Reshape | Flatten | Multiply):
            return None
        name = layer.input
    return None


def _chunked(function, x, progress, what, step=CHUNK):
    """The arrays that a function gives over a batch, in parts, with progress."""
    parts = []
    for start in range(0, len(x), step):
        progress(what, start, len(x))
        parts.append(function(x[start:start + step]))
    progress(what, len(x), len(x))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _own_layout(network, codes):
    """Output codes in the model's own layout."""
    if network.input_layout == "NCHW" and codes.ndim == 4 and len(network.output_shape) == 3:
        codes = codes.transpose(0, 3, 1, 2)
    return codes.reshape(len(codes), *network.output_shape)


def _graph_classes(graph, y):
    """The class that a graph's outputs name."""
    last = graph.producer(graph.output)
    return y[:, 0].astype(np.int64) if last is not None and last.op in ("argmax", "topk") else (
        classes(y, is_binary(graph)))


def scores(results, data):
    """Accuracy, confusion matrix and shares per class of found classes."""
    found, y = results["found"], data.y
    accuracy = {"float": None, "golden": None}
    more = {key: results[key] for key in ("difference", "no_golden") if key in results}
    if y is None:
        return {"accuracy": accuracy, "count": len(data.x), "confusion": None, "confusions": None, "per_class": None,
                "classes": None} | more
    main = "simulated" if "simulated" in found else "golden"
    outputs = results.get(main)
    last = results["logits"] if "logits" in results else outputs
    known = 2 if results.get("binary") else int(np.prod(last.shape[1:]))
    if known == 1 and y.max() == 1 and y.min() >= 0:
        raise DataError(f"data {data.name!r} have labels 0 and 1, but the model has one output, which tells two "
                        "classes apart only behind a sigmoid; end the model with one")
    if y.min() < 0 or y.max() >= known:
        raise DataError(f"data {data.name!r} have labels {int(y.min())} to {int(y.max())}, but the model knows "
                        f"{known} classes")
    found = {name: found[name] for name in ("float", "simulated", "golden") if name in found}
    accuracy |= {name: float(np.mean(classes_found == y)) for name, classes_found in found.items()}
    confusions = {}
    for name, which in found.items():
        confusion = np.zeros((known, known), np.int64)
        np.add.at(confusion, (y, which), 1)
        confusions[name] = confusion.tolist()
    rows = []
    for index in range(known):
        here = y == index
        row = {"class": index, "count": int(here.sum())}
        row |= {name: float(np.mean(which[here] == index)) if here.any() else None for name, which in found.items()}
        rows.append(row)
    shares = {name: [row[name] for row in rows] for name in found}
    return {"accuracy": accuracy, "count": len(y), "confusion": confusions[main], "confusions": confusions,
            "per_class": shares, "classes": rows} | more


def save_outputs(path, results):
    """Write the outputs' ``.npz``; it appears under its name only when whole."""
    path = Path(path)
    keys = ("golden", "scale", "zero_point", "logits", "simulated", "float")
    kept = {key: results[key] for key in keys if key in results}
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **kept)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"outputs {str(path)!r} cannot be written ({error.strerror}); give a path that can") from None
    finally:
        part.unlink(missing_ok=True)
