"""Flatbuffers, read with every offset checked: a damaged file ends in one error, never outside its own bytes.

The runtime from PyPI checks no offset (a negative one reads from the end of the file, a large count loops for as long
as it says), so that each of its reads would have to be checked anyway.
"""

# Ref: https://flatbuffers.dev/internals/

import struct

import numpy as np

from lutloom.errors import ModelError

MOST_TABLES = 1 << 20
"""Tables that one file may open: shared offsets could make a small file endless."""


class Buffer:
    """The bytes of one file.

    Parameters
    ----------
    data : bytes
    identifier : bytes
        The four bytes that name the file's kind.
    name : str
        Of the file, for errors.
    """

    def __init__(self, data, identifier, name):
        self.data, self.name, self._opened = data, name, 0
        if len(data) < 8 or data[4:8] != identifier:
            raise ModelError(f"model {name!r} is not a TFLite file; export or copy it again")

    def root(self):
        """The outermost table."""
        return Table(self, self.number("<I", 0))

    def number(self, kind, at):
        """A number of one of struct's kinds at a position."""
        if not 0 <= at <= len(self.data) - struct.calcsize(kind):
            raise self.damaged("points outside its own bytes")
        return struct.unpack_from(kind, self.data, at)[0]

    def damaged(self, why):
        """The ModelError of a file that breaks a rule."""
        return ModelError(f"model {self.name!r} is damaged ({why}); export or copy it again")

    def open(self):
        """Count one more table."""
        self._opened += 1
        if self._opened > MOST_TABLES:
            raise self.damaged(f"has more than {MOST_TABLES} tables")


class Table:
    """One table; fields are named by their index in the schema, and missing ones give the schema's default."""

    def __init__(self, buffer, at):
        buffer.open()
        self._buffer, self._at = buffer, at
        self._fields = at - buffer.number("<i", at)
        self._size = buffer.number("<H", self._fields)
        if self._size < 4 or self._size % 2 or self._fields + self._size > len(buffer.data):
            raise buffer.damaged("has a table without fields")

    def _find(self, index):
        """Position of a field; None where the table leaves it out."""
        entry = 4 + 2 * index
        offset = self._buffer.number("<H", self._fields + entry) if entry + 2 <= self._size else 0
        return self._at + offset if offset else None

    def _follow(self, index):
        """Position that a field points to; None where the table leaves it out."""
        at = self._find(index)
        return None if at is None else at + self._buffer.number("<I", at)

    def number(self, index, kind="<i", default=0):
        """A number, of one of struct's kinds."""
        at = self._find(index)
        return default if at is None else self._buffer.number(kind, at)

    def table(self, index):
        """A table; None where it is left out."""
        at = self._follow(index)
        return None if at is None else Table(self._buffer, at)

    def numbers(self, index, dtype="<i4"):
        """A vector of numbers as a read-only array; None where it is left out."""
        at = self._follow(index)
        if at is None:
            return None
        count = self._length(at, np.dtype(dtype).itemsize)
        return np.frombuffer(self._buffer.data, dtype, count, at + 4)

    def tables(self, index):
        """A vector of tables as a list; empty where it is left out."""
        at = self._follow(index)
        if at is None:
            return []
        places = [at + 4 + 4 * i for i in range(self._length(at, 4))]
        return [Table(self._buffer, place + self._buffer.number("<I", place)) for place in places]

    def text(self, index):
        """A string; empty where it is left out, other characters in place of what is no UTF-8."""
        letters = self.numbers(index, "u1")
        return "" if letters is None else letters.tobytes().decode(errors="replace")

    def _length(self, at, size):
        """How many items of a size the vector at a position has."""
        count = self._buffer.number("<I", at)
        if at + 4 + count * size > len(self._buffer.data):
            raise self._buffer.damaged(f"has a vector of {count} items, which it is too short for")
        return count
