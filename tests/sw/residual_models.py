"""Small Keras files of the structure of source 000: two residual blocks whose skips stand beside batch norms."""

import keras_models as keras
import numpy as np


def norm(rng, name, channels):
    gamma = rng.choice([0.5, 0.99, 1.0, 1.3], channels)
    gamma[:2] = 0.9, 1.1  # one that is switched off, and one that stays
    return keras.layer("BatchNormalization", name, gamma, rng.normal(size=channels) / 10,
                       rng.normal(size=channels) / 3, rng.uniform(0.5, 2, channels))


def conv(rng, name, size, inputs, filters, stride=1):
    kernel = rng.normal(size=(size, size, inputs, filters)) / size
    return keras.layer("Conv2D", name, kernel, rng.normal(size=filters) / 10, filters=filters, padding="same",
                       kernel_size=[size, size], strides=[stride, stride], activation="linear")


def relu(name):
    return keras.layer("Activation", name, activation="relu")


def residual(seed=0, blocks=((4, 6), (6, 5)), side=12):
    """Config of a model: conv, max pool, residual blocks, flatten, relu, dense."""
    rng = np.random.default_rng(seed)
    calls = [(conv(rng, "conv", 3, 1, blocks[0][0]), "input"),
             (keras.layer("MaxPooling2D", "pool", pool_size=[3, 3], strides=[2, 2], padding="valid"), "conv")]
    before, side = "pool", (side - 3) // 2 + 1
    for number, (inputs, filters) in enumerate(blocks, 1):
        names = [f"b{number}_{part}" for part in ("bn1", "relu1", "conv1", "bn2", "relu2", "conv2", "skip", "add")]
        bn1, relu1, conv1, bn2, relu2, conv2, skip, add = names
        calls += [(norm(rng, bn1, inputs), before), (relu(relu1), bn1),
                  (conv(rng, conv1, 3, inputs, filters, 2), relu1),
                  (norm(rng, bn2, filters), conv1), (relu(relu2), bn2), (conv(rng, conv2, 3, filters, filters), relu2),
                  (conv(rng, skip, 1, inputs, filters, 2), before), (keras.layer("Add", add), skip, conv2)]
        before, side = add, -(-side // 2)
    values = side * side * blocks[-1][1]
    kernel = rng.normal(size=(values, 3)) / np.sqrt(values)
    calls += [(keras.layer("Flatten", "flatten"), before), (relu("relu"), "flatten"),
              (keras.layer("Dense", "dense", kernel, rng.normal(size=3) / 10, units=3, activation="softmax"), "relu")]
    return keras.functional((12, 12, 1), *calls, output="dense")


def frames(count, seed=1):
    """Images with something in them."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 12, 12, 1), dtype=np.uint8)
