"""Keras files that cannot be taken: each is refused in one sentence, and nothing in them is run."""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from keras_models import functional, layer, plain, save, save_h5, sequential, weights_of

from lutloom import check
from lutloom.cli import main
from lutloom.errors import ModelError
from lutloom.frontend import keras_file, load_graph


def dense(name="fc", inputs=4, outputs=3, **config):
    rng = np.random.default_rng(0)
    return layer("Dense", name, rng.normal(size=(inputs, outputs)), np.zeros(outputs),
                 **{"units": outputs, "activation": "linear", "use_bias": True, **config})


def net(*layers):
    return sequential((4,), *(layers or (dense(),)))


def refused(path):
    """The sentence with which a file is refused, after checking its form."""
    with pytest.raises(ModelError) as caught:
        load_graph(path)
    sentence = str(caught.value)
    assert "\n" not in sentence and 20 < len(sentence) < 700, sentence
    return sentence


def refused_layer(folder, entry, shape=(4, 4, 2)):
    return refused(save(folder / "net.keras", sequential(shape, entry)))


# --- code and custom objects ------------------------------------------------------------------------------------------

def test_lambda(tmp_path):
    entry = layer("Lambda", "code", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}})
    assert refused_layer(tmp_path, entry) == \
        "Lambda 'code' is Python code, which is not run; use layers of Keras instead"


@pytest.mark.parametrize("change, says", [
    ({"module": "os", "class_name": "system"}, "is an object of module 'os', whose code is not run"),
    ({"module": "my_layers", "registered_name": "My>Conv"}, "is an object of module 'my_layers'"),
    ({"module": None, "registered_name": "My>Dense"}, "is a custom object, registered as 'My>Dense'"),
    ({"module": "keras_evil.layers"}, "is an object of module 'keras_evil.layers'"),
])
def test_custom_objects(tmp_path, change, says):
    sentence = refused(save(tmp_path / "net.keras", net(dense(), {**dense("own", 3), **change})))
    assert says in sentence and "'own'" in sentence


def test_custom_models_and_activations(tmp_path):
    model = {**net(), "module": "package", "class_name": "MyModel", "registered_name": "package>MyModel"}
    assert "is an object of module 'package'" in refused(save(tmp_path / "net.keras", model))
    own = {"module": "builtins", "class_name": "function", "config": "steal", "registered_name": "steal"}
    assert "has activation 'steal', which is not supported" in refused(save(tmp_path / "net.keras",
                                                                            net(dense(activation=own))))
    own = {"module": "mine", "class_name": "Act", "config": {}, "registered_name": "mine>Act"}
    assert "has the custom activation 'mine>Act', whose code is not run" in refused(
        save(tmp_path / "net.keras", net(dense(activation=own))))


# --- archives ---------------------------------------------------------------------------------------------------------

