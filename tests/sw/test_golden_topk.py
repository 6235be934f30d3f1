"""The greatest codes: order and ties."""

import numpy as np
import pytest

from lutloom.golden.topk import top_k


@pytest.mark.parametrize("k", [1, 2, 3, 10])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32])
def test_top_k(k, dtype):
    rng = np.random.default_rng(15)
    codes = rng.integers(0, 5, (200, 10)).astype(dtype)  # many ties
    wanted = [sorted(range(10), key=lambda index: (-row[index], index))[:k] for row in codes.astype(int)]
    assert top_k(codes, k).tolist() == wanted


def test_extremes_of_the_type():
    codes = np.array([[-128, 127, -128, 127]], dtype=np.int8)
    assert top_k(codes, 4).tolist() == [[1, 3, 0, 2]]
