"""Settings of the chips' PLLs, by search over what their dividers give."""

# Ref: Lattice FPGA-TN-02052 (iCE40 sysCLOCK PLL) and FPGA-DS-02012 (ECP5): limits of phase detector, VCO and output.

from dataclasses import dataclass
from fractions import Fraction

from lutloom.errors import BoardError

# MHz: phase detector, oscillator, output
_LIMITS = {
    "ice40": ((10, 133), (533, 1066), (16, 275)),
    "ecp5": ((10, 400), (400, 800), (Fraction(25, 8), 400)),
}
_FILTER_RANGES = ((17, 1), (26, 2), (44, 3), (66, 4), (101, 5))  # iCE40: below so many MHz at the phase detector


@dataclass(frozen=True)
class PllSettings:
    """What a PLL does.

    Parameters
    ----------
    family : "ice40" or "ecp5"
    input_mhz, output_mhz : Fraction
        Exact.
    dividers : dict of str to int
        By the names of the cell's parameters; empty where the input is used as it is.
    """

    family: str
    input_mhz: Fraction
    output_mhz: Fraction
    dividers: dict


def pll_settings(family, input_mhz, wanted_mhz):
    """The settings with the highest output that is not above the wanted one.

    Parameters
    ----------
    family : "ice40" or "ecp5"
    input_mhz, wanted_mhz : float or Fraction

    Returns
    -------
    PllSettings

    Raises
    ------
    BoardError
        When nothing gives a clock as low as that.
    """
    source, wanted = Fraction(input_mhz), Fraction(wanted_mhz)
    most = _LIMITS[family][2][1]
    if wanted > most:
        raise BoardError(f"the PLL of this board gives at most {float(most):g} MHz, not {float(wanted):g}")
    candidates = list((_ice40 if family == "ice40" else _ecp5)(source, wanted))
    if source <= wanted:
        candidates.append((source, {}))
    if not candidates:
        low = float(min(_LIMITS[family][2][0], source))
        raise BoardError(f"the clock must be {low:g} MHz or more on this board, not {float(wanted):g} MHz")
    output, dividers = max(candidates, key=lambda candidate: candidate[0])  # of equal ones the first
    return PllSettings(family, source, output, dividers)


def _within(number, limits):
    return limits[0] <= number <= limits[1]


def _ice40(source, wanted):
    """output = input · (DIVF + 1) / (2**DIVQ · (DIVR + 1)), feedback SIMPLE."""
    detector_limits, oscillator_limits, output_limits = _LIMITS["ice40"]
    for divr in range(16):
        detector = source / (divr + 1)
        if not _within(detector, detector_limits):
            continue
        for divq in range(1, 7):
            divf = min(int(wanted * 2**divq / detector), int(oscillator_limits[1] / detector), 128) - 1
            oscillator = detector * (divf + 1)
            output = oscillator / 2**divq
            if divf >= 0 and _within(oscillator, oscillator_limits) and _within(output, output_limits):
                filter_range = next((code for below, code in _FILTER_RANGES if detector < below), 6)
                yield output, {"DIVR": divr, "DIVF": divf, "DIVQ": divq, "FILTER_RANGE": filter_range}


def _ecp5(source, wanted):
    """oscillator = input · CLKFB_DIV · CLKOP_DIV / CLKI_DIV, feedback from CLKOP; output = oscillator / CLKOS_DIV."""
    detector_limits, oscillator_limits, output_limits = _LIMITS["ecp5"]
    for clki in range(1, 129):
        detector = source / clki
        if not _within(detector, detector_limits):
            continue
        for clkfb in range(1, 81):
            feedback = detector * clkfb
            if feedback > output_limits[1]:
                break
            for clkop in range(1, 129):
                oscillator = feedback * clkop
                if not _within(oscillator, oscillator_limits):
                    continue
                clkos = -(-oscillator // wanted)
                output = oscillator / clkos
                if clkos <= 128 and _within(output, output_limits):
                    yield output, {"CLKI_DIV": clki, "CLKFB_DIV": clkfb, "CLKOP_DIV": clkop, "CLKOS_DIV": int(clkos)}
