"""A model into an integer network: ``lutloom.quantize``."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from lutloom.data import Data, load, shaped
from lutloom.errors import DataError, ModelError
from lutloom.formats import Format
from lutloom.frontend import load_graph
from lutloom.graph import Graph
from lutloom.network import Network, Tensor
from lutloom.network_data import encode
from lutloom.passes.calibrate import METHODS, calibrate
from lutloom.passes.fold import fold
from lutloom.passes.fold_pads import fold_pads
from lutloom.passes.hoist import hoist
from lutloom.passes.lower import lower
from lutloom.passes.lower_integer import lower_integer
from lutloom.passes.options import InputFormat, Options, _silent
from lutloom.passes.snap import snap
from lutloom.passes.take_input import input_format as format_of_input
from lutloom.passes.take_input import take_input
from lutloom.passes.verify import verify
from lutloom.passes.weigh import weigh
from lutloom.passes.weigh_integer import weigh_integer

ROUNDINGS = ("nearest", "mask")
REQUANTISERS = ("auto", "thresholds", "multiply")


def _verified(network, options):
    """The network, every rule checked."""
    return verify(network)


QUANTISING = (
    fold,  # batch norms into weights, steps that do nothing out
    take_input,  # a quantiser at the model's input becomes the input's format
    weigh,  # weights into stored codes
    calibrate,  # quantisers where activations are real numbers
    hoist,  # quantisers in front of pools and flattening
    snap,  # scales to where multipliers are exact
)
"""Graph -> Graph: after these the graph computes in real numbers exactly what the network will in integers."""

PASSES = (
    *QUANTISING,
    lower,  # Graph -> Network
    _verified,
)

INTEGER_PASSES = (
    fold_pads,  # pads into the convolutions behind them
    weigh_integer,  # the model's own weights, or those that --weights asks for
    lower_integer,  # Graph -> Network
    _verified,
)
"""For models that are integer already: nothing is calibrated, folded or rounded."""


def quantize(model, *, weights=None, activations=8, calibrate=None, input_scale="1/255", input_zero=0,
             input_format="uint:8", method="mse", rounding="nearest", requant="auto", progress=None):
    """The integer network of a model.

    Parameters
    ----------
    model : path, Graph or Network
        ``.onnx`` or ``.tflite`` file; a ``network.npz`` (or a Network) is taken as it is, with none of the options.
        A model that is integer already takes ``weights`` and ``rounding`` alone.
    weights : str, optional
        SPEC of weight formats, such as ``int:4`` or ``conv1=bitmask:X0.0XX,*=int:8``; int:8 where nothing is said.
        Weights that the model itself quantises stay as they are.
    activations : int or "binary"
        Bits, 1 to 16, of activations that the model does not quantise itself.
    calibrate : str, path, array or Data, optional
        Data whose activations set the ranges; needed where the model does not bring them all.
    input_scale, input_zero : Fraction, float, int or str
        An input code stands for input_scale · (code - input_zero). A model that begins with a quantiser sets both.
    input_format : str
        ``uint:8`` and the like.
    method : "mse", "minmax" or "percentile"
        How ranges come from calibration data.
    rounding : "nearest" or "mask"
        Of bitmask weights.
    requant : "auto", "thresholds" or "multiply"
    progress : function of (step, done, total), optional

    Returns
    -------
    Network

    Raises
    ------
    ModelError, DataError
    """
    if isinstance(model, Network):
        return model
    if not isinstance(model, Graph) and is_network(model):
        return Network.load(model)
    graph, options = prepared(model, weights=weights, activations=activations, calibrate=calibrate,
                              input_scale=input_scale, input_zero=input_zero, input_format=input_format,
                              method=method, rounding=rounding, requant=requant, progress=progress)
    result = graph
    for step in PASSES if graph.arithmetic == "real" else INTEGER_PASSES:
        result = step(result, options)
    return result


QUANTISERS = ("quant", "bipolarquant", "multithreshold", "trunc")


def is_network(path):
    """Whether a path names a network file rather than a model."""
    return Path(path).suffix == ".npz"


def fake_quantised(model, *, activations=8, **choices):
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
    graph, options = prepared(model, activations=8 if as_float else activations, **choices)
    if graph.arithmetic != "real":
        raise ModelError(f"model {graph.name!r} is integer already, so that there is nothing to simulate; leave out "
                         "--mode simulated: the accuracy of its real numbers stands beside the golden one")
    steps = (fold, take_input, weigh) if as_float else QUANTISING
    for step in steps:
        graph = step(graph, options)
    return graph, options


def prepared(model, *, weights=None, activations=8, calibrate=None, input_scale="1/255", input_zero=0,
             input_format="uint:8", method="mse", rounding="nearest", requant="auto", progress=None):
    """(graph, Options) of what a user gave, checked."""
    progress = progress or _silent
    activations = _bits(activations)
    for what, value, choices in (("method", method, METHODS), ("rounding", rounding, ROUNDINGS),
                                 ("requant", requant, REQUANTISERS)):
        if value not in choices:
            raise ValueError(f"{what} must be one of {', '.join(choices)}, not {value!r}")
    if not isinstance(model, Graph):
        progress("read the model")
    graph = model if isinstance(model, Graph) else load_graph(model)
    if graph.arithmetic != "real":
        without_meaning = {"--activations": activations != 8, "--calibrate": calibrate is not None,
                           "--input-scale": input_scale != "1/255", "--input-zero": input_zero != 0,
                           "--input": input_format != "uint:8"}
        return graph, _integer_options(graph, model, weights, rounding, without_meaning, progress)
    try:
        format = Format.parse(str(input_format))
    except ValueError as error:
        raise ModelError(f"--input cannot be {input_format!r}: {error}") from None
    if format.bits > 16 or format.kind == "bipolar":
        raise ModelError(f"--input must be uint:BITS or int:BITS of at most 16 bits, not {input_format}")
    given = format_of_input(graph, format, _number("--input-scale", input_scale), _number("--input-zero", input_zero))
    if given.scale <= 0:
        raise ModelError(f"--input-scale must be positive, not {input_scale}")
    frames = None if calibrate is None else calibration_frames(graph, given, calibrate)
    info = {"model": graph.name if isinstance(model, Graph) else Path(model).name,
            "weights": str(weights) if weights is not None else "",
            "activations": "" if any(node.op in QUANTISERS for node in graph.nodes) else str(activations),
            "method": method, "rounding": rounding}
    return graph, Options(given, weights, rounding, activations, method, frames, requant, info=info, progress=progress)


def _integer_options(graph, model, weights, rounding, without_meaning, progress):
    """Options of a model that is integer already; ModelError where one was given that it has no use for."""
    for option, given in without_meaning.items():
        if given:
            raise ModelError(f"model {graph.name!r} brings its own integer arithmetic, so that {option} means nothing; "
                             "leave it out")
    quant = graph.quants[graph.input]
    given = InputFormat(quant.format, Fraction(float(quant.scale)), Fraction(quant.zero_point),
                        quant.format.code_low, quant.format.code_high)
    info = {"model": graph.name if isinstance(model, Graph) else Path(model).name, "weights": str(weights or ""),
            "activations": "", "arithmetic": graph.arithmetic}
    return Options(given, weights, rounding, info=info, progress=progress)


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
    if not len(data.x):
        raise DataError(f"calibration data {data.name!r} hold no frames; give some hundred")
    stub = input_network(graph, given)
    return reals_of(given, encode(stub, shaped(stub, data.x)))


def reals_of(given, codes):
    """float64 array of what input codes stand for."""
    return (codes.astype(np.float64) - float(given.zero_point)) * float(given.scale)


def _bits(activations):
    """Bits of activations, or "binary"."""
    if activations == "binary":
        return activations
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
