"""QONNX operators: Quant, BipolarQuant, Trunc and MultiThreshold.

# Ref: qonnx 1.0, custom_op/general/{intquant,bipolar_quant,trunc,multithreshold}.py
"""

import numpy as np

from lutloom.frontend.onnx_layout import per_channel
from lutloom.frontend.onnx_values import Codes, Const
from lutloom.rounding import MODES, canonical, code_range


def quant(op):
    """Quant (IntQuant): of weights it gives their codes, of a computed tensor a quant node; 1 signed bit is bipolar."""
    bits = _bits(op, 3, "bit width")
    signed, narrow = bool(op.attribute("signed", 1)), bool(op.attribute("narrow", 0))
    rounding = _rounding(op, "ROUND")
    scale, zero_point = _scale(op, 1), _zero_point(op, 2)
    bipolar = bits == 1 and signed
    if bipolar and zero_point.any():
        raise op.error("has one signed bit and a zero point, which is not supported; use a zero point of 0")
    if isinstance(op.given(0), Const):
        low, high = code_range(bits, signed, narrow)

        def encode(array, scale, zero_point):
            with np.errstate(over="ignore"):  # clipped to the codes there are
                scaled = array / scale + zero_point
            return np.where(scaled >= 0, 1, -1) if bipolar else MODES[rounding](np.clip(scaled, low, high))

        return _quantised(op, encode, scale, zero_point, "bipolar" if bipolar else "int", bits, signed, narrow)
    tensor, scale = per_channel(op, op.computed(), scale, "scale")
    tensor, zero_point = per_channel(op, tensor, zero_point, "zero point")
    if bipolar:
        return op.reader.emit(op, "bipolarquant", tensor, {"scale": scale})
    params = {"scale": scale, "zero_point": zero_point, "bits": bits, "signed": signed, "narrow": narrow,
              "rounding": rounding}
    return op.reader.emit(op, "quant", tensor, params)


def bipolar_quant(op):
    """BipolarQuant: +scale where x >= 0, -scale elsewhere."""
    scale = _scale(op, 1)
    if isinstance(op.given(0), Const):
        return _quantised(op, lambda array, scale, zero: np.where(array >= 0, 1, -1), scale, np.array(0.0), "bipolar",
                          1, True, False)
    tensor, scale = per_channel(op, op.computed(), scale, "scale")
    return op.reader.emit(op, "bipolarquant", tensor, {"scale": scale})


def _quantised(op, encode, scale, zero_point, kind, bits, signed, narrow):
    """A constant behind a quantiser, encoded with the arithmetic of its own type as qonnx does."""
    given = op.constant(0, "weights")
    op.numbers(0, "weights")
    array = given.array if given.array.dtype.kind == "f" else given.array.astype(np.float32)
    try:
        scale, zero_point = (np.broadcast_to(part, array.shape) for part in (scale, zero_point))
    except ValueError:
        raise op.error(f"has a scale or zero point that does not fit weights of shape {array.shape}; export the model "
                       "again") from None
    codes = encode(array, scale.astype(array.dtype), zero_point.astype(array.dtype)).astype(np.int32)
    return Const(scale * (codes - zero_point), given.origin,
                 Codes(kind, codes, scale, zero_point, bits, signed, narrow))


