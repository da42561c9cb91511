"""Any network, as a TorchScript file through the program: exact, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from conftest import noise_image, write_image
from numpy.typing import NDArray
from program import arguments, call, files_in
from torch import Tensor, nn

from exactile.engines.eager import make_engine
from exactile.geometry import Halo
from exactile.models.loading import load_model
from exactile.reference import whole_image_pass

CPU = torch.device("cpu")


class Valid(nn.Module):
    """A small U-Net of valid convolutions: skips are cropped, the output is smaller."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3)
        self.below = nn.Conv2d(width, 2 * width, 3)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.last = nn.Conv2d(2 * width, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.first(x))
        deep = self.up(F.relu(self.below(F.max_pool2d(skip, 2))))
        rows, columns = skip.shape[2] - deep.shape[2], skip.shape[3] - deep.shape[3]
        top, left = rows // 2, columns // 2
        kept = skip[:, :, top : top + deep.shape[2], left : left + deep.shape[3]]
        return self.last(torch.cat([kept, deep], 1))


class Reduced(nn.Module):
    """A prediction at a quarter of the resolution, as some networks leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 7, 2, 3), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Uneven(nn.Module):
    """Its output lacks four rows at the top, and two columns on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[:, :, 4:, 2:-2]


class Switching(nn.Module):
    """Does something else with large images."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(1, 2, 3, padding=1)
        self.large = nn.Conv2d(1, 2, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[3] > 700:
            return self.large(x)
        return self.small(x)


class Enlarged(nn.Module):
    """Twice the resolution, as in super-resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 16, 5, padding=2)
        self.shuffle = nn.PixelShuffle(2)
        self.head = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shuffle(F.relu(self.body(x))))


NETWORKS = {"valid": Valid, "reduced": Reduced, "enlarged": Enlarged, "uneven": Uneven}


def save(path: Path, network: nn.Module) -> Path:
    torch.jit.script(network.eval()).save(str(path))
    return path


def read(path: Path) -> NDArray[Any]:
    found = tifffile.imread(path)
    return found.reshape(-1, *found.shape[-2:])


@pytest.mark.parametrize("output", ["logits", "labels"])
@pytest.mark.parametrize("name", NETWORKS)
def test_smaller_and_scaled_outputs_are_those_of_the_whole_image(
    tmp_path: Path, name: str, output: str
) -> None:
    torch.manual_seed(0)
    model = save(tmp_path / f"{name}.pt", NETWORKS[name]())
    pixels = noise_image((701, 838))
    write_image(tmp_path / "in" / "a.ome.tif", pixels)
    options = {"model": model, "tileSize": 256, "outputType": output, "verify": 3}
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **options))
    assert ended.code == 0, ended.log
    loaded = load_model(model)
    engine = make_engine(loaded.network, CPU, "float32")
    expected = whole_image_pass(engine, loaded, pixels[None], output)  # type: ignore[arg-type]
    found = read(tmp_path / "out" / "a.ome.tif")
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)
    certificate = json.loads((tmp_path / "out/certificates/a.ome.tif.json").read_text())
    assert certificate["bit_stability"]["equal"]
    assert certificate["verification"]["zones"] == 3
    assert certificate["verification"]["different"] == 0
    assert certificate["plan"]["output_shape"] == list(expected.shape[1:])


def test_each_kind_of_output_has_the_size_that_its_network_gives(tmp_path: Path) -> None:
    sizes = {}
    for name, network in NETWORKS.items():
        located = load_model(save(tmp_path / f"{name}.pt", network())).locality
        sizes[name] = located.output_shape((701, 838))
    assert sizes == {"valid": (694, 830), "reduced": (176, 210), "enlarged": (1402, 1676)} | {
        "uneven": (697, 834)
    }


