"""Small networks, and how to write them in each format."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.models.formats import open_network
from exactile.models.network_file import NetworkFile

FREE = torch.export.Dim.DYNAMIC


class Small(nn.Module):
    """One level down and up again: F = 2."""

    def __init__(self, channels: int = 2, outputs: int = 3, dimensions: int = 2) -> None:
        super().__init__()
        torch.manual_seed(channels)
        convolution, pool = (
            (nn.Conv2d, nn.MaxPool2d)
            if dimensions == 2
            else (
                nn.Conv3d,
                nn.MaxPool3d,
            )
        )
        self.first = convolution(channels, 4, 3, padding=1)
        self.pool = pool(2)
        self.up = nn.Upsample(scale_factor=2)
        self.last = convolution(8, outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = torch.relu(self.first(image))
        return self.last(torch.cat([fine, self.up(self.pool(fine))], dim=1))


class FixedInside(Small):
    """Up-samples to the size that it was traced with."""

    def forward(self, image: Tensor) -> Tensor:
        fine = torch.relu(self.first(image))
        low = self.pool(fine)
        side = [int(s) for s in fine.shape[2:]]
        return self.last(torch.cat([fine, nn.functional.interpolate(low, size=side)], dim=1))


class FixedOutput(Small):
    """Returns the size that it was traced with, whatever comes."""

    def forward(self, image: Tensor) -> Tensor:
        side = [int(s) for s in image.shape[2:]]
        return nn.functional.interpolate(super().forward(image), size=side)


class Wrapped(Small):
    """Returns something else than one tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, image: Tensor) -> Any:
        output = super().forward(image)
        if self.kind == "dictionary":
            return {"cells": output, "borders": output + 1}
        return (output, output + 1) if self.kind == "tuple" else [output]


class TwoInputs(Small):
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return super().forward(image) * mask


def noise(channels: int = 2, *extent: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((1, channels, *(extent or (32, 48))), generator=generator)


def same(loaded: NetworkFile, network: nn.Module, image: Tensor) -> bool:
    with torch.inference_mode():
        return torch.equal(loaded.network(image), network.eval()(image))


def refuse(path: Path, *said: str) -> str:
    """Check that `path` is refused in one line that names it and says what is expected."""
    with pytest.raises(ModelError) as caught:
        open_network(path)
    message = str(caught.value)
    assert message.startswith(str(path)), message
    assert "\n" not in message
    for part in said:
        assert part in message, message
    return message


def write_scripted(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network.eval()), path)
    return path


def write_traced(path: Path, network: nn.Module, *images: Tensor, strict: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network.eval(), images, strict=strict), path)
    return path


def write_exported(
    path: Path, network: nn.Module, *images: Tensor, sizes: Any = ({2: FREE, 3: FREE},)
) -> Path:
    program = torch.export.export(network.eval(), images, dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


def rewrite(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """Copy an archive; a change is the new content of a member, or a function of its JSON."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        names = old.namelist()
        for name in names:
            inner = name.partition("/")[2]
            content: Any = old.read(name)
            change = changes.get(inner)
            if callable(change):
                value = json.loads(content)
                change(value)
                content = json.dumps(value)
            new.writestr(name, content if change is None or callable(change) else change)
        root = names[0].partition("/")[0]
        for inner, change in changes.items():
            if f"{root}/{inner}" not in names:
                new.writestr(f"{root}/{inner}", change)
    return target


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def description_05(**changes: Any) -> dict[str, Any]:
    """A minimal description of format 0.5 for `Small` in `weights.pt`."""
    space = [{"type": "space", "id": axis, "size": {"min": 16, "step": 2}} for axis in "yx"]
    names = {"type": "channel", "channel_names": ["dapi", "actin"]}
    classes = {"type": "channel", "channel_names": ["none", "cell", "border"]}
    sides = [
        {"type": "space", "id": axis, "size": {"tensor_id": "raw", "axis_id": axis}, "halo": halo}
        for axis, halo in (("y", 4), ("x", 6))
    ]
    tensor = {"source": "test.npy"}
    return (
        _general("0.5.4")
        | {
            "version": "1.2.0",
            "inputs": [
                {"id": "raw", "axes": [{"type": "batch"}, names, *space], "test_tensor": tensor}
            ],
            "outputs": [
                {"id": "masks", "axes": [{"type": "batch"}, classes, *sides], "test_tensor": tensor}
            ],
            "weights": {"torchscript": {"source": "weights.pt", "pytorch_version": "2.5"}},
        }
        | changes
    )


def description_04(**changes: Any) -> dict[str, Any]:
    """A minimal description of format 0.4 for `Small` in `weights.pt`."""
    return (
        _general("0.4.10")
        | {
            "inputs": [
                {
                    "name": "raw",
                    "axes": "bcyx",
                    "data_type": "float32",
                    "shape": {"min": [1, 2, 16, 16], "step": [0, 0, 2, 2]},
                }
            ],
            "outputs": [
                {
                    "name": "masks",
                    "axes": "bcyx",
                    "data_type": "float32",
                    "shape": {
                        "reference_tensor": "raw",
                        "scale": [1, 1, 1, 1],
                        "offset": [0, 0, 0, 0],
                    },
                    "halo": [0, 0, 4, 6],
                }
            ],
            "test_inputs": ["test.npy"],
            "test_outputs": ["test.npy"],
            "timestamp": "2024-01-01T00:00:00",
            "weights": {"torchscript": {"source": "weights.pt", "pytorch_version": "2.5"}},
        }
        | changes
    )


def _general(version: str) -> dict[str, Any]:
    return {
        "format_version": version,
        "type": "model",
        "name": "small",
        "description": "a small network",
        "authors": [{"name": "Nobody", "github_user": "nobody"}],
        "maintainers": [{"name": "Nobody", "github_user": "nobody"}],
        "cite": [{"text": "nobody", "url": "https://example.com"}],
        "license": "MIT",
        "tags": [],
        "documentation": "README.md",
    }


def write_model(
    folder: Path, description: dict[str, Any], network: nn.Module | None = None
) -> Path:
    """Write a folder of bioimage.io; JSON is YAML as well."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scripted(folder / "weights.pt", network or Small())
    np.save(folder / "test.npy", np.zeros((1, 2, 32, 32), np.float32))
    (folder / "README.md").write_text("# A small network\n")
    (folder / "bioimageio.yaml").write_text(json.dumps(description))
    return folder


def zipped(folder: Path, target: Path, inside: str = "") -> Path:
    with ZipFile(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, inside + path.name)
    return target
