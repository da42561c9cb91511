"""How many channels a network takes: said by its file, the only number that runs, or asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.models.loading import load_model
from exactile.models.told import Told

Start = Callable[[Tensor, Tensor], Tensor]


class Begun(nn.Module):
    """`start` gets the image and three means, before the first convolution."""

    def __init__(self, start: Start, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.start = start
        self.register_buffer("means", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.first, self.last = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(self.start(image, self.means))))


def write(folder: Path, network: nn.Module, channels: int, dimensions: int = 2) -> Path:
    path = folder / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.randn(1, channels, *(32,) * dimensions)
        torch.jit.save(torch.jit.trace(network.eval(), image), path)
    return path


OPEN: list[tuple[Start, int, str]] = [
    (lambda x, m: x.flip(1) - m, 3, "1 and 3"),
    (lambda x, m: x[:, [2, 1, 0]] - m, 3, "3 and 4"),
    (lambda x, m: torch.cat([x[:, 2:3], x[:, 1:2], x[:, :1]], 1) - m, 3, "1, 3 and 4"),
    (lambda x, m: torch.stack([x, x]).mean(0) - m, 3, "1 and 3"),
    (lambda x, m: m - x, 3, "1 and 3"),
    (lambda x, m: x[:, :3], 3, "3 and 4"),
    (lambda x, m: x.mean(1, keepdim=True).expand(-1, 3, -1, -1), 3, "1, 2, 3 and 4"),
    (lambda x, m: x.amax(1, keepdim=True) - m, 3, "1, 2, 3 and 4"),
]


@pytest.mark.parametrize(("start", "channels", "numbers"), OPEN)
def test_where_several_numbers_run_the_user_is_asked(
    tmp_path: Path, start: Start, channels: int, numbers: str
) -> None:
    path = write(tmp_path, Begun(start), channels)
    with pytest.raises(ModelError, match=rf"runs on {numbers}, .* with --channels N"):
        load_model(path)
    told = load_model(path, Told(channels=channels))
    assert (told.channels, told.dimensions) == (channels, 2)


@pytest.mark.parametrize(
    ("start", "channels", "inside"),
    [
        (lambda x, m: torch.cat([x, x], 1), 3, 6),
        (lambda x, m: torch.cat([x, x], 1), 2, 4),
        (lambda x, m: x.flip(1), 5, 5),
        (lambda x, m: x - m, 3, 3),
        (lambda x, m: (x - 0.5) / 2, 3, 3),
        (lambda x, m: torch.stack([x, x]).amax(0), 1, 1),
    ],
)
def test_the_only_number_that_runs_is_taken(
    tmp_path: Path, start: Start, channels: int, inside: int
) -> None:
    path = write(tmp_path, Begun(start, inside), channels)
    assert load_model(path).channels == channels


def test_a_number_that_the_file_says_is_not_overruled(tmp_path: Path) -> None:
    path = write(tmp_path, Begun(lambda x, m: x - 0.5), 3)
    with pytest.raises(ModelError, match=r"--channels 1: model takes 3, as its file says"):
        load_model(path, Told(channels=1))
    assert load_model(path, Told(channels=3)).channels == 3


def test_a_number_that_does_not_run_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, Begun(lambda x, m: x.flip(1) - m), 3)
    with pytest.raises(ModelError, match=r"does not run on 2 channel\(s\)"):
        load_model(path, Told(channels=2))


def test_a_network_that_runs_on_no_usual_number_can_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, Begun(lambda x, m: torch.cat([x, x], 1), 14), 7)
    with pytest.raises(ModelError, match="say how many with --channels N"):
        load_model(path)
    assert load_model(path, Told(channels=7)).channels == 7


class Volume(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(image.flip(1))))


@pytest.mark.parametrize("classes", [1, 2])
def test_a_network_for_volumes_is_not_taken_for_one_for_planes(
    tmp_path: Path, classes: int
) -> None:
    """Its convolutions take a plane of several channels for a volume without a batch."""
    path = write(tmp_path, Volume(classes), 1, 3)
    for told in (None, Told(channels=1)):
        model = load_model(path, told)
        assert (model.dimensions, model.channels, len(model.classes)) == (3, 1, classes)
