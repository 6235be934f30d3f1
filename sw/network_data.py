"""A user's data into a network's input codes, and its output codes into real numbers."""

import numpy as np

from lutloom.errors import DataError


def encode(network, data):
    """Input codes, batch first, NHWC, in the input tensor's own type.

    Parameters
    ----------
    network : Network
    data : array (batch, ...)
        In the model's own layout (tried first) or NHWC. Integers (uint8 and others) and bool are codes; floats are
        real values and become codes by rounding, halves to even; a bipolar input takes real x as +1 where x >= 0.

    Raises
    ------
    DataError
        Of another shape or type, not finite, or out of range (reals by more than half a step; of a model that came
        quantised by more than half its range, for its quantiser saturates).
    """
    tensor, data = network.tensors[network.input], np.asarray(data)
    data = _to_nhwc(network, data)
    if data.dtype.kind == "b" and tensor.format.bits > 1:
        raise DataError(f"data are true or false, but the input takes codes of {tensor.format}; save x as uint8 or "
                        "float32")
    if data.dtype.kind in "iub":
        codes = data
        _check_range(network, codes, tensor.low, tensor.high, "codes")
    elif data.dtype.kind == "f":
        codes = _round(network, tensor, data.astype(np.float64))
    else:
        raise DataError(f"data must be integer codes or real numbers, not {data.dtype}; save x as uint8 or float32")
    return codes.astype(tensor.format.dtype())


def decode(network, codes):
    """float64 reals of output codes (batch, ...) in the model's own layout, its closing softmax applied.

    A code q stands for scale · (q - zero_point), a bipolar one for scale · (2q - 1 - zero_point).
    """
    tensor, codes = network.tensors[network.output], np.asarray(codes)
    if codes.shape[1:] != tensor.shape or codes.ndim != len(tensor.shape) + 1:
        raise DataError(f"output codes have shape {('batch', *tensor.shape)}, not {codes.shape}")
    real = (tensor.format.values(codes).astype(np.float64) - float(tensor.zero_point)) * float(tensor.scale)
    if network.closing == "softmax":
        real = np.exp(real - real.max(axis=-1, keepdims=True))
        real /= real.sum(axis=-1, keepdims=True)
    if network.input_layout == "NCHW" and real.ndim == 4 and len(network.output_shape) == 3:
        real = real.transpose(0, 3, 1, 2)
    return real.reshape(len(real), *network.output_shape)


def _to_nhwc(network, data):
    """Data in the input tensor's shape."""
    tensor, own = network.tensors[network.input], tuple(network.input_shape)
    shape = data.shape[1:]
    if data.ndim and shape == own:
        if network.input_layout == "NCHW" and len(own) == 3:
            data = data.transpose(0, 2, 3, 1)
        return data.reshape(len(data), *tensor.shape)
    if data.ndim and shape == tensor.shape:
        return data
    other = "" if own == tensor.shape else f" (the model's own) or {('batch', *tensor.shape)} (NHWC)"
    raise DataError(f"data must have shape {('batch', *own)}{other}, not {data.shape}; reshape x")


def _round(network, tensor, real):
    """Codes of real values."""
    if not np.isfinite(real).all():
        raise DataError("data must be finite, but there is NaN or infinity among them; leave those frames out")
    if tensor.format.kind == "bipolar":
        return real >= 0
    exact = real / float(tensor.scale) + float(tensor.zero_point)
    # A quantised model's own range was calibrated: what lies a little beyond saturates, as its quantiser does it.
    beyond = (tensor.high - tensor.low) / 2 if network.info.get("arithmetic") else 0.5
    _check_range(network, exact, tensor.low - beyond, tensor.high + beyond, "values in steps of the input")
    return np.clip(np.rint(exact), tensor.low, tensor.high)


def _check_range(network, data, low, high, what):
    """DataError unless low <= data <= high."""
    if data.size and not (data.min() >= low and data.max() <= high):
        tensor = network.tensors[network.input]
        scale, zero = float(tensor.scale), float(tensor.zero_point)
        way = "scale the data, or set --input-scale and --input-zero"
        if network.info.get("arithmetic"):
            way = "give real numbers (x of type float32), which the model's own scale makes codes of"
        raise DataError(
            f"data have {what} from {data.min():g} to {data.max():g}, but network {network.name!r} takes codes "
            f"{tensor.low} to {tensor.high} ({tensor.format}; real {(tensor.low - zero) * scale:g} to "
            f"{(tensor.high - zero) * scale:g}); {way}"
        )
