"""Networks in files."""

import json
import os
import re

import numpy as np
import pytest
from small_networks import inputs, mixed

from lutloom.errors import ModelError
from lutloom.network import Network, TopK, Weights


def test_save_and_load(tmp_path):
    builder = mixed()
    builder.add(TopK, "best", 2)
    network = builder.network("mixed", info={"weights": "int:4", "model": "a.onnx"})
    path = tmp_path / "net.npz"
    network.save(path)
    network.save(str(path))
    loaded = Network.load(path)
    codes = inputs(network, 10)
    before, after = network.trace(codes), loaded.trace(codes)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert dict(loaded.tensors) == dict(network.tensors) and dict(loaded.info) == dict(network.info)
    for one, other in zip(network.layers, loaded.layers, strict=True):
        assert type(one) is type(other)
        for field in one.__dataclass_fields__:
            mine, read = getattr(one, field), getattr(other, field)
            if isinstance(mine, Weights):
                assert (mine.format, mine.scale) == (read.format, read.scale)
                mine, read = mine.codes, read.codes
            assert type(mine) is type(read) and np.array_equal(mine, read), field
    names = ("name", "input", "output", "input_shape", "input_layout", "output_shape", "closing")
    assert all(getattr(loaded, name) == getattr(network, name) for name in names)
    assert os.listdir(tmp_path) == ["net.npz"]
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["format_version"] == 1


def test_files_are_the_same_every_time(tmp_path):
    network = mixed().network()
    for name in ("a.npz", "b.npz"):
        network.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def _broken_files(path, network):
    """(file contents, part of the message) of files that are no network."""
    network.save(path)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
    yield b"", "is not a network of lutloom; lutloom quantize MODEL"
    yield b"not a zip", "is not a network of lutloom"
    yield whole[: len(whole) // 2], "is not a network of lutloom"
    odd = re.sub(rb"(PK\x01\x02.{6}|PK\x03\x04.{4})..", rb"\1c\0", whole, flags=re.DOTALL)
    yield odd, "is not a network of lutloom"  # of a compression that nobody knows
    for changes, message in (
        ({"format_version": 9}, "has format version 9, this lutloom reads 1; make it again"),
        ({"layers": 3}, "is damaged"),
        ({"layers": [{"type": "Magic"}]}, "is damaged ('Magic')"),
        ({"input": "nothing"}, "has no tensor"),
    ):
        if "input" in changes:
            changed = header | {"input": "nothing"}
            message = "before any layer gives it"
        else:
            changed = header | changes
        np.savez(path, header=np.array(json.dumps(changed)), **arrays)
        yield path.read_bytes(), message
    np.savez(path, x=np.zeros(3))
    yield path.read_bytes(), "is not a network of lutloom"
    np.savez(path, header=np.array(json.dumps(header)))
    yield path.read_bytes(), "is damaged"
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    yield path.read_bytes(), "is not a network of lutloom"
    with open(path, "wb") as file:
        np.save(file, np.array([object()]), allow_pickle=True)
    yield path.read_bytes(), "is not a network of lutloom"


def test_files_that_are_no_network(tmp_path):
    path = tmp_path / "net.npz"
    for contents, message in list(_broken_files(path, mixed().network())):
        path.write_bytes(contents)
        with pytest.raises(ModelError) as caught:
            Network.load(path)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        Network.load(tmp_path / "absent.npz")


def test_saving_fails_whole(tmp_path, monkeypatch):
    network = mixed().network()
    path = tmp_path / "net.npz"
    network.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        network.save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["net.npz"]
