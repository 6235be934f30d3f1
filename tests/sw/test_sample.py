import numpy as np
import pytest

from lutloom.data import Data
from lutloom.errors import DataError
from lutloom.network import Dense, Weights
from lutloom.network_builder import NetworkBuilder
from lutloom.sample import mixed, sample
from lutloom.weights import WeightFormat


@pytest.fixture
def network():
    builder = NetworkBuilder((4,))
    builder.add(Dense, "fc", Weights(np.ones((2, 4), np.uint16), WeightFormat.parse("int:4"), (1,)))
    return builder.network("net")


def frames(count, first=0):
    return np.arange(first, first + 4 * count, dtype=np.uint8).reshape(count, 4)


def test_classes_are_mixed():
    assert mixed(np.array([0, 0, 0, 1, 2, 2]), 6, 4).tolist() == [0, 3, 4, 1]
    assert mixed(np.array([5, 5, -1]), 3, 9).tolist() == [2, 0, 1]
    assert mixed(None, 10, 5).tolist() == [0, 2, 4, 6, 8]
    assert mixed(None, 3, 5).tolist() == [0, 1, 2]


def test_real_frames_where_there_are_some(network):
    data, calibrate = Data(frames(6), np.array([0, 0, 0, 1, 1, 1]), "d"), frames(3, 100)
    np.testing.assert_array_equal(sample(network, 2, data=data), data.x[[0, 3]])
    np.testing.assert_array_equal(sample(network, 9, data=data, calibrate=calibrate), calibrate)
    np.testing.assert_array_equal(sample(network, 2, data=Data(frames(6) / 1.0, None, "d")), frames(6)[[0, 3]])


def test_noise_without_data(network):
    noise = sample(network, 3, seed=1)
    assert noise.shape == (3, 4) and noise.dtype == np.uint8
    np.testing.assert_array_equal(noise, sample(network, 3, seed=1))
    assert (noise != sample(network, 3, seed=2)).any()


def test_no_frames(network):
    with pytest.raises(DataError, match="data 'd' hold no frames"):
        sample(network, 2, data=Data(frames(0), None, "d"))
