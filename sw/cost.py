"""What hardware costs, before synthesis: LUT4s by a table of measured units, block RAMs and DSPs by count."""

from dataclasses import dataclass
from functools import cache

from lutloom.hw.memory import MemorySpec
from lutloom.memories import blocks
from lutloom.weight_format import HALF_BITS


@dataclass(frozen=True)
class Cost:
    """Resources of a stage.

    Parameters
    ----------
    cycles : int
        A frame.
    lut4, ebr, dsp : int
    """

    cycles: int
    lut4: int
    ebr: int
    dsp: int


STAGE = 260  # counters, credits and flags of a window
PACKING = 1.35  # logic cells over LUTs on iCE40, where flip-flops and carries that stand alone take cells too

# LUT4s of one product with its share of the adder tree, weights from memory: (iCE40, ECP5).
# Ref: scripts/unit_area
XNOR = (2.0, 2.55)
SIGN = (3.8, 5.4)  # + 2 a value bit
MASK = (3.0, 4.6)  # + 2 a value bit, for each magnitude bit
SHIFT = (1.5, 1.6)  # a multiplexer a bit and stage
HALF = (7.5, 4.5)  # a bit of a shifted product
FIXED = (1.0, 2.5)  # + 2 a value bit, for each weight bit
TABLE_BIT = {5: 4, 6: 8, 7: 16, 8: 32}  # a bit of a table of so many index bits
TRITS = (21, 21)  # five ternary weights out of a byte
PAIRED = 2.6  # + 1 a value bit, for each weight bit: ECP5, two products in an adder
BIPOLAR = (3.0, 4.3)  # + 2 a weight bit


def table_luts(w_format):
    """LUT4s of a table of a codebook of groups where it stands in logic."""
    wide = w_format.index_bits
    entry = 1 if wide <= 4 else TABLE_BIT[wide]
    return round(w_format.group * w_format.decoded.bits * entry)


def product_luts(x_format, w_format, family, lanes):
    """LUT4s of one product, logic cells on iCE40, of a sum of so many ``lanes`` of them; of groups without tables."""
    w_format = w_format.decoded
    alone = _product_luts(x_format, w_format, family)
    if family == "ice40":
        return alone * PACKING
    if x_format.kind == "bipolar" or w_format.kind not in ("int", "codebook"):
        return alone
    paired = _decoded_bits(w_format) * (x_format.bits + PAIRED) + decode_luts(x_format, w_format, family)
    return (paired * (lanes & ~1) + alone * (lanes & 1)) / lanes


def decode_luts(x_format, w_format, family):
    """LUT4s around one multiplication that codes of weights need: a codebook's table, a half's shifter."""
    w_format = w_format.decoded
    if w_format.kind == "float16":
        reach = x_format.bits + HALF_BITS + w_format.values[1] - w_format.values[0]
        return reach * HALF[0 if family == "ice40" else 1]
    if w_format.kind == "codebook" or (x_format.kind == "bipolar" and w_format.kind == "pow2"):
        return _decoded_bits(w_format) * (1 << max(0, w_format.bits - 4))
    return 0


def _decoded_bits(w_format):
    """Bits of the integers that weights stand for, two's complement."""
    if w_format.kind == "int":
        return w_format.bits
    return 1 + max(abs(w_format.low), w_format.high).bit_length()


def _product_luts(x_format, w_format, family):
    chip = 0 if family == "ice40" else 1
    decode = decode_luts(x_format, w_format, family)
    if x_format.kind == "bipolar":
        wide = w_format.bits if w_format.kind in ("int", "bitmask") else _decoded_bits(w_format)
        return XNOR[chip] if w_format.kind == "binary" else 2 * wide + BIPOLAR[chip] + decode
    if w_format.kind == "binary":
        return 2 * x_format.bits + SIGN[chip]
    if w_format.kind == "pow2":
        reach = x_format.bits + (1 << w_format.bits - 1) - 2  # bits of what is shifted
        return SHIFT[chip] * reach * (w_format.bits - 1) / 2 + 2 * reach
    if w_format.kind == "codebook":
        return decode + _decoded_bits(w_format) * (2 * x_format.bits + FIXED[chip])
    if w_format.kind == "float16":
        return decode + HALF_BITS * (x_format.bits + FIXED[chip])
    if w_format.kind in ("bitmask", "ternary"):
        return (w_format.bits - 1) * (2 * x_format.bits + MASK[chip])
    return w_format.bits * (2 * x_format.bits + FIXED[chip])


def dsp_blocks(products, family):
    """DSP blocks of so many products: one each on ECP5, two to a block on iCE40."""
    return products if family == "ecp5" else -(-products // 2)


@cache
def rom_blocks(width, depth, family, latency):
    """Block RAMs of a ROM."""
    return blocks(MemorySpec("rom", "rom", width, depth, latency), family)


ROWS_IN_LUTS = 128  # words of a bank that may stand in an ECP5's LUTs rather than take a block; more are slow to read


def rows_places(geometry, family):
    """Where a window's rows can stand: in block RAM, and short ones in LUTs where the chip has such memories."""
    short = geometry.depth_rows * geometry.row_words <= ROWS_IN_LUTS
    return ("ebr", "lut") if family == "ecp5" and short else ("ebr",)


def row_luts(geometry, bits, width, place):
    """LUT4s of a window's rows where they stand in LUTs: 16 words of 4 bits take 6."""
    if place == "ebr":
        return 0
    sixteens = -(-geometry.depth_rows * geometry.row_words // 16)
    return geometry.banks * -(-bits * width // 4) * (6 * sixteens + 4 * (sixteens - 1))


def line_blocks(geometry, bits, width, family, latency, place):
    """Block RAMs of a window's rows."""
    if place == "lut":
        return 0
    return geometry.banks * ram_blocks(bits * width, geometry.depth_rows * geometry.row_words, family, latency)


@cache
def ram_blocks(width, depth, family, latency):
    """Block RAMs of a RAM."""
    return blocks(MemorySpec("ram", "ram", width, depth, latency), family)


def window_luts(geometry, bits, width):
    """LUT4s of a window: counters, and the choice of the bank for each kernel row."""
    choice = 0 if geometry.banks == 1 else 0.5 * geometry.banks + 0.5
    return STAGE + geometry.kernel[0] * width * bits * choice + 12 * geometry.banks


def threshold_luts(acc_bits, out_bits, lanes, words, in_memory):
    """LUT4s of a pipelined threshold search, with its tables where they are logic."""
    table = 0 if in_memory else sum(words * 2**level * acc_bits / 14 for level in range(out_bits))
    return lanes * (out_bits * (1.6 * acc_bits + 4) + table)
