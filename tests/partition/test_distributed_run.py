"""What all ranks write together is what one process writes: in processes that are started once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.distributed as dist
from conftest import noise_image, write_image
from partition_networks import NETWORKS
from partition_ranks import Ranks
from program import arguments, call, files_in
from torch import nn

from exactile.distributed.measuring import fit_together
from exactile.distributed.run import partition_collection, prepare
from exactile.distributed.settings import PartitionSettings
from exactile.distributed.team import RankError, Team
from exactile.errors import ImageError
from exactile.images import Volume, open_source
from exactile.normalization import fit_array, normalize
from exactile.processing import Before, ScaleRange, ZScore

DYNAMIC = torch.export.Dim.DYNAMIC


def run_all(group: dist.ProcessGroup, options: dict[str, str]) -> bool:
    return partition_collection(prepare(PartitionSettings.from_options(options), Team()))


def partitioned(ranks: Ranks, inp_dir: Path, out_dir: Path, **options: object) -> Path:
    given = {"inpDir": str(inp_dir), "outDir": str(out_dir)}
    given |= {name: str(value) for name, value in options.items()}
    assert ranks.run(run_all, 4, given) == [True] * 4
    return out_dir


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of two planes, more than one row and one column of tiles, off the grid."""
    folder = tmp_path_factory.mktemp("slides")
    write_image(folder / "slide.ome.tif", noise_image((2, 1300, 1037)), name="slide")
    return folder


@pytest.mark.parametrize("output_type", ["labels", "logits"])
def test_files_have_the_bytes_that_segment_writes(
    ranks: Ranks, slides: Path, small_model: Path, tmp_path: Path, output_type: str
) -> None:
    options = {"model": small_model, "outputType": output_type}
    ended = call(arguments(slides, tmp_path / "one", **options), NUM_THREADS="1")
    assert ended.code == 0, ended.log
    made = partitioned(ranks, slides, tmp_path / "four", mesh="2x2", **options)
    whole = (tmp_path / "one" / "slide.ome.tif").read_bytes()
    assert (made / "slide.ome.tif").read_bytes() == whole
    assert files_in(made) == ["certificates/slide.ome.tif.json", "slide.ome.tif"]


def test_finished_images_are_left_as_they_are(
    ranks: Ranks, slides: Path, small_model: Path, tmp_path: Path
) -> None:
    made = partitioned(ranks, slides, tmp_path, model=small_model)
    before = [path.stat().st_mtime_ns for path in sorted(made.rglob("*"))]
    partitioned(ranks, slides, tmp_path, model=small_model)
    assert [path.stat().st_mtime_ns for path in sorted(made.rglob("*"))] == before


def exported(name: str, path: Path) -> nn.Module:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    program = torch.export.export(
        network, (torch.randn(1, 1, 64, 64),), dynamic_shapes=({2: DYNAMIC, 3: DYNAMIC},)
    )
    torch.export.save(program, path)
    return network


@pytest.mark.parametrize(("name", "alignment"), [("residual", 2), ("squeeze", 1)])
def test_networks_that_tiling_refuses_run_exactly(
    ranks: Ranks, tmp_path: Path, name: str, alignment: int
) -> None:
    network = exported(name, tmp_path / "network.pt2")
    image = noise_image((1, 301, 197), seed=3)
    write_image(tmp_path / "in" / "a.ome.tif", image)
    options = {"model": tmp_path / "network.pt2", "outputType": "logits"}
    made = partitioned(ranks, tmp_path / "in", tmp_path / "out", **options)
    # The reference: one pass over the image, padded at the end to the network's strides.
    whole = normalize(image, fit_array((ZScore(),), image))
    pads = [(0, -side % alignment) for side in image.shape[1:]]
    whole = np.pad(whole, [(0, 0), *pads], mode="reflect")
    with torch.no_grad():
        expected = network(torch.from_numpy(whole)[None])[0, :, :301, :197].numpy()
    found = tifffile.imread(made / "a.ome.tif")
    # Sums over the ranks and within kernels have another order.
    assert np.abs(found - expected).max() < 5e-6 * np.abs(expected).max()
    assert (found.argmax(0) == expected.argmax(0)).all()
    certificate = json.loads((made / "certificates" / "a.ome.tif.json").read_text())
    assert certificate["partition"]["alignment"] == [alignment] * 2
    assert certificate["model"]["local"] is False