def trunc(op):
    """Trunc; version 2, with an output scale, becomes trunc, clip and affine."""
    version2 = len(op.inputs) >= 6
    rounding = _rounding(op, "FLOOR")
    tensor = op.computed()
    tensor, scale = per_channel(op, tensor, _scale(op, 1), "scale")
    tensor, zero_point = per_channel(op, tensor, _zero_point(op, 2), "zero point")
    out_bits = _bits(op, 5 if version2 else 4, "output bit width")
    in_bits = _bits(op, 3, "input bit width")
    if not version2:
        if in_bits < out_bits:
            raise op.error(f"truncates {in_bits} bits to {out_bits}, which must not be more; export the model again")
        params = {"scale": scale, "zero_point": zero_point, "in_bits": in_bits, "out_bits": out_bits,
                  "rounding": rounding}
        return op.reader.emit(op, "trunc", tensor, params)
    tensor, out_scale = per_channel(op, tensor, _scale(op, 4), "output scale")
    shift = np.unique(np.rint(np.log2(out_scale / scale)))
    if zero_point.any() or scale.ndim or shift.size != 1 or shift[0] < 0:
        raise op.error("has a zero point, a scale per channel or an output scale below its input scale, which is not "
                       "supported in version 2; export it with version 1")
    low, high = code_range(out_bits, bool(op.attribute("signed", 1)), bool(op.attribute("narrow", 0)))
    params = {"scale": scale, "zero_point": zero_point, "in_bits": out_bits + int(shift[0]), "out_bits": out_bits,
              "rounding": rounding}
    tensor = op.reader.emit(op, "trunc", tensor, params, part="trunc")
    tensor = op.reader.emit(op, "clip", tensor, {"low": float(low * scale), "high": float(high * scale)}, part="clip")
    return op.reader.emit(op, "affine", tensor, {"scale": out_scale / scale, "offset": np.array(0.0)})


def multi_threshold(op):
    """MultiThreshold: out_scale times the number of thresholds reached, plus out_bias."""
    tensor = op.computed()
    thresholds = np.asarray(op.constant(1, "thresholds").array, np.float64)
    layout = op.attribute("data_layout", "")
    rank = len(tensor.shape)
    if "C" in layout and len(layout) == rank + 1:
        axis = layout.index("C") - 1
    else:
        axis = 1 if rank == 2 and not layout else 0  # qonnx takes three dimensions without a layout for NWC
    channels = tensor.shape[axis] if tensor.shape else 0
    if thresholds.ndim != 2 or thresholds.shape[0] not in (1, channels) or not thresholds.shape[1]:
        raise op.error(f"has thresholds of shape {thresholds.shape}, but its input has {channels} channels; give a row "
                       "a channel, or one row")
    if np.isnan(thresholds).any():
        raise op.error("has thresholds that are NaN; train or export the model again")
    scale, bias = op.attribute("out_scale", 1.0), op.attribute("out_bias", 0.0)
    if not np.isfinite([scale, bias]).all():
        raise op.error("has an out_scale or out_bias that is not finite; export the model again")
    rows = np.arange(channels) if thresholds.shape[0] > 1 else np.zeros(channels, np.int64)
    rows = rows.reshape([-1 if i == axis else 1 for i in range(rank)])
    tensor, rows = per_channel(op, tensor, rows.astype(float), "row of thresholds")
    rows = np.broadcast_to(rows, op.reader.shapes[tensor.value][-1:]).astype(int)
    return op.reader.emit(op, "multithreshold", tensor, {"thresholds": np.sort(thresholds, axis=1)[rows],
                                                         "out_scale": float(scale), "out_bias": float(bias)})


def _bits(op, position, what):
    bits = op.numbers(position, what)
    if bits.size != 1:
        raise op.error(f"has a {what} of {bits.size} numbers, which must be one; quantise all channels alike")
    if bits.item() != int(bits.item()) or not 1 <= bits.item() <= 32:
        raise op.error(f"has a {what} of {bits.item():g}, which must be a whole number from 1 to 32; train it with one")
    return int(bits.item())


def _scale(op, position):
    scale = op.numbers(position, "scales")
    if (scale <= 0).any():
        raise op.error(f"has a scale of {scale.min():g}, which must be above zero; train or export the model again")
    return scale


def _zero_point(op, position):
    zero_point = op.numbers(position, "zero points")
    if (zero_point != np.rint(zero_point)).any():
        raise op.error("has a zero point that is not an integer, which is not supported; export it with integer ones")
    return zero_point


def _rounding(op, default):
    mode = op.attribute("rounding_mode", default)
    try:
        return canonical(mode)
    except KeyError:
        raise op.error(f"has rounding_mode {mode!r}, which is not one of {', '.join(MODES)}") from None


OPERATORS = {
    ("qonnx", "Quant"): quant, ("qonnx", "IntQuant"): quant, ("qonnx", "BipolarQuant"): bipolar_quant,
    ("qonnx", "Trunc"): trunc, ("qonnx", "MultiThreshold"): multi_threshold,
}
