"""What is left: the least of machine, container and own limits; and sizes as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exactile.errors import SettingsError
from exactile.memory.available import (
    AUTO_SHARE,
    available_memory,
    available_on_host,
    memory_budget,
)
from exactile.memory.size import format_size, parse_size_in_bytes
from exactile.settings import SegmentSettings

CPU = torch.device("cpu")
GB = 10**9


def machine(root: Path, files: dict[str, object], groups: str = "0::/") -> Path:
    """A file system with 20 GB available, `files`, and a process in `groups`."""
    files = {
        "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {20 * GB // 1000} kB\n",
        "proc/self/cgroup": groups + "\n",
        **files,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return root


def test_without_any_limit_it_is_what_the_machine_has_available(tmp_path: Path) -> None:
    left = available_on_host(machine(tmp_path, {}))
    assert left.bytes == 20 * GB // 1000 * 1024
    assert left.sentence() == "20.5 GB of the machine's memory"


def test_a_container_of_version_2_is_its_limit_less_its_use_without_page_cache(
    tmp_path: Path,
) -> None:
    files = {
        "sys/fs/cgroup/memory.max": 8 * GB,
        "sys/fs/cgroup/memory.current": 5 * GB,
        "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {3 * GB}\nactive_file {GB}\n",
    }
    left = available_on_host(machine(tmp_path, files))
    assert left.bytes == 6 * GB
    assert "8.0 GB allowed to the container" in left.reason


def test_every_group_on_the_path_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a/memory.max": 3 * GB,
        "sys/fs/cgroup/a/memory.current": GB,
        "sys/fs/cgroup/a/b/memory.max": "max",
        "sys/fs/cgroup/a/b/memory.current": GB,
        "sys/fs/cgroup/a/b/memory.high": 9 * GB,
    }
    left = available_on_host(machine(tmp_path, files, "0::/a/b"))
    assert left.bytes == 2 * GB
    assert "control group /a" in left.reason


@pytest.mark.parametrize("seen", ["sys/fs/cgroup/memory/docker/x", "sys/fs/cgroup/memory"])
def test_version_1_is_understood_where_the_container_sees_its_own_part_only(
    tmp_path: Path, seen: str
) -> None:
    files = {
        f"{seen}/memory.limit_in_bytes": 4 * GB,
        f"{seen}/memory.usage_in_bytes": GB,
        f"{seen}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB // 2}\n",
    }
    root = machine(tmp_path, files, "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/")
    assert available_on_host(root).bytes == 4 * GB - GB // 2


def test_a_group_that_uses_more_than_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": GB, "sys/fs/cgroup/memory.current": 2 * GB}
    assert available_on_host(machine(tmp_path, files)).bytes == 0


def test_a_limit_of_the_process_itself_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (3 * GB, 3 * GB))
    status = {"proc/self/status": f"VmSize: {GB // 1024} kB\nVmData: 1024 kB\n"}
    left = available_on_host(machine(tmp_path, status))
    assert left.bytes == 3 * GB - GB // 1024 * 1024
    assert "ulimit -v" in left.reason


def test_this_machine_has_something_left() -> None:
    assert available_memory(CPU).bytes > 0


def test_auto_takes_most_of_it_in_coarse_steps_and_a_number_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    root = machine(tmp_path, {})
    budget = memory_budget("auto", CPU, root)
    assert budget.bytes <= AUTO_SHARE * available_on_host(root).bytes < budget.bytes + 2**28
    assert budget.bytes % 2**28 == 0
    assert memory_budget(5 * GB, CPU, root).bytes == 5 * GB


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * GB),
        ("8 gb", 8 * GB),
        ("8G", 8 * GB),
        ("8Gi", 8 * 2**30),
        ("512 MiB", 2**29),
        ("7.5GiB", 15 * 2**29),
        ("2e9", 2 * GB),
        ("2000000000", 2 * GB),
        ("1TB", 1000 * GB),
    ],
)
def test_sizes_are_read_in_decimal_and_binary_units(text: str, size: int) -> None:
    assert parse_size_in_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lots", "is not a size of memory"),
        ("-8GB", "is not a size of memory"),
        ("8XB", "is not a size of memory"),
        ("8iB", "is not a size of memory"),
        ("8,5GB", "is not a size of memory"),
        ("nan", "is not a size of memory"),
        ("8", r"is 8 bytes, but a run needs 64 MB at least"),
        ("1e99", "more memory than there can be"),
    ],
)
def test_what_is_no_size_or_too_little_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"--memory '{text}' .*{reason}"):
        SegmentSettings.from_options({"inpDir": "a", "outDir": "b", "memory": text})


@pytest.mark.parametrize(("text", "value"), [("", "auto"), ("auto", "auto"), ("4GB", 4 * GB)])
def test_the_setting_is_auto_or_bytes(text: str, value: object) -> None:
    settings = SegmentSettings.from_options({"inpDir": "a", "outDir": "b", "memory": text})
    assert settings.memory == value


def test_sizes_are_written_for_people() -> None:
    assert [format_size(n) for n in (64 * 10**6, GB, 2**33)] == ["64 MB", "1.0 GB", "8.6 GB"]
