"""The chips: what they hold, and what nextpnr calls them."""

# Ref: counts as nextpnr reports them as available (0.11.1); clock caps from Lattice FPGA-DS-02008 (iCE40 UltraPlus).

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """What a chip holds.

    Parameters
    ----------
    device : str
        Name of the chip.
    family : "ice40" or "ecp5"
    option : str
        What tells nextpnr of it.
    lut4 : int
        Logic cells, or LUT4 sites.
    ebr_blocks, ebr_bits : int
        Block RAMs, and bits of one.
    spram : int
        Single-port RAMs of 262,144 bits.
    dsp : int
        SB_MAC16 or MULT18X18D.
    clock_mhz : float
        A clock that pipelined designs reach; what is planned where nothing else is asked for.
    dsp_clock_mhz, spram_clock_mhz : float or None
        Caps of the data sheet that static timing does not know.
    """

    device: str
    family: str
    option: str
    lut4: int
    ebr_blocks: int
    ebr_bits: int
    spram: int
    dsp: int
    clock_mhz: float
    dsp_clock_mhz: float | None = None
    spram_clock_mhz: float | None = None

    def available(self):
        """What of each resource there is: dict of lut4, ff, carry, ebr, spram, dsp."""
        carry = self.lut4 if self.family == "ice40" else self.lut4 // 2
        return {"lut4": self.lut4, "ff": self.lut4, "carry": carry, "ebr": self.ebr_blocks, "spram": self.spram,
                "dsp": self.dsp}

    def clock_cap_mhz(self, *, dsp=False, spram=False):
        """The highest clock that the data sheet allows with these in use; None where only timing limits it."""
        caps = [self.dsp_clock_mhz if dsp else None, self.spram_clock_mhz if spram else None]
        return min((cap for cap in caps if cap is not None), default=None)


def _ecp5(device, option, lut4, ebr, dsp, **more):
    return Chip(device, "ecp5", option, lut4, ebr, 18432, 0, dsp, 112.5, **more)


CHIPS = {
    chip.device.lower(): chip
    for chip in (
        Chip("iCE40UP5K", "ice40", "--up5k", 5280, 30, 4096, 4, 8, 48, dsp_clock_mhz=50, spram_clock_mhz=70),
        Chip("iCE40HX1K", "ice40", "--hx1k", 1280, 16, 4096, 0, 0, 111),
        Chip("iCE40HX8K", "ice40", "--hx8k", 7680, 32, 4096, 0, 0, 111),
        Chip("iCE40LP1K", "ice40", "--lp1k", 1280, 16, 4096, 0, 0, 72),
        Chip("iCE40LP8K", "ice40", "--lp8k", 7680, 32, 4096, 0, 0, 72),
        _ecp5("LFE5U-12F", "--12k", 24288, 56, 28),
        _ecp5("LFE5U-25F", "--25k", 24288, 56, 28),
        _ecp5("LFE5U-45F", "--45k", 43848, 108, 72),
        _ecp5("LFE5U-85F", "--85k", 83640, 208, 156),
    )
}
