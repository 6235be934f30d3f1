"""Indices of the greatest codes."""

import numpy as np


def top_k(codes, k):
    """Indices (B, k) of the k greatest codes of each row of (B, C), best first, the lower index first among equals."""
    codes = np.asarray(codes)
    if k == 1:
        return np.argmax(codes, axis=-1)[..., None]
    ascending = np.argsort(codes[..., ::-1], axis=-1, kind="stable")
    return codes.shape[-1] - 1 - ascending[..., ::-1][..., :k]
