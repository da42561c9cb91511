"""How many threads there are, and what of another number of them is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import noise_image, write_image
from program import arguments, call

from exactile.control_groups import cpu_quota
from exactile.devices import limit_threads

NAME = "image.ome.tif"


def groups(root: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        ("0::/\n", {}, None),
        ("", {}, None),
        ("nonsense\n", {"sys/fs/cgroup/cpu.max": "x y z"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 0\n"}, None),
        (
            "0::/a/b\n",
            {
                "sys/fs/cgroup/a/cpu.max": "150000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            },
            1.5,
        ),
        (
            "3:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n",
            {f"{V1}/cpu.cfs_quota_us": "200000\n", f"{V1}/cpu.cfs_period_us": "100000\n"},
            2.0,
        ),
        (
            "3:cpu,cpuacct:/\n",
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_quota_of_cpus_is_the_least_of_all_groups(
    tmp_path: Path, lines: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(groups(tmp_path, lines, files)) == quota


@pytest.mark.parametrize(("quota", "threads"), [("50000", 1), ("100000", 1), ("199999", 1)])
def test_a_run_takes_no_more_threads_than_its_quota_has_cpus(
    tmp_path: Path, quota: str, threads: int
) -> None:
    root = groups(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota} 100000\n"})
    before = torch.get_num_threads()
    try:
        limit_threads(None, root)
        assert torch.get_num_threads() == threads
        limit_threads("3", root)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("engine", ["eager", "openvino"])
def test_another_number_of_threads_makes_again_only_what_depends_on_it(
    tmp_path: Path, small_model: Path, engine: str
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((300, 500)))
    words = arguments(
        tmp_path / "in", tmp_path / "out", model=small_model, engine=engine, tileSize=208
    )
    assert call(words, NUM_THREADS="1").code == 0
    before = (tmp_path / "out" / NAME).read_bytes()
    ended = call(words, NUM_THREADS="2")
    assert ended.code == 0
    assert (tmp_path / "out" / NAME).read_bytes() == before
    said = "1 and 2 threads give the same bits in windows of 208 x 208 px"
    assert (said in ended.log) == ("is there, and is made again" not in ended.log)
    assert ("1 and 2 threads give other bits" in ended.log) == ("made again: the" in ended.log)