@pytest.fixture(scope="module")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from exactile.models.saving import save_model
    from exactile.models.unet3d import UNet3d

    torch.manual_seed(0)
    full = {"channels": 1, "classes": 2, "base_width": 2, "depth": 2, "convolutions": 1}
    card = {
        "name": "volumes",
        "architecture": {"name": "unet3d", **full},
        "normalization": "zscore",
        "classes": ("nothing", "something"),
        **dict.fromkeys(("description", "version", "license"), "none"),
        **dict.fromkeys(("data_source", "acknowledgement"), "none"),
        "training": {},
        "metrics": {},
    }
    folder = tmp_path_factory.mktemp("volumes") / "model"
    save_model(folder, UNet3d(**full).eval(), card)
    return folder


@pytest.mark.parametrize("mesh", [{"mesh": "4", "axes": "Z"}, {"mesh": "2x2", "axes": "ZX"}])
def test_volumes_of_each_time_point_go_through_as_wholes(
    ranks: Ranks, volume_model: Path, tmp_path: Path, mesh: dict[str, str]
) -> None:
    from exactile.models.loading import load_model

    image = noise_image((2, 1, 21, 30, 45), seed=5)
    write_image(tmp_path / "in" / "v.ome.tif", image)
    options = {"model": volume_model, "outputType": "logits", **mesh}
    made = partitioned(ranks, tmp_path / "in", tmp_path / "out", **options)
    found = tifffile.imread(made / "v.ome.tif").reshape(2, 2, 21, 30, 45)
    model = load_model(volume_model)
    for volume, own in zip(image, found, strict=True):
        whole = normalize(volume, fit_array(model.before, volume))
        pads = [(0, -side % 4) for side in volume.shape[1:]]
        whole = np.pad(whole, [(0, 0), *pads], mode="reflect")
        with torch.no_grad():
            expected = model.network(torch.from_numpy(whole)[None])[0, :, :21, :30, :45].numpy()
        assert np.abs(own - expected).max() < 5e-6 * np.abs(expected).max()
        assert (own.argmax(0) == expected.argmax(0)).all()


def fitted(group: dist.ProcessGroup, path: Path, steps: tuple[Before, ...]) -> Any:
    with open_source(path) as source:
        return fit_together(Team(), steps, source, Volume(), (0,))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("step", [ZScore(), ScaleRange(1, 99.8)])
def test_statistics_of_a_volume_have_the_bits_of_one_process(
    ranks: Ranks, tmp_path: Path, dtype: Any, step: Before
) -> None:
    image = noise_image((1, 5, 70, 1100), dtype=dtype)
    write_image(tmp_path / "v.ome.tif", image)
    made = ranks.run(fitted, 4, tmp_path / "v.ome.tif", (step,))
    # Blocks of the file: one row of two tiles in each plane.
    assert made == [fit_array((step,), image, (1, 1024, 1024))] * 4


def failing(group: dist.ProcessGroup, error: Exception) -> tuple[str, str]:
    team = Team()

    def act() -> int:
        if team.rank in (1, 2):
            raise error
        return team.rank

    caught = []
    for attempt in (
        lambda: team.together(act),
        lambda: team.agree(ImageError("bad") if team.rank == 3 else None),
    ):
        with pytest.raises(RankError) as raised:
            attempt()
        caught.append(str(raised.value))
    return caught[0], caught[1]


def test_what_fails_on_some_ranks_fails_on_all_and_is_said_with_their_names(ranks: Ranks) -> None:
    for said, agreed in ranks.run(failing, 4, ImageError("a.tif is damaged")):
        assert said == "rank 1: a.tif is damaged; rank 2: a.tif is damaged"
        assert agreed == "rank 3: bad"


def refused(group: dist.ProcessGroup, options: dict[str, str]) -> str:
    with pytest.raises(RankError) as caught:
        prepare(PartitionSettings.from_options(options), Team())
    return str(caught.value)


def test_what_all_ranks_say_is_said_once(ranks: Ranks, tmp_path: Path) -> None:
    options = {"inpDir": str(tmp_path / "none"), "outDir": str(tmp_path / "out")}
    said = ranks.run(refused, 4, options)
    assert len(set(said)) == 1
    assert said[0].count("does not exist") == 1
    assert not (tmp_path / "out").exists()


def one_disk_full(group: dist.ProcessGroup, options: dict[str, str]) -> bool:
    from exactile.images.spool import PageSpool

    with pytest.MonkeyPatch.context() as patch:
        if dist.get_rank() == 1:
            patch.setattr(PageSpool, "append", no_room)
        return run_all(group, options)


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_of_one_rank_ends_the_image_on_all_and_leaves_nothing(
    ranks: Ranks, slides: Path, small_model: Path, tmp_path: Path
) -> None:
    given = {"inpDir": str(slides), "outDir": str(tmp_path), "model": str(small_model)}
    assert ranks.run(one_disk_full, 4, given) == [False] * 4
    assert files_in(tmp_path) == []
