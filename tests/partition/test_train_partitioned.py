"""Training on volumes split over ranks: the curve of one process, whatever interrupts it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from nuclei import nuclei
from partition_ranks import Ranks
from run_files import CHECKPOINT, LOG
from train_partitioned import Task, Training, main

from exactile.geometry import Box, Interval
from exactile.models.loading import load_model
from exactile.partition import Mesh

SCRIPT = Path(__file__).parents[2] / "training" / "train_partitioned.py"
TASK = Task((16, 16, 24), 2, 2, 3, volumes=2, rate=3e-3, dtype="float64", seed=3)
CPU = torch.device("cpu")
Curve = list[tuple[float, float]]


def trained(training: Training, steps: int) -> Curve:
    return [tuple(training.descend().values()) for _ in range(steps)]  # type: ignore[misc]


def curve(group: dist.ProcessGroup, task: Task, shape: tuple[int, ...], steps: int) -> Curve:
    return trained(Training(task, Mesh(shape, group), CPU, False), steps)


def furthest(one: Curve, other: Curve) -> float:
    """Return the greatest difference of losses; Dice counts labels, which must be the same."""
    assert [dice for _, dice in one] == [dice for _, dice in other]
    return max(abs(a - b) for (a, _), (b, _) in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (TASK, (2, 1, 1)),
        (TASK, (1, 2, 2)),
        # At the lowest level parts of one voxel, and halos of two.
        (replace(TASK, extent=(8, 16, 16), kernel=5), (2, 1, 1)),
    ],
    ids=["one axis", "two axes", "parts smaller than the halo"],
)
def test_the_curve_is_that_of_one_process(ranks: Ranks, task: Task, shape: tuple[int, ...]) -> None:
    (whole,) = ranks.run(curve, 1, task, (1, 1, 1), 6)
    for part in ranks.run(curve, int(np.prod(shape)), task, shape, 6):
        assert furthest(part, whole) < 1e-12


def test_in_float32_the_curve_stays_close_to_that_of_one_process(ranks: Ranks) -> None:
    task = replace(TASK, dtype="float32")
    (whole,) = ranks.run(curve, 1, task, (1, 1, 1), 6)
    parts = ranks.run(curve, 2, task, (2, 1, 1), 6)
    assert parts[0] == parts[1]
    for (loss, _), (expected, _) in zip(parts[0], whole, strict=True):
        assert abs(loss - expected) < 1e-5


def resumed(group: dist.ProcessGroup, forgetful: bool) -> tuple[Any, ...]:
    """Return curve and state without and with an interruption, and with recomputation."""
    mesh, task = Mesh((2, 1, 1), group), replace(TASK, dtype="float32")
    through = Training(task, mesh, CPU, False)
    first = trained(through, 4)
    before = Training(task, mesh, CPU, forgetful)
    second = trained(before, 2)
    kept = io.BytesIO()
    torch.save(before.state(), kept)
    after = Training(replace(task), mesh, CPU, forgetful)
    after.restore(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    second += trained(after, 2)
    return first, second, through.state(), after.state(), through.validate(), after.validate()


@pytest.mark.parametrize("forgetful", [False, True], ids=["", "recomputed"])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(
    ranks: Ranks, forgetful: bool
) -> None:
    for first, second, state, again, dice, dice_again in ranks.run(resumed, 2, forgetful):
        assert first == second
        assert dice == dice_again
        assert torch.equal(state["draws"], again["draws"])
        for name, value in state["network"].items():
            assert torch.equal(value, again["network"][name]), name
        moments = state["optimizer"]["state"]
        for number, known in again["optimizer"]["state"].items():
            assert all(torch.equal(v, moments[number][k]) for k, v in known.items())


def test_any_part_of_a_volume_is_made_by_itself() -> None:
    image, truth = nuclei(Box.of_shape((40, 50, 30)), 7)
    part = Box((Interval(3, 21), Interval(19, 50), Interval(0, 30)))
    made, labels = nuclei(part, 7)
    assert np.array_equal(made, image[part.slices])
    assert np.array_equal(labels, truth[part.slices])
    assert 0.05 < truth.mean() < 0.5
    assert image[truth == 1].mean() > image[truth == 0].mean() + 0.5


SMALL = ["--extent", "8", "8", "8", "--width", "1", "--depth", "1", "--volumes", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--extent", "64", "60", "64"], "60 voxels along Y are no multiple of 8"),
        (["--extent", "4", "8", "8"], "use 8 or 16"),
        (["--kernel", "2"], "give an odd number"),
        (["--mesh", "2", "1", "1"], "2 ranks but the process group has 1"),
        ([*SMALL, "--resume"], "there is no"),
        (["--device", "cuda:99"], "use --device auto"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = tmp_path / "out"
    assert main(["--out", str(out), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()


def test_a_checkpoint_is_not_written_over_and_not_resumed_by_another_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), *SMALL, "--steps", "2", "--every", "1"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert load_model(tmp_path / "model").name == "synthetic-nuclei"
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(arguments) == 1
    assert main([*arguments, "--resume", "--width", "2"]) == 1
    said = capsys.readouterr().err
    assert "give --resume" in said
    assert "the checkpoint was made with width 1" in said
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    assert main([*arguments, "--resume"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def launched(out: Path, *arguments: str) -> list[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*run, str(SCRIPT), "--out", str(out), *SMALL, "--every", "2", *arguments]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_to_the_same_files(tmp_path: Path) -> None:
    subprocess.run(launched(tmp_path / "through", "--steps", "6"), check=True)
    subprocess.run(launched(tmp_path / "killed", "--steps", "4"), check=True)
    # As if it had been killed in a later step: a line that no checkpoint knows.
    with (tmp_path / "killed" / LOG).open("a") as file:
        file.write(json.dumps({"step": 5, "loss": 0.0}) + "\n")
    subprocess.run(launched(tmp_path / "killed", "--steps", "6", "--resume"), check=True)
    for name in (LOG, "model/model.json", "model/weights.safetensors"):
        one, other = (tmp_path / folder / name for folder in ("through", "killed"))
        assert one.read_bytes() == other.read_bytes(), name
    # A pickle's bytes tell which equal strings were one object; its values are the same.
    states = [torch.load(tmp_path / folder / CHECKPOINT) for folder in ("through", "killed")]
    assert same(*states)


@pytest.mark.slow
def test_a_lost_rank_is_named_by_the_others(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        environment = {"RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), *SMALL]
        command += ["--steps", "100000", "--timeout", "20"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=os.environ | environment, **pipes))
    first, second = started
    assert first.stdout is not None
    first.stdout.readline()
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate(timeout=60)
    second.communicate()
    assert first.returncode == 1
    assert "rank 1 lost" in said
