"""A model into an integer network: ``lutloom.quantize``."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from lutloom.data import Data, codes_of, load
from lutloom.errors import DataError, ModelError
from lutloom.formats import Format
from lutloom.frontend import load_graph
from lutloom.graph import Graph
from lutloom.network import Network, Tensor
from lutloom.passes.binarize import binarize, check_binarize
from lutloom.passes.binarize import parse as parse_binarize
from lutloom.passes.calibrate import METHODS, calibrate
from lutloom.passes.compensate import compensate
from lutloom.passes.equalise import equalise as balance
from lutloom.passes.fold import fold
from lutloom.passes.fold_pads import fold_pads
from lutloom.passes.hoist import hoist
from lutloom.passes.lower import lower
from lutloom.passes.lower_integer import lower_integer
from lutloom.passes.measure import STATISTICS, check_measure, measure
from lutloom.passes.options import InputFormat, Options
from lutloom.passes.prune import prune
from lutloom.passes.rewire import QUANTISERS
from lutloom.passes.snap import snap
from lutloom.passes.take_input import first_quantiser, take_input
from lutloom.passes.take_input import input_format as format_of_input
from lutloom.passes.trim import trim
from lutloom.passes.verify import verify
from lutloom.passes.weigh import check_weights, choose, real_layers, weigh
from lutloom.passes.weigh_integer import choose_integer, weigh_integer
from lutloom.prune_spec import parse_pruning
from lutloom.weight_spec import parse_spec

ROUNDINGS = ("auto", "nearest", "mask", "compensated")
LEAST_FRAMES = 8
"""Of calibration data; ranges of fewer say nothing of what comes later."""

FAR = 10**12
"""No input scale or zero point is larger, or smaller than its reciprocal."""

REQUANTISERS = ("auto", "thresholds", "multiply")


def _verified(network, options):
    return verify(network)


def _trimmed(network, options):
    layers = [layer for layer in network.layers if getattr(layer, "weights", None) is not None]
    if options.pruning:
        left = ", ".join(f"{layer.name} {np.count_nonzero(layer.weights.integers):,} of {layer.weights.codes.size:,}"
                         for layer in layers)
        network = replace(network, info={**network.info, "weights left": left})
    return trim(network) if options.pruning or any(layer.weights.sparse for layer in layers) else network


FRONT = (
    binarize,  # kernels, biases, gammas and betas into two numbers each
    fold,  # batch norms into weights, steps that do nothing out
    fold_pads,  # zeros around maps into the convolutions behind them
    take_input,  # a quantiser at the model's input becomes the input's format
    balance,  # channels between layers to even ranges, where it is asked for
    prune,  # small weights to zero
)
"""Graph -> Graph: what becomes of the weights before they are quantised."""

QUANTISING = (
    *FRONT,
    weigh,  # weights into stored codes
    calibrate,  # quantisers where activations are real numbers, statistics of batch norms
    compensate,  # codes of weights by what the layers give for calibration data
    hoist,  # quantisers in front of pools and flattening
    snap,  # scales to where multipliers are exact
)
"""Graph -> Graph: after these the graph computes in real numbers exactly what the network will in integers."""

PASSES = (
    *QUANTISING,
    lower,  # Graph -> Network
    _trimmed,  # of pruned networks: channels that no longer reach the output out
    _verified,
)

INTEGER_PASSES = (
    fold_pads,  # pads into the convolutions behind them
    weigh_integer,  # the model's own weights, or those that --weights asks for
    lower_integer,  # Graph -> Network
    _trimmed,  # where zeros are not stored: channels that no longer reach the output out
    _verified,
)
"""For models that are integer already: nothing is calibrated, folded or rounded."""


def quantize(model, *, weights=None, activations=None, calibrate=None, input_scale=None, input_zero=None,
             input_format=None, method="mse", rounding=None, prune=None, requant="auto", equalise=None, binarize=None,
             statistics=None, progress=None):
    """The integer network of a model.

    Parameters
    ----------
    model : path, Graph or Network
        ``.onnx``, ``.keras``, ``.h5`` or ``.tflite`` file; a ``network.npz`` (or a Network) is taken as it is, with
        none of the options.
        A model that is integer already takes ``weights`` and ``rounding`` alone.
    weights : str, optional
        SPEC of weight formats, such as ``int:4`` or ``conv1=bitmask:X0.0XX,*=int:8``; int:8 where nothing is said.
        Weights that the model itself quantises stay as they are.
    activations : int or "binary", optional
        Bits, 1 to 16, of activations that the model does not quantise itself; 8 where nothing is said.
    calibrate : str, path, array or Data, optional
        Data whose activations set the ranges; needed where the model does not bring them all.
    input_scale, input_zero : Fraction, float, int or str, optional
        An input code stands for input_scale · (code - input_zero); 1/255 and 0 where nothing is said.
    input_format : str, optional
        ``int:8`` and the like; ``uint:8`` where nothing is said. A model that begins with a quantiser sets format,
        scale and zero point itself.
    method : "mse", "minmax" or "percentile"
        How ranges come from calibration data.
    rounding : "auto", "nearest", "mask" or "compensated", optional
        Of weights. nearest: each to its nearest level. mask: of bitmask weights as the source paper did. compensated:
        so that what layers give for calibration data changes least. auto, where nothing is said: compensated where
        there are calibration data and weights are of few bits, nearest else.
    prune : str, optional
        Share of the weights that become zero: ``0.9`` of all layers together, ``magnitude:0.9`` the
        smallest of these whatever their layer, ``layer:0.9`` of each, ``output:0.9`` of
        each output, or a list such as ``conv*=0.5,ip1=0.95``.
    requant : "auto", "thresholds" or "multiply"
    equalise : bool, optional
        Scale channels between two layers such that their weights' ranges are even, which real numbers do not notice.
    binarize : str or list of str, optional
        Comma list of ``kernel bias gamma beta``: parameters of the model that become two numbers each, before batch
        norms are folded. Kernels of layers whose format is ``binary`` become 1 and -1 where anything is asked for;
        with ``kernel`` those of all layers do, and ``weights`` are ``binary`` where nothing is said.
    statistics : "stored" or "measured", optional
        Mean and variance of batch norms: the model's own, where nothing is said, or those of the calibration data.
    progress : function of (step, done, total), optional

    Returns
    -------
    Network

    Raises
    ------
    ModelError
        The model is not supported, or a choice is none or would change nothing.
    DataError
    """
    if isinstance(model, Network):
        return model
    if not isinstance(model, Graph) and is_network(model):
        return Network.load(model)
    graph, options = prepared(model, weights=weights, activations=activations, calibrate=calibrate,
                              input_scale=input_scale, input_zero=input_zero, input_format=input_format,
                              method=method, rounding=rounding, prune=prune, requant=requant, equalise=equalise,
                              binarize=binarize, statistics=statistics, progress=progress)
    result = graph
    for step in PASSES if graph.arithmetic == "real" else INTEGER_PASSES:
        result = step(result, options)
    return result


def reworked(graph, options):
    """The graph with its weights as they will be quantised."""
    for step in FRONT:
        graph = step(graph, options)
    return graph


def pruned(network):
    """What pruning left of a network, as its ``info`` has it: a dict, empty where nothing was pruned."""
    return {key.replace(" ", "_"): network.info[key] for key in ("weights left", "removed") if key in network.info}


def is_network(path):
    """Whether a path names a network file rather than a model."""
    return Path(path).suffix == ".npz"


def fake_quantised(model, *, activations=None, **choices):
    """(graph, options) as ``quantize`` would lower them: the graph computes in floats what the network does exactly.

    Parameters
    ----------
    model : path or Graph
    activations : int, "binary" or "float"
        float: activations stay real numbers, only weights are quantised.
    choices
        As ``quantize`` takes.
    """
    as_float = activations == "float"
    graph, options = prepared(model, activations=activations, simulated=True, **choices)
    if graph.arithmetic != "real":
        raise ModelError(f"model {graph.name!r} is integer already, so that there is nothing to simulate; leave out "
                         "--mode simulated: the accuracy of its real numbers stands beside the golden one")
    steps = (*FRONT, weigh, measure, compensate) if as_float else QUANTISING
    for step in steps:
        graph = step(graph, options)
    return graph, options


def lowered(graph, options):
    """The integer network of what ``fake_quantised`` gave."""
    return _verified(lower(graph, options), options)


def prepared(model, *, calibrate=None, **choices):
    """(graph, Options) of what a user gave, checked: a choice that would change nothing is refused."""
    graph, options = checked(model, calibrate=calibrate, **choices)
    if calibrate is None:
        return graph, options
    return graph, replace(options, frames=calibration_frames(graph, options.input, calibrate))


def checked(model, *, weights=None, activations=None, calibrate=None, input_scale=None, input_zero=None,
            input_format=None, method="mse", rounding=None, prune=None, requant="auto", equalise=None, binarize=None,
            statistics=None, simulated=False, progress=None):
    """(graph, Options without frames) of what a user gave, all that can be said of it before data are read."""
    progress = progress or (lambda *_: None)
    for what, value, choices in (("method", method, METHODS), ("rounding", rounding, (None, *ROUNDINGS)),
                                 ("requant", requant, REQUANTISERS), ("statistics", statistics, (None, *STATISTICS))):
        if value not in choices:
            raise ValueError(f"{what} must be one of {', '.join(filter(None, choices))}, not {value!r}")
    as_float = simulated and activations == "float"
    bits = 8 if activations is None or as_float else _bits(activations)
    words = () if binarize is None else parse_binarize(binarize)
    pruning = () if prune is None else parse_pruning(prune)
    if isinstance(weights, str):
        parse_spec(weights)
    if not isinstance(model, Graph):
        progress("read the model")
    graph = model if isinstance(model, Graph) else load_graph(model)
    if graph.arithmetic != "real":
        choices = {"--activations": activations, "--calibrate": calibrate, "--input-scale": input_scale,
                   "--input-zero": input_zero, "--input": input_format, "--prune": prune, "--equalise": equalise,
                   "--binarize": binarize, "--statistics": statistics}
        return graph, _integer_options(graph, model, weights, rounding, choices, progress)
    given = _input(graph, input_format, input_scale, input_zero)
    check_binarize(graph, words)
    if statistics == "measured":
        check_measure(graph, calibrate)
    info = {"model": graph.name if isinstance(model, Graph) else Path(model).name,
            "weights": str(weights) if weights is not None else "",
            "activations": "" if any(node.op in QUANTISERS for node in graph.nodes) else str(bits),
            "method": method, "rounding": rounding or ROUNDINGS[0]}
    if pruning:
        info["prune"] = ",".join(map(str, pruning))
    if equalise:
        info["equalise"] = "yes"
    info |= {"binarize": ",".join(words)} if words else {}
    info |= {"statistics": statistics} if statistics else {}
    options = Options(given, weights, rounding or ROUNDINGS[0], bits, method, None, requant, pruning=pruning,
                      equalise=bool(equalise), simulated=as_float, binarize=words,
                      statistics=statistics or STATISTICS[0], info=info, progress=progress)
    check_weights(graph, options)
    if rounding is not None:
        _check_rounding(graph, options)
    if activations is not None:
        _check_activations(graph, options)
    return graph, options


def _input(graph, input_format, input_scale, input_zero):
    """The InputFormat; ModelError for a choice that is none, or that a model which begins with a quantiser denies."""
    try:
        format = Format.parse("uint:8" if input_format is None else str(input_format))
    except ValueError:
        format = None
    if format is None or format.bits > 16 or format.kind == "bipolar":
        raise ModelError(f"--input must be uint:BITS or int:BITS of at most 16 bits, not {str(input_format)!r}")
    scale = _number("--input-scale", "1/255" if input_scale is None else input_scale)
    zero = _number("--input-zero", 0 if input_zero is None else input_zero)
    if scale <= 0:
        raise ModelError(f"--input-scale must be positive, not {input_scale}")
    for option, number in ("--input-scale", scale), ("--input-zero", zero):
        if number and not Fraction(1, FAR) <= abs(number) <= FAR:
            raise ModelError(f"{option} must be from {1 / FAR:.0e} to {FAR:.0e} in size; take other units for the "
                             "model's input")
    given = format_of_input(graph, format, scale, zero)
    if first_quantiser(graph) is not None:
        for option, choice, is_own in (("--input", input_format, format == given.format),
                                       ("--input-scale", input_scale, math.isclose(scale, given.scale, rel_tol=1e-6)),
                                       ("--input-zero", input_zero, zero == given.zero_point)):
            if choice is not None and not is_own:
                raise ModelError(f"model {graph.name!r} begins with a quantiser, which sets the input to "
                                 f"{given.format}, scale {float(given.scale):g} and zero point "
                                 f"{float(given.zero_point):g}; leave out {option}")
        if given.scale <= 0:
            raise ModelError(f"model {graph.name!r} begins with a quantiser of scale {float(given.scale):g}, but it "
                             "must be positive; export the model again")
    return given


def _check_rounding(graph, options):
    """ModelError where no layer has real weights, or none a bit mask, which "mask" is of."""
    layers = real_layers(graph)
    if not layers:
        raise ModelError(f"model {graph.name!r} brings all its weights quantised; leave out --rounding")
    choices = choose(graph, layers, options).values()
    masks = any(choice.search_bits or (choice.format and choice.format.kind == "bitmask") for choice in choices)
    if options.rounding == "mask" and not masks:
        raise ModelError("--rounding mask is of weights as bit masks, but no layer has one; leave it out, or give a "
                         "bit mask with --weights")


def _check_activations(graph, options):
    """ModelError where the model quantises all its activations itself."""
    if not any(node.op in QUANTISERS for node in graph.nodes):
        return
    name, options = graph.name, replace(options, statistics=STATISTICS[0], progress=lambda *_: None)
    for step in (*FRONT, weigh):
        graph = step(graph, options)
    try:
        calibrate(graph, options)
    except DataError:  # there is something that has to be calibrated
        return
    raise ModelError(f"model {name!r} quantises all its activations itself; leave out --activations")


def _integer_options(graph, model, weights, rounding, choices, progress):
    """Options of a model that is integer already; ModelError where one was given that it has no use for."""
    for option, choice in choices.items():
        if choice is not None:
            raise ModelError(f"model {graph.name!r} brings its own integer arithmetic, so that {option} means nothing; "
                             "leave it out")
    if rounding is not None and weights is None:
        raise ModelError(f"model {graph.name!r} brings all its weights quantised; leave out --rounding, or give "
                         "it others with --weights")
    if rounding == "compensated":
        raise ModelError(f"model {graph.name!r} is integer already, and its weights cannot be compensated; take "
                         "--rounding nearest")
    quant = graph.quants[graph.input]
    given = InputFormat(quant.format, Fraction(float(quant.scale)), Fraction(quant.zero_point),
                        quant.format.code_low, quant.format.code_high)
    info = {"model": graph.name if isinstance(model, Graph) else Path(model).name, "weights": str(weights or ""),
            "activations": "", "arithmetic": graph.arithmetic}
    options = Options(given, weights, rounding or ROUNDINGS[0], info=info, progress=progress)
    choose_integer(graph, options)
    return options


def input_network(graph, given):
    """A network of nothing but the input: what encodes a user's data."""
    shape = tuple(map(int, graph.shapes[graph.input]))
    tensor = Tensor(graph.input, shape, given.format, given.scale, given.zero_point, given.low, given.high)
    return Network(graph.name, {graph.input: tensor}, (), graph.input, graph.input, tuple(graph.input_shape),
                   graph.input_layout, tuple(graph.output_shape))


