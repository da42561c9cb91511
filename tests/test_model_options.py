"""--output, --channels and --outputMeaning, through the program."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from conftest import noise_image, write_image
from program import Ended, arguments, call
from torch import Tensor, nn

End = Callable[[Tensor], Tensor | dict[str, Tensor]]


class Ending(nn.Module):
    def __init__(self, end: End, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 1)
        self.end = end

    def forward(self, image: Tensor) -> Tensor | dict[str, Tensor]:
        return self.end(self.last(torch.relu(self.first(image))))


def write_traced(folder: Path, network: nn.Module, channels: int = 1) -> Path:
    path = folder / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torch.randn(1, channels, 32, 32)
        torch.jit.save(torch.jit.trace(network.eval(), image, strict=False), path)
    return path


def segment(folder: Path, network: nn.Module, pictures: int = 1, **options: object) -> Ended:
    """Segment an image of so many channels."""
    model = write_traced(folder, network, pictures)
    write_image(folder / "in" / "a.ome.tif", image(pictures).reshape(pictures, 1, 70, 90))
    given = {"normalization": "none", "tileSize": 48} | options
    return call(arguments(folder / "in", folder / "out", model=model, **given))


def image(channels: int) -> Any:
    one = noise_image((70, 90))
    return one if channels == 1 else np.stack([np.roll(one, c) for c in range(channels)])


def output_of(network: nn.Module, channels: int = 1) -> Any:
    pixels = torch.from_numpy(image(channels).astype(np.float32))
    with torch.inference_mode():
        return network.eval()(pixels.reshape(1, channels, 70, 90))


def result(folder: Path) -> Any:
    return tifffile.imread(folder / "out" / "a.ome.tif")


def record(folder: Path) -> Any:
    certificate = json.loads((folder / "out" / "certificates" / "a.ome.tif.json").read_text())
    return certificate["model"], certificate["identity"]


def test_the_mean_of_two_probabilities_gets_no_other_sigmoid(tmp_path: Path) -> None:
    network = Ending(
        lambda x: (torch.sigmoid(x) + torch.sigmoid(-x) ** 2).mean(1, keepdim=True) / 2
    )
    ended = segment(tmp_path, network)
    assert ended.code == 0, ended.log
    assert np.array_equal(result(tmp_path), output_of(network)[0, 0] > 0.5)
    model, _ = record(tmp_path)
    assert model["output_meaning"] == "probabilities: aten.div gives values from 0 to 1"


def test_places_of_the_largest_channel_are_the_labels(tmp_path: Path) -> None:
    network = Ending(lambda x: x.max(1, keepdim=True)[1])
    ended = segment(tmp_path, network)
    assert ended.code == 0, ended.log
    assert np.array_equal(result(tmp_path), output_of(network)[0, 0])
    again = segment(tmp_path, network, outputType="probabilities")
    assert "of which there are no probabilities; use --outputType labels" in again.errors[0]


def test_what_is_not_proven_is_asked_for(tmp_path: Path) -> None:
    network = Ending(lambda x: torch.relu(x[:, :1]) / 2)
    ended = segment(tmp_path, network)
    assert ended.code == 1
    assert "say --outputMeaning logits, probabilities or classes" in ended.errors[0]
    assert not (tmp_path / "out").exists()
    told = segment(tmp_path, network, outputMeaning="probabilities")
    assert told.code == 0, told.log
    assert np.array_equal(result(tmp_path), output_of(network)[0, 0] > 0.5)


def test_several_channels_have_labels_whatever_they_mean(tmp_path: Path) -> None:
    network = Ending(torch.relu)
    assert segment(tmp_path, network, outputType="probabilities").code == 1
    ended = segment(tmp_path, network)
    assert ended.code == 0, ended.log
    assert np.array_equal(result(tmp_path), output_of(network)[0].argmax(0))


def test_a_word_against_the_operators_is_done_with_a_warning(tmp_path: Path) -> None:
    network = Ending(lambda x: torch.sigmoid(x[:, :1]))
    ended = segment(tmp_path, network, outputMeaning="logits")
    assert ended.code == 0, ended.log
    assert "numbers from 0 to 1, of which another sigmoid or softmax is made" in ended.log
    assert "class 1 fills 100.0 % of it; if that is not so, the output may mean" in ended.log


def test_a_class_that_fills_half_of_an_image_needs_no_word(tmp_path: Path) -> None:
    ended = segment(tmp_path, Ending(lambda x: x))
    assert ended.code == 0
    assert "fills 100" not in ended.log
    assert "may mean something else" not in ended.log


def test_several_channels_are_no_classes(tmp_path: Path) -> None:
    ended = segment(tmp_path, Ending(lambda x: x), outputMeaning="classes")
    assert ended.code == 1
    assert "returns 3 channels, but numbers of classes are one" in ended.errors[0]


def test_one_of_several_outputs_is_segmented(tmp_path: Path) -> None:
    network = Ending(lambda x: {"cells": x, "borders": torch.sigmoid(x[:, :2]), "count": x.sum()})
    ended = segment(tmp_path, network)
    assert ended.code == 1
    assert "a dictionary (cells, borders, count), but one tensor is segmented" in ended.errors[0]
    for name in ("cells", "borders"):
        ended = segment(tmp_path, network, output=name)
        assert ended.code == 0, ended.log
        assert np.array_equal(result(tmp_path), output_of(network)[name][0].argmax(0))
        model, identity = record(tmp_path)
        assert (model["output"], identity["the output"]) == (name, name)


def test_channels_are_asked_for_and_told(tmp_path: Path) -> None:
    network = Ending(lambda x: x, 3)
    means = torch.tensor([900.0, 1100.0, 1000.0]).view(1, 3, 1, 1)
    begun = nn.Sequential(Turned(means), network)
    ended = segment(tmp_path, begun, 3)
    assert ended.code == 1
    assert "runs on 1 and 3, with other results for each" in ended.errors[0]
    assert segment(tmp_path, begun, 3, channel=0).errors == ended.errors
    told = segment(tmp_path, begun, 3, channels=3)
    assert told.code == 0, told.log
    assert np.array_equal(result(tmp_path), output_of(begun, 3)[0].argmax(0))


class Turned(nn.Module):
    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.register_buffer("means", means)

    def forward(self, image: Tensor) -> Tensor:
        return image.flip(1) - self.means


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("channels", "three", "is not a number of channels; use 1 to 4096, such as 3"),
        ("channels", "0", "is not a number of channels"),
        ("outputMeaning", "masks", "is not one of 'auto', 'logits', 'probabilities' or 'classes'"),
    ],
)
def test_what_is_no_such_option_is_refused(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    write_image(tmp_path / "in" / "a.ome.tif", image(1))
    ended = call(arguments(tmp_path / "in", tmp_path / "out", **{option: value}))
    assert ended.code == 2
    assert f"--{option} {value!r} {said}" in ended.errors[0]


def test_inspect_lists_the_outputs_and_what_they_mean(tmp_path: Path) -> None:
    network = Ending(lambda x: {"cells": x, "borders": torch.sigmoid(x[:, :2])})
    model = str(write_traced(tmp_path, network))
    asked = call(["inspect", "--model", model, "--json"])
    assert asked.code == 1
    assert "say which with --output NAME, such as --output cells" in asked.errors[0]
    found = json.loads(call(["inspect", "--model", model, "--json", "--output", "borders"]).out)
    assert (found["outputs"], found["output"]) == (["cells", "borders"], "borders")
    assert found["output_meaning"] == "probabilities"
    page = call(["inspect", "--model", model, "--output", "cells"]).out
    assert "cells, borders; this is cells" in page
    assert "convolution gives numbers of both signs" in " ".join(page.split())
