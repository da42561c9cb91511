"""What a pass takes: counted without data, and never under what it really takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import random_unet
from torch import nn

from exactile.engines.eager import make_engine
from exactile.errors import ModelError
from exactile.geometry import AxisLocality, Halo, Locality
from exactile.locality.unet import unet_locality
from exactile.memory.cost import PassCost, estimate_cost, measure_cost, probe_windows
from exactile.memory.liveness import live_bytes
from exactile.memory.peak import measure_peak
from exactile.memory.step import step_bytes

CPU = torch.device("cpu")
SMALL = unet_locality(depth=1, convolutions=1)
MB = 10**6


class InPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        y.relu_()
        return y[..., ::2].permute(0, 1, 3, 2)


class Chain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = x * 2
        return x


def test_views_and_writes_in_place_take_nothing() -> None:
    assert live_bytes(InPlace(), 3, (32, 16)) == 2 * 3 * 32 * 16 * 4


def test_what_is_not_needed_any_more_is_free() -> None:
    # The image is held by its caller; of the rest, an operator's input and output.
    assert live_bytes(Chain(), 1, (64, 64)) == 3 * 64 * 64 * 4


def test_a_concatenation_is_alive_beside_its_parts() -> None:
    network = random_unet(base_width=8, depth=1, convolutions=1)
    wide = live_bytes(network, 1, (256, 256))
    assert wide >= (8 + 8 + 16) * 256 * 256 * 4


def test_traced_and_exported_networks_count_as_eager_ones() -> None:
    network = random_unet(base_width=4, depth=2)
    image = torch.zeros(1, 1, 64, 64)
    eager = live_bytes(network, 1, (64, 64))
    assert live_bytes(torch.jit.trace(network, image), 1, (64, 64)) == pytest.approx(eager, rel=0.2)
    exported = torch.export.export(network, (image,)).module()
    assert live_bytes(exported, 1, (64, 64)) == pytest.approx(eager, rel=0.2)


class Fitted(nn.Module):
    """Brings what was pooled back to the size of the image, as U-Nets do with their skips."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.up = nn.ConvTranspose2d(1, 1, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        up = self.up(F.max_pool2d(x, 2))
        high, wide = x.size(2) - up.size(2), x.size(3) - up.size(3)
        if self.way == "pad":
            sides = [wide // 2, wide - wide // 2, high // 2, high - high // 2]
            return torch.cat([x, F.pad(up, sides)], 1)
        if self.way == "crop":
            return torch.cat([x[:, :, : up.size(2), : up.size(3)], up], 1)
        return torch.cat([x, F.interpolate(up, size=x.shape[2:], mode="bilinear")], 1)


@pytest.mark.parametrize("way", ["pad", "crop", "resize"])
def test_traced_networks_that_compute_with_sizes_are_counted(way: str) -> None:
    network = Fitted(way).eval()
    traced = torch.jit.trace(network, torch.zeros(1, 1, 32, 32), check_trace=False)
    for extent in ((64, 96), (45, 71)):
        assert live_bytes(traced, 1, extent) == pytest.approx(
            live_bytes(network, 1, extent), rel=0.3
        )
        assert step_bytes(traced, 1, extent)[0] == pytest.approx(
            step_bytes(network, 1, extent)[0], rel=0.3
        )


def test_half_the_precision_is_half_the_bytes_and_the_mode_is_left_alone() -> None:
    network = random_unet(base_width=4, depth=2).train()
    whole = live_bytes(network, 1, (64, 64))
    assert 2 * live_bytes(network.bfloat16(), 1, (64, 64)) == whole
    assert network.training


def test_a_network_that_cannot_run_is_an_error_with_its_size() -> None:
    with pytest.raises(ModelError, match="cannot be run on 65 x 64 px"):
        live_bytes(random_unet(base_width=4, depth=2), 1, (65, 64))


def test_the_estimate_grows_with_pixels_and_says_nothing_of_time() -> None:
    cost = estimate_cost(random_unet(base_width=4, depth=1, convolutions=1), SMALL, 1)
    assert cost.bytes((512, 512)) - cost.bytes((256, 512)) >= 256 * 512 * (4 + 4 + 8) * 4
    assert cost.seconds((512, 512)) is None


@pytest.mark.parametrize("alignment", [1, 3, 16, 512, 1024])
def test_probes_differ_and_lie_on_the_grid(alignment: int) -> None:
    axis = AxisLocality(alignment, Halo(0, 0), least=5 * alignment)
    small, large = probe_windows(Locality((axis, axis)))
    assert all(side % alignment == 0 and side >= axis.least for side in small + large)
    assert all(b > a for a, b in zip(small, large, strict=True))


def test_probes_are_made_smaller_for_a_small_budget() -> None:
    seen = []

    class Recording:
        name, device, precision, agreement = "eager", CPU, "float32", None

        def __init__(self) -> None:
            self.engine = make_engine(random_unet(base_width=4, depth=1), CPU, "float32")

        def logits(self, windows):
            seen.append(windows.shape[2:])
            return self.engine.logits(windows)

    engine = Recording()
    cost = measure_cost(engine, engine.engine.network, SMALL, 1, budget_bytes=8 * MB)
    assert max(max(shape) for shape in seen) < 512
    assert cost.seconds((1024, 1024)) > 0


def test_the_peak_of_a_piece_of_work_is_seen_though_it_is_over() -> None:
    def work() -> None:
        torch.ones(50 * MB // 4).sum()

    taken = measure_peak(CPU, work)
    assert taken is not None
    assert 45 * MB <= taken <= 80 * MB


def test_where_the_kernels_mark_is_forbidden_a_thread_looks(tmp_path: Path) -> None:
    for name in ("statm", "status"):
        (tmp_path / name).symlink_to(f"/proc/self/{name}")
    (tmp_path / "clear_refs").mkdir()

    def work() -> None:
        kept = torch.ones(50 * MB // 4)
        for _ in range(50):
            kept.mul_(1.0)

    taken = measure_peak(CPU, work, tmp_path)
    assert taken is not None
    assert 40 * MB <= taken <= 80 * MB


def test_where_nothing_is_known_the_work_is_done_all_the_same(tmp_path: Path) -> None:
    done = []
    assert measure_peak(CPU, lambda: done.append(1), tmp_path) is None
    assert done == [1]


def test_a_cost_is_a_line() -> None:
    cost = PassCost(100, 2.0, 1.0, 0.5)
    assert cost.bytes((10, 10)) == 300
    assert cost.seconds((10, 10)) == 51


@pytest.mark.parametrize(
    ("engine", "precision", "width", "side"),
    [
        ("eager", "float32", 16, 1216),
        pytest.param("eager", "float32", 0, 1600, marks=pytest.mark.slow),
        pytest.param("eager", "float32", 32, 1600, marks=pytest.mark.slow),
        pytest.param("eager", "bfloat16", 16, 1600, marks=pytest.mark.slow),
        pytest.param("eager", "bfloat16", 32, 1600, marks=pytest.mark.slow),
        pytest.param("openvino", "float32", 0, 1600, marks=pytest.mark.slow),
        pytest.param("openvino", "float32", 16, 1600, marks=pytest.mark.slow),
        pytest.param("openvino", "float32", 32, 1600, marks=pytest.mark.slow),
    ],
)
def test_a_pass_takes_no_more_than_predicted_and_not_much_less(
    engine: str, precision: str, width: int, side: int
) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino")
    script = Path(__file__).with_name("cost_probe.py")
    words = [sys.executable, str(script), engine, precision, str(width), str(side)]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    assert found["taken"] <= found["predicted"] <= 1.5 * found["taken"]
