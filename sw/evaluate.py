"""Accuracy of a model: the float model and the integer network on the same frames, side by side."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from lutloom.data import load, shaped
from lutloom.errors import DataError, ModelError
from lutloom.floating import model_layout, run
from lutloom.folder import load_network
from lutloom.frontend import load_graph
from lutloom.golden.topk import top_k
from lutloom.graph import Graph
from lutloom.network import Flatten, Multiply, Network, Reshape, Softmax, Table, TopK
from lutloom.quantize import fake_quantised, input_network, is_network, quantize, reals_of

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
        simulated: the quantised graph is computed in floats; activations="float" leaves activations alone.
    count : int, optional
        Only the first frames.
    progress : function of (step, done, total), optional
    choices
        As ``lutloom.quantize`` takes, for a model file.

    Returns
    -------
    dict
        ``accuracy`` {float, golden, and simulated in that mode} (None where not known), ``count``, ``confusion``
        (rows: true class; of what was asked for), ``confusions`` and ``per_class`` (the confusion matrix, and the
        share of each class that is right, of all that ``accuracy`` has: {float, golden ...}), ``classes`` (list of
        {class, count, float, golden}); None without labels, all but accuracy and count.

    Raises
    ------
    DataError
        There are no labels, and no outputs were asked for either.
    """
    progress = progress or (lambda *_: None)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    data = load(data, "test").first(count)
    if data.y is None and outputs is None:
        raise DataError(f"data {data.name!r} hold no labels, which accuracy needs; add an array 'y' or 'label'")
    if outputs is not None and (Path(outputs).is_dir() or not Path(outputs).absolute().parent.is_dir()):
        raise DataError(f"outputs {str(outputs)!r} cannot be written; give a file in a folder that is there")
    if not len(data.x):
        raise DataError(f"data {data.name!r} hold no frames")
    if mode == "simulated":
        results = _simulated(model, data, progress, choices)
    else:
        results = _integer(model, graph, data, progress, choices)
    if outputs is not None:
        save_outputs(outputs, results)
    return scores(results, data)


def _integer(model, graph, data, progress, choices):
    """Outputs of the integer network and of the float model, where there is one."""
    network, graph = _loaded(model, graph, progress, choices)
    codes = network.encode(shaped(network, data.x))
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
    results["found"] = {"golden": golden[:, 0] if chosen else _classes(results["golden"])}
    if graph is not None:
        tensor = network.tensors[network.input]
        codes = codes.reshape(len(codes), *graph.shapes[graph.input])
        x = _real_frames(graph, network, data.x) if data.x.dtype.kind == "f" else reals_of(tensor, codes)
        _float(graph, x, results, progress)
    return results


def _simulated(model, data, progress, choices):
    """Outputs of the quantised graph computed in floats, and of the float model."""
    if isinstance(model, Network) or (not isinstance(model, Graph) and (Path(model).is_dir() or is_network(model))):
        raise ModelError("mode simulated needs the model file, not a network; give the model file itself")
    fake, options = fake_quantised(model, progress=progress, **choices)
    graph = model if isinstance(model, Graph) else load_graph(model)
    stub = input_network(graph, options.input)
    codes = stub.encode(shaped(stub, data.x))
    x = reals_of(options.input, codes)
    y, = _chunked(lambda part: (run(fake, part),), x.reshape(len(x), *fake.shapes[fake.input]), progress,
                  "simulated model")
    results = {"simulated": y, "found": {"simulated": _graph_classes(fake, y)}}
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


def _loaded(model, graph, progress, choices):
    """(Network, Graph or None) of what a user names."""
    if graph is not None and not isinstance(graph, Graph):
        graph = load_graph(graph)
    if isinstance(model, Network):
        return model, graph
    if isinstance(model, Graph):
        return quantize(model, progress=progress, **choices), model
    path = Path(model)
    if path.is_dir():
        return load_network(path), graph
    if is_network(path):
        return Network.load(path), graph
    source = load_graph(path)
    network = quantize(source, progress=progress, **choices)
    return replace(network, info={**network.info, "model": path.name}), source


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


def _classes(outputs):
    """The greatest output's index of every frame."""
    return outputs.reshape(len(outputs), -1).argmax(axis=1)


def _graph_classes(graph, y):
    """The class that a graph's outputs name."""
    last = graph.producer(graph.output)
    return y[:, 0].astype(np.int64) if last is not None and last.op in ("argmax", "topk") else _classes(y)


def scores(results, data):
    """Accuracy, confusion matrix and shares per class of found classes."""
    found, y = results["found"], data.y
    accuracy = {"float": None, "golden": None}
    if y is None:
        return {"accuracy": accuracy, "count": len(data.x), "confusion": None, "confusions": None, "per_class": None,
                "classes": None}
    main = "golden" if "golden" in found else "simulated"
    outputs = results.get(main)
    last = results["logits"] if "logits" in results else outputs
    classes = int(np.prod(last.shape[1:]))
    if y.min() < 0 or y.max() >= classes:
        raise DataError(f"data {data.name!r} have labels {int(y.min())} to {int(y.max())}, but the model knows "
                        f"{classes} classes")
    found = {name: found[name] for name in ("float", "golden", "simulated") if name in found}
    accuracy |= {name: float(np.mean(classes_found == y)) for name, classes_found in found.items()}
    confusions = {}
    for name, which in found.items():
        confusion = np.zeros((classes, classes), np.int64)
        np.add.at(confusion, (y, which), 1)
        confusions[name] = confusion.tolist()
    rows = []
    for index in range(classes):
        here = y == index
        row = {"class": index, "count": int(here.sum())}
        row |= {name: float(np.mean(which[here] == index)) if here.any() else None for name, which in found.items()}
        rows.append(row)
    shares = {name: [row[name] for row in rows] for name in found}
    return {"accuracy": accuracy, "count": len(y), "confusion": confusions[main], "confusions": confusions,
            "per_class": shares, "classes": rows}


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
