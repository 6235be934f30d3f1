"""Functions of one real number, of a float array and the parameters of a graph's node; they keep the array's type."""

from math import erf, pi, sqrt

import numpy as np

SELU = 1.0507009873554805, 1.6732632423543772
_ERF_STEPS, _ERF_END = 2048, 6.0
_ERF = np.array([erf(_ERF_END * step / _ERF_STEPS) for step in range(_ERF_STEPS + 2)])


def _erf(x):
    """The error function, by cubics between points of a table (within 1e-12)."""
    size = np.minimum(np.abs(x), _ERF_END)
    step = _ERF_END / _ERF_STEPS
    left = (size / step).astype(np.int64)
    at = size / step - left
    slopes = [2 / sqrt(pi) * step * np.exp(-(((left + end) * step) ** 2)) for end in (0, 1)]
    a, b = _ERF[left], _ERF[left + 1]
    bend, twist = 3 * (b - a) - 2 * slopes[0] - slopes[1], slopes[0] + slopes[1] - 2 * (b - a)
    y = a + at * (slopes[0] + at * (bend + at * twist))
    return np.sign(x) * y


FUNCTIONS = {
    "relu": lambda x, params: np.maximum(x, 0),
    "relu6": lambda x, params: np.clip(x, 0, 6),
    "clip": lambda x, params: np.clip(x, params["low"], params["high"]),
    "affine": lambda x, params: x * params["scale"] + params["offset"],
    "leaky_relu": lambda x, params: np.where(x > 0, x, x * float(params["alpha"])),
    "elu": lambda x, params: np.where(x > 0, x, float(params["alpha"]) * np.expm1(np.minimum(x, 0))),
    "selu": lambda x, params: SELU[0] * np.where(x > 0, x, SELU[1] * np.expm1(np.minimum(x, 0))),
    "hard_sigmoid": lambda x, params: np.clip(x * float(params["alpha"]) + float(params["beta"]), 0, 1),
    "hard_swish": lambda x, params: x * np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x, params: x / (1 + np.exp(-x)),
    "gelu": lambda x, params: x * (1 + _erf(x / sqrt(2))) / 2,
    "gelu_tanh": lambda x, params: x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2,
    "softplus": lambda x, params: np.logaddexp(x, 0),
    "logistic": lambda x, params: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, params: np.tanh(x),
}
