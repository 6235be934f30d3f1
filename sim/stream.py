"""Codes of whole frames to the beats of a stream and back, in numpy: what both simulation engines are fed with."""

import math
from dataclasses import dataclass

import numpy as np

from lutloom.formats import Format

_CHUNK_BYTES = 1 << 24  # of unpacked bits at a time: bounds the memory of packing, whatever the number of frames


@dataclass(frozen=True)
class StreamLayout:
    """How a tensor lies in a stream: raster order, channels innermost, every pixel begins a new beat.

    A beat holds ``width`` values of ``format.bits`` bits, value 0 in the lowest bits, contiguous, zeros at the top up
    to a whole number of bytes. A pixel of C channels takes ⌈C/width⌉ beats, its unused values are zero.

    Parameters
    ----------
    shape : (H, W, C) or (C,)
    format : Format
    width : int
        Values a beat, at least 1.
    """

    shape: tuple[int, ...]
    format: Format
    width: int

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ValueError(f"a stream's shape must be (H, W, C) or (C,) of positive sizes, not {self.shape}")
        if not (isinstance(self.width, int) and self.width >= 1):
            raise ValueError(f"a stream's width must be an integer of at least 1, not {self.width!r}")

    @classmethod
    def of_plan(cls, entry):
        """The layout that "input" or "output" of a plan.json describes; ValueError when its numbers contradict.

        Its shape is "stream_shape" where a Flatten stands at the port (the order of values is the same).
        """
        layout = cls(tuple(entry.get("stream_shape", entry["shape"])), Format.parse(entry["format"]), entry["width"])
        if math.prod(layout.shape) != math.prod(entry["shape"]):
            raise ValueError(f"stream_shape {layout.shape} must hold as many values as shape {entry['shape']}")
        for key, have in (("bits", layout.format.bits), ("beats", layout.beats), ("tdata_bits", layout.tdata_bits)):
            if key in entry and entry[key] != have:
                raise ValueError(f"{key} must be {have} for shape {layout.shape}, format {layout.format} "
                                 f"and width {layout.width}, not {entry[key]!r}")
        return layout

    def to_plan(self):
        """The dictionary that ``of_plan`` reads."""
        return {"shape": list(self.shape), "format": str(self.format), "width": self.width,
                "bits": self.format.bits, "beats": self.beats, "tdata_bits": self.tdata_bits}

    @property
    def channels(self):
        """Values of a pixel."""
        return self.shape[-1]

    @property
    def pixels(self):
        """Pixels of a frame."""
        return self.shape[0] * self.shape[1] if len(self.shape) == 3 else 1

    @property
    def pixel_beats(self):
        """Beats of a pixel."""
        return -(-self.channels // self.width)

    @property
    def beats(self):
        """Beats of a frame."""
        return self.pixels * self.pixel_beats

    @property
    def tdata_bytes(self):
        """Bytes of a beat, as packed here and as wide as ``tdata``."""
        return -(-self.width * self.format.bits // 8)

    @property
    def tdata_bits(self):
        """Bits of ``tdata``: a whole number of bytes."""
        return 8 * self.tdata_bytes

    def locate(self, beat, value):
        """Index in a frame of a value of a beat, a tuple as long as ``shape``; None for an unused value."""
        channel = beat % self.pixel_beats * self.width + value
        if value >= self.width or channel >= self.channels:
            return None
        if len(self.shape) == 1:
            return (channel,)
        return (*divmod(beat // self.pixel_beats, self.shape[1]), channel)

    def pack(self, codes):
        """Beats of frames.

        Parameters
        ----------
        codes : integer array (frames, *shape)

        Returns
        -------
        uint8 array (frames, beats, tdata_bytes), little-endian.

        Raises
        ------
        ValueError
            For another shape, no integers, or codes that the format does not hold.
        """
        codes = np.asarray(codes)
        if codes.shape[1:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            raise ValueError(f"codes must have the shape (frames, {shape}), not {codes.shape}")
        if codes.dtype.kind not in "iub":
            raise ValueError(f"codes must be integers, not {codes.dtype}")
        if codes.size and not self.format.code_low <= int(codes.min()) <= int(codes.max()) <= self.format.code_high:
            raise ValueError(f"codes of {self.format} must lie in {self.format.code_low} to {self.format.code_high}, "
                             f"but these reach from {codes.min()} to {codes.max()}")
        packed = np.zeros((len(codes), self.beats, self.tdata_bytes), np.uint8)
        for part in self._parts(len(codes)):
            packed[part, :, :self._used_bytes] = self._pack(codes[part])
        return packed

    def _pack(self, codes):
        bits, frames, used = self.format.bits, len(codes), self._used
        unsigned = np.dtype(f"<u{self.format.dtype().itemsize}")
        padded = np.zeros((frames, self.pixels, self.pixel_beats * used), unsigned)
        padded[:, :, :self.channels] = codes.reshape(frames, self.pixels, self.channels).astype(unsigned)
        octets = padded.view(np.uint8).reshape(frames, self.beats, used, unsigned.itemsize)
        if bits % 8 == 0:
            return octets[..., :bits // 8].reshape(frames, self.beats, used * bits // 8)
        singles = np.unpackbits(octets, axis=-1, bitorder="little", count=bits)
        return np.packbits(singles.reshape(frames, self.beats, used * bits), axis=-1, bitorder="little")

    def unpack(self, packed):
        """Codes of beats: the inverse of ``pack``; unused values are not looked at.

        Parameters
        ----------
        packed : uint8 array (frames, beats, tdata_bytes), or anything that reshapes to it

        Returns
        -------
        array (frames, *shape) of ``format.dtype()``.
        """
        packed = np.asarray(packed, np.uint8).reshape(-1, self.beats, self.tdata_bytes)
        codes = np.empty((len(packed), *self.shape), self.format.dtype())
        for part in self._parts(len(packed)):
            codes[part] = self._unpack(np.ascontiguousarray(packed[part, :, :self._used_bytes]))
        return codes

    def _unpack(self, packed):
        bits, frames, used, dtype = self.format.bits, len(packed), self._used, self.format.dtype()
        unsigned = np.dtype(f"<u{dtype.itemsize}")
        octets = np.zeros((frames, self.beats, used, unsigned.itemsize), np.uint8)
        if bits % 8 == 0:
            octets[..., :bits // 8] = packed.reshape(frames, self.beats, used, bits // 8)
        else:
            singles = np.unpackbits(packed, axis=-1, bitorder="little", count=used * bits)
            whole = np.packbits(singles.reshape(frames, self.beats, used, bits), axis=-1, bitorder="little")
            octets[..., :whole.shape[-1]] = whole
        values = octets.view(unsigned).reshape(frames, self.pixels, -1)[:, :, :self.channels].astype(np.uint64)
        if self.format.signed:
            shift = np.uint64(64 - bits)
            values = (values << shift).view(np.int64) >> np.int64(shift)
        return values.astype(dtype).reshape(frames, *self.shape)

    @property
    def _used(self):
        """Values of a beat that can be other than zero."""
        return min(self.width, self.channels)

    @property
    def _used_bytes(self):
        """Bytes of a beat that can be other than zero."""
        return -(-self._used * self.format.bits // 8)

    def _parts(self, frames):
        """Slices of frames whose single bits stay within ``_CHUNK_BYTES``."""
        step = max(1, _CHUNK_BYTES // (self.beats * self._used * max(8, self.format.bits)))
        return [slice(start, min(start + step, frames)) for start in range(0, frames, step)]
