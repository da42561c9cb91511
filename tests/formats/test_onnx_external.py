"""Tensors of an ONNX model in other files come from its folder alone, and belong to its digest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from format_networks import noise, refuse
from onnx import TensorProto, helper, numpy_helper

from exactile.models.formats import open_network

WEIGHT = np.arange(2 * 3 * 9, dtype=np.float32).reshape(3, 2, 3, 3) / 54


def outer(location: str, **facts: str) -> Any:
    """Return a tensor that lies in another file."""
    tensor = numpy_helper.from_array(WEIGHT, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **facts}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def write(path: Path, tensor: Any, *, in_a_node: bool = False) -> Path:
    """Write a model of one convolution, whose weight is an initialiser or a node's attribute."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "h", "w"])
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    if in_a_node:
        constant = helper.make_node("Constant", [], ["w"])
        attribute = constant.attribute.add()
        attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
        attribute.t.CopyFrom(tensor)
        nodes.insert(0, constant)
    graph = helper.make_graph(nodes, "g", [image], [result], [] if in_a_node else [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("in_a_node", [False, True])
def test_they_are_read_from_beside_the_model_and_change_its_digest(
    tmp_path: Path, in_a_node: bool
) -> None:
    path = write(tmp_path / "m.onnx", outer("w.bin", offset="4"), in_a_node=in_a_node)
    (tmp_path / "w.bin").write_bytes(b"\0\0\0\0" + WEIGHT.tobytes())
    first = open_network(path)
    assert first.network(noise()).abs().max() > 0
    (tmp_path / "w.bin").write_bytes(b"\0\0\0\0" + (WEIGHT * 2).tobytes())
    assert open_network(path).sha256 != first.sha256


@pytest.mark.parametrize("in_a_node", [False, True])
@pytest.mark.parametrize("name", ["../w.bin", "/{folder}/w.bin", "a/../../w.bin", "link.bin", ""])
def test_files_outside_the_folder_are_not_read(tmp_path: Path, in_a_node: bool, name: str) -> None:
    (tmp_path / "model" / "a").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "w.bin")
    tensor = outer(name.format(folder=tmp_path))
    path = write(tmp_path / "model" / "m.onnx", tensor, in_a_node=in_a_node)
    refuse(path, "names weights outside its folder")


def test_the_last_of_several_places_does_not_escape(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for folder in (tmp_path, tmp_path / "model"):
        (folder / "w.bin").write_bytes(WEIGHT.tobytes())
    tensor = outer("w.bin")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../w.bin"
    refuse(write(tmp_path / "model" / "m.onnx", tensor), "names weights outside its folder")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"offset": "9999"}, "the file ends before them"),
        ({"offset": "-4"}, "the file ends before them"),
        ({"length": "99999999999"}, "the file ends before them"),
        ({"length": "x"}, "the file ends before them"),
    ],
)
def test_places_that_are_not_in_the_file_are_named(
    tmp_path: Path, facts: dict[str, str], said: str
) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    refuse(write(tmp_path / "m.onnx", outer("w.bin", **facts)), said)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.bin")
    refuse(write(tmp_path / "m.onnx", outer("w.bin")), "which is no file")
