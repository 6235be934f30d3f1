"""What the arithmetic units cost on each chip, measured by synthesis: LUT4s a product, weights from memory.

A unit is synthesised alone, its activations and weights at its ports, as they come out of memories. LUT4s are counted
as SB_LUT4 on iCE40 (a carry that meets no LUT of its own takes a place too and stands in its own column), and as
LUT4 + 2·CCU2C on ECP5 (``-nowidelut``). The share of the adder tree is in it; accumulators and memories are not.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.back import verilog

from lutloom.formats import Format
from lutloom.hw.dot import dot_for
from lutloom.hw.memory import Target
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
    ("DspDot", "uint:8", "int:8", 8, False, True),
    ("DspDot", "uint:4", "bitmask:X0.0XX", 8, False, True),
)


@dataclass(frozen=True)
class Area:
    """Cells of a unit on a chip.

    Parameters
    ----------
    unit, family : str
    lanes, lut4, carry, ff, dsp : int
        ``lut4`` counts the LUTs in ECP5's CCU2C; ``carry`` counts SB_CARRY or CCU2C.
    """

    unit: str
    family: str
    lanes: int
    lut4: int
    carry: int
    ff: int
    dsp: int

    @property
    def lut4_a_product(self):
        """LUT4s of one product, with its share of the adder tree."""
        return self.lut4 / self.lanes


def measure(x, w, lanes, masked, dsp, family, folder):
    """Synthesise a dot product and count.

    Parameters
    ----------
    x, w : str
        Formats of activations and weights.
    lanes : int
    masked, dsp : bool
    family : "ice40" or "ecp5"
    folder : Path
        For the files.

    Returns
    -------
    Area
    """
    unit = dot_for(Format.parse(x), WeightFormat.parse(w), lanes, masked=masked, dsp=dsp, paired=family == "ecp5")
    with yosys_for_amaranth():
        text = verilog.convert(unit, name="lutloom_unit", platform=Target(family), emit_src=False)
    (folder / "unit.v").write_text(text)
    counts = synthesise(folder, ["unit.v"], "lutloom_unit", family).counts
    luts = counts["lut4"] + (2 * counts["carry"] if family == "ecp5" else 0)
    name = f"{type(unit).__name__} {x} x {w}{' masked' if masked else ''}"
    return Area(name, family, lanes, luts, counts["carry"], counts["ff"], counts["dsp"])


def main(arguments=None):
    """Measure every unit on every chip, print a table, or JSON."""
    parser = argparse.ArgumentParser(
        prog="unit_area", description="LUT4s a product of every dot product unit, by synthesis for iCE40 and ECP5.",
        epilog="example: scripts/unit_area --only XnorDot --json area.json",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="units whose line holds TEXT alone, as 'MaskDot'")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers to FILE too")
    options = parser.parse_args(arguments)
    print(f"{'unit':44} {'lanes':>5} {'chip':6} {'LUT4':>6} {'a product':>9} {'carry':>6} {'FF':>6} {'DSP':>4}")
    areas = []
    with tempfile.TemporaryDirectory(prefix="lutloom-area-") as folder:
        for kind, x, w, lanes, masked, dsp in UNITS:
            if options.only not in f"{kind} {x} x {w}":
                continue
            for family in FAMILIES:
                area = measure(x, w, lanes, masked, dsp, family, Path(folder))
                areas.append(area)
                print(
                    f"{area.unit:44} {lanes:5} {family:6} {area.lut4:6} {area.lut4_a_product:9.2f} {area.carry:6} "
                    f"{area.ff:6} {area.dsp:4}", flush=True,
                )
    if options.json:
        records = [{**asdict(area), "lut4_a_product": round(area.lut4_a_product, 3)} for area in areas]
        options.json.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
