"""The chips' PLLs as components, by the settings that `lutloom.pll` finds."""

# Ref: nextpnr and Yosys know the cells by their vendors' names; the values tied here are those of icepll and ecppll.

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Pll(wiring.Component):
    """A PLL, or a wire where the settings have no dividers.

    Parameters
    ----------
    settings : lutloom.pll.PllSettings
    cell : "SB_PLL40_PAD", "SB_PLL40_CORE" or "EHXPLLL"

    Members
    -------
    i_clk : In(1)
        For SB_PLL40_PAD the pin itself.
    o_clk : Out(1)
    o_locked : Out(1)
    """

    i_clk: In(1)
    o_clk: Out(1)
    o_locked: Out(1)

    def __init__(self, settings, cell):
        self._settings, self._cell = settings, cell
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        dividers = self._settings.dividers
        if not dividers:
            m.d.comb += [self.o_clk.eq(self.i_clk), self.o_locked.eq(1)]
        elif self._cell == "EHXPLLL":
            m.submodules.pll = self._ecp5(dividers)
        else:
            m.submodules.pll = self._ice40(dividers)
        return m

    def _ice40(self, dividers):
        bits = {"DIVR": 4, "DIVF": 7, "DIVQ": 3, "FILTER_RANGE": 3}
        source = "i_PACKAGEPIN" if self._cell == "SB_PLL40_PAD" else "i_REFERENCECLK"
        return Instance(
            self._cell,
            p_FEEDBACK_PATH="SIMPLE",
            **{f"p_{name}": Const(value, bits[name]) for name, value in dividers.items()},
            **{source: self.i_clk},
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=self.o_clk,
            o_LOCK=self.o_locked,
        )

    def _ecp5(self, dividers):
        feedback = Signal()
        constant = {
            "PLLRST_ENA": "DISABLED", "INTFB_WAKE": "DISABLED", "STDBY_ENABLE": "DISABLED", "DPHASE_SOURCE": "DISABLED",
            "OUTDIVIDER_MUXA": "DIVA", "OUTDIVIDER_MUXB": "DIVB", "OUTDIVIDER_MUXC": "DIVC", "OUTDIVIDER_MUXD": "DIVD",
            "FEEDBK_PATH": "CLKOP", "CLKOP_ENABLE": "ENABLED", "CLKOS_ENABLE": "ENABLED", "CLKOP_FPHASE": 0,
            "CLKOS_FPHASE": 0, "CLKOP_CPHASE": dividers["CLKOP_DIV"] // 2, "CLKOS_CPHASE": dividers["CLKOS_DIV"] // 2,
        }  # fmt: skip
        attributes = {"ICP_CURRENT": "12", "LPF_RESISTOR": "8", "MFG_ENABLE_FILTEROPAMP": "1", "MFG_GMCREF_SEL": "2"}
        tied = {"RST": 0, "STDBY": 0, "PHASESEL0": 0, "PHASESEL1": 0, "PHASEDIR": 1, "PHASESTEP": 1, "PHASELOADREG": 1,
                "PLLWAKESYNC": 0, "ENCLKOP": 0, "ENCLKOS": 0}  # fmt: skip
        return Instance(
            "EHXPLLL",
            **{f"a_{name}": value for name, value in attributes.items()},
            **{f"p_{name}": value for name, value in {**constant, **dividers}.items()},
            **{f"i_{name}": Const(value) for name, value in tied.items()},
            i_CLKI=self.i_clk,
            i_CLKFB=feedback,
            o_CLKOP=feedback,
            o_CLKOS=self.o_clk,
            o_LOCK=self.o_locked,
        )
