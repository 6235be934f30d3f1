"""Registers that only make a signal late."""

from amaranth.hdl import Signal


def delayed(m, value, cycles, name, *, reset_less=True):
    """``value`` of ``cycles`` cycles ago.

    Parameters
    ----------
    m : Module
    value : Value
    cycles : int
        0 gives the value itself.
    name : str
        Of the registers, with their number behind it.
    reset_less : bool
        False for what means something in the cycles after a reset: valid bits.
    """
    for cycle in range(cycles):
        held = Signal(value.shape(), name=f"{name}_{cycle}", reset_less=reset_less)
        m.d.sync += held.eq(value)
        value = held
    return value
