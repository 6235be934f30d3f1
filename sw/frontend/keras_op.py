"""One call of a Keras layer while it is read: its inputs, config and weights, and errors that name it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lutloom.errors import ModelError

MOST_VALUES = 1 << 24
"""Of one tensor."""


@dataclass(frozen=True)
class View:
    """A value of the Graph in the shape that Keras sees, without the batch; both in raster order."""

    value: str
    shape: tuple[int, ...]


class Op:
    """A call of a layer.

    Parameters
    ----------
    reader : Reader
    call : lutloom.frontend.keras_calls.Call
    inputs : list of View, or None where the shape is not known
    """

    def __init__(self, reader, call, inputs):
        self.reader, self.call, self.inputs = reader, call, inputs
        self.type, self.config = call.type, call.config
        self.name = "".join(letter if letter.isprintable() else "_" for letter in call.name) or call.type.lower()

    @property
    def hidden(self):
        """Whether it reads a value of unknown shape, because of a layer before it that is not supported."""
        return None in self.inputs

    def error(self, text):
        """A ModelError about this layer: text is the predicate of its sentence."""
        return ModelError(f"{self.type} {self.name!r} {text}")

    def single(self):
        """The one input of a layer that takes one."""
        if len(self.inputs) != 1:
            raise self.error(f"takes {len(self.inputs)} inputs, but must take one; save the model again")
        return self.inputs[0]

    # --- values -----------------------------------------------------------------------------------------------------

    def map(self, view):
        """(value, shape) of a view as an (H, W, C) map; a row of vectors is a map of height 1."""
        shape = view.shape
        if len(shape) not in (2, 3):
            raise self.error(f"takes a map, but its input has shape {shape}; reshape it first")
        shape = (1, *shape) if len(shape) == 2 else shape
        return self.reader.shaped(view.value, shape), shape

    def plain(self, view):
        """(value, shape) of a view with the sides that the Graph has: (H, W, C) or (C,)."""
        return self.map(view) if len(view.shape) != 1 else (self.reader.shaped(view.value, view.shape), view.shape)

    def emit(self, kind, inputs, params=None, *, shape, part=""):
        """Write one Graph node; gives the name of its value."""
        return self.reader.emit(self, kind, inputs, params, shape=shape, part=part)

    def elementwise(self, view, kind, params=None, part=""):
        """Write a node of the same shape; gives the View of its value."""
        value, shape = self.plain(view)
        return View(self.emit(kind, (value,), params, shape=shape, part=part), view.shape)

    # --- config -----------------------------------------------------------------------------------------------------

    def number(self, key, default=None):
        """A finite number of the config; the default where it has none."""
        value = self.config.get(key)
        if value is None:
            return default
        if isinstance(value, dict) and value.get("class_name") == "__numpy__":
            value = value["config"]["value"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise self.error(f"has {key} {value!r}, which must be a finite number; save the model again")
        return float(value)

    def count(self, key):
        """A positive integer of the config."""
        value = self.config[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_VALUES:
            raise self.error(f"has {key} {value!r}, which must be a positive integer; save the model again")
        return value

    def pair(self, key, default=(1, 1)):
        """(y, x) of the config, of a layer of one or two dimensions; no default (None) means that it must be there."""
        value = self.config[key] if default is None else self.config.get(key)
        if value is None and default is not None:
            return default
        value = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(value) != self.rank or any(isinstance(n, bool) or not isinstance(n, int) or not 0 < n <= MOST_VALUES
                                          for n in value):
            raise self.error(f"has {key} {list(value)}, which must be {self.rank} positive integers; save the model "
                             "again")
        return (1,) * (2 - self.rank) + value

    @cached_property
    def rank(self):
        """Dimensions that the layer's windows have."""
        return 1 if self.type.endswith("1D") else 2

    def check_layout(self):
        """Refuse channels_first."""
        layout = self.config.get("data_format") or "channels_last"
        if layout != "channels_last":
            raise self.error(f"has data_format {layout!r}, which is not supported; build the model with channels_last")

    # --- weights ----------------------------------------------------------------------------------------------------

    def weights(self, **shapes):
        """Arrays of the layer's weights, in the file's order, of the shapes that the config asks for."""
        arrays = self.reader.weights.of(self.call.place)
        if len(arrays) != len(shapes):
            raise self.error(f"has {len(arrays)} weights in the file, but needs {len(shapes)} ({', '.join(shapes)}); "
                             "save the whole model again")
        for (what, shape), array in zip(shapes.items(), arrays, strict=True):
            what = f"an {what}" if what[0] in "aeiou" else f"a {what}"
            if array.shape != tuple(shape):
                raise self.error(f"has {what} of shape {array.shape} in the file, but its config and input need "
                                 f"{tuple(shape)}; save the whole model again")
            bad = array.size - np.count_nonzero(np.isfinite(array))
            if bad:
                raise self.error(f"has {what} with NaN or infinite numbers ({bad} of {array.size}); train or save "
                                 "the model again")
        return dict(zip(shapes, arrays, strict=True))