def test_the_pixels_of_a_scaled_output_have_the_size_that_they_cover(tmp_path: Path) -> None:
    model = save(tmp_path / "reduced.pt", Reduced())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((400, 400)))
    assert call(arguments(tmp_path / "in", tmp_path / "out", model=model)).code == 0
    with tifffile.TiffFile(tmp_path / "out" / "a.ome.tif") as file:
        assert 'PhysicalSizeX="2.6"' in str(file.ome_metadata)


def test_an_image_of_which_valid_convolutions_leave_nothing_is_named(tmp_path: Path) -> None:
    model = save(tmp_path / "valid.pt", Valid())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((8, 300)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model))
    assert ended.code == 1
    assert "too small for this network" in ended.errors[0]
    assert files_in(tmp_path / "out") == []


def test_a_network_that_does_something_else_with_large_images_is_refused(tmp_path: Path) -> None:
    """Windows of 256 px would all be equal to each other, and none to the whole image."""
    model = save(tmp_path / "switching.pt", Switching())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((300, 701)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model, tileSize=256))
    assert ended.code == 1
    assert "the network looks at the image's size" in ended.errors[0]
    assert files_in(tmp_path / "out") == []


class Counting(nn.Module):
    """Gives other results after some passes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 2, 3, padding=1)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes = self.passes + 1
        return self.body(x) * (1.0 if self.passes < 40 else 2.0)


class Asserting(nn.Module):
    """Takes multiples of 32 only, and says so by an assertion."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 32 == 0, "multiples of 32 are needed"
        assert x.shape[3] % 32 == 0, "multiples of 32 are needed"
        return self.body(x)


def test_a_network_that_keeps_a_state_is_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "counting.pt", Counting())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((233, 310)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model, tileSize=64))
    assert ended.code == 1
    assert "keeps a state" in ended.errors[0]


def test_a_network_that_asserts_multiples_of_32_gets_them(tmp_path: Path) -> None:
    """TorchScript raises an error of its own kind where an assertion fails."""
    model = save(tmp_path / "asserting.pt", Asserting())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((233, 310)))
    assert load_model(model).locality.alignment == (32, 32)
    assert call(arguments(tmp_path / "in", tmp_path / "out", model=model, tileSize=160)).code == 0


def test_a_network_without_channels_is_refused(tmp_path: Path) -> None:
    class Empty(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :0]

    model = save(tmp_path / "empty.pt", Empty())
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((100, 100)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model, channels=1))
    assert ended.code == 1
    assert "returns no channels" in ended.errors[0]


def test_a_network_that_is_not_local_is_refused_by_operator_and_module(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4))
    model = save(tmp_path / "norm.pt", network)
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((100, 100)))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", model=model))
    assert ended.code == 1
    assert "exact tiles: aten.native_batch_norm in 1 (InstanceNorm2d): " in ended.errors[0]
    assert not (tmp_path / "out").exists()


def test_a_halo_too_small_is_found_by_the_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check at the start is passed by; the zones are run again all the same."""
    from exactile import bit_stability, job
    from exactile.geometry import AxisLocality, Locality
    from exactile.tiling import plan

    def short(shape: tuple[int, ...], locality: Locality, tile: int) -> Any:
        axes = tuple(AxisLocality(a.alignment, Halo(0, 0)) for a in locality.axes)
        return plan(shape, Locality(axes), tile)

    def trusting(*_: object) -> bit_stability.BitStability:
        return bit_stability.BitStability(True, 1, 0, 0.0, 0, (64, 64), (80, 80))

    monkeypatch.setattr("exactile.planning.plan", short)
    monkeypatch.setattr(job, "check_bit_stability", trusting)
    network = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 5, padding=2))
    model = save(tmp_path / "plain.pt", network)
    write_image(tmp_path / "in" / "a.ome.tif", noise_image((300, 300)))
    options = {"model": model, "tileSize": 64, "outputType": "logits", "verify": 4}
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **options))
    assert ended.code == 1
    assert "differ" in ended.errors[0]
    assert "zone y" in ended.errors[0]
    assert files_in(tmp_path / "out") == []
