"""Verilog of one block RAM of a chip in one of its shapes: the cell, its pins and its parameters."""

# Ref: as in `lutloom.tiles`. An ECP5 block of 512 x 36 is written as pseudo dual port RAM, and read as a ROM by both of
# its ports, 18 bits each, so that each port's output register belongs to the port that reads.

import numpy as np

from lutloom.tiles import CELLS


def instance(family, tile, wire, addr, write, registered, block):
    """Lines of Verilog that drive ``wire`` with what a tile reads.

    Parameters
    ----------
    family : "ice40" or "ecp5"
    tile : lutloom.tiles.Tile
    wire : str
        As wide as the tile. A RAM finds what it writes in ``<wire>_write`` and ``<wire>_write_addr``.
    addr : str
        Name of the wire with the address inside of the tile.
    write : str
        Expression of the write enable.
    registered : bool
        Whether the block's output register is used (ECP5 ROMs).
    block : array or None
        Physical words that the block holds at first; None for zero.

    Returns
    -------
    list of str
    """
    return {"ice40": _ice40, "ecp5": _ecp5_ram if tile.kind == "ram" else _ecp5_rom}[family](
        tile, wire, addr, write, registered, block
    )


def _cell(cell, name, parameters, ports):
    settings = ", ".join(f".{key}({value})" for key, value in parameters.items())
    pins = ", ".join(f".{key}({value})" for key, value in ports.items())
    return [f"{cell} #({settings})", f"  {name}_ram ({pins});"]


def _ice40(tile, wire, addr, write, registered, block):
    step = 16 // tile.width
    mode = step.bit_length() - 1
    pins = [k * step + (0, 0, 1, 3)[mode] for k in range(tile.width)]  # of the port, for each bit of the word
    high = 11 - (tile.depth.bit_length() - 1)
    lines = [f"wire [15:0] {wire}_q;"]
    lines += [f"assign {wire}[{k}] = {wire}_q[{pin}];" for k, pin in enumerate(pins)]
    parameters = {"READ_MODE": mode, "WRITE_MODE": mode}
    if block is not None:
        rows = np.asarray(block).astype(">u2").reshape(16, 16)[:, ::-1]
        parameters |= {f"INIT_{index:X}": f"256'h{row.tobytes().hex()}" for index, row in enumerate(rows)}
    extend = f"{high}'d0, " if high else ""
    ports = {"RDATA": f"{wire}_q", "RCLK": "clk", "RCLKE": "1'b1", "RE": "1'b1", "RADDR": f"{{{extend}{addr}}}"}
    if tile.kind == "rom":
        ports |= {"WCLK": "1'b0", "WCLKE": "1'b0", "WE": "1'b0", "WADDR": "11'd0", "WDATA": "16'd0"}
    else:
        data = ["1'b0"] * 16
        for k, pin in enumerate(pins):
            data[pin] = f"{wire}_write[{k}]"
        ports |= {"WCLK": "clk", "WCLKE": write, "WE": "1'b1", "WADDR": f"{{{extend}{wire}_write_addr}}"}
        ports["WDATA"] = f"{{{', '.join(reversed(data))}}}"
    ports["MASK"] = "16'd0"
    return lines + _cell(CELLS["ice40"], wire, parameters, ports)


_ECP5_SKIP = {36: 5, 18: 4, 9: 3, 4: 2, 2: 1, 1: 0}  # address pins below the address: a part of a word, or byte enables


def _ecp5_rom(tile, wire, addr, write, registered, block):
    width = min(tile.width, 18)
    parameters, ports = _ecp5(width, "OUTREG" if registered else "NOREG", block)
    halves = {"A": (f"1'b0, {addr}", 0), "B": (f"1'b1, {addr}", 18)} if tile.width == 36 else {"A": (addr, 0)}
    lines = []
    for port, (value, first) in halves.items():
        lines.append(_ecp5_address(f"{wire}_{port}", value, width, 0))
        ports |= {f"AD{port}{pin}": f"{wire}_{port}[{pin}]" for pin in range(14)}
        ports |= {f"DO{port}{bit}": f"{wire}[{first + bit}]" for bit in range(width)}
    return lines + _cell(CELLS["ecp5"], wire, parameters, ports)


def _ecp5_ram(tile, wire, addr, write, registered, block):
    width = tile.width
    parameters, ports = _ecp5(width, "NOREG", block)
    lines = [
        _ecp5_address(f"{wire}_A", f"{wire}_write_addr", width, {36: 0b1111, 18: 0b11}.get(width, 0)),
        _ecp5_address(f"{wire}_B", addr, width, 0),
    ]
    ports["WEA"] = write
    ports |= {f"AD{port}{pin}": f"{wire}_{port}[{pin}]" for port in "AB" for pin in range(14)}
    for bit in range(width):
        ports[f"DI{'AB'[bit // 18]}{bit % 18}"] = f"{wire}_write[{bit}]"
        ports[f"DO{'AB'[bit // 18] if width == 36 else 'B'}{bit % 18}"] = f"{wire}[{bit}]"
    return lines + _cell(CELLS["ecp5"], wire, parameters, ports)


def _ecp5_address(name, value, width, low):
    skip = _ECP5_SKIP[width]
    return f"wire [13:0] {name} = {{{value}, {skip}'d{low}}};" if skip else f"wire [13:0] {name} = {{{value}}};"


def _ecp5(width, register, block):
    """Parameters and the pins that are the same for all uses."""
    parameters = {"DATA_WIDTH_A": width, "DATA_WIDTH_B": width, "REGMODE_A": f'"{register}"'}
    parameters |= {"REGMODE_B": f'"{register}"', "RESETMODE": '"SYNC"', "GSR": '"DISABLED"'}
    parameters |= {f"{key}_{port}": f'"{value}"' for key, value in _ECP5_MODES for port in "AB"}
    if block is not None:
        # Each holds 16 words of 18 bits, 20 bits apart; two words with their gaps are five bytes.
        halves = np.asarray(block).astype(np.uint64).reshape(64, 8, 4)[:, ::-1] << np.array([0, 9, 20, 29], np.uint64)
        rows = halves.sum(axis=2, dtype=np.uint64).astype(">u8").view(np.uint8).reshape(64, 8, 8)[:, :, 3:]
        parameters |= {f"INITVAL_{index:02X}": f"320'h{row.tobytes().hex()}" for index, row in enumerate(rows)}
    ports = {f"{key}{port}{more}": f"1'b{value}" for key, more, value in _ECP5_TIED for port in "AB"}
    return parameters, ports | {"CLKA": "clk", "CLKB": "clk"}


_ECP5_MODES = (("WRITEMODE", "NORMAL"), ("CSDECODE", "0b000"))
# Resets are tied: an output reset driven by logic reads zero on silicon (DESIGN.md, section 9).
_ECP5_TIED = (
    ("CS", "0", 0), ("CS", "1", 0), ("CS", "2", 0), ("RST", "", 0), ("CE", "", 1), ("OCE", "", 1), ("WE", "", 0),
)
