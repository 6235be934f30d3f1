"""What the arithmetic units cost on each chip, measured by synthesis: LUT4s a product, weights from memory.

A unit is synthesised alone, its activations and weights at its ports, as they come out of memories. LUT4s are counted
as SB_LUT4 on iCE40 (a carry that meets no LUT of its own takes a place too and stands in its own column), and as
LUT4 + 2·CCU2C on ECP5 (``-nowidelut``). The share of the adder tree is in it; accumulators and memories are not.

A multiplying requantiser is one lane behind accumulators of 20 bits, with TFLM's roundings and the numbers of 64
channels in block RAM.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from amaranth.back import verilog
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lutloom.formats import Format
from lutloom.hw.dot import dot_for
from lutloom.hw.memory import Target
from lutloom.hw.multiply import Multiply
from lutloom.hw.multiply_steps import SteppedMultiply
from lutloom.hw.trits import Trits
from lutloom.hw.vectors import VectorTables
from lutloom.memories import native
from lutloom.toolchain.synth import synthesise
from lutloom.toolchain.tools import yosys_for_amaranth
from lutloom.weights import WeightFormat

FAMILIES = ("ice40", "ecp5")

# unit, activations, weights, lanes, masked, on DSP blocks
UNITS = (
    ("XnorDot", "bipolar", "binary", 16, False, False),
    ("XnorDot", "bipolar", "binary", 64, False, False),
    ("XnorDot", "bipolar", "binary", 64, True, False),
    ("BipolarDot", "bipolar", "int:4", 32, False, False),
    ("SignDot", "uint:4", "binary", 32, False, False),
    ("SignDot", "uint:8", "binary", 32, False, False),
    ("FixedDot", "uint:2", "int:2", 32, False, False),
    ("FixedDot", "uint:4", "int:2", 32, False, False),
    ("FixedDot", "uint:4", "int:4", 32, False, False),
    ("FixedDot", "uint:8", "int:8", 16, False, False),
    ("FixedDot", "int:8", "int:8", 4, False, False),
    ("FixedDot", "int:8", "int:8", 3, False, False),
    ("MaskDot", "uint:4", "bitmask:X0.X", 32, False, False),
    ("MaskDot", "uint:4", "bitmask:X0.0XX", 32, False, False),
    ("MaskDot", "uint:4", "bitmask:X0.X00X", 32, False, False),
    ("MaskDot", "uint:4", "bitmask:X0.XXX", 32, False, False),
    ("MaskDot", "uint:8", "bitmask:X0.0XX", 32, False, False),
    ("MaskDot", "uint:4", "ternary", 32, False, False),
    ("MaskDot", "uint:8", "ternary", 32, False, False),
    ("ShiftDot", "uint:4", "pow2:3", 32, False, False),
    ("ShiftDot", "uint:8", "pow2:4", 32, False, False),
    ("TableDot", "uint:4", "codebook:16", 32, False, False),
    ("TableDot", "uint:8", "codebook:16", 16, False, False),
    ("VectorTables", "uint:4", "codebook:256x4", 32, False, False),
    ("VectorTables", "uint:8", "codebook:256x4", 16, False, False),
    ("VectorTables", "uint:8", "codebook:256x4", 16, False, True),
    ("VectorTables", "uint:8", "codebook:256x4 in LUTs", 16, False, False),
    ("VectorTables", "uint:8", "codebook:16x4 in LUTs", 16, False, False),
    ("Trits", "uint:4", "ternary packed", 30, False, False),
    ("Trits", "uint:8", "ternary packed", 30, False, False),
    ("HalfDot", "uint:8", "float16", 4, False, False),
    ("HalfDot", "uint:8", "float16", 4, False, True),
    ("DspDot", "uint:8", "int:8", 8, False, True),
    ("DspDot", "uint:4", "bitmask:X0.0XX", 8, False, True),
)


VALUES = {
    "codebook:4": (-90, -25, 0, 60),
    "codebook:16": (-105, -79, -61, -48, -37, -27, -17, -8, 0, 9, 18, 28, 38, 49, 62, 80),  # of normal weights
    "codebook:256x4": tuple(np.random.default_rng(1).normal(0, 38, 1024).round().clip(-128, 127).astype(int).tolist()),
    "codebook:16x4": tuple(np.random.default_rng(1).normal(0, 38, 64).round().clip(-128, 127).astype(int).tolist()),
    "float16": (3, 14),
}
"""What formats hold beside their names."""

# steps of a multiplying requantiser, on DSP blocks
REQUANTISERS = (
    (1, False), (1, True), (2, False), (2, True), (3, True), (4, False), (8, False), (16, False), (32, False),
)
CHANNELS, ACC_BITS = 64, 20


@dataclass(frozen=True)
class Area:
    """Cells of a unit on a chip.

    Parameters
    ----------
    unit, family : str
    lanes, lut4, carry, ff, dsp, ebr : int
        ``lut4`` counts the LUTs in ECP5's CCU2C; ``carry`` counts SB_CARRY or CCU2C.
    """

    unit: str
    family: str
    lanes: int
    lut4: int
    carry: int
    ff: int
    dsp: int
    ebr: int

    @property
    def lut4_a_product(self):
        """LUT4s of one product, with its share of the adder tree."""
        return self.lut4 / self.lanes


class Behind(wiring.Component):
    """A dot product behind what makes its weights of the words of a ROM."""

    def __init__(self, decode, dot):
        self._decode, self._dot = decode, dot
        super().__init__({"i": In(len(decode.i)), "i_x": In(len(dot.i_x.as_value())), "o": Out(dot.acc_shape)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.decode, m.submodules.dot = self._decode, self._dot
        m.d.comb += [self._decode.i.eq(self.i), self._dot.i_x.eq(self.i_x), self._dot.i_w.eq(self._decode.o),
                     self.o.eq(self._dot.o)]
        return m


def measure(x, w, lanes, masked, dsp, family, folder):
    """Synthesise a dot product and count.

    Parameters
    ----------
    x, w : str
        Formats of activations and weights; behind the latter " in LUTs", of tables, or " packed", of trits.
    lanes : int
    masked, dsp : bool
    family : "ice40" or "ecp5"
    folder : Path
        For the files.

    Returns
    -------
    Area
    """
    name, _, how = w.partition(" ")
    weights = WeightFormat.parse(name, VALUES.get(name, ()))
    dot = dot_for(Format.parse(x), weights.decoded, lanes, masked=masked, dsp=dsp, paired=family == "ecp5")
    unit, decode = dot, None
    if weights.group > 1:
        decode = VectorTables(name="table", format=weights, entry_bits=weights.decoded.bits, lanes=lanes, units=1,
                              latency=2 if family == "ecp5" and not how else 1, place="lut" if how else "ebr")
    elif how == "packed":
        decode = Trits(count=lanes)
    if decode is not None:
        unit = Behind(decode, dot)
    kind = type(dot if decode is None else decode).__name__
    about = f"{kind} {x} x {w}{' masked' if masked else ''}{' on DSPs' if dsp and decode is not None else ''}"
    return _synthesised(unit, about, family, lanes, folder)


def measure_requantiser(steps, dsp, family, folder):
    """Synthesise a multiplying requantiser and count; parameters as of ``measure``."""
    rng, shape = np.random.default_rng(0), (CHANNELS, 1)
    numbers = dict(
        name="q", acc_shape=signed(ACC_BITS), lanes=1, multiplier=rng.integers(1 << 30, 1 << 31, shape),
        shift=rng.integers(36, 41, shape), offset=rng.integers(-50_000, 50_000, shape), fraction=np.zeros(shape, int),
        zero_point=3, low=-128, high=127, out_format=Format("int", 8), rounding="tflm", dsp=dsp,
        paired=family == "ecp5", latency=2 if family == "ecp5" else 1,
    )
    unit = Multiply(**numbers) if steps == 1 else SteppedMultiply(**numbers, steps=steps)
    return _synthesised(unit, f"Multiply in {steps} steps{' on DSPs' if dsp else ''}", family, 1, folder)


def _synthesised(unit, name, family, lanes, folder):
    """The Area of a unit, its memories as blocks beside it."""
    target = Target(family)
    with yosys_for_amaranth():
        text = verilog.convert(unit, name="lutloom_unit", platform=target, emit_src=False)
    blocks, _ = native(target.specs.values(), family, target.images, marks=False)
    (folder / "unit.v").write_text(text + blocks)
    counts = synthesise(folder, ["unit.v"], "lutloom_unit", family).counts
    luts = counts["lut4"] + (2 * counts["carry"] if family == "ecp5" else 0)
    return Area(name, family, lanes, luts, counts["carry"], counts["ff"], counts["dsp"], counts["ebr"])


def main(arguments=None):
    """Measure every unit on every chip, print a table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="unit_area", description="LUT4s a product of every dot product unit, by synthesis for iCE40 and ECP5.",
        epilog="example: scripts/unit_area --only XnorDot --json area.json",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="units whose line holds TEXT alone, as 'MaskDot'")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers to FILE too")
    options = parser.parse_args(arguments)
    print(f"{'unit':44} {'lanes':>5} {'chip':6} {'LUT4':>6} {'a product':>9} {'carry':>6} {'FF':>6} {'DSP':>4} "
          f"{'EBR':>4}")
    areas = []
    jobs = [
        (f"{kind} {x} x {w}", partial(measure, x, w, lanes, masked, dsp)) for kind, x, w, lanes, masked, dsp in UNITS
    ]
    jobs += [(f"Multiply in {steps} steps", partial(measure_requantiser, steps, dsp)) for steps, dsp in REQUANTISERS]
    with tempfile.TemporaryDirectory(prefix="lutloom-area-") as folder:
        for line, job in jobs:
            if options.only not in line:
                continue
            for family in FAMILIES:
                area = job(family, Path(folder))
                areas.append(area)
                print(
                    f"{area.unit:44} {area.lanes:5} {family:6} {area.lut4:6} {area.lut4_a_product:9.2f} "
                    f"{area.carry:6} {area.ff:6} {area.dsp:4} {area.ebr:4}", flush=True,
                )
    if options.json:
        records = [{**asdict(area), "lut4_a_product": round(area.lut4_a_product, 3)} for area in areas]
        options.json.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
