"""Memory contents put into a design that is already placed and routed.

nextpnr places a design the same whatever its memories hold, and the contents stand in the text form of the bitstream in
blocks of their own: ``.ram_data`` in the .asc of iCE40, ``.bram_init`` in the text configuration of ECP5. Placed with
known unique words (`lutloom.tiles.mark`), every block can be found there; its place is kept, and real contents are
written to it and read from it by place.
"""

import json
import re
from dataclasses import asdict, dataclass

import numpy as np

from lutloom.errors import BuildError
from lutloom.tiles import PHYSICAL, Layout, Tile, mark

FORMAT_VERSION = 1
# The head of a block names its place: column and row on iCE40, the number that nextpnr gave it on ECP5.
_HEADS = {"ice40": r"^\.ram_data ([0-9]+ [0-9]+)\n", "ecp5": r"^\.bram_init ([0-9]+)\n"}
_LINES = {"ice40": 16, "ecp5": 256}


@dataclass(frozen=True)
class MemoryMap:
    """Where the ROMs of a placed design lie.

    Parameters
    ----------
    layout : Layout
    places : tuple of str
        For every tile of the layout, the place that the head of its block names.
    """

    layout: Layout
    places: tuple

    def to_json(self):
        """The map as JSON text."""
        layout = self.layout
        return json.dumps({
            "format_version": FORMAT_VERSION,
            "family": layout.family,
            "memories": {name: list(shape) for name, shape in layout.shapes.items()},
            "tiles": [asdict(tile) | {"place": at} for tile, at in zip(layout.tiles, self.places, strict=True)],
        }, indent=1)

    @classmethod
    def from_json(cls, text):
        """The map that `to_json` wrote.

        Raises
        ------
        BuildError
            For text of another kind or version.
        """
        try:
            data = json.loads(text)
            if data["format_version"] != FORMAT_VERSION:
                raise BuildError(
                    f"the memory map must be of format_version {FORMAT_VERSION}, not {data['format_version']!r}; "
                    "build again"
                )
            shapes = {name: tuple(shape) for name, shape in data["memories"].items()}
            places = tuple(tile.pop("place") for tile in data["tiles"])
            layout = Layout(data["family"], shapes, tuple(Tile(**tile) for tile in data["tiles"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuildError(f"the memory map is damaged ({error}); build again") from error
        return cls(layout, places)


def locate(text, layout):
    """Find the block of every tile by its mark.

    Parameters
    ----------
    text : str
        The placed design, placed with marks.
    layout : Layout

    Returns
    -------
    MemoryMap

    Raises
    ------
    BuildError
        When a block is missing: synthesis took it for superfluous.
    """
    found = {_read(text, span, layout.family).tobytes(): place for place, span in _spans(text, layout.family).items()}
    places = []
    for tile in layout.tiles:
        place = found.get(mark(tile, layout.family).tobytes())
        if place is None:
            raise BuildError(
                f"block {tile.index} of memory {tile.memory!r} is not in the placed design; "
                "a part of the memory that nothing reads must not be planned"
            )
        places.append(place)
    return MemoryMap(layout, tuple(places))


def exchange(text, memory_map, images):
    """The placed design with real contents.

    Parameters
    ----------
    text : str
    memory_map : MemoryMap
    images : mapping of str to list of int
        The words of every ROM; others are ignored.

    Returns
    -------
    str

    Raises
    ------
    BuildError
        When the design has no block at a place of the map.
    ValueError
        When an image is missing or too large.
    """
    layout = memory_map.layout
    spans = _spans(text, layout.family)
    blocks = dict(zip(memory_map.places, layout.contents(images), strict=True))
    pieces, done = [], 0
    for place, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if place in blocks:
            pieces += [text[done:start], _write(blocks.pop(place), layout.family)]
            done = end
    if blocks:
        raise BuildError(f"the placed design has no memory at {', '.join(blocks)}; build again")
    return "".join([*pieces, text[done:]])


def read_back(text, memory_map):
    """The words of every ROM in block RAM, read out of a finished design.

    Parameters
    ----------
    text : str
    memory_map : MemoryMap

    Returns
    -------
    dict of str to list of int
    """
    layout = memory_map.layout
    spans = _spans(text, layout.family)
    missing = [place for place in memory_map.places if place not in spans]
    if missing:
        raise BuildError(f"the placed design has no memory at {', '.join(missing)}; build again")
    return layout.images([_read(text, spans[place], layout.family) for place in memory_map.places])


def _spans(text, family):
    """Where in the text the words of each block stand: dict of place to (start, end)."""
    spans = {}
    for head in re.finditer(_HEADS[family], text, re.MULTILINE):
        end = head.end()
        for _ in range(_LINES[family]):
            end = text.find("\n", end) + 1
            if not end:
                raise BuildError("the placed design ends inside of a memory; build again")
        spans[head[1]] = (head.end(), end)
    return spans


def _read(text, span, family):
    words = text[span[0] : span[1]].split()
    if family == "ice40":  # a line has 16 words of 16 bits, the last one first
        raw = bytes.fromhex("".join(words))
        block = np.frombuffer(raw, ">u2").reshape(16, 16)[:, ::-1].reshape(-1)
    else:
        block = np.array([int(word, 16) for word in words])
    if len(block) != PHYSICAL[family][0]:
        raise BuildError("a memory of the placed design has lost words; build again")
    return block.astype(np.uint16)


def _write(block, family):
    if family == "ice40":
        lines = block.reshape(16, 16)[:, ::-1].astype(">u2")
        return "".join(line.tobytes().hex() + "\n" for line in lines)
    return "".join(" ".join(f"{word:03x}" for word in line) + "\n" for line in block.reshape(-1, 8).tolist())
