"""What code of TorchScript looks at the image's size is named before any image is there."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from exactile.inspection import inspect_model
from exactile.locality import analyze
from exactile.locality.scriptsizes import looks_at_sizes
from exactile.report.inspection_page import as_text


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 2, 3, padding=1)
        self.b = nn.Conv2d(2, 2, 3, padding=1)


class Branches(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if x.size(2) > 1000000:
            y = torch.tanh(y)
        return self.b(y)


class Counts(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        for _ in range(x.shape[-1] // 1000000):
            y = torch.tanh(y)
        return self.b(y)


class Repeats(Base):
    def forward(self, x: Tensor) -> Tensor:
        y, rows = self.a(x), x.numel() // 1000000000
        while rows > 0:
            y, rows = torch.tanh(y), rows // 2
        return self.b(y)


class ChoosesANumber(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)) * (2.0 if len(x[0, 0]) > 1000000 else 1.0)


class WritesInPlace(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if y.flatten(2).size(2) > 1000000000:
            y.mul_(2.0)
        return self.b(y)


class TurnsAround(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if x.permute(0, 2, 3, 1).size(1) > 1000000:
            y = torch.tanh(y)
        return self.b(y)


LOOKS = (Branches, Counts, Repeats, ChoosesANumber, WritesInPlace, TurnsAround)


class Honest(Base):
    """Skips, checks, numbers of channels, and what torch's own functions ask."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) != 1 and x.dim() == 4:
            x = x[:, :1]
        assert x.size(2) > 1, "too small"
        rows, columns = x.shape[-2], x.shape[-1]
        y = F.pad(self.a(x), [0, columns % 2, 0, rows % 2])
        y = F.interpolate(self.up(F.max_pool2d(y, 2)), size=y.shape[2:], mode="nearest")
        return self.b(y)[:, :, :rows, :columns]


def script(network: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(network.eval()), file)
        file.seek(0)
        # As from a file: what is scripted in one process shares its code with others of its kind.
        made: torch.jit.ScriptModule = torch.jit.load(file)
    return made


@pytest.mark.parametrize("kind", LOOKS)
def test_code_that_looks_at_the_size_is_named_where_no_trial_shows_it(
    kind: type[nn.Module],
) -> None:
    network = script(nn.Sequential(nn.Identity(), kind()))
    analyze(network, 1)
    assert len(looks_at_sizes(network)) == 1


def test_sizes_that_lead_to_no_branch_and_checks_are_no_looks() -> None:
    assert looks_at_sizes(script(Honest())) == ()


def test_an_inspection_says_what_only_a_run_can_confirm(tmp_path: Path) -> None:
    script(Branches()).save(str(tmp_path / "model.pt"))
    (line,) = json.loads(as_text(inspect_model(tmp_path / "model.pt", None)))["looks_at_size"]
    assert "1000000" in line