def test_files_that_are_none(tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(b"")
    assert refused(path) == "model 'net.keras' is empty; save or copy it again"
    path.write_bytes(b"Dear all,")
    assert "is neither a Keras archive nor HDF5" in refused(path)
    path.write_bytes(b"PK\x03\x04 and so on")
    assert "is a damaged archive" in refused(path)
    path.write_bytes(keras_file.HDF5 + bytes(100))
    assert "has damaged weights" in refused(path)


def test_missing_members(tmp_path):
    path = tmp_path / "net.keras"
    for keep in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(keep, json.dumps(plain(net())))
        missing = {"config.json": "model.weights.h5"}.get(keep, "config.json")
        assert f"has no {missing} in it" in refused(path)


def test_truncated_anywhere(tmp_path):
    path = save(tmp_path / "net.keras", net())
    data = path.read_bytes()
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        assert "net.keras" in refused(path)


def test_damaged_anywhere_never_raises_anything_else(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "net.keras"
    whole, weights = plain(net()), weights_of(net())
    text = json.dumps(whole).encode()
    for turn in range(150):
        damaged = [bytearray(text), bytearray(weights)]
        target = damaged[turn % 2]
        for position in rng.integers(0, len(target), 3):
            target[position] = rng.integers(256)
        try:
            load_graph(save(path, net(), text=bytes(damaged[0]), weights=bytes(damaged[1])))
        except ModelError as error:
            assert len(str(error)) > 20


def test_sizes_that_are_declared(tmp_path, monkeypatch):
    path = save(tmp_path / "net.keras", net(), text="{" + " " * (keras_file.MOST_CONFIG + 10) + "}")
    assert path.stat().st_size < 1 << 20  # it unpacks to more
    assert f"declares {keras_file.MOST_CONFIG + 12} bytes for config.json, but at most" in refused(path)
    data = bytearray(save(path, net()).read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the archive's own list, last member: the weights
    data[entry + 24:entry + 28] = struct.pack("<I", (1 << 30) + 1)
    path.write_bytes(data)
    assert "declares 1073741825 bytes for model.weights.h5" in refused(path)
    monkeypatch.setattr(keras_file, "MOST_WEIGHTS", 100)
    assert "for the file, but at most 100 are read" in refused(save_h5(tmp_path / "net.h5", net()))


def test_a_file_that_hdf5_loops_on():
    # found by scripts/fuzz: libhdf5 never comes back from it, and holds Python meanwhile
    assert "HDF5 does not come to an end with them" in refused(Path(__file__).parent / "looping.h5")


@pytest.mark.parametrize("text, says", [
    ("{", "has a config.json that is not JSON"), ("[" * 100000, "has a config.json that is not JSON"),
    ("[1]", "has a config.json that is no JSON object"), ("{}", "must be Sequential or functional"),
    ('{"class_name": "Sequential"}', "has a config that Keras does not write"),
    ('{"class_name": "Sequential", "config": {"layers": 3}}', "has a config that Keras does not write"),
    ('{"class_name": "Sequential", "config": {"layers": []}}', "has no input of known shape"),
])
def test_configs(tmp_path, text, says):
    assert says in refused(save(tmp_path / "net.keras", net(), text=text))


# --- weights ----------------------------------------------------------------------------------------------------------

def stored(change):
    """Weights of the net after a change of its file."""
    buffer = io.BytesIO(weights_of(net()))
    with h5py.File(buffer, "r+") as file:
        change(file["layers/dense/vars"])
    return buffer.getvalue()


def replaced(name, value):
    def change(group):
        del group[name]
        if value is not None:
            group[name] = value
    return change


def enormous(group):
    del group["1"]
    group.create_dataset("1", shape=(1 << 40,), chunks=(1 << 10,), dtype="f4")


def outside(group):
    del group["1"]
    group.create_dataset("1", shape=(3,), dtype="f4", external=[("secret.bin", 0, 12)])


@pytest.mark.parametrize("change, says", [
    (replaced("1", None), "Dense 'fc' has 1 weights in the file, but needs 2 (kernel, bias)"),
    (replaced("0", np.zeros((3, 4))), "has a kernel of shape (3, 4) in the file, but its config and input need (4, 3)"),
    (replaced("1", np.array([0, np.nan, np.inf])), "has a bias with NaN or infinite numbers (2 of 3)"),
    (replaced("1", np.array([b"a", b"b", b"c"])), "which must be numbers"),
    (replaced("1", h5py.ExternalLink("other.h5", "/x")), "that leads elsewhere, which is refused"),
    (replaced("1", h5py.SoftLink("/layers/dense/vars/0")), "that leads elsewhere, which is refused"),
    (outside, "outside itself or behind a plug-in, which is refused"),
    (enormous, "but at most"),
])
def test_weights(tmp_path, change, says):
    assert says in refused(save(tmp_path / "net.keras", net(), weights=stored(change)))


def test_weights_without_a_model(tmp_path):
    path = tmp_path / "net.weights.h5"
    path.write_bytes(weights_of(net()))
    assert refused(path) == ("model 'net.weights.h5' holds weights without a model; save the whole model with "
                             "model.save('net.keras')")


def test_without_h5py(tmp_path, monkeypatch):
    path = save(tmp_path / "net.keras", net())
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert refused(path) == ("model 'net.keras' holds HDF5, which h5py reads, and that is not installed; install it "
                             "with pip install 'lutloom[keras]'")


# --- what is not supported --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("entry, says", [
    (layer("LSTM", "l", units=3), "is a layer that is not supported; supported are Activation,"),
    (layer("MaxPooling2D", "p", pool_size=[2, 2], data_format="channels_first"),
     "has data_format 'channels_first', which is not supported; build the model with channels_last"),
    (layer("MaxPooling2D", "p", pool_size=[9, 9]), "do not fit 4x4 with its padding; use a larger input"),
    (layer("MaxPooling2D", "p", pool_size=[0, 1]), "which must be 2 positive integers"),
    (layer("MaxPooling2D", "p", pool_size=[2, 2], padding="odd"), "has padding 'odd'"),
    (layer("MaxPooling2D", "p"), "has a config that Keras does not write"),
    (layer("BatchNormalization", "b", *np.ones((4, 4)), axis=1), "only the last one is supported"),
    (layer("BatchNormalization", "b", *-np.ones((4, 2))), "has a variance that is not above zero"),
    (layer("ReLU", "r", threshold=1.0), "has threshold 1, which is not supported; use 0"),
    (layer("ReLU", "r", max_value=float("nan")), "which must be a finite number"),
    (layer("Softmax", "s", axis=1), "only the last one is supported"),
    (layer("Activation", "a", activation="mish"), "has activation 'mish', which is not supported; use one of linear"),
    (layer("UpSampling2D", "u", size=[2, 2], interpolation="bilinear"), "has interpolation 'bilinear', which is not"),
    (layer("UpSampling2D", "u", size=[0, 2]), "has size [0, 2], which must be 2 positive integers"),
    (layer("UpSampling2D", "u", size=[1 << 20, 2]), "which must have 1 to 16777216 values"),
    (layer("Cropping2D", "c", cropping=[[2, 2], [0, 0]]), "by [[2, 2], [0, 0]], which leaves nothing; use a larger"),
    (layer("Cropping2D", "c", cropping=[[-1, 2], [0, 0]]), "must be integers from 0 to 1024"),
    (layer("Permute", "p", dims=[1, 2]), "has dims [1, 2], which must name each of 3 sides once"),
    (layer("PReLU", "p", np.arange(32.0).reshape(4, 4, 2), shared_axes=None), "has 32 slopes, but one for all or"),
    (layer("PReLU", "p", np.ones((1, 1, 2)), shared_axes=[1, 4]), "has shared_axes [1, 4], which must be integers"),
    (layer("PReLU", "p", np.ones((1, 1, 2)), shared_axes=[-3]), "which must be integers from 1 to 3; share"),
    (layer("PReLU", "p", np.ones((1, 4, 2)), shared_axes=[1, 2]), "has an alpha of shape (1, 4, 2) in the file, but"),
    (layer("Normalization", "n", axis=[1]), "normalises another axis than the last one"),
    (layer("Normalization", "n", axis=[-1], mean=[0.0] * 3, variance=[1.0] * 3), "has 3 means and 3 variances for 2"),
    ({**layer("Reshape", "r"), "module": "keras.src.ops.numpy"}, "is an operation of keras.ops, of which Add, "),
    ({**layer("mine>Own", "own"), "registered_name": None}, "is a custom object, registered as 'mine>Own', whose code"),
    (layer("Reshape", "r", target_shape=[5]), "which must hold as many values"),
    (layer("ZeroPadding2D", "z", padding=[[-1, 0], [0, 0]]), "must be integers from 0 to 1024"),
    (layer("ZeroPadding2D", "z", padding=[[1 << 40, 0], [0, 0]]), "must be integers from 0 to 1024"),
    (layer("Dense", "d", np.ones((2, 3)), units=3, use_bias=False,
           dtype={"module": "keras", "class_name": "QuantizedDTypePolicy", "config": {}}),
     "has dtype policy 'QuantizedDTypePolicy'"),
])
def test_layers(tmp_path, entry, says):
    assert says in refused_layer(tmp_path, entry)


@pytest.mark.parametrize("entry, says", [
    (layer("Permute", "p", dims=[1, 3, 2, 4]), "Permute 'p' moves more than 3 sides of (2, 3, 4, 5) among each other"),
    (layer("ReLU", "r"), "ReLU 'r' takes a map, but its input has shape (2, 3, 4, 5); reshape it first"),
    (layer("Dense", "d", np.ones((5, 3)), units=3, use_bias=False), "has shape (2, 3, 4, 5); reshape it first"),
    (layer("Concatenate", "c", axis=-1), "takes one input, but must take two or more"),
])
def test_four_sides(tmp_path, entry, says):
    model = sequential((6, 20), layer("ReLU", "first"), layer("Reshape", "in", target_shape=[2, 3, 4, 5]), entry)
    assert says in refused(save(tmp_path / "net.keras", model))


def test_inputs_and_outputs(tmp_path):
    path = tmp_path / "net.keras"
    assert "has an open dimension at position 1" in refused(save(path, sequential((None, 4, 2), dense())))
    assert "more than" not in refused(save(path, sequential((1 << 20, 1 << 20), dense())))
    two = functional((4,), (dense("a"), "input"), (dense("b"), "input"), output="a")
    two["config"]["output_layers"] = [["a", 0, 0], ["b", 0, 0]]
    assert "must have one output, not 2 (a, b); cut it down to one" in refused(save(path, two))
    other = {**layer("InputLayer", "other", batch_shape=[None, 4]), "inbound_nodes": []}
    two["config"]["output_layers"] = ["a", 0, 0]
    two["config"]["layers"].append(other)
    assert "must have one input, not 'other' besides 'input'" in refused(save(path, two))
    missing = functional((4,), (dense("a"), "nobody"), output="a")
    assert "has a config that Keras does not write" in refused(save(path, missing))
    circle = functional((4,), (layer("Add", "x"), "y", "input"), (layer("Add", "y"), "x", "input"), output="y")
    assert "has layers that read each other in a circle" in refused(save(path, circle))
    assert "must be at the end of the model" in refused(save(path, net(layer("Softmax", "s", axis=-1), dense())))
    assert "does not depend on its input" in refused(save(path, net(layer("Dropout", "d"))))


def test_joins(tmp_path):
    model = functional((4,), (dense("a"), "input"), (layer("Add", "add"), "a", "input"), output="add")
    assert "Add 'add' joins tensors of shapes (3,), (4,), which do not fit" in refused(
        save(tmp_path / "n.keras", model))
    entry = functional((4,), (layer("Multiply", "twice"), "input"), output="twice")
    entry["config"]["layers"][1]["inbound_nodes"][0]["args"].append(2.0)
    assert "Multiply 'twice' is called with 2.0 besides tensors, which is not supported; use a layer" in refused(
        save(tmp_path / "n.keras", entry))
    model["config"]["layers"][1]["inbound_nodes"][0]["kwargs"] = {"training": True}
    assert "Dense 'a' is called with training = 'True'" in refused(save(tmp_path / "n.keras", model))


def test_check_lists_every_layer_whatever_is_wrong(tmp_path):
    model = functional((4,), (dense("a"), "input"), (layer("Lambda", "code"), "a"), (dense("b", 3), "code"),
                       output="b")
    assert [row.supported for row in check(save(tmp_path / "net.keras", model))] == [True, False, None]
    model["config"]["layers"][3]["inbound_nodes"][0]["args"][0]["config"]["shape"] = [None, 3]
    found = check(save(tmp_path / "net.keras", model))
    assert [row.supported for row in found] == [True, False, True]
    assert found.sentence == ("model 'net.keras' cannot be built: Lambda 'code' is Python code, which is not run; use "
                              "layers of Keras instead")


def test_command_line_prints_one_sentence(tmp_path, capsys):
    model = net(layer("Lambda", "code"), dense("a"), layer("ReLU", "r"), dense("b", 3))
    assert main(["check", str(save(tmp_path / "net.keras", model))]) == 1
    out, err = capsys.readouterr()
    assert err == ("lutloom: model 'net.keras' cannot be built: Lambda 'code' is Python code, which is not run; use "
                   "layers of Keras instead\n")
    header, _, *rows, blank, note = out.splitlines()
    assert [row.split()[0] for row in rows] == ["code", "a", "r", "b"] and blank == ""
    assert note == "?: reads a tensor whose shape is not known, because of a layer before it"
