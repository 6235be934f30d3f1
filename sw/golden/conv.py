"""Convolution and dense layers: exact sums of weight · value, by BLAS where the bound proves it exact."""

import numpy as np

from lutloom.golden.exact import exact_dtype, magnitude, sum_bound

BLOCK = 1 << 15
"""Sums of depthwise layers that are computed at a time."""


def conv(values, weights, *, stride=(1, 1), dilation=(1, 1), pads=(0, 0, 0, 0), groups=1, pad_value=0, dtype=None):
    """acc[b, y, x, n] = sum over taps of w[n, ky, kx, c] · value[b, y·sy + ky·dy - top, x·sx + kx·dx - left, c].

    Parameters
    ----------
    values : integer array (B, H, W, C)
        What codes stand for, not the codes, of a bipolar input.
    weights : integer array (N, kh, kw, C/groups)
    pads : (top, left, bottom, right)
    pad_value : int
        Value of padded taps.
    dtype : numpy dtype or None
        Computes in this type; None proves one from the weights and the values at hand.

    Returns
    -------
    array (B, OH, OW, N) of whole numbers, in ``dtype``
    """
    if dtype is None:
        dtype = exact_dtype(sum_bound(weights, max(magnitude(values), abs(int(pad_value)))))
    matrices = conv_matrices(weights, groups, dtype)
    return conv_with(values, matrices, weights.shape[1:3], stride, dilation, pads, pad_value)


def conv_matrices(weights, groups, dtype):
    """Weights as (groups, kh·kw·C/groups, N/groups) in the type to compute in; what ``conv_with`` takes."""
    weights = np.asarray(weights)
    rows = weights.reshape(groups, len(weights) // groups, -1)
    return np.ascontiguousarray(rows.transpose(0, 2, 1).astype(dtype))


def conv_with(values, matrices, kernel, stride, dilation, pads, pad_value):
    """``conv`` with weights that are matrices already; see ``conv_matrices``."""
    groups, _, each = matrices.shape
    dtype = matrices.dtype
    padded = pad(values, pads, pad_value, dtype)
    patches = windows(padded, kernel, stride, dilation)
    batch, height, width, kh, kw, channels = patches.shape
    if groups == 1:
        return (_columns(patches) @ matrices[0]).reshape(batch, height, width, each)
    if channels == groups:  # depthwise: the taps are few and the channels many
        return _depthwise(patches, matrices.transpose(1, 0, 2).reshape(kh * kw, groups * each), each)
    depth = channels // groups
    sums = np.empty((batch, height, width, groups, each), dtype)
    for group, matrix in enumerate(matrices):
        columns = _columns(patches[..., group * depth : (group + 1) * depth])
        sums[..., group, :] = (columns @ matrix).reshape(batch, height, width, each)
    return sums.reshape(batch, height, width, groups * each)


def _depthwise(patches, taps, each):
    """Sums of windows whose channels stay apart: tap by tap, over as many frames as stay in the cache."""
    batch, height, width, kh, kw, channels = patches.shape
    sums = np.empty((batch, height, width, taps.shape[1]), taps.dtype)
    rows = np.broadcast_to(taps[:, None], (len(taps), width, taps.shape[1])).copy()  # numpy's inner loops span a row
    block = max(1, BLOCK // sums[0].size) if batch else 1
    for start in range(0, batch, block):
        part, out = patches[start:start + block], sums[start:start + block]
        products = np.empty_like(out)
        for tap, row in enumerate(rows):
            values = part[:, :, :, tap // kw, tap % kw]
            values = values if each == 1 else np.repeat(values, each, axis=-1)
            np.multiply(values, row, out=products if tap else out)
            if tap:
                out += products
    return sums


def dense(values, weights, dtype=None):
    """acc[b, n] = sum over c of w[n, c] · value[b, c], as whole numbers in ``dtype`` (None: proven from the data).

    Parameters
    ----------
    values : integer array (B, C)
    weights : integer array (N, C)
    """
    if dtype is None:
        dtype = exact_dtype(sum_bound(weights, magnitude(values)))
    return np.asarray(values).astype(dtype) @ np.asarray(weights).T.astype(dtype)


def pad(values, pads, pad_value, dtype):
    """(B, H, W, C) in another type, with a rim of (top, left, bottom, right) of one value."""
    if not any(pads):
        return np.asarray(values).astype(dtype, copy=False)
    top, left, bottom, right = pads
    batch, height, width, channels = values.shape
    padded = np.full((batch, height + top + bottom, width + left + right, channels), pad_value, dtype)
    padded[:, top : top + height, left : left + width] = values
    return padded


def windows(padded, kernel, stride, dilation=(1, 1)):
    """View (B, OH, OW, kh, kw, C) of the windows of a (B, H, W, C) array."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
    view = view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]
    return view.transpose(0, 1, 2, 4, 5, 3)


def _columns(patches):
    """(positions, taps) of a view of windows, laid out so that the copy runs over long stretches of memory."""
    batch, height, width, kh, kw, channels = patches.shape
    if channels > 1:
        return patches.reshape(batch * height * width, kh * kw * channels)
    columns = np.empty((kh, kw, batch, height, width), patches.dtype)
    columns[:] = patches[..., 0].transpose(3, 4, 0, 1, 2)
    return columns.reshape(kh * kw, -1).T
