"""A user's data into codes, and codes into real numbers."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lutloom.errors import DataError
from lutloom.network import MaxPool, Offset
from lutloom.network_builder import NetworkBuilder


def small(format="uint:8", scale=Fraction(1, 256), zero_point=0, low=None, high=None, closing=""):
    """2x3 pixels of 2 channels, NCHW, through a max pool."""
    builder = NetworkBuilder((2, 3, 2), format, low, high, zero_point)
    builder.add(MaxPool, "pool", (1, 1), (1, 1))
    network = builder.network(input_shape=(2, 2, 3), input_layout="NCHW", output_shape=(2, 2, 3), closing=closing)
    return replace(network, tensors={name: replace(t, scale=scale) for name, t in network.tensors.items()})


def test_encode_takes_the_models_layout_and_nhwc():
    network = small()
    codes = np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2)
    own = codes.transpose(0, 3, 1, 2)
    for data in (own, codes, own / np.float32(256), codes / 256):
        encoded = network.encode(data)
        assert encoded.dtype == np.uint8 and np.array_equal(encoded, codes)
    assert np.array_equal(network.decode(network(codes)), own / 256)


def test_encode_rounds_to_even_and_clips_half_a_step():
    network = small("int:4", Fraction(1, 2), 1)
    data = np.zeros((1, 2, 2, 3))
    data.flat[:6] = [0.25, 0.75, 0.26, -4.7, 3.2, -0.25]
    assert network.encode(data).transpose(0, 3, 1, 2).ravel()[:6].tolist() == [2, 2, 2, -8, 7, 0]
    data.flat[0] = 3.3
    with pytest.raises(DataError, match="takes codes -8 to 7 .int:4; real -4.5 to 3.; scale the data"):
        network.encode(data)


def test_encode_of_bipolar_inputs():
    network = small("bipolar", Fraction(1))
    data = np.array([-3.0, -0.0, 0.0, 1e-9] * 3).reshape(1, 2, 2, 3)
    encoded = network.encode(data)
    assert encoded.transpose(0, 3, 1, 2).ravel().tolist() == [0, 1, 1, 1] * 3
    assert network.decode(network(encoded)).ravel().tolist() == [-1, 1, 1, 1] * 3


@pytest.mark.parametrize(
    "data, message",
    [
        (
            np.zeros((2, 3, 3, 3)),
            "data must have shape ('batch', 2, 2, 3) (the model's own) or ('batch', 2, 3, 2) (NHWC)",
        ),
        (np.zeros(()), "data must have shape"),
        (np.full((1, 2, 2, 3), np.nan), "data must be finite"),
        (np.full((1, 2, 2, 3), np.inf), "data must be finite"),
        (np.full((1, 2, 2, 3), 255, np.float32), "values in steps of the input from 65280 to 65280"),
        (np.full((1, 2, 2, 3), -1, np.int8), "codes from -1 to -1"),
        (np.full((1, 2, 2, 3), "a"), "data must be integer codes or real numbers, not <U1"),
        (np.zeros((1, 2, 2, 3), complex), "not complex128"),
    ],
)
def test_encode_errors(data, message):
    with pytest.raises(DataError) as caught:
        small().encode(data)
    assert message in str(caught.value)


def test_decode_closes_with_the_softmax():
    builder = NetworkBuilder((4,), "int:8", zero_point=3)
    builder.add(Offset, "bias", np.array([0, 1, 2, 3]))
    network = builder.network(closing="softmax")
    real = network.decode(np.array([[0, 0, 0, 0], [1, 2, 3, 100]]))
    assert real[0].tolist() == [0.25] * 4 and real.sum(axis=1) == pytest.approx(1)
    with pytest.raises(DataError, match="output codes have shape"):
        network.decode(np.zeros((1, 5)))


def test_true_and_false_are_no_codes_of_many_bits():
    with pytest.raises(DataError, match="data are true or false, but the input takes codes of uint:8; save x"):
        small().encode(np.ones((2, 2, 2, 3), bool))
    assert small("uint:1").encode(np.ones((2, 2, 2, 3), bool)).max() == 1
