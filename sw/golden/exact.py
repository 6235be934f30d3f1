"""Which numpy type computes a sum of integers exactly: the proof behind the golden model's use of BLAS.

A sum of products of integers is exact in a floating type of p bits of precision if every partial sum, in whatever
order the library adds and whether or not it fuses multiplication and addition, is an integer of magnitude at most
2**p. Every partial sum is bounded by Σ|w|·max|x|, which is what the callers give.
"""

import numpy as np


def exact_dtype(bound):
    """The fastest dtype in which sums of magnitude at most ``bound`` (an int) are exact.

    float32 below 2**24, float64 below 2**53, int64 below 2**63, and Python's integers (dtype object) beyond.
    """
    if bound < 1 << 24:
        return np.dtype(np.float32)
    if bound < 1 << 53:
        return np.dtype(np.float64)
    return np.dtype(np.int64) if bound < 1 << 63 else np.dtype(object)


def magnitude(integers):
    """The greatest absolute value of an integer array, a Python int; 0 when empty. Right for -2**63 too."""
    integers = np.asarray(integers)
    return max(abs(int(integers.max())), abs(int(integers.min()))) if integers.size else 0


def sum_bound(weights, x_bound):
    """max over outputs of Σ|w|·x_bound, a Python int.

    Parameters
    ----------
    weights : integer array (N, ...)
    x_bound : int
        No value that meets a weight is greater in magnitude.
    """
    weights = np.asarray(weights)
    rows = weights.reshape(len(weights), -1)
    if magnitude(rows) * max(rows.shape[1], 1) < 1 << 63:
        most = int(np.abs(rows.astype(np.int64)).sum(axis=1).max(initial=0))
    else:
        most = max(sum(abs(int(w)) for w in row) for row in rows)
    return most * int(x_bound)
