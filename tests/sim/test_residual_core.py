"""A residual Keras network, all of it binarised and with binary activations, as compiled Verilog."""

import keras_models as keras
import pytest
import residual_models as models

from lutloom.build import verilog
from lutloom.memories import hex_image, read_hex_image
from lutloom.network import Sum
from lutloom.plan import group_layers
from lutloom.quantize import quantize
from lutloom.simulate import simulate


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("residual")
    path = keras.save(folder / "residual.keras", models.residual())
    network = quantize(path, binarize="kernel,bias,gamma,beta", statistics="measured", activations="binary",
                       calibrate=models.frames(60))
    network.save(folder / "network.npz")
    verilog(folder / "network.npz", board="ulx3s-85f", output=folder / "rtl", selftest=False)
    return folder / "rtl", network


def test_the_verilog_of_a_binary_residual_network(built):
    folder, network = built
    kinds = [network.tensors[layer.input].format.kind for layer in network.layers if hasattr(layer, "weights")]
    assert kinds == ["uint"] + ["bipolar"] * 7
    sums = [group for group in group_layers(network) if isinstance(group.main, Sum)]
    # Two read the first; the signs of the other stand behind a flatten.
    assert [group.requantise is None for group in sums] == [True, True]
    result = simulate(folder, models.frames(8, seed=9), count=8, stalls=0.3)
    assert (result.frames, result.differ) == (8, 0)


def test_a_flipped_weight_is_seen(built):
    folder, _ = built
    images = sorted((folder / "rom").glob("*_weights.hex"))
    assert images
    found = []
    for path in images:
        text = path.read_text()
        words = read_hex_image(text)
        words[0] ^= 1
        path.write_text(hex_image(words, 4 * len(text.split()[0])))
        found.append(simulate(folder, models.frames(8, seed=9), count=8, alone=False).differ)
        path.write_text(text)
        if found[-1]:
            break
    assert found[-1]
