"""Reading ROM images back: the weights of a layer out of a build folder."""

import json
from pathlib import Path

import numpy as np

from lutloom.errors import BuildError
from lutloom.hw.geometry import Geometry
from lutloom.memories import read_hex_image
from lutloom.plan import FORMAT_VERSION
from lutloom.rom import codes_of_depthwise_words, unpack, weights_of_words
from lutloom.sparse import Coding, codes_of_matrix, matrix_of_words
from lutloom.stored import Stored
from lutloom.weight_format import WeightFormat


def read_manifest(folder):
    """The records of ``rom/manifest.json``; BuildError if there is none of this version."""
    path = Path(folder) / "rom" / "manifest.json"
    try:
        kept = json.loads(path.read_text())
        records, version = kept["memories"], kept["format_version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BuildError(f"{folder} has no rom/manifest.json: it is not a build folder of Lutloom") from None
    if version != FORMAT_VERSION:
        raise BuildError(f"{path} has format version {version!r}, but this Lutloom reads {FORMAT_VERSION}; build again")
    return records


def words_to_weights(record, words):
    """Codes of a layer's weights from the words of its memory.

    Parameters
    ----------
    record : dict
        Of the manifest.
    words : sequence of int

    Returns
    -------
    uint16 array of the layer's own shape
    """
    shape = tuple(record["shape"])
    conv = shape[0], *record["kernel"], shape[-1]
    outputs, kh, kw, channels = conv
    blocks, units, lanes = record["groups"], record["units"], record["lanes"]
    if record.get("run_bits"):
        whole = outputs, kh * kw * -(-channels * blocks // lanes) * lanes
        matrix = matrix_of_words(words, record["lengths"], whole, record["zero"],
                                 Coding(lanes, units, record["run_bits"]), record["code_bits"])
        return codes_of_matrix(matrix, conv, blocks, lanes).reshape(shape).astype(np.uint16)
    depthwise = blocks > 1 and channels == 1
    stored = Stored.of(WeightFormat.parse(record["format"], record["values"]), kh * (1 if depthwise else lanes), units,
                       record.get("packed", False))
    codes = stored.codes_of(unpack(words, stored.bits, stored.numbers))
    if depthwise:
        codes = codes_of_depthwise_words(codes, units, conv)
        return codes.reshape(shape).astype(np.uint16)
    words_a_block = -(-channels // lanes)
    # Only the order matters here, not the size of the feature map: the smallest that the kernel fits.
    geometry = Geometry(kh, kw, blocks * words_a_block, (kh, kw), blocks=blocks, reps=-(-(outputs // blocks) // units))
    return weights_of_words(codes, geometry, lanes, units, conv).reshape(shape).astype(np.uint16)


def read_codebooks(folder):
    """Tables of the layers whose weights share indices, as they lie in a build folder's ROM images.

    Returns
    -------
    dict of str to list of integer array (entries, group)
        By layer name: what each of its tables holds.
    """
    tables = {}
    for record in read_manifest(folder):
        if record.get("holds") == "codebook":
            words = read_hex_image((Path(folder) / "rom" / record["file"]).read_text())
            (entries, group), bits = record["shape"], record["entry_bits"]
            values = unpack(words[:entries], bits, group)
            tables.setdefault(record["layer"], []).append(values - ((values >> bits - 1) << bits))
    return tables


def read_weights(folder):
    """Weights of every layer as they lie in a build folder's ROM images.

    Returns
    -------
    dict of str to uint16 array
        Stored codes by layer name, in the layer's own shape.
    """
    weights = {}
    for record in read_manifest(folder):
        if record.get("holds") == "weights":
            words = read_hex_image((Path(folder) / "rom" / record["file"]).read_text())
            weights[record["layer"]] = words_to_weights(record, words[: record["depth"]])
    return weights
