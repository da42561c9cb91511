"""ONNX: what is converted computes what the model does; what is not the same is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_networks import Small, description_05, digest, noise, refuse, same, write_model

from exactile.errors import ModelError
from exactile.locality import analyze
from exactile.models.formats import open_network

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FREE = ("batch", 2, "height", "width")


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    names = ["" if name == "-" else name for name in inputs.split()]
    return onnx.helper.make_node(kind, names, [output], **attributes)


def write_small(
    path: Path,
    opset: int = 20,
    shape: tuple[Any, ...] = FREE,
    mode: str = "floor",
    last: list[Any] | None = None,
    external: bool = False,
) -> Path:
    """Write `Small` as ONNX; `last` are nodes from `logits` to `output` in place of none."""
    weights = {name: value.numpy() for name, value in Small().state_dict().items()}
    weights["twice"] = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        node("Conv", "image first.weight first.bias", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "fine"),
        node("MaxPool", "fine", "low", kernel_shape=[2, 2], strides=[2, 2]),
        node(
            "Resize",
            "low - twice",
            "up",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode=mode,
        ),
        node("Concat", "fine up", "all", axis=1),
        node("Conv", "all last.weight last.bias", "logits" if last else "output"),
        *(last or []),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, (None,) * 4)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("mine", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save_model(
        model, str(path), save_as_external_data=external, location="small.data", size_threshold=0
    )
    return path


# What is right


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("name", ["small.onnx", "small"])
def test_the_outputs_are_those_of_the_eager_network(tmp_path: Path, opset: int, name: str) -> None:
    path = write_small(tmp_path / name, opset)
    loaded = open_network(path)
    assert same(loaded, Small(), noise())
    assert (loaded.format, loaded.name) == ("ONNX", "small")
    assert (loaded.channels, loaded.dimensions) == (2, 2)
    assert loaded.sha256 == digest(path)
    assert analyze(loaded.network, 2).locality == analyze(Small(), 2).locality


def test_weights_in_another_file_are_read_and_part_of_the_digest(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.onnx", external=True)
    loaded = open_network(path)
    assert same(loaded, Small(), noise())
    content = bytearray((tmp_path / "small.data").read_bytes())
    content[3] ^= 1
    (tmp_path / "small.data").write_bytes(content)
    assert open_network(path).sha256 != loaded.sha256


def test_onnx_weights_of_bioimage_io_are_used_where_there_are_no_others(tmp_path: Path) -> None:
    weights = {"onnx": {"source": "weights.onnx", "opset_version": 20}}
    folder = write_model(tmp_path / "model", description_05(weights=weights))
    write_small(folder / "weights.onnx")
    loaded = open_network(folder)
    assert same(loaded, Small(), noise())
    assert loaded.format == "bioimage.io"
    assert loaded.sha256 == digest(folder / "weights.onnx")


def test_both_weights_of_the_example_of_bioimage_io_are_bit_equal(shared: Path) -> None:
    folder = shared / "data" / "unet2d_nuclei_broad"
    networks = [open_network(folder / name).network for name in ("weights.onnx", "weights.pt")]
    with torch.inference_mode():
        outputs = [network(noise(1, 64, 96)) for network in networks]
    assert torch.equal(*outputs)


def test_converting_prints_and_warns_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    open_network(write_small(tmp_path / "small.onnx"))
    assert capfd.readouterr() == ("", "")
    assert not [w for w in recwarn if "onnx" in str(w.filename)]


# What is wrong


def test_another_interpolation_is_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.onnx", mode="ceil")
    refuse(path, "operator Resize (up): nearest neighbours by 2 with asymmetric and ceil")


def test_a_conversion_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table entry that is wrong by one part in a thousand does not get past the runtime."""
    from exactile.models.onnx.registry import OPERATORS

    right = OPERATORS["Relu"]
    monkeypatch.setitem(OPERATORS, "Relu", lambda arguments: right(arguments) * 1.001)
    refuse(write_small(tmp_path / "small.onnx"), "differ from those of ONNX Runtime")


def test_operators_that_are_not_known_are_named(tmp_path: Path) -> None:
    path = write_small(
        tmp_path / "small.onnx", last=[node("Magic", "logits", "output", domain="mine")]
    )
    refuse(path, "cannot be converted to torch", "Magic", "export the network as TorchScript")


def test_a_size_that_is_fixed_inside_is_named(tmp_path: Path) -> None:
    """The model adds a picture of the size that it was made for."""
    path = write_small(
        tmp_path / "small.onnx",
        shape=(1, 2, 48, 80),
        last=[node("Add", "logits picture", "output")],
    )
    model = onnx.load(str(path))
    picture = np.zeros((1, 1, 48, 80), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(picture, "picture"))
    onnx.save_model(model, str(path))
    refuse(path, "this export only takes 48 x 80 pixels; export it again with dynamic axes")


def test_several_inputs_and_outputs_are_listed(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.onnx")
    for place, said in (
        ("input", "takes 2 inputs (image, more)"),
        (
            "output",
            "returns 2 tensors (output, more), but one tensor is segmented; say which with ",
        ),
    ):
        model = onnx.load(str(path))
        more = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, FREE)
        getattr(model.graph, place).append(more)
        onnx.save_model(model, str(tmp_path / f"{place}.onnx"))
        refuse(tmp_path / f"{place}.onnx", said)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_model_is_named(tmp_path: Path, part: float) -> None:
    path = write_small(tmp_path / "small.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    refuse(path, "is not an ONNX model, or a damaged one")


def test_missing_and_outer_files_with_weights_are_named(tmp_path: Path) -> None:
    path = write_small(tmp_path / "small.onnx", external=True)
    (tmp_path / "small.data").unlink()
    with pytest.raises(ModelError, match=r"small\.data: cannot be read"):
        open_network(path)
    path.write_bytes(path.read_bytes().replace(b"small.data", b"../ll.data"))
    refuse(path, "names weights outside its folder (../ll.data)")


def test_missing_packages_are_named_with_how_to_install_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_small(tmp_path / "small.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refuse(path, "needs packages that are not installed", "pip install 'exactile[onnx]'")
