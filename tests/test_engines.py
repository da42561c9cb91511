"""What every engine promises, and how one is chosen.

The engines are held to their own whole-image pass bit for bit (eager PyTorch is in
test_exactness.py), and to each other's labels.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_unet
from numpy.typing import NDArray
from torch import Tensor, nn

from exactile.bit_stability import check_bit_stability
from exactile.engine import Engine, EngineName, Precision, T
from exactile.engines import agreement, choose
from exactile.engines.agreement import DisagreementError, compare
from exactile.engines.choose import MAKERS, choose_engine
from exactile.engines.compiled import make_compiled_engine
from exactile.engines.eager import make_engine
from exactile.engines.locality import confirm_locality
from exactile.engines.openvino import MOST_MODELS, load_openvino, make_openvino_engine
from exactile.errors import ModelError, SettingsError
from exactile.finishing import OutputType
from exactile.forward import ForwardPass
from exactile.geometry import Box, Interval
from exactile.images import OmeTiffSink, OutputImage, Plane, open_source
from exactile.job import make_job
from exactile.locality import analyze
from exactile.models.loading import load_model
from exactile.models.model import Model
from exactile.normalization import fit_array, normalize
from exactile.padding import reflect
from exactile.preparation import prepare
from exactile.reference import whole_image_pass
from exactile.settings import SegmentSettings
from exactile.synthetic import slide
from exactile.tiling import plan

CPU = torch.device("cpu")
SHAPE = (910, 840)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
OTHERS = ["openvino", pytest.param("compile", marks=pytest.mark.slow)]
"""Compiling takes some ten seconds for each shape and precision."""
ENGINES = ["eager", *OTHERS]

engines = pytest.mark.parametrize("name", ENGINES)
precisions = pytest.mark.parametrize("precision", PRECISIONS)


@cache
def bundled() -> Model:
    return load_model()


@cache
def engine_of(name: EngineName, precision: Precision) -> Engine:
    """The bundled model's engine, made once for all tests."""
    model = bundled()
    return choose_engine(name, model.network, CPU, precision, model.analysis, model.channels)


@cache
def synthetic_image() -> NDArray[np.uint16]:
    return slide(Box.of_shape(SHAPE))[0][None]


@cache
def whole(name: EngineName, precision: Precision, output: OutputType) -> NDArray[Any]:
    return whole_image_pass(engine_of(name, precision), bundled(), synthetic_image(), output)


def in_windows(
    engine: Engine, model: Model, image: NDArray[Any], tile: int, output: OutputType
) -> NDArray[Any]:
    """The output (C, Y, X) for `image` (channels, Y, X), window by window, all in memory."""
    tiling = plan(image.shape[1:], model.locality, tile)
    assert tiling.count > 1
    index = (
        reflect(Interval(0, extent), side)
        for extent, side in zip(tiling.extent, tiling.shape, strict=True)
    )
    padded = normalize(image, fit_array(model.before, image))[(slice(None), *np.ix_(*index))]
    run = ForwardPass(engine, output, model.finishing)
    kept = (t.cut_to(Box.of_shape(tiling.output_shape)) for t in tiling.tiles())
    parts = [(t.zone, run(np.ascontiguousarray(padded[t.window.slices]), t.crop)) for t in kept]
    found = np.zeros((len(parts[0][1]), *tiling.output_shape), parts[0][1].dtype)
    for zone, pixels in parts:
        found[zone.slices] = pixels
    return found


@engines
@precisions
def test_logits_are_float32_contiguous_and_the_callers_own(
    name: EngineName, precision: Precision
) -> None:
    engine = engine_of(name, precision)
    assert (engine.name, engine.precision, engine.device) == (name, precision, CPU)
    noise = np.random.default_rng(0).standard_normal((2, 1, 240, 240), dtype=np.float32)
    first, second = noise[:1].copy(), noise[1:].copy()
    logits = engine.logits(first)
    assert (logits.shape, logits.dtype) == ((1, 2, 240, 240), torch.float32)
    assert logits.is_contiguous()
    before = logits.clone()
    other = engine.logits(second)
    assert not torch.equal(other, logits)
    assert torch.equal(logits, before)
    assert np.array_equal(first, noise[:1])
    # The caller may write to it, and gets the same bits again.
    with torch.inference_mode():
        logits.zero_()
    assert torch.equal(engine.logits(first), before)
    # What is lent for a call is the same, and so is what was copied of it in time.
    lent = engine.run(first, torch.clone)
    assert engine.run(second, lambda output: torch.equal(output, other))
    assert torch.equal(lent, before)


