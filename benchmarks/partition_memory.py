"""Peak memory of each of n ranks against that of one process on the whole volume.

    python benchmarks/partition_memory.py
    python benchmarks/partition_memory.py --extent 128 --ranks 2 4

Each row runs a narrow 3-D U-Net in processes of their own, one thread each: without gradients, or
one step of training (loss, gradients of all weights). `tensors` counts what is alive of everything
that PyTorch's operators allocate, without weights; `resident` is the kernel's peak of the process
less what it held before, with the scratch memory of kernels and of the communication. The bound is
1.2 times the whole's tensors over n, and the halos: in training all planes that the rank receives
on the way forward, which are kept for the way back, else those of the operator that gets most; and
as much again, since they are received into buffers before they lie at their places.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exactile.allocation import prepare
from exactile.models.unet3d import UNet3d
from exactile.partition import Mesh, distribute, even_cuts, partition

MESHES = {1: (1, 1, 1), 2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}
SPATIAL = (2, 3, 4)
ALLOWANCE = 1.2


@dataclass(frozen=True)
class Task:
    """What is run."""

    extent: tuple[int, ...]
    """Voxels (Z, Y, X) of the whole."""
    width: int
    """Channels at full resolution."""
    training: bool
    """Whether gradients are computed."""


@dataclass(frozen=True)
class Peak:
    """What one rank needed, in bytes."""

    tensors: int
    """Of all tensors at the same time."""
    resident: int
    """Of the process, beyond what it held before."""
    halos: int
    """Received and kept at the same time."""


class Alive(TorchDispatchMode):
    """Counts the bytes of all storages that operators make, for as long as they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def note(self, tensor: Tensor) -> None:
        """Count the storage of `tensor`, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return made


def objective(logits: Tensor, truth: Tensor) -> Tensor:
    margin = logits[:, 1] - logits[:, 0]
    return (F.softplus(margin) - margin * truth).sum() / truth.numel()


def measure(task: Task, mesh: Mesh) -> Peak:
    """Run `task` and return what this rank needed."""
    torch.manual_seed(0)
    network = UNet3d(base_width=task.width).train(task.training)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    cuts = [even_cuts(e, n, 8) for e, n in zip(task.extent, mesh.shape, strict=True)]
    sides = [c[i + 1] - c[i] for c, i in zip(cuts, mesh.coordinate, strict=True)]
    run = partition(network, mesh, SPATIAL)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Alive() as alive, torch.set_grad_enabled(task.training):
        volume = distribute(torch.randn(1, 1, *sides), mesh, SPATIAL)
        logits = run.split(volume)
        received = [entry.received for entry in mesh.journal.exchanges]
        if task.training:
            truth = distribute(torch.ones(1, *sides), mesh, (1, 2, 3))
            objective(logits, truth).backward()
    resident = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    halos = sum(received) if task.training else max(received, default=0)
    return Peak(alive.peak, resident, 2 * halos)


def serve(rank: int, ranks: int, store: str, task: Task, pipe: Connection) -> None:
    prepare()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, ranks), rank=rank, world_size=ranks)
    try:
        # The first call of everything loads libraries, which are no part of what is measured.
        measure(Task((16, 16, 16), 1, task.training), Mesh(MESHES[ranks]))
        pipe.send(measure(task, Mesh(MESHES[ranks])))
    finally:
        dist.destroy_process_group()


def peaks(task: Task, ranks: int) -> list[Peak]:
    """Return what each of `ranks` processes needed for `task`."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(ranks):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (rank, ranks, str(Path(folder) / "store"), task, theirs)
            process = context.Process(target=serve, args=arguments)
            process.start()
            theirs.close()
            started.append((process, ours))
        made: list[Peak] = [pipe.recv() for _, pipe in started]
        for process, _ in started:
            process.join()
    return made


def bound(whole: Peak, part: Peak, ranks: int) -> float:
    """Return the most bytes of tensors that one of `ranks` may need."""
    return ALLOWANCE * whole.tensors / ranks + part.halos


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extent", type=int, default=96, help="side of the volume, in voxels")
    parser.add_argument("--width", type=int, default=4, help="channels at full resolution")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], choices=MESHES)
    given = parser.parse_args(arguments)
    print(f"U-Net of base width {given.width} and 3 poolings, float32, on {given.extent}^3\n")
    print("| | ranks | mesh | tensors, MB | of whole / n | bound, MB | halos, MB | resident, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for training in (False, True):
        task = Task((given.extent,) * 3, given.width, training)
        (whole,) = peaks(task, 1)
        for ranks in (1, *given.ranks):
            worst = max(peaks(task, ranks) if ranks > 1 else [whole], key=lambda p: p.tensors)
            cells = [
                "training" if training else "inference",
                str(ranks),
                " x ".join(map(str, MESHES[ranks])),
                f"{worst.tensors / 1e6:.1f}",
                f"{worst.tensors * ranks / whole.tensors:.3f}",
                f"{bound(whole, worst, ranks) / 1e6:.1f}",
                f"{worst.halos / 1e6:.1f}",
                f"{worst.resident / 1e6:.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
