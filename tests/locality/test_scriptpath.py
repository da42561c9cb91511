"""A refusal of a TorchScript network names the modules that may have called the operator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exactile.locality import NotLocal, analyze


class Excited(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


FORMS = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, torch.zeros(1, 1, 32, 32)),
}


def refused_by(*layers: nn.Module, form: str) -> dict[str, str]:
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), *layers).eval()
    with pytest.raises(NotLocal) as caught:
        analyze(FORMS[form](module), 1)
    return {refusal.operator: refusal.module for refusal in caught.value.refusals}


@pytest.mark.parametrize("form", FORMS)
def test_the_innermost_module_is_named(form: str) -> None:
    found = refused_by(nn.InstanceNorm2d(4), form=form)
    assert found == {"aten.native_batch_norm": "2 (InstanceNorm2d)"}
    assert refused_by(Excited(), form=form) == {"aten.mean": "2 (Excited)"}
    found = refused_by(nn.Sequential(nn.GroupNorm(2, 4)), form=form)
    assert found == {"aten.native_group_norm": "2.0 (GroupNorm)"}


def test_of_many_modules_a_few_are_named() -> None:
    found = refused_by(*(nn.InstanceNorm2d(4) for _ in range(5)), form="scripted")
    (modules,) = found.values()
    assert modules.startswith("2 (InstanceNorm2d), 3 (InstanceNorm2d), 4 (InstanceNorm2d), 2 more")
