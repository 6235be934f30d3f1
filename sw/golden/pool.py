"""Pooling: greatest codes and sums of windows."""

import numpy as np

from lutloom.golden.conv import pad, windows


def max_pool(codes, kernel, stride, pads=(0, 0, 0, 0)):
    """Greatest code of each window and channel of a (B, H, W, C) array; padded taps do not count.

    A window that lies wholly in the padding gives the type's least number: ``verify`` refuses networks with one.
    """
    codes = np.asarray(codes)
    floating = codes.dtype.kind == "f"
    least = -np.inf if floating else (0 if codes.dtype == object else np.iinfo(codes.dtype).min)
    if codes.dtype == object and codes.size:
        least = codes.min()
    patches = windows(pad(codes, pads, least, codes.dtype), kernel, stride)
    return _over_taps(np.maximum, patches)


def sum_pool(values, kernel, stride, pads, factors, pad_code=0, dtype=np.int64):
    """Sum of each window and channel, padded taps adding ``pad_code``, times factors[y, x].

    Parameters
    ----------
    values : integer array (B, H, W, C)
    factors : integer array (OH, OW)
    dtype : numpy dtype
        Must be exact for the sums times their factors; see ``lutloom.golden.exact``.

    Returns
    -------
    array (B, OH, OW, C) of whole numbers, in ``dtype``
    """
    sums = _over_taps(np.add, windows(pad(values, pads, pad_code, dtype), kernel, stride))
    return sums * np.asarray(factors).astype(dtype)[:, :, None]


def _over_taps(ufunc, patches):
    """Reduce the two tap axes of a window view, one tap at a time: each step runs over whole rows."""
    result = patches[:, :, :, 0, 0].copy()
    kh, kw = patches.shape[3:5]
    for tap in range(1, kh * kw):
        ufunc(result, patches[:, :, :, tap // kw, tap % kw], out=result)
    return result
