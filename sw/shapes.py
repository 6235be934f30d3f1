"""Shapes of a network's tensors."""

from lutloom.network import Conv, Dense, Flatten, MaxPool, SumPool, TopK


def window_shape(shape, kernel, stride, pads, dilation=(1, 1)):
    """(OH, OW): how many windows fit a padded (H, W, ...) tensor; ValueError where none does."""
    padded = shape[0] + pads[0] + pads[2], shape[1] + pads[1] + pads[3]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(r > p for r, p in zip(reach, padded, strict=True)):
        raise ValueError(f"windows of {reach[0]}x{reach[1]} do not fit {padded[0]}x{padded[1]} with its padding")
    return tuple((p - r) // s + 1 for p, r, s in zip(padded, reach, stride, strict=True))


def output_shape(layer, shape):
    """Shape of a layer's output, of its input's; ValueError where the layer cannot take it."""
    match layer:
        case Conv():
            _, kh, kw, depth = layer.weights.codes.shape
            _spatial(shape)
            if depth * layer.groups != shape[2]:
                raise ValueError(f"takes {depth * layer.groups} channels, but its input has {shape[2]}")
            return *window_shape(shape, (kh, kw), layer.stride, layer.pads, layer.dilation), len(layer.weights.codes)
        case Dense():
            outputs, depth = layer.weights.codes.shape
            if shape != (depth,):
                raise ValueError(f"takes shape {(depth,)}, but its input has shape {shape}")
            return (outputs,)
        case MaxPool() | SumPool():
            _spatial(shape)
            return *window_shape(shape, layer.kernel, layer.stride, layer.pads), shape[2]
        case Flatten():
            _spatial(shape)
            return (shape[0] * shape[1] * shape[2],)
        case TopK():
            if len(shape) != 1 or not 1 <= layer.k <= shape[0]:
                raise ValueError(f"takes at least k = {layer.k} values in a row, but its input has shape {shape}")
            return (layer.k,)
    return tuple(shape)


def _spatial(shape):
    """ValueError unless (H, W, C)."""
    if len(shape) != 3:
        raise ValueError(f"takes an (H, W, C) tensor, but its input has shape {shape}")
