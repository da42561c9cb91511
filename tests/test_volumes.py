"""Networks for volumes: `exactile segment` gives the bits of one pass over all planes at once."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from conftest import noise_image, write_image
from numpy.typing import NDArray
from program import Ended, arguments, call, files_in, finish, results_in, start
from torch import Tensor, nn

from exactile.choice import choose_plan
from exactile.engines.eager import make_engine
from exactile.finishing import OutputType
from exactile.forward import ForwardPass
from exactile.geometry import AxisLocality, Box, Halo, Locality
from exactile.images import Plane, open_source
from exactile.images.tile_assembler import TileAssembler
from exactile.memory.buffers import Buffers
from exactile.memory.cost import PassCost
from exactile.models.loading import load_model
from exactile.models.saving import save_model
from exactile.models.unet3d import UNet3d
from exactile.reference import whole_image_pass
from exactile.tiling import Plan, axis_plans, plan
from exactile.traversal import useful_cache_bytes

NAME = "stack.ome.tif"
ODD = (2, 1, 45, 37, 51)
"""T, C, Z, Y, X: with windows of 28, 3 x 3 x 4 zones of 16, the last ones cut off."""
TILE = 28


def randomized(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
    return network.eval()


def write_volume_model(folder: Path, **architecture: int) -> Path:
    """Write a volumetric U-Net with random weights; by default F = 2 and the halo is 6."""
    full = {"channels": 1, "classes": 3, "base_width": 2, "depth": 1, "convolutions": 1}
    full |= architecture
    torch.manual_seed(0)
    description = {
        "name": "random",
        "description": "random weights",
        "version": "0",
        "normalization": "zscore",
        "license": "MIT",
        "training": {},
        "metrics": {},
        "data_source": "none",
        "acknowledgement": "none",
        "architecture": {"name": "unet3d", **full},
        "classes": tuple(f"class {i}" for i in range(full["classes"])),
    }
    save_model(folder, randomized(UNet3d(**full)), description)
    return folder


class Anisotropic(nn.Module):
    """Looks 1 px far in Z at its coarse level only, where Y and X are halved and Z is not."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1))
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.coarse = nn.Conv3d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose3d(4, 4, (1, 2, 2), stride=(1, 2, 2))
        self.last = nn.Conv3d(8, 2, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Return logits of two classes."""
        fine = torch.relu(self.fine(volume))
        low = self.up(torch.relu(self.coarse(self.pool(fine))))
        logits: Tensor = self.last(torch.cat([fine, low], 1))
        return logits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume_model(tmp_path_factory.mktemp("volumes") / "model")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """The folder of an uninterrupted run, of labels with a pyramid: in/ and out/."""
    folder = tmp_path_factory.mktemp("clean")
    write_image(folder / "in" / NAME, noise_image(ODD))
    ended = run(folder, model, pyramid="true")
    assert ended.code == 0, ended.log
    return folder


def run(folder: Path, model: Path, out: str = "out", **options: object) -> Ended:
    options = {"model": model, "tileSize": TILE} | options
    return call(arguments(folder / "in", folder / out, **options))


def expected(
    model: Path, pixels: NDArray[Any], output: OutputType, chunk: tuple[int, ...] | None = None
) -> NDArray[Any]:
    """Return (T, C, Z, Y, X) of one pass over each volume of `pixels` (T, C, Z, Y, X)."""
    loaded = load_model(model)
    engine = make_engine(loaded.network, torch.device("cpu"), "float32")
    return np.stack([whole_image_pass(engine, loaded, each, output, chunk) for each in pixels])


def read_tiff(path: Path, shape: tuple[int, ...], channels: int) -> NDArray[Any]:
    size_t, _, *volume = shape
    return tifffile.imread(path).reshape(size_t, channels, *volume)


def certificate(folder: Path, name: str = NAME) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "certificates" / f"{name}.json").read_text())
    return content


# The promise


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_volumes_get_the_bits_of_one_pass_over_all_planes(
    tmp_path: Path, model: Path, output: OutputType
) -> None:
    pixels = noise_image((1, 1, 31, 37, 29))
    write_image(tmp_path / "in" / NAME, pixels)
    ended = run(tmp_path, model, outputType=output, verify=1)
    assert ended.code == 0, ended.log
    found = read_tiff(tmp_path / "out" / NAME, pixels.shape, 3)
    assert np.array_equal(found, expected(model, pixels, output))
    facts = certificate(tmp_path / "out")
    assert facts["plan"]["axes"] == ["Z", "Y", "X"]
    assert facts["bit_stability"]["equal"]
    assert facts["verification"]["different"] == 0
    assert facts["plan"]["zone"] == [16, 16, 16]
    assert facts["plan"]["windows"] == 2 * 3 * 2


def test_each_time_point_has_its_own_statistics_and_labels(clean: Path, model: Path) -> None:
    found = read_tiff(clean / "out" / NAME, ODD, 1)
    assert np.array_equal(found, expected(model, noise_image(ODD), "labels"))
    assert list(certificate(clean / "out")["input"]["normalization"]) == ["t=0", "t=1"]


def test_float_pixels_of_two_channels_in_ome_zarr_are_exact_too(tmp_path: Path) -> None:
    """Chunks span planes; the statistics are of blocks as they are decoded."""
    folder = write_volume_model(tmp_path / "model", channels=2)
    pixels = noise_image((1, 2, 33, 31, 35), dtype=np.float32)
    path, chunks = tmp_path / "in" / "stack.ome.zarr", (1, 1, 4, 32, 32)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [1.0] * 5}]
    levels = [{"path": "0", "coordinateTransformations": scale}]
    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
    stored = root.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)
    stored[...] = pixels
    ended = run(tmp_path, folder, outputType="logits")
    assert ended.code == 0, ended.log
    found = zarr.open_group(tmp_path / "out" / path.name, mode="r")["0"][...]  # type: ignore[index]
    with_blocks = expected(folder, pixels, "logits", (4, 31, 35))
    assert np.array_equal(found, with_blocks)


def test_a_network_may_treat_z_otherwise_than_y_and_x(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.jit.script(Anisotropic().eval()).save(tmp_path / "model.pt")
    pixels = noise_image((1, 1, 40, 40, 33))
    write_image(tmp_path / "in" / NAME, pixels)
    options = {"normalization": "zscore", "outputType": "logits"}
    ended = run(tmp_path, tmp_path / "model.pt", **options)
    assert ended.code == 0, ended.log
    assert "F 1 x 2 x 2, halo (1, 1) x (4, 4) x (4, 4)" in ended.log
    found = read_tiff(tmp_path / "out" / NAME, pixels.shape, 2)
    loaded = load_model(tmp_path / "model.pt")
    engine = make_engine(loaded.network, torch.device("cpu"), "float32")
    assert np.array_equal(found[0], whole_image_pass(engine, loaded, pixels[0], "logits"))
    assert certificate(tmp_path / "out")["plan"]["zone"] == [26, 20, 20]


@pytest.mark.parametrize("shape", [(1, 40, 50), (40, 1, 1), (2, 3, 70)])
def test_stacks_of_a_plane_and_columns_of_a_pixel_are_volumes(
    tmp_path: Path, model: Path, shape: tuple[int, ...]
) -> None:
    pixels = noise_image((1, 1, *shape))
    write_image(tmp_path / "in" / NAME, pixels)
    ended = run(tmp_path, model, outputType="logits")
    assert ended.code == 0, ended.log
    found = read_tiff(tmp_path / "out" / NAME, pixels.shape, 3)
    assert np.array_equal(found, expected(model, pixels, "logits"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_deeper_network_of_usual_width_is_exact(
    tmp_path: Path, precision: str, engine: str
) -> None:
    folder = write_volume_model(tmp_path / "model", depth=2, base_width=8, convolutions=2)
    pixels = noise_image((1, 1, 100, 90, 70))
    write_image(tmp_path / "in" / NAME, pixels)
    options = {"outputType": "logits", "precision": precision, "engine": engine}
    assert run(tmp_path, folder, "whole", tileSize=136, **options).code == 0
    assert run(tmp_path, folder, "tiles", tileSize=80, **options).code == 0
    whole, tiles = ((tmp_path / out / NAME).read_bytes() for out in ("whole", "tiles"))
    assert certificate(tmp_path / "whole")["plan"]["windows"] == 1
    assert certificate(tmp_path / "tiles")["plan"]["windows"] > 4
    if certificate(tmp_path / "tiles")["bit_stability"]["equal"]:
        assert whole == tiles
    else:
        assert engine == "auto"


# Interruptions, memory, statistics


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, clean: Path, model: Path
) -> None:
    first = (
        "import os, signal\nfrom exactile.forward import ForwardPass\n"
        "begin, left = ForwardPass.start, [60]\n"
        "def count(self, *rest):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return begin(self, *rest)\n"
        "ForwardPass.start = count\n"
    )
    options = {"model": model, "tileSize": TILE, "pyramid": "true"}
    words = arguments(clean / "in", tmp_path / "out", **options)
    assert finish(start(words, first)).code == -9
    assert not (tmp_path / "out" / NAME).exists()
    ended = call(words)
    assert ended.code == 0, ended.log
    assert "zones that an earlier run stored" in ended.log
    assert (tmp_path / "out" / NAME).read_bytes() == (clean / "out" / NAME).read_bytes()
    assert results_in(tmp_path / "out") == results_in(clean / "out")


def test_where_memory_runs_out_the_rest_is_done_in_smaller_windows(
    tmp_path: Path, clean: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, passes = ForwardPass.start, [0]

    def scarce(self: ForwardPass, window: NDArray[np.float32], *rest: Any) -> Any:
        passes[0] += 1
        if passes[0] > 7 and window.size > 16_000:
            raise MemoryError("no room")
        return begin(self, window, *rest)

    monkeypatch.setattr(ForwardPass, "start", scarce)
    words = arguments(clean / "in", tmp_path, model=model, tileSize=TILE, pyramid="true")
    ended = call(words)
    assert ended.code == 0, ended.log
    assert certificate(tmp_path)["plan"]["windows_before"]
    assert (tmp_path / NAME).read_bytes() == (clean / "out" / NAME).read_bytes()


def test_statistics_measured_before_give_the_same_bytes_also_in_shards(
    tmp_path: Path, clean: Path, model: Path
) -> None:
    for shard in ("0/2", "1/2"):
        words = ["statistics", "--inpDir", str(clean / "in"), "--outDir", str(tmp_path / "m")]
        assert call([*words, "--model", str(model), "--shard", shard]).code == 0
    options = {"model": model, "tileSize": TILE, "pyramid": "true", "statistics": tmp_path / "m"}
    ended = call(arguments(clean / "in", tmp_path / "out", **options))
    assert ended.code == 0, ended.log
    assert (tmp_path / "out" / NAME).read_bytes() == (clean / "out" / NAME).read_bytes()


def test_statistics_of_planes_are_not_taken_for_those_of_volumes(
    tmp_path: Path, clean: Path, model: Path, small_model: Path
) -> None:
    words = ["statistics", "--inpDir", str(clean / "in"), "--outDir", str(tmp_path / "m")]
    assert call([*words, "--model", str(small_model)]).code == 0
    ended = call(arguments(clean / "in", tmp_path / "out", model=model, statistics=tmp_path / "m"))
    assert ended.code == 1
    assert "belongs to something else" in ended.errors[0]
    assert results_in(tmp_path / "out") == []


# What is refused


def test_shards_and_mosaics_of_volumes_are_refused(
    tmp_path: Path, clean: Path, model: Path
) -> None:
    words = arguments(clean / "in", tmp_path / "out", model=model)
    for ended in (
        call([*words, "--shard", "0/2"]),
        call(words, JOB_COMPLETION_INDEX="1", JOB_COMPLETION_COUNT="3"),
    ):
        assert ended.code != 0
        assert "the work is split into rows of single planes" in ended.errors[0]
        assert "--filePattern" in ended.errors[0]
    vector = tmp_path / "img-global-positions-1.txt"
    vector.write_text(f"file: {NAME}; corr: 0; position: (0, 0); grid: (0, 0);\n")
    ended = call([*words, "--stitchingVector", str(vector)])
    assert ended.code != 0
    assert "takes volumes" in ended.errors[0]
    assert not (tmp_path / "out").exists() or files_in(tmp_path / "out") == []


def test_a_tile_without_room_for_a_zone_names_the_axis_that_needs_most(
    tmp_path: Path, clean: Path, model: Path
) -> None:
    ended = call(arguments(clean / "in", tmp_path / "out", model=model, tileSize=12))
    assert ended.code == 1
    assert "use at least 14, or auto" in ended.errors[0]


def test_a_pixel_that_is_not_finite_is_named_with_its_plane(tmp_path: Path, model: Path) -> None:
    pixels = noise_image((1, 1, 5, 30, 40), dtype=np.float32)
    pixels[0, 0, 3, 7, 8] = np.nan
    write_image(tmp_path / "in" / NAME, pixels)
    ended = run(tmp_path, model)
    assert ended.code == 1
    assert "the pixel at y=7, x=8 (plane t=0, z=3, channel 0) is nan" in ended.errors[0]


# Plans and memory


def volume_locality(alignment: int = 8, halo: int = 48) -> Locality:
    return Locality((AxisLocality(alignment, Halo(halo, halo)),) * 3)


def test_zones_need_not_fit_the_tiles_of_files_along_z() -> None:
    tiling = plan((300, 3000, 3000), volume_locality(), 256)
    assert tiling.zone == (160, 160, 160)
    sides = {each.zone for each in axis_plans(300, volume_locality().axes[0], 1)}
    assert {304, 152, 104, 80, 64} <= sides


def most_tiles_begun(tiling: Plan) -> int:
    """Return how many tiles are begun at most when zones are written as they are run."""
    _, height, width = tiling.shape
    assembler = TileAssembler((height, width), 1, np.dtype(np.uint8), 1024)
    most = 0
    for tile in tiling.tiles():
        stack, *sides = (tile.zone & Box.of_shape(tiling.shape)).axes
        place = Box(tuple(sides))
        for z in range(stack.start, stack.stop):
            list(assembler.add(Plane(0, z), place, np.zeros((1, *place.shape), np.uint8)))
        most = max(most, len(assembler._partial))
    assert not assembler._partial
    return most


def test_tiles_are_begun_in_the_planes_of_one_layer_of_zones_only() -> None:
    """However deep the volume is."""
    begun = {
        depth: most_tiles_begun(plan((depth, 400, 1100), volume_locality(8, 8), 144))
        for depth in (160, 300)
    }
    assert begun == {160: 128, 300: 128}


def test_decoded_chunks_are_kept_for_the_planes_of_a_window_and_not_for_the_stack(
    clean: Path,
) -> None:
    """The stack is one chunk wide and high, of 45 planes; a window has 28 of them."""
    tiling = plan(ODD[2:], volume_locality(2, 6), TILE)
    with open_source(clean / "in" / NAME) as source:
        chunk = source.chunk[0] * source.chunk[1] * 2
        assert useful_cache_bytes(tiling, source, 1) == 28 * chunk


@pytest.mark.parametrize(
    ("zone", "begun"),
    [((64, 256, 256), 64), ((64, 240, 256), 64 * 4), ((64, 1024, 2048), 0), ((64, 2056, 2056), 0)],
)
def test_tiles_begun_in_the_planes_of_a_zone_count_as_memory(
    zone: tuple[int, ...], begun: int
) -> None:
    held = Buffers(1, 2, 1, 1, decoded=0, across=3, plane=(2050, 2050))
    tile = 2 * 1024**2  # a byte for the label, and one that it was written
    without = 4 * (zone[0] * zone[1] * zone[2] * 8 + 8**3 * 4) + 4 * 1024**2
    assert held((8, 8, 8), zone) == without + begun * tile


def test_the_plan_of_a_volume_fits_the_memory_and_cuts_all_three_axes() -> None:
    held = Buffers(1, 2, 1, 1, decoded=0, across=2, plane=(2048, 2048))
    chosen = choose_plan((512, 2048, 2048), volume_locality(), PassCost(0, 500.0), 8 * 2**30, held)
    assert chosen.memory_bytes <= 8 * 2**30
    assert chosen.tiling.count > 8
    assert chosen.stable
    assert chosen.tiling.computed_ratio < 5


def test_windows_are_chosen_within_the_memory(tmp_path: Path, clean: Path, model: Path) -> None:
    options = {"tileSize": "auto", "memory": "400MB", "model": model, "pyramid": "true"}
    ended = call(arguments(clean / "in", tmp_path, **options))
    assert ended.code == 0, ended.log
    assert (tmp_path / NAME).read_bytes() == (clean / "out" / NAME).read_bytes()


# What people see


def test_report_and_preview_show_the_middle_plane(clean: Path) -> None:
    previews = clean / "out" / "exactile" / "previews"
    assert [path.name for path in previews.iterdir()] == [f"{NAME}.png"]
    page = (clean / "out" / "exactile" / "report.html").read_text()
    plan_facts = certificate(clean / "out")["plan"]
    assert plan_facts["zone"][0] == 16
    assert "Seen along Z: 3 layers" in page
    assert " \N{MULTIPLICATION SIGN} ".join(["51", "37", "45"]) in page


def test_inspect_plans_a_volume_by_its_sides_or_its_file(clean: Path, model: Path) -> None:
    for size in (["--size", "45x37x51"], ["--image", str(clean / "in" / NAME)]):
        ended = call(["inspect", "--model", str(model), "--json", *size])
        assert ended.code == 0, ended.log
        facts = json.loads(ended.out)
        assert facts["plan"]["shape"] == [45, 37, 51]
        assert facts["halo"] == [[6, 6]] * 3
    page = call(["inspect", "--model", str(model), "--size", "45x37x51"])
    assert page.code == 0, page.log
    assert "locality Z" in page.out
    assert "45 x 37 x 51 px" in page.out


def test_zones_partition_a_volume() -> None:
    tiling = plan((45, 37, 51), volume_locality(2, 6), TILE)
    seen = np.zeros(tiling.extent, np.uint8)
    for tile in tiling.tiles():
        seen[tile.zone.slices] += 1
    assert seen.min() == seen.max() == 1
    assert len(list(product(*(axis.zones() for axis in tiling.axes)))) == tiling.count
