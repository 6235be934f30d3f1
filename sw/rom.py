"""ROM images: the order in which a stage's weights lie in its memory, and the way back.

The weights of a stage are read one word a fold, in the order of the window: for each block of channels (group of a
convolution), for each replay (``units`` outputs), for each kernel column, for each word of the block. A word holds,
for each unit, for each kernel row, ``width`` codes; the first code lies in the lowest bits. Depthwise, a block is a
word of ``width`` channels, and a word of the memory holds a code for each unit and row.
"""

import numpy as np


def weight_words(codes, geometry, width, units, fill):
    """Codes in the order of the ROM.

    Parameters
    ----------
    codes : integer array (N, kh, kw, C/groups)
    geometry : lutloom.hw.geometry.Geometry
        Blocks are the groups.
    width, units : int
    fill : int
        Code of lanes and units beyond the last channel and output; it must decode to zero, or meet a zero bit.

    Returns
    -------
    uint16 array (folds of a position, units·kh·width)
    """
    padded = _pad(np.asarray(codes), geometry, width, units, fill)  # (blocks, reps, units, kh, kw, words, width)
    return padded.transpose(0, 1, 4, 5, 2, 3, 6).reshape(-1, units * geometry.kernel[0] * width)


def weights_of_words(words, geometry, width, units, shape):
    """The inverse of `weight_words`: codes of ``shape`` (N, kh, kw, C/groups)."""
    n, kh, kw, channels = shape
    blocks, reps, block_words = geometry.blocks, geometry.reps, geometry.block_words
    codes = np.asarray(words).reshape(blocks, reps, kw, block_words, units, kh, width)
    codes = codes.transpose(0, 1, 4, 5, 2, 3, 6).reshape(blocks, reps * units, kh, kw, block_words * width)
    return codes[:, : n // blocks, :, :, :channels].reshape(shape)


def _pad(codes, geometry, width, units, fill):
    """Codes as (blocks, reps, units, kh, kw, words, width)."""
    n, kh, kw, channels = codes.shape
    blocks, reps, block_words = geometry.blocks, geometry.reps, geometry.block_words
    padded = np.full((blocks, reps * units, kh, kw, block_words * width), fill, np.uint16)
    padded[:, : n // blocks, :, :, :channels] = codes.reshape(blocks, n // blocks, kh, kw, channels)
    return padded.reshape(blocks, reps, units, kh, kw, block_words, width)


def depthwise_words(codes, width):
    """Codes of a depthwise convolution in the order of the ROM.

    Parameters
    ----------
    codes : integer array (N, kh, kw, 1)
        Outputs of a channel stand side by side.
    width : int
        Outputs a word, of whole channels.

    Returns
    -------
    uint16 array (folds of a position, width·kh)
    """
    codes = np.asarray(codes)[..., 0]
    n, kh, kw = codes.shape
    return codes.reshape(-1, width, kh, kw).transpose(0, 3, 1, 2).reshape(-1, width * kh).astype(np.uint16)


def codes_of_depthwise_words(words, units, shape):
    """The inverse of `depthwise_words`: codes of ``shape`` (N, kh, kw, 1); ``units`` outputs a word."""
    n, kh, kw, _ = shape
    return np.asarray(words).reshape(n // units, kw, units, kh).transpose(0, 2, 3, 1).reshape(shape)


def period(words):
    """The least number of words that, again and again, make all of them."""
    count = len(words)
    return next(p for p in range(1, count + 1) if count % p == 0 and words[:p] * (count // p) == words)


def pack(values, bits):
    """Rows of codes as integers, the first code in the lowest bits.

    Parameters
    ----------
    values : integer array (words, values a word)
        Taken modulo 2**bits.
    bits : int, 1 to 64

    Returns
    -------
    list of int
    """
    values = np.asarray(values)
    planes = (values[:, :, None].astype(np.int64) >> np.arange(bits)) & 1
    packed = np.packbits(planes.reshape(len(values), -1).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def unpack(words, bits, count):
    """The inverse of `pack`: int64 array (words, count) of codes that are not negative."""
    size = -(-bits * count // 8)
    raw = np.frombuffer(b"".join(int(word).to_bytes(size, "little") for word in words), np.uint8)
    planes = np.unpackbits(raw.reshape(len(words), size), axis=1, bitorder="little")[:, : bits * count]
    return planes.reshape(len(words), count, bits).astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64))
