"""Functions of one real number, of a float array and the parameters of a graph's node; they keep the array's type."""

import numpy as np

FUNCTIONS = {
    "relu": lambda x, params: np.maximum(x, 0),
    "relu6": lambda x, params: np.clip(x, 0, 6),
    "clip": lambda x, params: np.clip(x, params["low"], params["high"]),
    "affine": lambda x, params: x * params["scale"] + params["offset"],
    "leaky_relu": lambda x, params: np.where(x > 0, x, x * float(params["alpha"])),
    "elu": lambda x, params: np.where(x > 0, x, float(params["alpha"]) * np.expm1(np.minimum(x, 0))),
    "hard_sigmoid": lambda x, params: np.clip(x * float(params["alpha"]) + float(params["beta"]), 0, 1),
    "hard_swish": lambda x, params: x * np.clip(x + 3, 0, 6) / 6,
    "silu": lambda x, params: x / (1 + np.exp(-x)),
    "softplus": lambda x, params: np.logaddexp(x, 0),
    "logistic": lambda x, params: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, params: np.tanh(x),
}
