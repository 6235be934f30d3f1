"""The command ``lutloom``: reads options, calls the function of the same name, prints its result.

Exit status 0; 1 when something is wrong with model, data, board, tools or results (one sentence on standard error);
2 for a command line that cannot be parsed; 130 when interrupted.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
from fractions import Fraction

from lutloom import __version__
from lutloom.errors import LutloomError
from lutloom.terminal import Progress

OK, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments=None):
    """Runs one command line and returns its exit status; raises SystemExit for usage, ``--help``, ``--version``."""

    def run():
        options = parse(arguments)
        progress = Progress()
        try:
            # Whatever a library prints goes to standard error: standard output holds the result and nothing else.
            with contextlib.redirect_stdout(sys.stderr):
                from lutloom import commands

                outcome = getattr(commands, options.command)(options, progress)
        finally:
            progress.close()
        print(json.dumps(outcome.data, indent=2) if options.json else outcome.text, flush=True)
        if outcome.failure:
            raise LutloomError(outcome.failure)
        return OK

    return guarded(run)


def guarded(run):
    """What ``run()`` returns; an error of the user's, of a file or of the keyboard becomes a sentence and a status."""
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, and with it every tool
    try:
        return run()
    except LutloomError as error:
        return _fail(error)
    except BrokenPipeError:  # the reader of our output has gone: python must not fail again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
    except MemoryError:
        return _fail("the memory of this machine is not enough")
    except KeyboardInterrupt:
        print("lutloom: interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(sentence):
    print("lutloom: " + " ".join(str(sentence).split("\n")[0].split()), file=sys.stderr)
    for line in str(sentence).split("\n")[1:]:  # a tool's last lines stand below the sentence
        print("  " + line, file=sys.stderr)
    return FAILED


def parse(arguments=None):
    """Options of a command line; for an option that is none, the usage is that of the sub-command."""
    top = parser()
    options, unknown = top.parse_known_args(arguments)
    if unknown:
        commands = next(action for action in top._actions if action.dest == "command").choices
        commands[options.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def parser():
    """The whole command line, as an ``argparse.ArgumentParser``."""
    top = argparse.ArgumentParser(
        prog="lutloom", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="A trained small neural network in; verified Verilog, ROM images, a bitstream and a measured\n"
        "report out.",
        epilog="example:\n  lutloom build digits.onnx --board icebreaker -o digits-build --weights int:4 "
        "--activations 4 --calibrate digits")
    top.add_argument("--version", action="version", version=f"lutloom {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name, summary, example, *parts):
        sub = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".",
                                  formatter_class=argparse.RawDescriptionHelpFormatter,
                                  epilog=f"example:\n  lutloom {example}")
        for part in parts:
            part(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON object on standard output, nothing else")
        return sub

    build = command("build", "model file to bitstream and report",
                    "build digits.onnx --board icebreaker -o digits-build --weights int:4 --activations 4 "
                    "--calibrate digits --data digits", _model, _hardware, _quantisation)
    build.add_argument("--data", metavar="D", help="labelled data; the report then has the accuracy")
    build.add_argument("--no-selftest", action="store_true", help="leave the power-on self test and the replay out")

    verilog = command("verilog", "model file to Verilog and ROM images, no synthesis",
                      "verilog digits.onnx --board icebreaker -o digits-rtl --top stream --weights int:4 "
                      "--activations 4 --calibrate digits", _model, _hardware, _quantisation)
    verilog.add_argument("--top", choices=["shell", "stream"], default="shell",
                         help="stream: only the core, with AXI4-Stream style ports, for a design of your own")
    verilog.add_argument("--no-selftest", action="store_true", help="leave the power-on self test and the replay out")

    command("check", "what of a model is supported, layer by layer, and what is not", "check digits.onnx", _model)

    quantize = command("quantize", "float model to integer network",
                       "quantize digits.onnx -o digits.npz --weights int:4 --activations 4 --calibrate digits",
                       _model, _quantisation)
    quantize.add_argument("-o", "--output", metavar="NET.npz", required=True, help="the integer network, as one file")
    quantize.add_argument("--pictures", metavar="DIR",
                          help="a PNG of every layer: the histogram of its weights over the levels of its format")

    evaluate = command("evaluate", "accuracy and confusion matrix, float and golden side by side",
                       "evaluate digits-build --data digits", _model_or_folder, _data, _quantisation)
    evaluate.add_argument("--outputs", metavar="F.npz", help="keep every output: golden, logits, float")
    evaluate.add_argument("--mode", choices=["integer", "simulated"], default="integer",
                          help="integer: the golden model (default); simulated: quantisation imitated in floats")
    evaluate.add_argument("--count", type=_positive, metavar="N", help="only the first N frames")

    search = command("search", "weight formats of every layer, for accuracy against bits, LUTs or cycles",
                     "search digits.onnx --data digits --formats bitmask:3,int:2..4 --budget bits=20000 -o found",
                     _model, _data, _search, _other_quantisation)
    _jobs(search)

    simulate = command("simulate", "run the Verilog of a build folder against the golden model",
                       "simulate digits-build --data digits --count 1000 --stalls 0.3", _folder, _data)
    simulate.add_argument("--count", type=_positive, metavar="N", help="frames to run (default: all that there are)")
    simulate.add_argument("--stalls", type=_share, default=0.0, metavar="P",
                          help="probability of a stall in every cycle, on both sides (default 0)")
    simulate.add_argument("--engine", choices=["compiled", "cocotb"], default="compiled", help="default: compiled")
    _seed(simulate)
    _jobs(simulate)

    command("report", "tables of finished builds, side by side", "report digits-build lenet-build", _folders)
    command("boards", "the boards that are known and what they hold", "boards")
    doctor = command("doctor", "tools that were found, their versions, what is missing and how to get it", "doctor")
    doctor.add_argument("--toolchain", choices=["yowasp", "native"], help="only this tool chain")
    return top


def _model(sub):
    sub.add_argument("model", metavar="MODEL",
                     help="an .onnx, .keras or .h5 file, an int8 .tflite file, or a network.npz made before")


def _model_or_folder(sub):
    sub.add_argument("model", metavar="MODEL_OR_DIR",
                     help="an .onnx, .keras, .h5 or int8 .tflite file, a network.npz or a build folder")


def _folder(sub):
    sub.add_argument("folder", metavar="DIR", help="a build folder")


def _folders(sub):
    sub.add_argument("folders", metavar="DIR", nargs="+", help="build folders")


def _data(sub):
    sub.add_argument("--data", metavar="D", required=True,
                     help="an .npz with x and y, a folder of images in a folder per class, or a name: digits, mnist, …")


def _seed(sub):
    sub.add_argument("--seed", type=_whole, default=1, metavar="N", help="of everything that is random (default 1)")


def _jobs(sub):
    sub.add_argument("--jobs", type=_positive, metavar="N", help="processes at a time (default: one a processor)")


def _hardware(sub):
    sub.add_argument("--board", metavar="BOARD", required=True,
                     help="a name that 'lutloom boards' prints, or a board file of your own (my_board.py)")
    sub.add_argument("-o", "--output", metavar="DIR", required=True, help="the build folder")
    group = sub.add_argument_group("hardware")
    group.add_argument("--fps", type=_above_zero, metavar="N", help="frames a second (default: as fast as fits)")
    group.add_argument("--clock-mhz", type=_above_zero, metavar="F",
                       help="clock of the core (default: what the chip does)")
    group.add_argument("--style", choices=["auto", "dataflow"], default="auto", help="how layers become stages")
    group.add_argument("--toolchain", choices=["yowasp", "native"], help="default: yowasp, from PyPI")
    _seed(group)
    group.add_argument("--jobs", type=_positive, metavar="N", help="without effect yet: every step is one process")
    group.add_argument("--patchable", action="store_true",
                       help="widths and memories such that other weights of the same formats need no place and route")


def _search(sub):
    sub.add_argument("-o", "--output", metavar="DIR",
                     help="keeps every trial; the same command goes on there (default: MODEL-search)")
    sub.add_argument("--formats", metavar="LIST",
                     help="what is tried: 'int:2..8,bitmask:3', or for layers apart 'conv*=bitmask:3;*=int:2..8'; "
                     "bitmask:N is every pattern of N stored bits (default: int:2..8, bitmask:2..4@channel and others)")
    sub.add_argument("--layers", metavar="LIST", help="only these; others stay float in trials, int:8 in the end")
    sub.add_argument("--budget", metavar="bits=N|luts=N|cycles=N", help="the best that meets it is chosen")
    sub.add_argument("--drop", type=_above_zero, metavar="P",
                     help="without a budget: the fewest bits that lose at most P points (default 0.5)")
    sub.add_argument("--best", type=_positive, default=3, metavar="K",
                     help="formats of every cost that a layer brings into combinations (default 3)")
    sub.add_argument("--finals", type=_positive, default=5, metavar="N",
                     help="combinations that the golden model scores in the end (default 5)")
    sub.add_argument("--board", default="icebreaker", metavar="BOARD", help="whose LUTs count (default icebreaker)")
    sub.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the trials, tcp://HOST:PORT")


def _quantisation(sub):
    group = sub.add_argument_group("quantisation (of a float model)")
    _weights(group)
    _other_quantisation(group)


def _weights(group):
    group.add_argument("--weights", metavar="SPEC",
                       help="int:4, bitmask:X0.0XX, bitmask:3, binary, ternary, pow2:4, codebook:16, codebook:256x4, "
                       "float16, or a list such as 'conv1=int:4,*=bitmask:4'; a scale may follow: @1 @layer @channel; "
                       "+sparse behind a format: zeros need not be stored (default int:8)")


def _other_quantisation(group):
    group.add_argument("--rounding", choices=["nearest", "mask", "compensated"],
                       help="of weights: to the nearest level; so that layers' outputs change least for the data of "
                       "--calibrate (default, where there are such and weights are of few bits); or, of bit masks, as "
                       "their source paper did")
    group.add_argument("--prune", metavar="SHARE",
                       help="of the weights that become zero, small ones: 0.9 of all layers together, magnitude:0.9 "
                       "the smallest of these, layer:0.9 of each, output:0.9 of each output, or a list such as "
                       "'conv*=0.5,ip1=0.95'")
    group.add_argument("--equalise", action="store_true", default=None,
                       help="scale channels between two layers such that their weights' ranges are even; real numbers "
                       "do not change")
    group.add_argument("--binarize", metavar="LIST",
                       help="of kernel, bias, gamma, beta: they become 1 or -1, gamma 2 or 0, before anything else; "
                       "kernels of layers with binary weights do in any case")
    group.add_argument("--statistics", choices=["stored", "measured"],
                       help="mean and variance of batch norms: the model's own (default), or those of the data of "
                       "--calibrate, which fit binarised parameters")
    group.add_argument("--activations", type=_activations, metavar="BITS|binary|float",
                       help="bits of every activation (default 8); float for 'evaluate --mode simulated' only")
    group.add_argument("--calibrate", metavar="D", help="data that ranges of activations are taken from (x suffices)")
    group.add_argument("--input-scale", type=_fraction, metavar="S",
                       help="a pixel stands for S·(code - Z); default 1/255")
    group.add_argument("--input-zero", type=_fraction, metavar="Z", help="default 0")
    group.add_argument("--input", metavar="FORMAT", help="format of the input codes, e.g. uint:8 or int:8")


def _whole(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, not {text}")
    return value


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def _above_zero(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above zero, not {text}")
    return value


def _share(text):
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, not {text}")
    return value


def _fraction(text):
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"must be a number such as 0.5 or 1/256, not {text!r}") from None


def _activations(text):
    if text in ("binary", "float"):
        return text
    if text.isdigit() and 1 <= int(text) <= 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 1 to 16 bits, binary or float, not {text!r}")


# argparse names a type in "invalid _whole value": give them words
_whole.__name__ = _positive.__name__ = "whole number"
_above_zero.__name__ = _share.__name__ = "number"

if __name__ == "__main__":
    sys.exit(main())
