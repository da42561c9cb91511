"""Whether a network that may deceive is admitted and wrong: the property, for any test to use.

A network is written as source code, because TorchScript compiles nothing else: the lines of its
`__init__` and of its `forward`, where `x` is the image (1, 1, rows, columns) and `y` what is
returned. It is tried as an eager module, as TorchScript and as a program of `torch.export`, each as
the loaders give it, and run in windows as a plan has it.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import nn

from exactile.errors import ModelError, PlanError
from exactile.locality import Analysis, analyze, confirm
from exactile.models.formats import open_network
from exactile.tiling import Plan, least_tile, plan

Form = Literal["module", "script", "exported"]
FORMS: tuple[Form, ...] = get_args(Form)

EXTENTS = ((413, 297), (320, 320), (257, 640))
"""Images that are tried: above and below what branches look at, odd, square, wide."""

TILE = 96
"""Windows are about so long; larger where the halo needs it."""

ROUNDING = 1e-4
"""Largest difference, in standard deviations of the output, that sums in another order make."""

HEAD = """
import itertools, math, random, time
from typing import Dict, List, Optional, Tuple
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CALLS = [0]
"""


@dataclass(frozen=True)
class Recipe:
    """The source of a network."""

    forward: tuple[str, ...]
    """Lines of `forward`, indented as inside of it; `y` starts as the first convolution."""
    init: tuple[str, ...] = ()
    """Lines of `__init__`, beside three convolutions, a batch norm and a table of numbers."""
    methods: tuple[str, ...] = ()
    """Lines of other methods."""
    before: tuple[str, ...] = ()
    """Lines of the module, before the class."""

    @property
    def source(self) -> str:
        """Return the whole file."""
        init = (
            "super().__init__()",
            "self.a = nn.Conv2d(1, 4, 3, padding=1)",
            "self.b = nn.Conv2d(4, 4, 3, padding=1)",
            "self.c = nn.Conv2d(4, 2, 3, padding=1)",
            "self.n = nn.BatchNorm2d(4)",
            "self.table = nn.Parameter(torch.linspace(-1, 1, 64))",
            *self.init,
        )
        lines = [
            *self.before,
            "class Network(nn.Module):",
            "    def __init__(self):",
            *("        " + line for line in init),
            *("    " + line for line in self.methods),
            "    def forward(self, x):",
            "        y = self.a(x)",
            *("        " + line for line in self.forward),
            "        return self.c(torch.relu(y))",
        ]
        return HEAD + "\n".join(lines) + "\n"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch from warning of what it will no longer have."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def imported(recipe: Recipe, folder: Path) -> ModuleType:
    """Return the recipe's file as a module of Python; TorchScript reads the file."""
    name = "network_" + blake2b(recipe.source.encode(), digest_size=8).hexdigest()
    path = folder / f"{name}.py"
    path.write_text(recipe.source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def made(recipe: Recipe, form: Form, folder: Path) -> nn.Module | None:
    """Return the network in one form, with random weights; None where it has no such form.

    Raises `ModelError` where the loader refuses it.
    """
    torch.manual_seed(0)
    network: nn.Module = imported(recipe, folder).Network().eval()
    with torch.no_grad():
        for buffer in network.buffers():
            if buffer.is_floating_point() and buffer.shape == (4,):
                buffer.uniform_(0.5, 1.5)
    if form == "module":
        return network
    with quiet():
        try:
            if form == "script":
                content = io.BytesIO()
                torch.jit.save(torch.jit.script(network), content)
                (folder / "model.pt").write_bytes(content.getvalue())
                return open_network(folder / "model.pt").network
            sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
            program = torch.export.export(
                network, (torch.randn(1, 1, 353, 371),), dynamic_shapes=(sides,)
            )
            torch.export.save(program, folder / "model.pt2")
            return open_network(folder / "model.pt2").network
        except ModelError:
            raise
        except Exception:  # noqa: BLE001 - what cannot be made in a form is not tried in it
            return None


def image(extent: tuple[int, ...]) -> torch.Tensor:
    """Return noise (1, 1, rows, columns) that no threshold near 0 tells from any other."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, 1, *extent), generator=generator)


def in_windows(
    network: nn.Module, tiling: Plan, padded: torch.Tensor, whole: torch.Tensor
) -> torch.Tensor:
    """Return the output that the windows of a plan give, of the shape of the `whole`."""
    result = torch.full_like(whole, torch.nan)
    with torch.inference_mode():
        for tile in tiling.tiles():
            window = padded[tile.window.slices].contiguous()
            part = network(window)[tile.crop.slices]
            if part.shape != result[tile.zone.slices].shape:
                return result
            result[tile.zone.slices] = part
    return result


def difference(network: nn.Module, found: Analysis, extent: tuple[int, int]) -> float | None:
    """Return how far windows are from one pass over an image, in standard deviations.

    None where the image is refused, or one window holds it all. The image is reflected to a
    multiple of F, as the reference is.
    """
    try:
        tiling = plan(extent, found.locality, max(TILE, least_tile(found.locality)))
        if tiling.count == 1:
            return None
        confirm(network, 1, found, tiling.window, tiling.extent, extent)
    except (ModelError, PlanError):
        return None
    pads = [side - own for side, own in zip(tiling.extent, extent, strict=True)]
    whole = nn.functional.pad(image(extent), (0, pads[1], 0, pads[0]), mode="reflect")
    with torch.inference_mode():
        expected = network(whole.clone())
    result = in_windows(network, tiling, whole, expected)
    kept = (..., *(slice(0, side) for side in tiling.output_shape))
    result, expected = result[kept], expected[kept]
    return float((result - expected).abs().nan_to_num(torch.inf).max() / expected.std())


def wrong(
    recipe: Recipe,
    form: Form,
    folder: Path,
    extents: tuple[tuple[int, int], ...] = EXTENTS,
) -> dict[tuple[int, int], float]:
    """Return by how much an admitted network is wrong, for each image where it is."""
    try:
        network = made(recipe, form, folder)
        if network is None:
            return {}
        with quiet():
            found = analyze(network, 1)
    except ModelError:
        return {}
    off = {}
    with quiet():
        for extent in extents:
            by = difference(network, found, extent)
            if by is not None and not by <= ROUNDING:
                off[extent] = by
    return off
