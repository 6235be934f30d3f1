"""How a memory is cut into the blocks of a chip, and where each of its bits then lies.

A block is used in one of its native shapes (depth, width). A memory becomes columns of equal depth and possibly
different shapes; a column deeper than its shape has several rows, between which a multiplexer selects. Among all such
tilings the one with the fewest blocks is taken, and among these the one with the least multiplexing.
"""

# Ref: Lattice FPGA-TN-02002 (iCE40 memory), FPGA-TN-02204 (ECP5 memory); bit positions as in Yosys' ice40/cells_sim.v
# and lattice/brams_map_16kd.v, to which tests/sw/test_memories.py compares them.

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np

SHAPES = {
    "ice40": ((256, 16), (512, 8), (1024, 4), (2048, 2)),
    "ecp5": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
}
CELLS = {"ice40": "SB_RAM40_4K", "ecp5": "DP16KD"}
PHYSICAL = {"ice40": (256, 16), "ecp5": (2048, 9)}  # words and bits a word of a block as the placed design writes it


@dataclass(frozen=True)
class Tile:
    """One block and the part of a memory that it holds.

    Parameters
    ----------
    memory : str
    index : int
        Number of the tile in its memory.
    kind : "rom" or "ram"
    depth, width : int
        Native shape.
    row, column : int
        The first word and the first bit of a word that lie in it.
    rows, columns : int
        How many words and bits of the memory it really holds.
    """

    memory: str
    index: int
    kind: str
    depth: int
    width: int
    row: int
    column: int
    rows: int
    columns: int


def shapes(family):
    """The native shapes of a block of a family, as (depth, width)."""
    if family not in SHAPES:
        raise ValueError(f"family must be one of {', '.join(SHAPES)}, not {family!r}")
    return SHAPES[family]


class _Tilings:
    """The best tilings of memories of one depth, for all widths up to the widest that was asked for.

    The best tiling of a width is a column of some shape and the best tiling of what is left; so each width is
    reckoned once, from narrower ones. Of shapes that are as deep as the memory only the widest is of use.

    Parameters
    ----------
    shapes : sequence of (depth, width, rows)
        Widest first, with the blocks one above the other in a column.
    """

    def __init__(self, shapes):
        whole = [rows for _, _, rows in shapes].index(1) if shapes[-1][2] == 1 else len(shapes)
        self._shapes = shapes[: whole + 1]
        self._costs = [(0, 0, 0)]  # of each width: blocks, multiplexed bits, columns
        self._first = [0]  # of each width: which shape its first column has

    def cost(self, width):
        """(blocks, multiplexed bits, columns) of a width."""
        costs, first = self._costs, self._first
        for bits in range(len(costs), width + 1):
            best = None
            for index, (_, widest, rows) in enumerate(self._shapes):
                used = widest if widest < bits else bits
                blocks, muxes, columns = costs[bits - used]
                option = (blocks + rows, muxes + used * (rows - 1), columns + 1)
                if best is None or option < best:
                    best, chosen = option, index
            costs.append(best)
            first.append(chosen)
        return costs[width]

    def columns(self, width):
        """(depth, width) of the columns of the tiling, widest first."""
        self.cost(width)
        columns = []
        while width:
            depth, widest, _ = self._shapes[self._first[width]]
            columns.append((depth, widest))
            width -= min(width, widest)
        return sorted(columns, key=lambda shape: -shape[1])


