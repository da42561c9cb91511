"""Networks with several outputs: one is chosen by name, and what only the others need is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from format_networks import (
    Small,
    description_05,
    noise,
    refuse,
    write_exported,
    write_model,
    write_scripted,
    write_traced,
)
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.locality import analyze
from exactile.models.formats import open_network
from exactile.models.loading import open_model


class Parts(Small):
    """Cells, borders with a wider reach, and a number for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 2, 7, padding=3)
        self.number = nn.Linear(4, 5)

    def parts(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = torch.relu(self.first(image))
        cells = self.last(torch.cat([fine, self.up(self.pool(fine))], dim=1))
        return cells, self.wide(fine), self.number(fine.mean(dim=[2, 3]))


class InTuple(Parts):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.parts(image)


class InList(Parts):
    def forward(self, image: Tensor) -> list[Tensor]:
        cells, borders, number = self.parts(image)
        return [cells, borders, number]


class InDictionary(Parts):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        cells, borders, number = self.parts(image)
        return {"cells": cells, "borders": borders, "number": number}


class Written(Parts):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        cells, borders, number = self.parts(image)
        found: dict[str, Tensor] = {}
        found["number"] = number
        found["cells"] = cells
        found["borders"] = borders
        return found


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Written()

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found = self.inner(image)
        return found["cells"], {"borders": found["borders"], "number": found["number"]}


class Named(NamedTuple):
    cells: Tensor
    borders: Tensor
    number: Tensor


class InNamedTuple(Parts):
    def forward(self, image: Tensor) -> Named:
        cells, borders, number = self.parts(image)
        return Named(cells, borders, number)


class Appended(Parts):
    def forward(self, image: Tensor) -> list[Tensor]:
        cells, borders, number = self.parts(image)
        found: list[Tensor] = []
        found.append(cells)
        found.append(borders)
        found.append(number)
        return found


class Looped(Parts):
    def forward(self, image: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for _ in range(int(image.size(1))):
            found.append(self.parts(image)[0])
        return found


class Hiding(Parts):
    """One tensor, and some that only show when it is run."""

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        found: list[Tensor] = []
        for _ in range(int(image.size(1))):
            found.append(self.parts(image)[1])
        return self.parts(image)[0], found


class Maybe(Parts):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        cells, borders, _ = self.parts(image)
        return cells, borders if image.size(1) > 1 else None


class Single(Parts):
    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.parts(image)[0]]


def expected(network: Any, place: int) -> Tensor:
    inner = network.inner if isinstance(network, Around) else network
    with torch.inference_mode():
        found: Tensor = inner.eval().parts(noise())[place]
    return found


SCRIPTED = [
    (InTuple, ("0", "1", "2")),
    (InList, ("0", "1", "2")),
    (Appended, ("0", "1", "2")),
    (InDictionary, ("cells", "borders", "number")),
    (Written, ("cells", "borders", "number")),
    (InNamedTuple, ("0", "1", "2")),
    (Around, ("0", "1.borders", "1.number")),
]


@pytest.mark.parametrize(("kind", "names"), SCRIPTED)
def test_an_output_of_a_script_is_chosen_by_name(
    tmp_path: Path, kind: type[nn.Module], names: tuple[str, ...]
) -> None:
    network = kind()
    path = write_scripted(tmp_path / "many.pt", network)
    refuse(path, "but one tensor is segmented; say which with --output NAME, such as", names[0])
    for place, name in enumerate(names[:2]):
        loaded = open_network(path, name)
        assert (set(loaded.outputs), loaded.output) == (set(names), name)
        with torch.inference_mode():
            assert torch.equal(loaded.network(noise()), expected(network, place))
        # The number for the whole image, which has no locality, is not computed.
        halo = analyze(loaded.network, 2).needed[0]
        assert (halo.low, halo.high) == ((1, 1), (4, 4))[place]


@pytest.mark.parametrize(("kind", "names"), [SCRIPTED[0], SCRIPTED[3], SCRIPTED[6]])
def test_an_output_of_a_program_is_chosen_by_name(
    tmp_path: Path, kind: type[nn.Module], names: tuple[str, ...]
) -> None:
    network = kind()
    path = write_exported(tmp_path / "many.pt2", network, noise())
    refuse(path, f"returns 3 tensors ({', '.join(names)})", "--output NAME, such as --output")
    for place, name in enumerate(names[:2]):
        loaded = open_network(path, name)
        assert (loaded.outputs, loaded.output) == (names, name)
        with torch.inference_mode():
            assert torch.equal(loaded.network(noise()), expected(network, place))
        halo = analyze(loaded.network, 2).needed[0]
        assert (halo.low, halo.high) == ((1, 1), (4, 4))[place]


def test_traced_dictionaries_are_read_alike(tmp_path: Path) -> None:
    network = InDictionary()
    path = write_traced(tmp_path / "many.pt", network, noise(), strict=False)
    loaded = open_network(path, "borders")
    with torch.inference_mode():
        assert torch.equal(loaded.network(noise()), expected(network, 1))
    assert analyze(loaded.network, 2).outputs == 2


def test_an_output_may_be_said_by_its_place(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "many.pt", InDictionary())
    assert open_network(path, "1").output == "borders"


@pytest.mark.parametrize("write", [write_scripted, lambda p, n: write_exported(p, n, noise())])
def test_the_only_tensor_in_a_container_is_taken(tmp_path: Path, write: Any) -> None:
    loaded = open_network(write(tmp_path / "single", Single()))
    with torch.inference_mode():
        assert torch.equal(loaded.network(noise()), expected(Single(), 0))


def test_an_output_of_a_list_of_unknown_length_is_chosen_by_its_place(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "looped.pt", Looped())
    refuse(path, "returns a list, but one tensor is segmented; say which with --output")
    loaded = open_network(path, "1")
    with torch.inference_mode():
        assert torch.equal(loaded.network(noise()), expected(Looped(), 0))


@pytest.mark.parametrize("kind", [Hiding, Maybe])
def test_the_only_tensor_that_shows_is_not_taken_beside_others(
    tmp_path: Path, kind: type[nn.Module]
) -> None:
    path = write_scripted(tmp_path / "hiding.pt", kind())
    refuse(path, "returns a tuple of 2 (0), but one tensor is segmented; say which with --output")
    with torch.inference_mode():
        assert torch.equal(open_network(path, "0").network(noise()), expected(kind(), 0))


@pytest.mark.parametrize("output", ["nuclei", "7", "-1", "']; x['"])
@pytest.mark.parametrize("write", [write_scripted, lambda p, n: write_exported(p, n, noise())])
def test_an_output_that_is_not_there_is_named(tmp_path: Path, write: Any, output: str) -> None:
    path = write(tmp_path / "many", InDictionary())
    with pytest.raises(ModelError, match=r"has no such output.*use one of cells, borders, number"):
        open_network(path, output)


@pytest.mark.parametrize("write", [write_scripted, lambda p, n: write_exported(p, n, noise())])
def test_a_network_with_one_output_has_no_other(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "one", Small())
    assert open_network(path, "0").output == ""
    with pytest.raises(ModelError, match=r"--output cells: "):
        open_network(path, "cells")
    with pytest.raises(ModelError, match=r"--output cells: .* leave --output out"):
        open_model(Path(__file__).parents[2] / "src/exactile/models/bundled/stem_cells", "cells")


def test_outputs_of_a_description_are_chosen_by_their_names(tmp_path: Path) -> None:
    description = description_05()
    description["outputs"].append(description["outputs"][0] | {"id": "borders"})

    class Two(Parts):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            cells, _, _ = self.parts(image)
            return cells, cells * 2

    folder = write_model(tmp_path / "model", description, Two())
    refuse(folder, "returns 2 tensors (masks, borders)", "--output NAME, such as --output masks")
    with torch.inference_mode():
        first, second = (open_network(folder, n).network(noise()) for n in ("masks", "borders"))
    assert torch.equal(first * 2, second)
    one = write_model(tmp_path / "one", description_05(), Two())
    refuse(one, "returns a tuple of 2")
    three = write_model(tmp_path / "three", description, InTuple())
    with pytest.raises(ModelError, match="describes 2 outputs, but its weights return 3"):
        open_network(three, "masks")


def test_an_output_of_an_onnx_model_is_chosen_by_name(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    network = Parts()
    weights = [network.first.weight, network.first.bias]
    free = ("batch", 2, "height", "width")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", free), ("fine", None), ("number", None))
    ]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["image", "w", "b"], ["fine"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("GlobalAveragePool", ["fine"], ["number"]),
        ],
        "two",
        values[:1],
        values[1:],
        [
            onnx.numpy_helper.from_array(weight.detach().numpy(), name)
            for weight, name in zip(weights, "wb", strict=True)
        ],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "two.onnx"
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    refuse(path, "returns 2 tensors (fine, number)", "--output NAME, such as --output fine")
    loaded = open_network(path, "fine")
    assert (loaded.outputs, loaded.output) == (("fine", "number"), "fine")
    with torch.inference_mode():
        assert torch.equal(loaded.network(noise()), network.first(noise()))
    assert "aten.mean" not in analyze(loaded.network, 2).operators
