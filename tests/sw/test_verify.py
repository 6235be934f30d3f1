"""Every rule of a network, broken once."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from lutloom.errors import ModelError
from lutloom.formats import Format
from lutloom.network import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Multiply,
    Network,
    Offset,
    SumPool,
    Thresholds,
    TopK,
    Weights,
)
from lutloom.network_builder import NetworkBuilder
from lutloom.passes.verify import verify
from lutloom.weights import WeightFormat

INT4 = WeightFormat("int", 4)


def whole():
    """A right network with a layer of every kind."""
    rng = np.random.default_rng(21)

    def weights(*shape):
        return Weights(rng.integers(0, 16, shape).astype(np.uint16), INT4, (Fraction(1, 8),))

    builder = NetworkBuilder((6, 6, 2), zero_point=3)
    builder.add(Conv, "conv", weights(4, 3, 3, 2), pads=(1, 1, 1, 1))
    values = np.sort(rng.integers(-500, 500, (4, 15)), axis=1)
    builder.add(Thresholds, "quant", values, np.zeros(4, bool), 0, format="uint:4")
    builder.add(MaxPool, "pool", (2, 2), (2, 2), (0, 0, 1, 1))
    builder.add(SumPool, "average", (2, 2), (1, 1), (0, 0, 0, 0), np.ones((2, 2), np.int64))
    channel = np.array([3, 2, 1, 4])
    builder.add(Multiply, "scale", channel, channel, 0 * channel, 0 * channel, 1, -8, 7, format="int:4")
    builder.add(Flatten, "flat")
    builder.add(Dense, "dense", weights(5, 16))
    builder.add(Offset, "bias", np.arange(5))
    builder.add(TopK, "best", 1)
    return builder.network("whole")


def with_layer(network, name, **changes):
    """The network with fields of a layer changed."""
    return replace(
        network, layers=tuple(replace(layer, **changes) if layer.name == name else layer for layer in network.layers)
    )


def with_tensor(network, tensor, **changes):
    """The network with fields of a tensor changed."""
    return replace(network, tensors={**network.tensors, tensor: replace(network.tensors[tensor], **changes)})


def weights_of(network, name):
    return next(layer.weights for layer in network.layers if layer.name == name)


def layer_of(network, name):
    return next(layer for layer in network.layers if layer.name == name)


def test_a_right_network_is_given_back():
    network = whole()
    assert verify(network) is network


LAYER_RULES = [
    ("conv", lambda w: dict(groups=3), "layer 'conv' has 4 outputs in 3 groups"),
    ("conv", lambda w: dict(groups=2), "layer 'conv' takes 4 channels, but its input has 2"),
    ("conv", lambda w: dict(stride=(0, 1)), "layer 'conv' has stride (0, 1), not 2 whole numbers of at least 1"),
    ("conv", lambda w: dict(pads=(1, 1, 1)), "layer 'conv' has pads (1, 1, 1), not 4 whole numbers of at least 0"),
    ("conv", lambda w: dict(pads=(0, 0, 0, 0)), "layer 'conv' gives shape (4, 4, 4), but its output 'conv' has shape"),
    ("conv", lambda w: dict(dilation=(9, 9)), "layer 'conv' windows of 19x19 do not fit 8x8 with its padding"),
    ("conv", lambda w: dict(weights=replace(w, codes=w.codes.astype(np.int64))), "has weight codes int64(4, 3, 3, 2)"),
    ("conv", lambda w: dict(weights=replace(w, codes=w.codes + np.uint16(16))), "but int:4 has 4 bits"),
    ("conv", lambda w: dict(weights=replace(w, scale=(Fraction(1),) * 3)), "layer 'conv' has 3 weight scales for 4"),
    ("conv", lambda w: dict(weights=replace(w, scale=(Fraction(0),))), "has a weight scale that is not positive"),
    ("conv", lambda w: dict(weights=replace(w, codes=w.codes ^ np.uint16(8))), "but its output 'conv' is declared"),
    (
        "dense",
        lambda w: dict(weights=replace(w, codes=w.codes[:, :-1])),
        "layer 'dense' takes shape (15,), but its input",
    ),
    ("quant", lambda w: dict(values=np.zeros((3, 15), np.int64)), "thresholds of 3 channels, but its input has 4"),
    (
        "quant",
        lambda w: dict(values=np.zeros((4, 15))),
        "layer 'quant' has thresholds float64(4, 15), not int64 (C, T)",
    ),
    ("quant", lambda w: dict(values=np.zeros((4, 16), np.int64)), "layer 'quant' gives 0 to 16, which uint:4 does not"),
    ("quant", lambda w: dict(base=-1), "layer 'quant' gives -1 to 14, which uint:4 does not hold"),
    ("quant", lambda w: dict(falling=np.zeros(3, bool)), "layer 'quant' has (3,) directions for 4 channels"),
    ("quant", lambda w: dict(values=-np.arange(60).reshape(4, 15)), "layer 'quant' has thresholds that do not ascend"),
    ("quant", lambda w: dict(values=np.full((4, 15), 1 << 40)), "layer 'quant' has thresholds outside"),
    ("pool", lambda w: dict(pads=(0, 0, 2, 2)), "so that a window may hold padding alone"),
    ("pool", lambda w: dict(kernel=(2,)), "layer 'pool' has kernel (2,), not 2 whole numbers"),
    ("average", lambda w: dict(factors=np.ones((3, 3), np.int64)), "has factors of shape (3, 3), not (2, 2)"),
    ("average", lambda w: dict(factors=np.ones((2, 2))), "layer 'average' has factors that are not integers"),
    ("average", lambda w: dict(factors=np.full((2, 2), 9)), "but its output 'average' is declared"),
    ("scale", lambda w: dict(rounding="down"), "layer 'scale' has rounding 'down', not up, tflm, float32"),
    ("scale", lambda w: dict(shift=np.full(4, 63)), "layer 'scale' has shifts outside 0 to 62"),
    ("scale", lambda w: dict(rounding="float32", fraction=np.zeros(4, int), multiplier=np.full(4, 1 << 24)),
     "layer 'scale' has multipliers outside 0 to 2**24 - 1, which rounding float32 takes"),
    ("scale", lambda w: dict(rounding="float32", fraction=np.zeros(4, int), multiplier=np.full(4, 5),
                             shift=np.full(4, 24)),
     "layer 'scale' has shifts below 25, which rounding float32 takes"),
    ("scale", lambda w: dict(rounding="float32", fraction=np.ones(4, int)), "has fractions, which rounding float32"),
    ("scale", lambda w: dict(high=8), "layer 'scale' clamps to -8 to 8, which int:4 does not hold"),
    (
        "scale",
        lambda w: dict(multiplier=np.ones(3, np.int64)),
        "layer 'scale' has multiplier int64(3,), not int64 (4,)",
    ),
    ("scale", lambda w: dict(rounding="tflm", fraction=np.ones(4, np.int64)), "which rounding tflm does not take"),
    ("scale", lambda w: dict(rounding="tflm", multiplier=np.full(4, -1)), "has multipliers outside 0 to 2**31 - 1"),
    ("scale", lambda w: dict(rounding="tflm", shift=np.zeros(4, np.int64)), "after its left shift, beyond 32 bits"),
    ("bias", lambda w: dict(values=np.arange(4)), "layer 'bias' has values int64(4,), not int64 (5,)"),
    ("best", lambda w: dict(k=6), "layer 'best' takes at least k = 6 values in a row, but its input has shape (5,)"),
]


@pytest.mark.parametrize("name, changes, message", LAYER_RULES, ids=[f"{n}-{m[-30:]}" for n, _, m in LAYER_RULES])
def test_rules_of_layers(name, changes, message):
    network = whole()
    weights = getattr(layer_of(network, name), "weights", None)
    with pytest.raises(ModelError) as caught:
        verify(with_layer(network, name, **changes(weights)))
    assert message in str(caught.value) and str(caught.value).startswith(f"layer {name!r} ")


TENSOR_RULES = [
    ("conv", dict(name="other"), "network 'whole' lists tensor 'other' as 'conv'"),
    ("conv", dict(shape=(6, 6)), "has tensor 'conv' of shape (6, 6), which is not (H, W, C) or (C,)"),
    ("conv", dict(shape=(6, 0, 4)), "which is not (H, W, C) or (C,)"),
    ("conv", dict(shape=(3, 12, 4)), "layer 'conv' gives shape (6, 6, 4), but its output 'conv' has shape (3, 12, 4)"),
    ("conv", dict(high=1 << 30), "not within its format"),
    ("conv", dict(low=-1), "but its output 'conv' is declared -1 to"),
    ("conv", dict(scale=1.0), "not Fractions"),
    ("conv", dict(scale=Fraction(0)), "has tensor 'conv' with scale Fraction(0, 1)"),
    ("input", dict(zero_point=Fraction(1, 2)), "layer 'conv' pads with zero point 1/2, which is no code of uint:8"),
    ("input", dict(zero_point=Fraction(256)), "layer 'conv' pads with zero point 256, which is no code of uint:8"),
    ("quant", dict(format=Format("uint", 17)), "layer 'quant' gives uint:17, but activations take at most 16 bits"),
    ("pool", dict(format=Format("uint", 5)), "layer 'pool' turns uint:4 into uint:5, but only moves codes"),
    ("dense", dict(format=Format("bipolar", 1), low=0, high=1), "layer 'dense' gives bipolar codes, but only"),
]


@pytest.mark.parametrize("name, changes, message", TENSOR_RULES, ids=[m[-30:] for _, _, m in TENSOR_RULES])
def test_rules_of_tensors(name, changes, message):
    with pytest.raises(ModelError) as caught:
        verify(with_tensor(whole(), name, **changes))
    assert message in str(caught.value)


WHOLE_RULES = [
    (lambda n: dict(layers=()), "network 'whole' has no layers"),
    (lambda n: dict(layers=(*n.layers, n.layers[0])), "network 'whole' has two layers of one name"),
    (lambda n: dict(layers=n.layers[::-1]), "takes 'bias' in layer 'best' before any layer gives it"),
    (lambda n: dict(layers=n.layers[:-1]), "network 'whole' has tensors no layer gives: best"),
    (lambda n: dict(tensors={k: t for k, t in n.tensors.items() if k != "flat"}), "has no tensor 'flat', which layer"),
    (lambda n: dict(output="x"), "network 'whole' has no output tensor 'x'"),
    (lambda n: dict(input_layout="CHW"), "network 'whole' has unknown input layout 'CHW'"),
    (lambda n: dict(closing="sigmoid"), "network 'whole' closes with unknown 'sigmoid'"),
    (lambda n: dict(input_shape=(6, 6)), "has model input shape (6, 6), but input tensor 'input' has shape (6, 6, 2)"),
    (lambda n: dict(output_shape=(2,)), "has model output shape (2,), but output tensor 'best' has shape (1,)"),
]


@pytest.mark.parametrize("changes, message", WHOLE_RULES, ids=[message[-30:] for _, message in WHOLE_RULES])
def test_rules_of_the_whole(changes, message):
    network = whole()
    with pytest.raises(ModelError) as caught:
        verify(replace(network, **changes(network)))
    assert message in str(caught.value)


def test_two_layers_that_give_one_tensor():
    network = whole()
    again = replace(network.layers[1], name="again")
    with pytest.raises(ModelError, match="gives 'quant' twice, again in layer 'again'"):
        verify(replace(network, layers=(*network.layers[:2], again, *network.layers[2:])))


def test_strangers_and_bipolar_padding():
    network = whole()

    class Strange:
        name, input, output = "strange", "bias", "best"

    with pytest.raises(ModelError, match="layer 'strange' is a Strange, which is no layer of a network"):
        verify(replace(network, layers=(*network.layers[:-1], Strange())))
    builder = NetworkBuilder((2, 2, 1), "bipolar")
    with pytest.raises(ModelError, match="layer 'p' pads a bipolar input with 1, which must be 0"):
        builder.add(SumPool, "p", (2, 2), (1, 1), (1, 1, 1, 1), np.ones((3, 3), np.int64), 1)
        builder.network()


def test_patchable_ranges_are_verified_too():
    format = WeightFormat.bitmask("X0.0XX")
    builder = NetworkBuilder((4, 4, 2))
    weights = Weights(np.ones((3, 3, 3, 2), np.uint16), format, (format.unit,))
    builder.add(Conv, "conv", weights, by_format=True)
    network = builder.network()
    assert (network.tensors["conv"].low, network.tensors["conv"].high) == (-18 * 3 * 255, 18 * 3 * 255)
    others = replace(weights, codes=np.full((3, 3, 3, 2), 7, np.uint16))
    verify(with_layer(network, "conv", weights=others))


def test_execution_refuses_a_broken_network():
    network = with_tensor(whole(), "conv", low=-1)
    assert isinstance(network, Network)
    with pytest.raises(ModelError, match="layer 'conv' gives"):
        network(np.zeros((1, 6, 6, 2), np.uint8))