@pytest.mark.parametrize("name", OTHERS)
@precisions
@pytest.mark.parametrize("tile", [512, pytest.param(768, marks=pytest.mark.slow)])
def test_windows_give_the_bits_of_the_engines_own_whole_image_pass(
    name: EngineName, precision: Precision, tile: int
) -> None:
    found = in_windows(engine_of(name, precision), bundled(), synthetic_image(), tile, "logits")
    expected = whole(name, precision, "logits")
    assert expected.std() > 0.01
    assert torch.equal(torch.from_numpy(found), torch.from_numpy(expected))


@pytest.mark.parametrize("name", OTHERS)
def test_labels_of_the_bundled_model_are_those_of_eager_pytorch(name: EngineName) -> None:
    found, expected = (whole(n, "float32", "labels") for n in (name, "eager"))
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)


@engines
@precisions
def test_the_check_of_bit_stability_runs_with_every_engine(
    name: EngineName, precision: Precision
) -> None:
    tiling = plan((2000, 2000), bundled().locality, 512)
    assert check_bit_stability(engine_of(name, precision), tiling, 1).equal


@pytest.mark.parametrize("name", OTHERS)
@precisions
def test_another_engine_carries_what_its_comparison_showed(
    name: EngineName, precision: Precision
) -> None:
    engine = engine_of(name, precision)
    found = engine.agreement
    assert found is not None
    assert found.compared == 2 * found.window[0] * found.window[1]
    assert 0 < found.largest_difference < (1e-4 if precision == "float32" else 0.1)
    assert found.labels_different == 0
    assert "differ from those of eager PyTorch" in found.sentence()
    assert engine_of("eager", precision).agreement is None


@engines
def test_a_description_names_engine_and_device(name: EngineName) -> None:
    described = engine_of(name, "float32").describe()
    expected = {"eager": "cpu (", "compile": "torch.compile on cpu (", "openvino": "openvino 20"}
    assert described.startswith(expected[name])
    assert described.endswith(f"{torch.get_num_threads()} threads)")


def test_auto_is_openvino_on_a_cpu() -> None:
    assert engine_of("auto", "float32").name == "openvino"


def test_memory_is_held_for_one_shape_and_few_conversions() -> None:
    engine = make_openvino_engine(ready(Scripted()), CPU, "float32")
    shapes = [(1, 1, side, 32) for side in range(32, 32 + MOST_MODELS + 2)]
    for shape in shapes:
        engine.logits(np.zeros(shape, np.float32))
        assert list(engine.ready) == [shape]
    assert list(engine.models) == shapes[2:]
    engine.logits(np.zeros(shapes[2], np.float32))
    assert list(engine.models) == [*shapes[3:], shapes[2]]


class Exhausted:
    """What OpenVINO raises where memory is short: an allocation of 100 GB under a limit of 16."""

    def infer(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Exception from src/core/src/runtime/allocator.cpp:79: std::bad_alloc")


def test_want_of_memory_gives_up_what_is_held() -> None:
    engine = make_openvino_engine(ready(Scripted()), CPU, "float32")
    small, large = (np.ones((1, 1, side, side), np.float32) for side in (32, 64))
    before = engine.logits(small)
    engine.ready[large.shape] = Exhausted()
    with pytest.raises(RuntimeError, match="bad_alloc"):
        engine.logits(large)
    assert not engine.ready
    assert torch.equal(engine.logits(small), before)


class Scripted(nn.Module):
    """With a list, which TorchScript keeps as it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        results = [self.convolution(x)]
        results.append(results.pop().relu())
        return results[0]


class Odd(Scripted):
    """With an operator that OpenVINO does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.convolution(x))


