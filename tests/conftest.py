"""Networks, images and folders that many tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from exactile.allocation import prepare
from exactile.devices import limit_threads
from exactile.geometry import Box
from exactile.images import ImageMetadata, OmeTiffSink, OutputImage, PhysicalSize
from exactile.models.saving import save_model
from exactile.models.unet import UNet

SHARED = Path(__file__).parents[2] / "shared"


def stay_on_one_core() -> None:
    """Give this worker of pytest-xdist, and the programs it starts, one core of those there are.

    Workers that all compute on all cores wait for each other: the tests took three times as long.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers: one for each core that this process may use."""
    return len(os.sched_getaffinity(0))


stay_on_one_core()
prepare()
limit_threads(None)
# Other work on the machine must not fail a test.
settings.register_profile("exactile", deadline=None)
settings.load_profile("exactile")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real images and schemas is not here")
    return SHARED


def random_unet(seed: int = 0, **architecture: int) -> UNet:
    """A U-Net with random weights and random batch statistics, in evaluation mode."""
    torch.manual_seed(seed)
    network = UNet(**architecture)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.2, 0.6)
            torch.nn.init.uniform_(module.weight, 0.6, 1.4)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def write_random_model(folder: Path, seed: int = 0, **architecture: int) -> UNet:
    """Write a random U-Net with its card into `folder` and return it."""
    full = {"channels": 1, "classes": 2, "base_width": 16, "depth": 4, "convolutions": 2}
    full |= architecture
    network = random_unet(seed, **full)
    description = {
        "name": "random",
        "description": "random weights",
        "version": "0",
        "architecture": {"name": "unet", **full},
        "normalization": "zscore",
        "classes": tuple(f"class {i}" for i in range(full["classes"])),
        "license": "MIT",
        "data_source": "none",
        "acknowledgement": "none",
        "training": {},
        "metrics": {},
    }
    save_model(folder, network, description)
    return network


def write_image(path: Path, pixels: NDArray[Any], **metadata: Any) -> Path:
    """Write `pixels` (T, C, Z, Y, X), or its last axes, as OME-TIFF."""
    pixels = pixels.reshape((1,) * (5 - pixels.ndim) + pixels.shape)
    size_t, size_c, size_z, *shape = pixels.shape
    size = PhysicalSize(0.65)
    image = OutputImage(
        (shape[0], shape[1]),
        pixels.dtype,
        size_t=size_t,
        size_c=size_c,
        size_z=size_z,
        metadata=ImageMetadata(**({"x": size, "y": size, "name": path.name} | metadata)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with OmeTiffSink(path, image) as sink:
        for plane in image.planes:
            sink.write(plane, Box.of_shape(image.shape), pixels[plane.t, :, plane.z])
    return path


def noise_image(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.uint16) -> NDArray[Any]:
    """Blocks of 8 pixels and grain, so that every level of a network sees some of it."""
    rng = np.random.default_rng(seed)
    *lead, height, width = shape
    coarse = rng.integers(0, 3000, (*lead, height // 8 + 1, width // 8 + 1))
    blocks = coarse.repeat(8, -2).repeat(8, -1)[..., :height, :width]
    return (blocks + rng.integers(0, 1500, shape)).astype(dtype)


@pytest.fixture
def random_model(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with a random model of the given architecture."""

    def make(**architecture: int) -> Path:
        folder = tmp_path / "model"
        write_random_model(folder, **architecture)
        return folder

    return make


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that runs fast: F = 2, halo 6, so 14 is the least tile size."""
    folder = tmp_path_factory.mktemp("small") / "model"
    write_random_model(folder, depth=1, convolutions=1, base_width=2)
    return folder


@pytest.fixture(scope="session")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Four processes of a gloo group, for all tests of the session that ask for them."""
    # Beside the tests that use it; torch.distributed is not loaded for others.
    from partition_ranks import Ranks

    made = Ranks(4, tmp_path_factory.mktemp("ranks"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def eight_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Eight of them, for slow tests."""
    from partition_ranks import Ranks

    made = Ranks(8, tmp_path_factory.mktemp("ranks"))
    yield made
    made.stop()