def _tilings(depth, family):
    """The tilings of memories of a depth on a family's blocks."""
    return _tilings_of_rows(family, tuple(-(-depth // deep) for deep, _ in shapes(family)))


@cache
def _tilings_of_rows(family, rows):
    return _Tilings([(*shape, high) for shape, high in zip(shapes(family), rows, strict=True)])


def count(spec, family):
    """How many tiles `cut` gives, without making them."""
    return _tilings(spec.depth, family).cost(spec.width)[0] if spec.place == "ebr" else 0


def cut(spec, family):
    """The tiles of a memory, by column and row; none for one in logic.

    Parameters
    ----------
    spec : lutloom.hw.memory.MemorySpec
    family : "ice40" or "ecp5"

    Returns
    -------
    tuple of Tile
    """
    if spec.place != "ebr":
        return ()
    tiles, column = [], 0
    for depth, width in _tilings(spec.depth, family).columns(spec.width):
        columns = min(width, spec.width - column)
        for row in range(0, spec.depth, depth):
            rows = min(depth, spec.depth - row)
            tiles.append(Tile(spec.name, len(tiles), spec.kind, depth, width, row, column, rows, columns))
        column += columns
    return tuple(tiles)


def to_bits(words, depth, width):
    """Words as a matrix (depth, width) of 0 and 1, bit 0 first; missing words are zero."""
    size = -(-width // 8)
    raw = b"".join(int(word).to_bytes(size, "little") for word in words)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(-1, size), axis=1, bitorder="little", count=width)
    matrix = np.zeros((depth, width), np.uint8)
    matrix[: len(bits)] = bits
    return matrix


def to_words(matrix):
    """The words that `to_bits` took, as a list of int."""
    packed = np.packbits(matrix, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def physical(tile, matrix, family):
    """What the block of a tile holds, given the bits of the whole memory.

    Parameters
    ----------
    tile : Tile
    matrix : array (depth, width) of 0 and 1
        The memory's, of `to_bits`.
    family : "ice40" or "ecp5"

    Returns
    -------
    array of uint16, one a physical word
        256 of 16 bits (iCE40) or 2,048 of 9 bits (ECP5).
    """
    bits = np.zeros((tile.depth, tile.width), np.uint8)
    part = matrix[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns]
    bits[: tile.rows, : tile.columns] = part
    words, size = PHYSICAL[family]
    block = np.zeros((words, size), np.uint8)
    if family == "ice40":  # bit k of word 256·s + a is bit k·(16/width) + s of physical word a
        block[:] = bits.reshape(-1, 256, tile.width).transpose(1, 2, 0).reshape(256, 16)
    elif tile.width == 36:  # port A reads the lower 18 bits from the lower half of the block, port B the others
        block[:] = bits.reshape(512, 2, 18).transpose(1, 0, 2).reshape(2048, 9)
    elif tile.width >= 9:
        block[:] = bits.reshape(2048, 9)
    else:  # the ninth bit is not used
        block[:, :8] = bits.reshape(2048, 8)
    return (block.astype(np.uint16) << np.arange(size, dtype=np.uint16)).sum(axis=1, dtype=np.uint16)


def logical(tile, block, matrix, family):
    """Put what a block holds into the bits of the whole memory: the inverse of `physical`; changes `matrix`."""
    words, size = PHYSICAL[family]
    bits = (np.asarray(block, np.uint16)[:, None] >> np.arange(size, dtype=np.uint16) & 1).astype(np.uint8)
    if family == "ice40":
        bits = bits.reshape(256, tile.width, -1).transpose(2, 0, 1).reshape(tile.depth, tile.width)
    elif tile.width == 36:
        bits = bits.reshape(2, 512, 18).transpose(1, 0, 2).reshape(512, 36)
    elif tile.width >= 9:
        bits = bits.reshape(tile.depth, tile.width)
    else:
        bits = bits[:, :8].reshape(tile.depth, tile.width)
    part = bits[: tile.rows, : tile.columns]
    matrix[tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] = part


def mark(tile, family):
    """The known words that a tile of a ROM holds until its real contents are exchanged for them; unique to the tile."""
    words, size = PHYSICAL[family]
    digest = hashlib.shake_256(f"lutloom {tile.memory} {tile.index}".encode()).digest(words * 2)
    return np.frombuffer(digest, "<u2").astype(np.uint16) & np.uint16((1 << size) - 1)


@dataclass(frozen=True)
class Layout:
    """Which tiles hold the ROMs of a design.

    Parameters
    ----------
    family : "ice40" or "ecp5"
    shapes : dict of str to (width, depth)
        Of every ROM in block RAM.
    tiles : tuple of Tile
        Of these ROMs, in order.
    """

    family: str
    shapes: dict
    tiles: tuple

    @classmethod
    def of(cls, specs, family):
        """The layout of memories; those in logic and RAMs are left out."""
        roms = [spec for spec in specs if spec.kind == "rom" and spec.place == "ebr"]
        tiles = tuple(tile for spec in roms for tile in cut(spec, family))
        return cls(family, {spec.name: (spec.width, spec.depth) for spec in roms}, tiles)

    def contents(self, images):
        """What every tile shall hold: a list of physical blocks, one a tile.

        Parameters
        ----------
        images : mapping of str to list of int
            The words of every ROM.

        Raises
        ------
        ValueError
            For a missing image, or one that is larger than its memory.
        """
        blocks, name, matrix = [], None, None
        for tile in self.tiles:
            if tile.memory != name:
                name = tile.memory
                width, depth = self.shapes[name]
                if name not in images:
                    raise ValueError(f"memory {name!r} has no image; there are {', '.join(sorted(images)) or 'none'}")
                words = images[name]
                if len(words) > depth or any(not 0 <= word < 1 << width for word in words):
                    raise ValueError(f"the image of memory {name!r} must be at most {depth} words of {width} bits")
                matrix = to_bits(words, depth, width)
            blocks.append(physical(tile, matrix, self.family))
        return blocks

    def images(self, blocks):
        """The words of every ROM, given what every tile holds: the inverse of `contents`."""
        matrices = {name: np.zeros((depth, width), np.uint8) for name, (width, depth) in self.shapes.items()}
        for tile, block in zip(self.tiles, blocks, strict=True):
            logical(tile, block, matrices[tile.memory], self.family)
        return {name: to_words(matrix) for name, matrix in matrices.items()}
