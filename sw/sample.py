"""Some of a user's frames, of all classes: for ``expected.npz`` and the power-on self test."""

import numpy as np

from lutloom.data import Data, codes_of, load
from lutloom.errors import DataError


def sample(network, count, *, calibrate=None, data=None, seed=0):
    """Input codes (frames, ...), NHWC: real frames where there are such, the same for the same data.

    Parameters
    ----------
    network : Network
    count : int
        Data that hold fewer frames give all they have.
    calibrate, data : str, path, array or Data, optional
        Where frames come from, calibration data first; without both they are uniform noise of `seed`.

    Raises
    ------
    DataError
    """
    source, purpose = (calibrate, "calibrate") if calibrate is not None else (data, "test")
    if source is None:
        tensor = network.tensors[network.input]
        codes = np.random.default_rng(seed).integers(tensor.low, tensor.high + 1, (count, *tensor.shape))
        return codes.astype(tensor.format.dtype())
    found = Data(source, None, "array") if isinstance(source, np.ndarray) else load(source, purpose)
    if not len(found.x):
        raise DataError(f"data {found.name!r} hold no frames")
    some = Data(found.x[mixed(found.y, len(found.x), count)], None, found.name)
    return codes_of(network, some, "data" if purpose == "test" else "calibration data")


def mixed(labels, frames, count):
    """Indices of some frames: the first of every class, then the second of every class, and so on; without labels
    evenly spread."""
    count = min(count, frames)
    if labels is None:
        return np.arange(count) * frames // max(count, 1)
    turn = np.zeros(frames, np.int64)
    for label in np.unique(labels):
        here = labels == label
        turn[here] = np.arange(here.sum())
    return np.lexsort((labels, turn))[:count]
