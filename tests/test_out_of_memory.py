"""Memory that runs out in the middle of a run: the rest is done in smaller windows, same bits."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import noise_image, write_image, write_random_model
from numpy.typing import NDArray
from program import Ended, arguments, call, files_in
from torch import Tensor

from exactile.engines.eager import EagerEngine
from exactile.geometry import Box
from exactile.pipeline import Normalized
from exactile.recycling import Recycled

NAME = "image.ome.tif"
SHAPE = (2300, 1900)
WHOLE = "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_random_model(folder, base_width=4, depth=2)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / NAME, noise_image(SHAPE))
    return tmp_path


class Scarce:
    """Memory for windows of so many pixels, which becomes less at some passes."""

    def __init__(self, falls: dict[int, int]) -> None:
        self.falls = falls
        self.passes = 0
        self.most = 2**62
        self.refused: list[tuple[int, ...]] = []

    def logits(self, engine: EagerEngine, windows: NDArray[np.float32]) -> Tensor:
        self.passes += 1
        self.most = self.falls.get(self.passes, self.most)
        if windows.shape[-1] * windows.shape[-2] > self.most:
            self.refused.append(windows.shape[-2:])
            raise RuntimeError(WHOLE)
        return LOGITS(engine, windows)


LOGITS = EagerEngine.logits


def run(folder: Path, model: Path, out: str, **options: Any) -> Ended:
    options = {"engine": "eager", "tileSize": 1216} | options
    return call(arguments(folder / "in", folder / out, model=model, **options))


def scarce(monkeypatch: pytest.MonkeyPatch, falls: dict[int, int]) -> Scarce:
    memory = Scarce(falls)
    monkeypatch.setattr(EagerEngine, "logits", lambda self, windows: memory.logits(self, windows))
    return memory


def certificate(folder: Path, out: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (folder / out / "certificates" / f"{NAME}.json").read_text()
    )
    return content


@pytest.mark.parametrize(
    ("output", "seed"),
    [
        ("labels", 0),
        pytest.param("labels", 1, marks=pytest.mark.slow),
        pytest.param("probabilities", 2, marks=pytest.mark.slow),
    ],
)
def test_memory_that_runs_out_at_any_window_changes_no_bit(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, output: str, seed: int
) -> None:
    assert run(folder, model, "undisturbed", outputType=output).code == 0
    rng = random.Random(seed)
    first = rng.randint(3, 7)
    # Room for windows of 700 px, and later of 500.
    memory = scarce(monkeypatch, {first: 700**2, first + rng.randint(1, 3): 520**2})
    ended = run(folder, model, "scarce", outputType=output)
    assert ended.code == 0, ended.log
    assert memory.refused
    assert "memory ran out with windows of 1216 x 1216" in ended.log
    names = [(folder / out / NAME).read_bytes() for out in ("undisturbed", "scarce")]
    assert names[0] == names[1]
    found = certificate(folder, "scarce")
    assert found["plan"]["windows_before"][0] == [1216, 1216]
    assert found["plan"]["window"][0] * found["plan"]["window"][1] <= 700**2
    assert found["bit_stability"]["equal"]


def test_planes_after_the_one_that_ran_short_are_exact_too(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "in" / NAME, noise_image((3, 700, 600)))
    options = {"tileSize": 320, "outputType": "logits"}
    assert run(tmp_path, model, "undisturbed", **options).code == 0
    scarce(monkeypatch, {4: 300 * 320})
    ended = run(tmp_path, model, "scarce", **options)
    assert ended.code == 0, ended.log
    assert "memory ran out" in ended.log
    names = [(tmp_path / out / NAME).read_bytes() for out in ("undisturbed", "scarce")]
    assert names[0] == names[1]


def test_windows_that_cannot_be_read_for_want_of_memory_shrink_too(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, model, "undisturbed").code == 0
    read = Normalized.read

    def read_small(self: Normalized, window: Box, *free: Recycled) -> NDArray[np.float32]:
        if window.size > 700**2 and window.start != (0, 0):
            raise MemoryError("no room for the window")
        return read(self, window, *free)

    monkeypatch.setattr(Normalized, "read", read_small)
    ended = run(folder, model, "scarce")
    assert ended.code == 0, ended.log
    assert "no room for the window" in ended.log
    assert (folder / "undisturbed" / NAME).read_bytes() == (folder / "scarce" / NAME).read_bytes()


def test_a_run_that_goes_on_with_less_memory_takes_smaller_windows(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"tileSize": "auto", "memory": "600MB"}
    counting = scarce(monkeypatch, {})
    assert run(folder, model, "undisturbed", **options).code == 0
    plan = certificate(folder, "undisturbed")["plan"]
    assert plan["windows"] > 2
    last = scarce(monkeypatch, {})

    def stumble(self: EagerEngine, windows: NDArray[np.float32]) -> Tensor:
        if last.passes + 1 == counting.passes:
            raise RuntimeError("the network stumbles")
        return last.logits(self, windows)

    monkeypatch.setattr(EagerEngine, "logits", stumble)
    assert run(folder, model, "scarce", **options).code == 1
    monkeypatch.setattr(EagerEngine, "logits", LOGITS)
    ended = run(folder, model, "scarce", **options | {"memory": "90MB"})
    assert ended.code == 0, ended.log
    assert "goes on from" in ended.log
    assert "smaller than an earlier run had" in ended.log
    assert (folder / "undisturbed" / NAME).read_bytes() == (folder / "scarce" / NAME).read_bytes()
    found = certificate(folder, "scarce")["plan"]
    assert found["windows_before"] == [plan["window"]]


def test_a_check_without_memory_takes_smaller_windows_at_once(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, model, "undisturbed").code == 0
    scarce(monkeypatch, {1: 700**2})
    ended = run(folder, model, "scarce")
    assert ended.code == 0, ended.log
    assert (folder / "undisturbed" / NAME).read_bytes() == (folder / "scarce" / NAME).read_bytes()


def test_without_memory_for_the_smallest_windows_the_image_fails_and_says_so(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scarce(monkeypatch, {3: 1000})
    ended = run(folder, model, "scarce")
    assert ended.code == 1
    assert "--memory" in ended.log
    assert "Traceback" not in ended.log
    assert not [name for name in files_in(folder / "scarce") if name.endswith(".ome.tif")]


@pytest.mark.slow
def test_a_run_that_shrank_and_died_goes_on_in_the_windows_it_had(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, model, "undisturbed").code == 0
    scarce(monkeypatch, {4: 700**2, 12: 1000})
    assert run(folder, model, "scarce").code == 1
    monkeypatch.setattr(EagerEngine, "logits", LOGITS)
    ended = run(folder, model, "scarce")
    assert ended.code == 0, ended.log
    assert (folder / "undisturbed" / NAME).read_bytes() == (folder / "scarce" / NAME).read_bytes()
    assert certificate(folder, "scarce")["plan"]["windows_before"]
