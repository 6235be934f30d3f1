"""From a float model to integers: the network equals the quantised graph in rationals (DESIGN.md 8, rung 1)."""

import os
from fractions import Fraction
from pathlib import Path

import exact_graph as exact
import numpy as np
import pytest

from lutloom.errors import DataError, ModelError
from lutloom.floating import run
from lutloom.frontend import load_graph
from lutloom.network import Multiply, Network, Thresholds
from lutloom.passes.lower import lower
from lutloom.passes.verify import verify
from lutloom.quantize import fake_quantised, quantize

DATA = Path(os.environ.get("LUTLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
MODELS = DATA / "models"


def expected(name):
    path = MODELS / f"{name}.expected.npz"
    if not path.exists():
        pytest.skip(f"no {path}; set LUTLOOM_DATA")
    return np.load(path)


def model(rng, pads=(0, 0, 0, 0)):
    size = 8 - 2 + pads[0] + pads[2]
    pooled = (size + 1 - 3) // 2 + 1
    return exact.chain(
        "net",
        (8, 8, 2),
        exact.conv(rng, "c1", 4, 2, pads=pads),
        exact.affine("bn", [1.0, -0.5, 2.0, 0.7], 0.1),
        exact.maxpool("p1", 3, 2, (0, 0, 1, 1)),
        exact.relu("r1"),
        exact.conv(rng, "c2", 3, 4, kernel=2),
        exact.avgpool("p2", 2, 2, (0, 0, 0, 0), np.full(((pooled - 1) // 2,) * 2, 4)),
        ("flatten", "f", {}),
        exact.dense(rng, "d1", 5, 3 * ((pooled - 1) // 2) ** 2),
        exact.relu("r2"),
        exact.dense(rng, "d2", 4, 5),
    )


def frames(rng, count=30):
    return rng.integers(0, 256, (count, 8, 8, 2)).astype(np.uint8)


CHOICES = [
    ("int:8", 8), ("int:4", 4), ("bitmask:X0.0XX", 4), ("bitmask:3", 6), ("binary", 8), ("int:5@layer", 3),
    ("int:8@channel", 8), ("int:6@1", 7), ("binary", "binary"), ("c1=int:8,*=binary", "binary"),
]


@pytest.mark.parametrize("weights, activations, requant", [(*choice, "thresholds") for choice in CHOICES]
                         + [(*choice, "auto") for choice in [*CHOICES, ("int:8", 12)]])
def test_network_equals_the_quantised_graph_in_rationals(weights, activations, requant):
    rng = np.random.default_rng(1)
    choices = {
        "weights": weights,
        "activations": activations,
        "calibrate": frames(rng),
        "requant": requant,
        "input_scale": "1/64",
        "input_zero": 3,
    }
    fake, options = fake_quantised(model(rng), **choices)
    network = verify(lower(fake, options))
    x = frames(rng, 2)
    tensor = network.tensors[network.output]
    if network.info.get("output", "").startswith("channels"):  # logits of several scales, rounded to 16 bits at the end
        for frame, y in zip(x, network.decode(network(x)), strict=True):
            wanted = exact.run(fake, frame, options.input).astype(float)
            assert np.abs(y - wanted).max() <= 1.01 * float(tensor.scale)
        return
    for frame, codes in zip(x, network(x), strict=True):
        np.testing.assert_array_equal(
            (exact.rationals(codes) - tensor.zero_point) * tensor.scale, exact.run(fake, frame, options.input)
        )


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (2, 0, 0, 1)])
def test_padding_of_the_input_and_of_calibrated_codes(pads):
    rng = np.random.default_rng(2)
    graph = exact.chain(
        "net",
        (8, 8, 2),
        exact.conv(rng, "c1", 4, 2, pads=pads),
        exact.conv(rng, "c2", 3, 4, pads=pads),
        ("globalpool", "g", {}),
        exact.dense(rng, "d", 4, 3),
    )
    fake, options = fake_quantised(graph, activations=5, calibrate=frames(rng), input_scale="1/128", input_zero=128)
    network = lower(fake, options)
    x, tensor = frames(rng, 2), network.tensors[network.output]
    for frame, codes in zip(x, network(x), strict=True):
        np.testing.assert_array_equal(
            (exact.rationals(codes) - tensor.zero_point) * tensor.scale, exact.run(fake, frame, options.input)
        )


def test_wide_activations_are_multiplied_and_narrow_ones_compared():
    rng = np.random.default_rng(3)
    graph, x = model(rng), frames(rng)
    wide = quantize(graph, activations=8, calibrate=x)
    narrow = quantize(graph, activations=4, calibrate=x)
    assert sum(isinstance(layer, Multiply) for layer in wide.layers) == 4
    assert not any(isinstance(layer, Thresholds) for layer in wide.layers)
    assert sum(isinstance(layer, Thresholds) for layer in narrow.layers) == 4
    for layer in wide.layers:
        if isinstance(layer, Multiply):
            assert len(set(layer.shift)) == 1 and np.abs(layer.multiplier).max() < 1 << 17 and not layer.offset.any()


def test_snapping_hardly_moves_the_result():
    rng = np.random.default_rng(4)
    graph, x = model(rng), frames(rng)
    fake, _ = fake_quantised(graph, activations=12, weights="int:12", calibrate=x)
    reals = x / 255
    wanted = run(graph, reals)
    assert np.abs(run(fake, reals) - wanted).max() < 0.01 * np.abs(wanted).max()


def test_logits_share_a_scale_unless_the_user_says_otherwise():
    rng = np.random.default_rng(5)
    graph, x = model(rng), frames(rng)
    scales = {
        text: len(quantize(graph, weights=text, calibrate=x).layers[-2].weights.scale)
        for text in ("int:8", "*=int:8", "int:8@channel")
    }
    assert scales == {"int:8": 1, "*=int:8": 1, "int:8@channel": 4}


def test_networks_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(6)
    network = quantize(model(rng), calibrate=frames(rng))
    assert quantize(network) is network
    network.save(tmp_path / "network.npz")
    again, x = quantize(tmp_path / "network.npz"), frames(rng)
    np.testing.assert_array_equal(again(x), network(x))
    assert network.info["activations"] == "8"


def test_progress_is_told():
    rng, steps = np.random.default_rng(7), []
    quantize(model(rng), calibrate=frames(rng), progress=lambda step, done=None, total=None: steps.append(step))
    assert steps == ["calibrate c2", "calibrate p2", "calibrate d1", "calibrate d2"]


@pytest.mark.parametrize(
    "choices, error, text",
    [
        ({"activations": 17}, ModelError, "--activations must be 1 to 16 bits or binary, not 17"),
        ({"activations": "four"}, ModelError, "not 'four'"),
        ({"input_scale": "1/0"}, ModelError, "--input-scale must be a number such as 1/255 or 0.5, not '1/0'"),
        ({"input_scale": -1}, ModelError, "--input-scale must be positive, not -1"),
        (
            {"input_format": "uint:20"},
            ModelError,
            "--input must be uint:BITS or int:BITS of at most 16 bits, not 'uint:20'",
        ),
        ({"input_format": "float"}, ModelError, "--input must be uint:BITS or int:BITS of at most .*not 'float'"),
        ({"input_scale": "1e-400"}, ModelError, "--input-scale must be from 1e-12 to 1e[+]12 in size; take other"),
        ({"input_zero": "-1e400"}, ModelError, "--input-zero must be from 1e-12 to 1e[+]12 in size; take other units"),
        ({"weights": "conv9=int:4"}, ModelError, "'conv9', which matches no layer"),
        ({"weights": ""}, ModelError, "--weights must be one format or a comma list of LAYER=FORMAT, .* not ''"),
        ({"weights": "int:99"}, ModelError, "int:BITS takes 1 to 16 bits"),
        ({"calibrate": None}, DataError, "--calibrate"),
        ({"calibrate": np.zeros((0, 8, 8, 2), np.uint8)}, DataError, "hold no frames"),
        ({"calibrate": np.zeros((4, 9, 9, 2), np.uint8)}, DataError, "shape"),
        ({"calibrate": np.zeros((1, 8, 8, 2), np.uint8)}, DataError, "hold 1 frame, of which no range can be told"),
        ({"calibrate": np.zeros((7, 8, 8, 2), np.uint8)}, DataError, "hold 7 frames, .* give some hundred, 8 at least"),
        ({"calibrate": np.zeros((9, 8, 8, 2), np.uint8), "rounding": "compensated"}, DataError,
         "weights can only be compensated with 16 frames of calibration data, not 9; give some hundred"),
        ({"method": "median"}, ValueError, "method must be one of mse, minmax, percentile, not 'median'"),
        ({"rounding": "up"}, ValueError, "rounding must be one of auto, nearest, mask, comp"),
        ({"requant": "shift"}, ValueError, "requant must be one of auto"),
    ],
)
def test_bad_choices(choices, error, text):
    rng = np.random.default_rng(8)
    with pytest.raises(error, match=text.replace("(", r"\(")):
        quantize(model(rng), **{"calibrate": frames(rng), **choices})


def test_weights_of_a_model_that_brings_its_own_cannot_be_chosen():
    rng = np.random.default_rng(9)
    graph = exact.chain("own", (4,), exact.dense(rng, "d", 3, 4, quant=4))
    with pytest.raises(ModelError, match="brings all its weights quantised; leave out --weights"):
        quantize(graph, weights="int:4")


def own(rng, *begin):
    """A model that quantises its weights, and its activations where ``begin`` does."""
    return exact.chain("own", (4,), *begin, exact.dense(rng, "d", 3, 4, quant=4), exact.quant("q", 0.5, 4),
                       exact.dense(rng, "e", 2, 3, quant=4))


@pytest.mark.parametrize("choices, text", [
    ({"activations": 4}, "model 'own' quantises all its activations itself; leave out --activations"),
    ({"activations": "binary"}, "leave out --activations"),
    ({"rounding": "mask"}, "model 'own' brings all its weights quantised; leave out --rounding"),
    ({"input_scale": "1/16"}, "model 'own' begins with a quantiser, which sets the input to int:6, scale 0.25 and zero "
                              "point 0; leave out --input-scale"),
    ({"input_zero": 128}, "leave out --input-zero"),
    ({"input_format": "uint:8"}, "leave out --input$"),
])
def test_choices_that_would_change_nothing(choices, text):
    graph = own(np.random.default_rng(11), exact.quant("p", 0.25, 6))
    with pytest.raises(ModelError, match=text):
        quantize(graph, **choices)


def test_choices_that_say_what_the_model_says():
    graph = own(np.random.default_rng(12), exact.quant("p", 0.25, 6))
    network = quantize(graph, input_scale="1/4", input_zero=0, input_format="int:6")
    assert network.tensors[network.input].scale == Fraction(1, 4)


def test_activations_that_a_model_leaves_open_can_be_chosen():
    rng = np.random.default_rng(13)
    graph = exact.chain("part", (4,), exact.dense(rng, "d", 3, 4), exact.quant("q", 0.5, 4),
                        exact.dense(rng, "e", 3, 3), exact.relu("r"), exact.dense(rng, "f", 2, 3))
    network = quantize(graph, activations=3, calibrate=rng.integers(0, 256, (20, 4)).astype(np.uint8))
    assert {str(tensor.format) for tensor in network.tensors.values()} > {"int:4", "uint:3"}


def test_float_activations_of_a_model_that_quantises_its_own():
    graph = own(np.random.default_rng(14), exact.quant("p", 0.25, 6))
    with pytest.raises(ModelError, match="leave out --activations"):
        fake_quantised(graph, activations="float")


@pytest.mark.parametrize("spec", [None, "int:4", "d1=binary,*=int:8"])
def test_rounding_is_of_bit_masks(spec):
    rng = np.random.default_rng(15)
    graph, x = model(rng), frames(rng)
    with pytest.raises(ModelError, match="--rounding mask is of weights as bit masks, but no layer has one; leave it"):
        quantize(graph, weights=spec, rounding="mask", calibrate=x)
    for mask in ("d1=bitmask:3", "d1=bitmask:X0.0XX"):
        assert quantize(graph, weights=mask, rounding="mask", calibrate=x).info["rounding"] == "mask"


def test_a_first_quantiser_needs_a_scale():
    graph = own(np.random.default_rng(16), exact.quant("p", -0.25, 6))
    with pytest.raises(ModelError, match="begins with a quantiser of scale -0.25, but it must be positive"):
        quantize(graph)


def test_weights_that_are_not_finite_are_named():
    rng = np.random.default_rng(10)
    graph = exact.chain("nan", (4,), exact.dense(rng, "fc7", 3, 4))
    graph.nodes[0].params["weight"][1, 2] = np.nan
    with pytest.raises(ModelError, match="layer 'fc7' has NaN or infinite weights"):
        quantize(graph)


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TFC_1W1A", "TFC_2W2A"])
def test_tfc(name):
    known = expected(name)
    network = quantize(MODELS / f"{name}.onnx")
    tensor = network.tensors[network.input]
    assert (tensor.shape, str(tensor.format)) == ((784,), "uint:8") and network.input_shape == (1, 28, 28)
    codes = network(network.encode(known["x"]))
    np.testing.assert_array_equal(codes.argmax(axis=1), known["y_qonnx"].argmax(axis=1))
    output = network.tensors[network.output]
    reals = float(output.scale) * (codes - float(output.zero_point))
    assert np.abs(reals - known["y_qonnx"]).max() < 1e-4
    if name == "TFC_1W1A":  # negative gammas turn channels over
        assert any(layer.falling.any() for layer in network.layers if isinstance(layer, Thresholds))


def test_cnv():
    known = expected("CNV_1W1A_gtsrb_bnnpynq")
    network = quantize(MODELS / "CNV_1W1A_gtsrb_bnnpynq.onnx")
    tensor = network.tensors[network.input]
    assert (str(tensor.format), tensor.scale) == ("int:8", Fraction(1, 128))
    np.testing.assert_array_equal(network(network.encode(known["x"][:16])), known["y"][:16])
    np.testing.assert_array_equal(network.encode(known["x"]), known["x_int8_nhwc"])


def test_qkeras_jettagging():
    known = expected("qkeras_jettagging")
    path = MODELS / "qkeras_jettagging.onnx"
    network = quantize(path, input_format="int:16", input_scale="1/4096")
    codes = network.encode(known["x"])
    y = network.decode(network(codes))
    assert network.closing == "softmax"
    np.testing.assert_allclose(y, run(load_graph(path), codes / 4096), atol=1e-12)  # the same inputs: the same outputs
    np.testing.assert_array_equal(y.argmax(axis=1), known["y_qonnx"].argmax(axis=1))


def test_mnist_8():
    known = expected("mnist-8")
    network = quantize(MODELS / "mnist-8.onnx", weights="int:8", activations=8, input_scale=1, calibrate="mnist")
    found = network.decode(network(network.encode(known["x"]))).argmax(axis=1)
    float_accuracy = np.mean(known["y_ort"].argmax(axis=1) == known["label"])
    assert np.mean(found == known["label"]) >= float_accuracy - 0.005
    assert isinstance(network, Network)


def test_lenet_at_three_and_four_stored_bits():
    path, mnist = MODELS / "lenet_caffe_mnist.onnx", DATA / "mnist" / "mnist.npz"
    if not (path.exists() and mnist.exists()):
        pytest.skip(f"no {path} or {mnist}; set LUTLOOM_DATA")
    network = quantize(
        path,
        weights="conv1=bitmask:X0.0XX,conv2=bitmask:X0.00XX,*=bitmask:4",
        activations=4,
        input_scale="1/256",
        calibrate="mnist",
    )
    with np.load(mnist) as archive:
        x, y = archive["x_test"][:, :, :, None], archive["y_test"]
    assert np.mean(network(network.encode(x)).argmax(axis=1) == y) >= 0.9915
    assert all(layer.weights.format.bits <= 4 for layer in network.layers if hasattr(layer, "weights"))