class Wide(Scripted):
    """Returns more than it is given room for in bfloat16: rounding is amplified."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.convolution(x) * 20).sin()


def ready(network: nn.Module) -> nn.Module:
    for parameter in network.eval().parameters():
        parameter.requires_grad_(False)
    return network


def choose_for(name: EngineName, network: nn.Module, precision: Precision = "float32") -> Engine:
    network = ready(network)
    return choose_engine(name, network, CPU, precision, analyze(network, 1), 1)


def test_torchscript_runs_in_openvino() -> None:
    engine = choose_for("openvino", torch.jit.script(Scripted().eval()))
    assert engine.agreement is not None


@pytest.mark.slow
def test_torchscript_is_compiled_by_the_operators_that_it_calls() -> None:
    engine = choose_for("compile", torch.jit.script(Scripted().eval()))
    assert engine.name == "compile"
    assert engine.agreement is not None
    assert engine.agreement.labels_different == 0


def test_an_exported_program_runs_in_openvino() -> None:
    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    image = torch.zeros(1, 1, 64, 96)
    program = torch.export.export(ready(Scripted()), (image,), dynamic_shapes=(sizes,))
    network = program.module()
    engine = choose_engine("openvino", network, CPU, "float32", analyze(network, 1), 1)
    assert engine.agreement is not None


class ThroughViews(Scripted):
    """Changes feature maps through views, and fills one that it made."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.convolution(x)
        features[:, :1] += 1
        features[:, 1:].mul_(0.5).relu_()
        other = torch.empty_like(features)
        torch.add(features, 1, out=other)
        other[:, 0] = features[:, 1]
        return other


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be recorded would be exported instead, in more time."""
    monkeypatch.delattr(torch.export, "export")


@pytest.mark.usefixtures("no_export")
def test_changes_through_views_are_seen_by_openvino() -> None:
    agreement = choose_for("openvino", ThroughViews()).agreement
    assert agreement is not None
    assert agreement.largest_difference < 1e-5


class TakenApart(nn.Module):
    """Operators that OpenVINO has no rule for, and a tensor that `forward` makes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReplicationPad2d(1), nn.Conv2d(1, 4, 3), nn.PReLU(), nn.Hardswish()
        )
        self.outer = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        gain = torch.tensor([1.0, 0.5, 2.0, 1.5], dtype=x.dtype)
        return self.outer(self.inner(x) * gain[:, None, None])


