"""Keras files written by hand, as Keras 3 and Keras 2 lay them out: no Keras needed."""

import io
import json
import zipfile
from collections import Counter

import h5py
import numpy as np

from lutloom.frontend.keras_weights import snake_case


def layer(kind, name, *weights, **config):
    """One entry of a config with its weights beside it."""
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config},
            "registered_name": None, "_weights": [np.asarray(array, np.float32) for array in weights]}


def sequential(shape, *layers, name="net"):
    first = layer("InputLayer", "input", batch_shape=[None, *shape])
    return {"module": "keras", "class_name": "Sequential", "registered_name": None,
            "config": {"name": name, "layers": [first, *layers]}}


def functional(shape, *calls, output, name="net"):
    """Calls are (layer, *names of layers that it reads)."""
    entries = [{**layer("InputLayer", "input", batch_shape=[None, *shape]), "name": "input", "inbound_nodes": []}]
    for entry, *sources in calls:
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}
                   for source in sources]
        args = tensors if len(tensors) == 1 else [tensors]
        entries.append({**entry, "name": entry["config"]["name"], "inbound_nodes": [{"args": args, "kwargs": {}}]})
    return {"module": "keras", "class_name": "Functional", "registered_name": None,
            "config": {"name": name, "layers": entries, "input_layers": [["input", 0, 0]],
                       "output_layers": [[output, 0, 0]]}}


def plain(config):
    """The config without the weights."""
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items() if key != "_weights"}
    return [plain(value) for value in config] if isinstance(config, list) else config


def write_layers(group, config, named):
    counts = Counter()
    for entry in config["config"]["layers"]:
        kind = snake_case(entry["class_name"])
        child = group.create_group(f"layers/{kind}" + (f"_{counts[kind]}" if counts[kind] else ""))
        counts[kind] += 1
        if "layers" in entry["config"]:
            write_layers(child, entry, named)
            continue
        variables = child.create_group("vars")
        if named:
            variables.attrs["name"] = entry["config"]["name"]
        for index, array in enumerate(entry["_weights"]):
            variables[str(index)] = array


def weights_of(config, named=True):
    """Bytes of model.weights.h5."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        write_layers(file, config, named)
    return buffer.getvalue()


def save(path, config, *, named=True, weights=None, text=None, version="3.15.1"):
    """Write a ``.keras`` archive; ``weights`` and ``text`` stand in for its members."""
    weights = weights_of(config, named) if weights is None else weights
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(plain(config)) if text is None else text)
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", weights)
    return path


VARIABLES = {"BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance")}


def save_h5(path, config, version="2.11.0"):
    """Write a whole-model ``.h5``."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(plain(config))
        file.attrs["keras_version"] = version
        for entry in config["config"]["layers"]:
            group = file.create_group(f"model_weights/{entry['config']['name']}")
            inner = entry["config"].get("layers", [entry])
            names = []
            for part in inner:
                variables = VARIABLES.get(part["class_name"], ("kernel", "bias"))
                for variable, array in zip(variables, part["_weights"], strict=False):
                    names.append(f"{part['config']['name']}/{variable}:0")
                    group[names[-1]] = array
            group.attrs["weight_names"] = [name.encode() for name in names]
    return path


# --- the reference: plain numpy, NHWC ---------------------------------------------------------------------------------

def same(size, kernel, stride, dilation=1):
    """(before, after) of padding "same"."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def conv(x, kernel, bias=0.0, stride=1, padding="valid", dilation=1, groups=1):
    """(B, H, W, C) by (kh, kw, C/groups, N), tap by tap."""
    kh, kw, depth, outputs = kernel.shape
    if padding == "same":
        x = np.pad(x, ((0, 0), same(x.shape[1], kh, stride, dilation), same(x.shape[2], kw, stride, dilation), (0, 0)))
    height = (x.shape[1] - (kh - 1) * dilation - 1) // stride + 1
    width = (x.shape[2] - (kw - 1) * dilation - 1) // stride + 1
    y = np.zeros((len(x), height, width, outputs))
    per = outputs // groups
    for oy, ox, ky, kx in np.ndindex(height, width, kh, kw):
        pixel = x[:, oy * stride + ky * dilation, ox * stride + kx * dilation]
        for g in range(groups):
            part = pixel[:, g * depth:(g + 1) * depth] @ kernel[ky, kx, :, g * per:(g + 1) * per]
            y[:, oy, ox, g * per:(g + 1) * per] += part
    return y + bias


def depthwise(x, kernel, **geometry):
    """(B, H, W, C) by (kh, kw, C, M)."""
    kh, kw, channels, times = kernel.shape
    return conv(x, kernel.reshape(kh, kw, 1, channels * times), groups=channels, **geometry)


def pooled(x, size, stride, padding, reduce):
    """Pooling; padded pixels do not count."""
    if padding == "same":
        x = np.pad(x, ((0, 0), same(x.shape[1], size, stride), same(x.shape[2], size, stride), (0, 0)),
                   constant_values=np.nan)
    height, width = ((side - size) // stride + 1 for side in x.shape[1:3])
    y = np.empty((len(x), height, width, x.shape[3]))
    for oy, ox in np.ndindex(height, width):
        y[:, oy, ox] = reduce(x[:, oy * stride:oy * stride + size, ox * stride:ox * stride + size], axis=(1, 2))
    return y
