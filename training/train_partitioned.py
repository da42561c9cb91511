"""Train a 3-D U-Net on volumes that are split over processes, at full resolution.

    torchrun --nproc-per-node 2 training/train_partitioned.py --extent 64 64 64 --out OUT
    torchrun --nproc-per-node 2 training/train_partitioned.py --extent 64 64 64 --out OUT --resume

Each rank holds its part of every volume and of every map of the network, makes its part of the
synthetic volumes by itself, and never sees the whole; losses, gradients, batch statistics and Dice
are those of the whole volume (`exactile.partition`). Weights are the same on all ranks. The network
is that of Hou et al. (2019), arXiv 1909.03108: base width 32, 3 poolings.

OUT/log.jsonl has a line for each step, OUT/checkpoint.pt all that a run needs to go on with the
same bits, OUT/model the network for `exactile segment --model`. Everything follows from the
settings and the number of ranks. Without torchrun, one process trains on the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from nuclei import nuclei
from recomputation import recompute
from run_files import Records
from torch import Tensor
from torch.nn import functional as F

from exactile.allocation import prepare
from exactile.devices import choose_device
from exactile.errors import ExactileError, SettingsError
from exactile.geometry import Box, Interval
from exactile.models.saving import save_model
from exactile.models.unet3d import UNet3d
from exactile.partition import LostRank, Mesh, distribute, even_cuts, partition

SPATIAL = (2, 3, 4)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Task:
    """What decides the curve; a checkpoint of another task is not resumed."""

    extent: tuple[int, ...]
    """Voxels (Z, Y, X) of each volume."""
    width: int
    """Channels at full resolution."""
    depth: int
    """Number of poolings."""
    kernel: int
    """Side of the convolutions' kernels."""
    volumes: int
    """How many volumes to train on; one more validates."""
    rate: float
    """Learning rate of Adam."""
    dtype: str
    """Type of weights and maps."""
    seed: int
    """Seed of weights, volumes, and their order."""

    def __post_init__(self) -> None:
        """Refuse what no network can be made of."""
        step = 2**self.depth
        for axis, side in zip("ZYX", self.extent, strict=True):
            if side < step or side % step:
                near = max(side // step, 1) * step
                raise SettingsError(
                    f"--extent: {side} voxels along {axis} are no multiple of {step}, which "
                    f"{self.depth} poolings need; use {near} or {near + step}"
                )
        if self.kernel % 2 == 0:
            raise SettingsError(f"--kernel {self.kernel}: give an odd number, such as 3")

    @property
    def architecture(self) -> dict[str, int]:
        """The network's arguments."""
        return {
            "channels": 1,
            "classes": 2,
            "base_width": self.width,
            "depth": self.depth,
            "convolutions": 2,
            "kernel_size": self.kernel,
        }


def objective(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross entropy plus soft Dice loss, and the Dice of the labels.

    `logits` (1, 2, Z, Y, X) and `truth` (1, Z, Y, X) may be split: sums are those of the whole.
    """
    margin = logits[:, 1] - logits[:, 0]
    # Of two classes, the cross entropy is that of the difference of their logits.
    entropy = (F.softplus(margin) - margin * truth).sum() / truth.numel()
    nucleus, inside = torch.sigmoid(margin), truth.sum()
    overlap = (2 * (nucleus * truth).sum() + 1) / (nucleus.sum() + inside + 1)
    with torch.no_grad():
        found = (margin.detach() > 0).to(truth.dtype)
        dice = 2 * (found * truth).sum() / (found.sum() + inside).clamp(min=1)
    return entropy + 1 - overlap, dice


class Training:
    """Network, optimizer and random state of a task, on one rank."""

    def __init__(self, task: Task, mesh: Mesh, device: torch.device, forgetful: bool) -> None:
        self.task, self.mesh, self.device = task, mesh, device
        self.dtype = DTYPES[task.dtype]
        torch.manual_seed(task.seed)
        self.network = UNet3d(**task.architecture).to(device, self.dtype)
        if forgetful:
            recompute(self.network)
        self.run = partition(self.network, mesh, SPATIAL)
        # A bias before a normalisation has a gradient of rounding errors alone, some 1e-9: with
        # Adam's own eps of 1e-8 it would be walked about at full rate, on each mesh another way.
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=task.rate, eps=1e-5)
        self.draws = torch.Generator().manual_seed(task.seed)
        self.step = 0
        cuts = [
            even_cuts(side, ranks, 2**task.depth)
            for side, ranks in zip(task.extent, mesh.shape, strict=True)
        ]
        places = zip(cuts, mesh.coordinate, strict=True)
        self.box = Box(tuple(Interval(c[i], c[i + 1]) for c, i in places))

    def volume(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a volume, its z-score, and its truth, of which this rank makes its part."""
        image, truth = nuclei(self.box, 1000 * self.task.seed + number)
        parts = (torch.from_numpy(array).to(self.device, self.dtype) for array in (image, truth))
        volume, labels = (distribute(part[None, None], self.mesh, SPATIAL) for part in parts)
        return (volume - volume.mean()) / volume.std(correction=0), labels[:, 0]

    def descend(self) -> dict[str, float]:
        """Take one step and return loss and Dice before it."""
        number = int(torch.randint(self.task.volumes, (), generator=self.draws))
        contrast, brightness = (torch.randn(2, generator=self.draws) * 0.2).tolist()
        volume, truth = self.volume(number)
        self.network.train()
        loss, dice = objective(self.run.split(volume * (1 + contrast) + brightness), truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return {"loss": loss.item(), "dice": dice.item()}

    @torch.no_grad()
    def validate(self) -> float:
        """Return the Dice of the volume that is not trained on, with running statistics."""
        volume, truth = self.volume(self.task.volumes)
        self.network.eval()
        return objective(self.run.split(volume), truth)[1].item()

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {
            "task": asdict(self.task),
            "mesh": self.mesh.shape,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`. Raises SettingsError if it is of another task."""
        ours = asdict(self.task)
        theirs = {name: state["task"].get(name) for name in ours}
        other = [f"{name} {theirs[name]}" for name in ours if theirs[name] != ours[name]]
        if other:
            raise SettingsError(
                f"--resume: the checkpoint was made with {', '.join(other)}; give the same, or "
                "train into another folder"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.draws.set_state(state["draws"])
        self.step = state["step"]


def describe(training: Training, dice: float) -> dict[str, Any]:
    task = training.task
    return {
        "name": "synthetic-nuclei",
        "description": "Nuclei in a synthetic volume, against background.",
        "version": "1.0.0",
        "architecture": {"name": "unet3d", **task.architecture},
        "normalization": "zscore",
        "classes": ("background", "nucleus"),
        "license": "MIT",
        "data_source": "Synthetic volumes of training/nuclei.py.",
        "acknowledgement": "none",
        "training": {
            "script": Path(__file__).name,
            "seed": task.seed,
            "steps": training.step,
            "extent": " x ".join(map(str, task.extent)),
            "torch": torch.__version__,
        },
        "metrics": {"validation_dice": round(dice, 4)},
    }


def train(arguments: argparse.Namespace, device: torch.device) -> None:
    task = Task(
        tuple(arguments.extent),
        *(arguments.width, arguments.depth, arguments.kernel, arguments.volumes),
        *(arguments.rate, arguments.dtype, arguments.seed),
    )
    mesh = Mesh(arguments.mesh or (dist.get_world_size(), 1, 1))
    records = Records(arguments.out, mesh)
    state = records.begin(arguments.resume)
    training = Training(task, mesh, device, arguments.recompute)
    if state is not None:
        training.restore(state)
        if records.first and tuple(state["mesh"]) != mesh.shape:
            print(f"the mesh was {state['mesh']}: the curve is that one up to rounding", flush=True)
    records.keep(training.step)
    while training.step < arguments.steps:
        begun = time.monotonic()
        line: dict[str, float] = {"step": training.step + 1, **training.descend()}
        seconds = time.monotonic() - begun
        last = training.step == arguments.steps
        if last or training.step % arguments.every == 0:
            line["validation_dice"] = training.validate()
        records.log(line, seconds)
        if "validation_dice" in line:
            records.save(training.state())
            if records.first:
                save_network(arguments.out / "model", training, line["validation_dice"])
    tell_memory(mesh, device)


def save_network(folder: Path, training: Training, dice: float) -> None:
    trained = UNet3d(**training.task.architecture)
    trained.load_state_dict(training.network.state_dict())
    save_model(folder, trained, describe(training, dice))


def tell_memory(mesh: Mesh, device: torch.device) -> None:
    """Print each rank's peak: of its process, and on a GPU of its tensors there."""
    peaks = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]
    peaks += [torch.cuda.max_memory_allocated() // 2**20] if device.type == "cuda" else []
    told = mesh.all_gather(peaks)
    if mesh.rank == 0:
        print(json.dumps({"peak_mb_of_ranks": told}), flush=True)


def join(device: torch.device, seconds: float) -> None:
    """Join the process group that torchrun describes, or make one of this process alone."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
    alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group(backend, timeout=timedelta(seconds=seconds), **alone)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    def positive(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
        return number

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for log and checkpoint")
    parser.add_argument(
        "--extent", type=positive, nargs=3, default=(128, 128, 128), metavar=("Z", "Y", "X")
    )
    parser.add_argument(
        "--mesh",
        type=positive,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="ranks along each axis; all along Z if not given",
    )
    parser.add_argument("--width", type=positive, default=32, help="channels at full resolution")
    parser.add_argument("--depth", type=positive, default=3, help="poolings")
    parser.add_argument("--kernel", type=positive, default=3, help="side of the kernels, odd")
    parser.add_argument("--steps", type=positive, default=200, help="one volume each")
    parser.add_argument("--every", type=positive, default=20, help="steps between checkpoints")
    parser.add_argument("--volumes", type=positive, default=8, help="volumes to train on")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument(
        "--recompute", action="store_true", help="compute activations again on the way back"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, or cuda:N")
    parser.add_argument("--timeout", type=float, default=600, help="seconds to wait for a rank")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    prepare()
    given = parsed(arguments)
    try:
        device = choose_device(given.device)
        join(device, given.timeout)
        train(given, device)
    except ExactileError as error:
        # What every rank finds out is said once; who is lost, each says for itself.
        if isinstance(error, LostRank) or os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"error: {given.out} cannot be written ({error})", file=sys.stderr, flush=True)
        return 1
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    status = main()
    # gloo's threads let go of the last tensors when they come to it, for which they ask Python: if
    # that is being taken down by then, they abort the process after all is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