class Trilinear(nn.Module):
    """Volumes at half the size and back: OpenVINO has a rule for this as a whole only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        half = nn.functional.max_pool3d(self.inner(x), 2)
        whole = nn.functional.interpolate(half, scale_factor=2, mode="trilinear")
        found: Tensor = self.outer(whole)
        return found


def test_what_openvino_takes_as_a_whole_only_is_exported() -> None:
    network = ready(Trilinear())
    engine = choose_engine("openvino", network, CPU, "float32", analyze(network, 1, 3), 1)
    assert engine.agreement is not None


@pytest.mark.usefixtures("no_export")
def test_what_openvino_has_no_rule_for_is_taken_apart() -> None:
    agreement = choose_for("openvino", TakenApart()).agreement
    assert agreement is not None
    assert agreement.largest_difference < 1e-5


def test_a_network_that_openvino_does_not_take_is_refused_or_run_by_eager(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ModelError, match=r"--engine openvino: .*special_bessel_j0.*--engine eager"):
        choose_for("openvino", Odd())
    with caplog.at_level(logging.INFO):
        assert choose_for("auto", Odd()).name == "eager"
    (record,) = (r for r in caplog.records if r.name.startswith("exactile"))
    assert record.levelno == logging.INFO
    assert "special_bessel_j0" in record.message


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("no_openvino")
def test_openvino_that_is_not_installed_is_named_with_what_installs_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(SettingsError, match=r"pip install 'exactile\[openvino\]'"):
        choose_for("openvino", Scripted())
    with caplog.at_level(logging.INFO):
        assert choose_for("auto", Scripted()).name == "eager"
    assert "pip install" in caplog.text


def test_openvino_is_refused_on_another_device_than_a_cpu() -> None:
    with pytest.raises(SettingsError, match="runs on a CPU, not on cuda:0"):
        make_openvino_engine(nn.Identity(), torch.device("cuda", 0), "float32")


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SettingsError, match=r"C\+\+ compiler.*no-such-compiler"):
        make_compiled_engine(Scripted(), CPU, "float32")


def test_a_folder_for_programs_that_cannot_be_written_is_named() -> None:
    def full(_: Tensor) -> Tensor:
        raise OSError(28, "No space left on device")

    engine = replace(make_compiled_engine(ready(Scripted()), CPU, "float32"), program=full)
    with pytest.raises(RuntimeError, match=r"cannot write its programs: .*No space left"):
        engine.logits(np.zeros((1, 1, 32, 32), np.float32))


class Fake:
    """Eager PyTorch under another name, whose results are changed."""

    def __init__(self, network: nn.Module, precision: Precision, change: Any) -> None:
        self.eager = make_engine(network, CPU, precision)
        self.network, self.device, self.precision = self.eager.network, CPU, precision
        self.agreement, self.name, self.change = None, "openvino", change

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        return self.change(self.eager.logits(windows))

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        return use(self.logits(windows))

    def describe(self) -> str:
        return "a fake"


WRONG = {
    "bfloat16 in secret": lambda x: x.bfloat16().float() * 1.01,
    "one number": lambda x: x.index_put([torch.tensor([0])] * 4, torch.tensor(9.0)),
    "NaN": lambda x: x * torch.nan,
    "another shape": lambda x: x[..., 1:],
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_result_than_eager_is_refused_by_name_and_not_taken_by_auto(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def make(network: nn.Module, _: torch.device, precision: Precision) -> Any:
        return Fake(network, precision, WRONG[kind])

    monkeypatch.setattr(choose, "MAKERS", MAKERS | {"openvino": make})
    with pytest.raises(DisagreementError, match=r"a fake .*eager PyTorch"):
        choose_for("openvino", Scripted())
    with caplog.at_level(logging.INFO):
        assert choose_for("auto", Scripted()).name == "eager"
    (record,) = (r for r in caplog.records if r.name.startswith("exactile"))
    assert record.levelno == logging.WARNING


def test_bfloat16_may_differ_by_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agreement.MOST_DIFFERENCE, "bfloat16", 1e-6)
    engine = make_openvino_engine(ready(Wide()), CPU, "bfloat16")
    assert compare(engine, engine.source, 1, (64, 64)).largest_difference > 1e-6


def test_a_zone_that_looks_too_far_through_the_engine_is_refused() -> None:
    network = ready(random_unet(depth=2, base_width=4))
    found = analyze(network, 1)
    honest = make_openvino_engine(network, CPU, "float32")
    confirm_locality(honest, found, 1)
    mean: Any = Fake(network, "float32", lambda x: x + x.mean() * 1e-3)
    with pytest.raises(DisagreementError, match="locality does not hold on a fake"):
        confirm_locality(mean, found, 1)


class Trembling:
    """Adds the size of the window, which is what another order of sums does."""

    name, device, precision, agreement = "openvino", CPU, "float32", None

    def __init__(self, network: nn.Module, size: float) -> None:
        self.network, self.size = network, size
        self.eager = make_engine(network, CPU, "float32")

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        return self.eager.logits(windows) * (1 + self.size * windows.shape[-1])

    def run(self, windows: NDArray[np.float32], use: Callable[[Tensor], T]) -> T:
        return use(self.logits(windows))

    def describe(self) -> str:
        return "a fake"


@pytest.mark.parametrize(("size", "taken"), [(0, "openvino"), (1e-6, "eager")])
def test_auto_prefers_what_is_bit_stable(
    size: float, taken: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.ome.tif"
    with OmeTiffSink(path, OutputImage((700, 700), np.dtype(np.uint8))) as sink:
        sink.write(Plane(), Box.of_shape((700, 700)), np.zeros((1, 700, 700), np.uint8))
    settings = {"inpDir": tmp_path, "outDir": tmp_path / "out", "engine": "eager", "tileSize": 512}
    job = make_job(SegmentSettings.from_options(settings))
    trembling: Any = Trembling(job.model.network, size)
    job.engines = (trembling, *job.engines)
    with open_source(path) as source:
        chosen = prepare(job, source, 1, {})
    assert chosen.engine.name == taken
    assert chosen.stability.equal
    assert ("a fake: NOT bit-stable here" in caplog.text) == (taken == "eager")


ALONE = """
import socket, sys
def refuse(*_): raise SystemExit("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import torch
from exactile.engines.choose import choose_engine
from exactile.locality import analyze
up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2, stride=2), up).eval()
found = analyze(network, 1)
engine = choose_engine("openvino", network, torch.device("cpu"), "float32", found, 1)
assert "openvino_telemetry" not in sys.modules
print(engine.name)
"""


def test_openvino_sends_writes_and_prints_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", ALONE],
        env=os.environ | {"HOME": str(home)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "openvino\n", "")
    assert list(home.iterdir()) == []


def test_loading_openvino_leaves_the_packages_of_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino_telemetry", socket)
    load_openvino()
    assert sys.modules["openvino_telemetry"] is socket


@pytest.fixture(autouse=True)
def _no_handler_is_left_on_the_root_logger() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    assert [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler] == [
        h for h in handlers if type(h) is logging.StreamHandler
    ]
    assert not logging.getLogger().disabled


@pytest.mark.slow
def test_many_shapes_are_compiled_and_none_is_run_uncompiled() -> None:
    torch.compiler.reset()
    network = ready(Scripted())
    engine = make_compiled_engine(network, CPU, "float32")
    for side in range(32, 44):
        noise = np.random.default_rng(side).standard_normal((1, 1, side, 32), dtype=np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(noise))
        assert torch.allclose(engine.logits(noise), expected, atol=1e-5)
