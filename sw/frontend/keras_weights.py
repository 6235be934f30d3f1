"""Weights of Keras layers out of HDF5: plain datasets at their own place, reached by hard links alone."""

import contextlib
import os
import re
import signal
import time
import warnings
from math import prod

from lutloom.errors import ModelError
from lutloom.frontend.keras_file import MOST_WEIGHTS, too_big

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Groups that hold a model's layers, in files of Keras 3 and of Keras 2.12 to 2.15."""

FILTERS = (1, 2, 3)
"""HDF5's own deflate, shuffle and checksum; others are plug-ins."""

LEAST_SECONDS, BYTES_A_SECOND = 4, 1 << 24
"""Of the processor, for a look through a whole file, and as many more as its size takes."""

MOST_OBJECTS = 100_000

MOST_VARIABLES = 64
"""Of one layer."""


def opened(name, file):
    """An h5py.File of a path or of bytes."""
    try:
        import h5py
    except ImportError:
        raise ModelError(f"model {name!r} holds HDF5, which h5py reads, and that is not installed; install it with "
                         "pip install 'lutloom[keras]'") from None
    if hasattr(os, "fork") and not _survives(name, file):
        raise ModelError(f"model {name!r} has damaged weights (HDF5 does not come to an end with them); save or copy "
                         "it again")
    try:
        return h5py.File(file, "r")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(name, error) from None


def _survives(name, file):
    """Whether a process of its own gets through a file: HDF5's library may loop or crash on a damaged one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: the child runs HDF5 alone
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        import resource

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        size = os.stat(file).st_size if isinstance(file, os.PathLike) else len(file.getbuffer())
        end = int(time.process_time()) + LEAST_SECONDS + size // BYTES_A_SECOND
        resource.setrlimit(resource.RLIMIT_CPU, (end, end))
        _touch(name, file)
    finally:
        os._exit(0)  # what a file that is read to its end is wrong about, the reader says


def _touch(name, file):
    """Read all that a reader might look at, whatever is wrong with it."""
    import h5py

    store = Store(name, h5py.File(file, "r"))
    stack, seen = [store.file], set()
    while stack and len(seen) < MOST_OBJECTS:
        found = stack.pop()
        address = h5py.h5o.get_info(found.id).addr
        if address in seen:
            continue
        seen.add(address)
        with contextlib.suppress(Exception):
            if isinstance(found, h5py.Dataset):
                store.array(found)
                continue
            for key in ("name", "model_config", "keras_version"):
                store.attribute(found, key)
            store.names(found, "weight_names")
        for key in found if isinstance(found, h5py.Group) else ():
            with contextlib.suppress(Exception):
                stack.append(store.member(found, key))


def _damaged(name, error):
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return ModelError(f"model {name!r} has damaged weights ({reason}); save or copy it again")


def snake_case(name):
    """The name that Keras saves objects of a class under."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Store:
    """An HDF5 file of which links, sizes and types are checked before anything is read."""

    def __init__(self, name, file):
        self.name, self.file, self._read = name, file, 0

    def member(self, group, name):
        """What a group has under a name, a hard link away; None where there is nothing."""
        import h5py

        try:
            link = group.get(name, getlink=True) if name else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise ModelError(f"model {self.name!r} has a link in its weights, {group.name}/{name}, that leads "
                                 "elsewhere, which is refused; save the model again")
            return group[name]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError) as error:
            raise _damaged(self.name, error) from None

    def path(self, group, *names):
        """What lies at the end of several names; None where one is missing."""
        import h5py

        for name in names:
            group = self.member(group, name) if isinstance(group, h5py.Group) else None
        return group

    def attribute(self, group, key):
        """An attribute as a Python value; None where there is none."""
        try:
            value = group.attrs.get(key)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.name, error) from None
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def names(self, group, key):
        """A list of texts, which Keras splits over several attributes where it is long."""
        parts = [self.attribute(group, key)]
        if parts[0] is None:
            parts = []
            while (part := self.attribute(group, f"{key}{len(parts)}")) is not None:
                parts.append(part)
        try:
            return [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
                    for part in parts for text in part]
        except TypeError:
            raise ModelError(f"model {self.name!r} has {key} that are no list of names; save the model again") from None

    def array(self, dataset):
        """float64 array of a dataset of real numbers that lies in the file itself."""
        import h5py

        name = self.name
        if not isinstance(dataset, h5py.Dataset):
            raise ModelError(f"model {name!r} has weights {dataset.name!r} that are no array; save the model again")
        what = f"weights {dataset.name!r}"
        try:
            pipeline = dataset.id.get_create_plist()
            filters = {pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())}
            if dataset.external or dataset.is_virtual or not filters <= set(FILTERS):
                raise ModelError(f"model {name!r} keeps {what} outside itself or behind a plug-in, which is refused; "
                                 "save the model again")
            if dataset.dtype.kind not in "fiub" or dataset.shape is None:
                raise ModelError(f"model {name!r} has {what} of type {dataset.dtype}, which must be numbers; save the "
                                 "model again")
            self._read += prod(dataset.shape) * 8
            if self._read > 2 * MOST_WEIGHTS:
                raise too_big(name, what, self._read, 2 * MOST_WEIGHTS)
            return dataset[()].astype("float64")
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
            raise _damaged(name, error) from None


class Archive(Store):
    """Weights in a ``.keras`` archive: a group a layer, named after its class and counted among its siblings."""

    def of(self, place):
        """Arrays of the layer at a place: (Step, ...) from the model down."""
        group = self.file
        for step in place:
            group = self._child(group, step)
            if group is None:
                return []
        variables = self.member(group, "vars")
        found = []
        while variables is not None and len(found) <= MOST_VARIABLES:
            dataset = self.path(variables, str(len(found)))
            if dataset is None:
                break
            found.append(self.array(dataset))
        return found

    def _child(self, group, step):
        """The group of a layer: of its own name where groups say theirs, else by class and count."""
        for container in CONTAINERS:
            layers = self.path(group, container)
            if layers is None:
                continue
            count = f"_{step.count}" if step.count else ""
            child = self.path(layers, f"{snake_case(step.type)}{count}")
            if child is not None and self._own_name(child) in (None, step.name):
                return child
            named = [key for key in layers if self._own_name(self.path(layers, key)) == step.name]
            return self.path(layers, named[0]) if len(named) == 1 else child
        return None

    def _own_name(self, group):
        variables = self.path(group, "vars")
        return None if variables is None else self.attribute(variables, "name")


class Legacy(Store):
    """Weights in a whole-model ``.h5``: a group for each layer of the model, with the names of its weights in order."""

    def config(self):
        """The JSON text of the model."""
        text = self.attribute(self.file, "model_config")
        if not isinstance(text, str):
            raise ModelError(f"model {self.name!r} holds weights without a model; save the whole model with "
                             "model.save('net.keras')")
        return text

    def version(self):
        """Of the Keras that wrote the file."""
        return str(self.attribute(self.file, "keras_version") or "")

    def of(self, place):
        """Arrays of the layer at a place; in a nested model by the layer's name in the names of the weights."""
        group = self.path(self.file, "model_weights", place[0].name)
        if group is None:
            return []
        names = self.names(group, "weight_names")
        if len(place) > 1:
            names = [name for name in names if name.split("/")[-2:-1] == [place[-1].name]]
        found = []
        for name in names[:MOST_VARIABLES]:
            dataset = self.path(group, *name.strip("/").split("/"))
            if dataset is None:
                raise ModelError(f"model {self.name!r} names weights {name!r} that it does not have; save the model "
                                 "again")
            found.append(self.array(dataset))
        return found