def calibration_frames(graph, given, data):
    """Real values, NHWC, of calibration data: what the input's codes stand for."""
    if isinstance(data, np.ndarray):
        data = Data(data, None, "array")
    elif not isinstance(data, Data):
        data = load(data, "calibrate")
    codes = codes_of(input_network(graph, given), data, "calibration data") if len(data.x) else data.x
    if len(data.x) < LEAST_FRAMES:
        count = {0: "no frames", 1: "1 frame"}.get(len(data.x), f"{len(data.x)} frames")
        raise DataError(f"calibration data {data.name!r} hold {count}, of which no range can be told; give some "
                        f"hundred, {LEAST_FRAMES} at least")
    return reals_of(given, codes)


def reals_of(given, codes):
    """float64 array of what input codes stand for."""
    return (codes.astype(np.float64) - float(given.zero_point)) * float(given.scale)


def _bits(activations):
    """Bits of activations, or "binary"."""
    if activations == "binary":
        return activations
    if activations == "float":
        raise ModelError("--activations float is of 'evaluate --mode simulated' and of searches alone: an integer "
                         "network needs 1 to 16 bits, or binary")
    try:
        bits = int(str(activations))
    except ValueError:
        bits = 0
    if not 1 <= bits <= 16:
        raise ModelError(f"--activations must be 1 to 16 bits or binary, not {activations!r}")
    return bits


def _number(option, text):
    """A rational number of an option."""
    try:
        return Fraction(text) if not isinstance(text, str) else Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError, TypeError):
        raise ModelError(f"{option} must be a number such as 1/255 or 0.5, not {text!r}") from None
