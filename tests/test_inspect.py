"""`exactile inspect`: what a network depends on, or why it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import noise_image, write_image, write_random_model
from PIL import Image
from program import Ended, call, files_in
from torch import nn

from exactile.errors import PlanError
from exactile.inspection import inspect_model, try_out


def inspect(*words: object) -> Ended:
    return call(["inspect", *map(str, words)])


def facts(*words: object, code: int = 0) -> dict[str, Any]:
    ended = inspect(*words, "--json")
    assert ended.code == code, ended.log
    found: dict[str, Any] = json.loads(ended.out)
    return found


def script(path: Path, *layers: nn.Module) -> Path:
    torch.jit.script(nn.Sequential(*layers).eval()).save(str(path))
    return path


def test_the_bundled_model_is_inspected_by_default() -> None:
    found = facts("--size", "20000x30000")
    assert found["local"]
    assert found["alignment"] == [16, 16]
    assert found["halo"] == [[96, 96], [96, 96]]
    assert found["needed"] == [[94, 94], [94, 94]]
    assert found["formula"] == [92, 92]
    assert found["scale"] == [1, 1]
    assert found["refused_by"] == []
    assert 1 <= found["plan"]["computed_ratio"] <= 1.5
    assert 0 < found["plan"]["memory_bytes"] <= found["plan"]["budget_bytes"]
    assert found["plan"]["predicted_seconds"] is None
    assert found["plan"]["output_shape"] == [20000, 30000]


def test_a_network_without_locality_is_refused_with_code_3(tmp_path: Path) -> None:
    model = script(tmp_path / "norm.pt", nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4))
    found = facts("--model", model, code=3)
    assert not found["local"]
    assert found["alignment"] == found["halo"] == found["scale"] == []
    (refusal,) = found["refused_by"]
    assert refusal["operator"] == "aten.native_batch_norm"
    assert "instance norm" in refusal["reason"]
    ended = inspect("--model", model)
    assert ended.code == 3
    assert "cannot be run in exact tiles" in ended.out
    assert "aten.native_batch_norm" in ended.out
    assert "TorchScript runs past the rules of exchange" in found["exchange"]["objection"]


class Sized(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, size=[96, 64])


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Conv2d(1, 2, 2), "cannot be told"),
        (nn.Conv2d(1, 2, 3, padding=2), "reaches"),
        (Sized(), "this export returns 96 x 64 pixels"),
    ],
    ids=["odd crop", "larger than the image", "fixed size"],
)
def test_an_output_that_cannot_be_placed_and_a_fixed_size_are_refusals(
    tmp_path: Path, network: nn.Module, reason: str
) -> None:
    found = facts("--model", script(tmp_path / "model.pt", network), code=3)
    assert not found["local"]
    assert reason in found["refused_by"][0]["reason"]


def test_what_is_no_model_ends_with_code_1_and_no_json(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    ended = inspect("--model", tmp_path / "model.pt", "--json")
    assert ended.code == 1
    assert ended.out == ""
    assert len(ended.errors) == 1


def test_the_page_says_why(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=1, convolutions=1, base_width=4)
    write_image(tmp_path / "a.ome.tif", noise_image((3000, 2000)))
    ended = inspect("--model", tmp_path / "model", "--image", tmp_path / "a.ome.tif")
    assert ended.code == 0, ended.log
    page = " ".join(ended.out.split())
    assert "F = 2 px, halo 6 px low and 6 px high (5 and 5 needed)" in page
    assert "aten.convolution in" in page
    assert "4 px (Majurski and Bajcsy 2021, eq. 2): TOO SMALL" in page
    assert "holds on the weights: 9 zones" in page
    assert "estimate" in page
    assert "3000 x 2000 px: " in page


def test_the_plan_of_the_page_is_measured_and_that_of_the_facts_is_not(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=1, convolutions=1, base_width=4)
    found = inspect_model(tmp_path / "model", (20_000, 30_000), 10**9)
    assert found.model is not None
    assert found.asked is not None
    assert found.choice is not None
    assert found.asked.budget.bytes == 10**9 >= found.choice.memory_bytes
    assert found.choice.seconds is None
    measured = try_out(found.model, found.asked).choice
    assert measured is not None
    assert measured.seconds is not None
    assert measured.memory_bytes <= 10**9
    with pytest.raises(PlanError, match=r"needs .* at least"):
        inspect_model(tmp_path / "model", (20_000, 30_000), 10**8)


def test_a_folder_gets_the_facts_and_a_picture(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", depth=1, convolutions=1, base_width=4)
    words = ("--model", tmp_path / "model", "--outDir", tmp_path / "out")
    assert inspect(*words).code == 0
    assert files_in(tmp_path / "out") == ["effective_receptive_field.png", "inspection.json"]
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["local"]
    with Image.open(tmp_path / "out" / "effective_receptive_field.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize("size", ["12", "12x", "0x5", "ax5", "5x5x5", "-5x5", "99999999999x4"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    ended = inspect(f"--size={size}")
    assert ended.code == 2
    assert len(ended.errors) == 1


def test_a_size_and_an_image_are_too_many(tmp_path: Path) -> None:
    ended = inspect("--size", "5x5", "--image", tmp_path / "a.ome.tif")
    assert ended.code == 2
    assert "use one of them" in ended.errors[0]


def test_a_volumetric_network_is_inspected_on_three_axes(tmp_path: Path) -> None:
    layers = (nn.Conv3d(1, 2, 3, padding=1), nn.MaxPool3d(2), nn.Upsample(scale_factor=2.0))
    found = facts("--model", script(tmp_path / "volume.pt", *layers))
    assert found["alignment"] == [2, 2, 2]
    assert len(found["halo"]) == 3


def test_a_real_description_is_inspected_beside_what_it_declares(shared: Path) -> None:
    found = facts("--model", shared / "data" / "unet2d_nuclei_broad")
    assert found["local"]
    assert found["alignment"] == [8, 8]
    assert found["declared_halo"] == [32, 32]
    assert all(max(sides) > 32 for sides in found["needed"])
    assert found["classes"] == ["probability"]
