"""A volume through the 3-D U-Net on one device, out of core: memory, time, bits.

    python benchmarks/out_of_core.py --side 512 --megabytes 2048 --folder FOLDER

prints one line of JSON. `--in-memory` puts nothing away (the same parts: the same digest is to
come); `--whole` runs the network on the whole volume; `--processes` gives each part a process of a
gloo group, all in memory. The volume is noise, made plane by plane.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from exactile.allocation import prepare

prepare()

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

from exactile.fixed_order import FixedOrder  # noqa: E402
from exactile.geometry import Box  # noqa: E402
from exactile.memory.step import step_bytes  # noqa: E402
from exactile.models.unet3d import UNet3d  # noqa: E402
from exactile.partition import Mesh, distribute, partition  # noqa: E402
from exactile.partition.outofcore import Parts, choose_parts, run_in_parts  # noqa: E402
from exactile.partition.shelf import FileShelf, HostShelf  # noqa: E402


class Anonymous(threading.Thread):
    """Looks at the anonymous memory of the process: pages of files are the kernel's to drop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.01):
            self.peak = max(self.peak, anonymous())


def anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not say how much memory is anonymous")


def planes(box: Box, side: int) -> torch.Tensor:
    """Return noise for `box` of a volume, the same whatever the box."""
    made = np.empty(box.shape, np.float32)
    for at, z in enumerate(range(box.axes[0].start, box.axes[0].stop)):
        plane = np.random.default_rng(z).standard_normal((side, side), np.float32)
        made[at] = plane[box.slices[2:]]
    return torch.from_numpy(made)[None, None]


def network_of(base: int, depth: int) -> torch.nn.Module:
    torch.manual_seed(0)
    network = UNet3d(base_width=base, depth=depth)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.2, 0.6)
    return network.eval()


def process_of_part(rank: int, parts: Parts, store: str, pipe: Any, given: Any) -> None:
    """Run one part as a rank of a process group, and send the digests of its planes."""
    options = {"store": dist.FileStore(store, parts.count), "rank": rank}
    dist.init_process_group("gloo", world_size=parts.count, **options)
    mesh = Mesh(parts.mesh)
    run = partition(network_of(given.base, given.depth), mesh)
    with torch.inference_mode(), FixedOrder():
        made = run.split(distribute(planes(parts.box(mesh.coordinate), given.side), mesh))
    pipe.put(digests_of(Box(made.box.axes[2:]), made.local))
    dist.destroy_process_group()


def in_processes(parts: Parts, given: Any) -> dict[int, str]:
    """Return the digests of all planes, made by as many processes as there are parts."""
    context = multiprocessing.get_context("spawn")
    pipe: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        common = (parts, f"{folder}/store", pipe, given)
        ranks = [
            context.Process(target=process_of_part, args=(r, *common)) for r in range(parts.count)
        ]
        for rank in ranks:
            rank.start()
        made = [pipe.get() for _ in ranks]
        for rank in ranks:
            rank.join()
    return {z: digest for each in made for z, digest in each.items()}


def digests_of(box: Box, logits: torch.Tensor) -> dict[int, str]:
    """Return the digest of each plane of the logits (1, K, Z, Y, X) of slab `box`."""
    places = enumerate(range(box.axes[0].start, box.axes[0].stop))
    return {
        z: hashlib.sha256(logits[0, :, at].contiguous().numpy()).hexdigest() for at, z in places
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--base", type=int, default=2)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=32, help="the budget, in MiB")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--parts", type=int, default=0, help="slabs")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--in-memory", action="store_true")
    kind.add_argument("--whole", action="store_true")
    kind.add_argument("--processes", action="store_true")
    given = parser.parse_args()
    side, budget = given.side, given.megabytes << 20
    network = network_of(given.base, given.depth)
    extent, f = (side,) * 3, 2**given.depth
    step, all_steps = step_bytes(network, 1, extent)
    parts = choose_parts(extent, (f,) * 3, step, 4 * step // given.parts if given.parts else budget)
    output = np.memmap(given.folder / "labels.raw", np.uint8, "w+", shape=extent)

    def write(box: Box, logits: torch.Tensor) -> None:
        output[box.slices[1:]] = logits[0].argmax(0).to(torch.uint8).numpy()
        digests.update(digests_of(box, logits))

    digests: dict[int, str] = {}
    watch, begun, before = Anonymous(), time.monotonic(), anonymous()
    watch.start()
    facts: dict[str, Any] = {"side": side, "base": given.base, "depth": given.depth}
    if given.whole:
        with torch.inference_mode(), FixedOrder():
            write(Box.of_shape(extent), network(planes(Box.of_shape(extent), side)))
    elif given.processes:
        digests |= in_processes(parts, given)
        facts |= {"parts": parts.mesh}
    else:
        shelf = HostShelf() if given.in_memory else FileShelf(given.folder)
        most = 2**62 if given.in_memory else budget
        traffic = run_in_parts(network, parts, lambda b: planes(b, side), write, most, shelf)
        shelf.close()
        facts |= {"parts": parts.mesh, "maps_at_hand_mb": traffic.peak >> 20}
        facts |= {"moved_mb": traffic.moved >> 20}
    watch.over.set()
    logits = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode())
    print(
        json.dumps(
            facts
            | {
                "budget_mb": budget >> 20,
                "step_mb": step >> 20,
                "all_steps_mb": all_steps >> 20,
                "anonymous_peak_mb": (watch.peak - before) >> 20,
                "seconds": round(time.monotonic() - begun, 1),
                "logits": logits.hexdigest()[:16],
                "labels": hashlib.sha256(output).hexdigest()[:16],
            }
        )
    )


if __name__ == "__main__":
    main()
