"""TorchScript and torch.export: what is saved is loaded, and what cannot be run is named."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from format_networks import (
    FREE,
    FixedInside,
    FixedOutput,
    Small,
    TwoInputs,
    digest,
    noise,
    refuse,
    rewrite,
    same,
    write_exported,
    write_scripted,
    write_traced,
)
from torch import Tensor, nn

from exactile.locality import analyze
from exactile.models.formats import explain_fixed_size, open_network


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exported(tmp_path_factory.mktemp("exported") / "small.pt2", Small(), noise())


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


# What is right


@pytest.mark.parametrize("write", [write_scripted, lambda p, n: write_traced(p, n, noise())])
@pytest.mark.parametrize("name", ["small.pt", "small.ts", "model"])
def test_torchscript_gives_the_outputs_of_the_eager_network(
    tmp_path: Path, write: Callable[..., Path], name: str
) -> None:
    path = write(tmp_path / name, Small())
    loaded = open_network(path)
    assert same(loaded, Small(), noise())
    assert (loaded.format, loaded.name, loaded.version) == ("TorchScript", path.stem, "")
    assert (loaded.channels, loaded.dimensions) == (2, 2)
    assert loaded.sha256 == digest(path)
    assert loaded.before is loaded.after is loaded.classes is None
    assert not any(part.training for part in loaded.network.modules())
    assert not any(weight.requires_grad for weight in loaded.network.parameters())


def test_a_program_of_torch_export_gives_the_outputs_of_the_eager_network(exported: Path) -> None:
    loaded = open_network(exported)
    assert same(loaded, Small(), noise())
    assert (loaded.format, loaded.name) == ("torch.export", "small")
    assert (loaded.channels, loaded.dimensions) == (2, 2)
    assert loaded.sha256 == digest(exported)


def test_all_formats_show_the_same_locality(tmp_path: Path, exported: Path) -> None:
    expected = analyze(Small(), 2).locality
    traced = write_traced(tmp_path / "traced.pt", Small(), noise())
    for path in (exported, traced):
        assert analyze(open_network(path).network, 2).locality == expected


def test_a_frozen_module_is_loaded(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(network))
        torch.jit.save(frozen, tmp_path / "frozen.pt")
    loaded = open_network(tmp_path / "frozen.pt")
    assert same(loaded, frozen, noise(3))
    assert (loaded.channels, loaded.dimensions) == (3, 2)


def test_volumes_and_groups_are_counted(tmp_path: Path) -> None:
    volume = write_scripted(tmp_path / "volume.pt", Small(3, 2, dimensions=3))
    assert (open_network(volume).channels, open_network(volume).dimensions) == (3, 3)
    grouped = write_scripted(tmp_path / "grouped.pt", nn.Sequential(nn.Conv2d(6, 6, 3, groups=3)))
    assert open_network(grouped).channels == 6


class Normalizing(Small):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(nn.functional.pad((image.float() - 0.5) / 2.0, (1, 1, 1, 1)))


class Doubling(Small):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(torch.cat([image, image], dim=1))


def test_channels_are_told_only_where_the_first_convolution_takes_the_image(
    tmp_path: Path,
) -> None:
    known = write_traced(tmp_path / "known.pt", Normalizing(), noise())
    assert open_network(known).channels == 2
    unknown = write_traced(tmp_path / "unknown.pt", Doubling(4), noise())
    assert open_network(unknown).channels is None
    assert open_network(unknown).dimensions is None


def test_loading_warns_of_nothing_and_prints_nothing(
    tmp_path: Path, exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_scripted(tmp_path / "small.pt", Small())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_network(path)
        open_network(exported)
    assert capfd.readouterr() == ("", "")


# Signatures


def test_several_inputs_are_named(tmp_path: Path) -> None:
    said = "takes 2 inputs (image, mask)"
    traced = write_traced(tmp_path / "two.pt", TwoInputs(), noise(), noise(3))
    refuse(traced, said, "takes the image alone")
    path = tmp_path / "two.pt2"
    refuse(write_exported(path, TwoInputs(), noise(), noise(3), sizes=None), said)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_weights_of_another_type_are_named(tmp_path: Path, kind: torch.dtype) -> None:
    path = write_scripted(tmp_path / "half.pt", Small().to(kind))
    refuse(path, f"its weights are {str(kind)[6:]} (first.", "export model.float()")


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    network = Small()
    with torch.no_grad():
        network.last.bias[1] = torch.nan
    path = write_scripted(tmp_path / "nan.pt", network)
    refuse(path, "hold values that are not finite, among them last.bias")


# Fixed sizes


def test_a_program_without_dynamic_sizes_says_its_size(tmp_path: Path) -> None:
    path = write_exported(tmp_path / "fixed.pt2", Small(), noise(), sizes=None)
    refuse(path, "this export only takes 32 x 48 pixels; export it again with dynamic sizes")


def test_a_program_with_one_dynamic_side_says_so(tmp_path: Path) -> None:
    path = write_exported(tmp_path / "fixed.pt2", Small(), noise(), sizes=({3: FREE},))
    refuse(path, "this export only takes 32 x any pixels")


def test_a_program_with_a_largest_size_says_it(tmp_path: Path) -> None:
    sizes = ({2: 2 * torch.export.Dim("h", max=300), 3: FREE},)
    path = write_exported(tmp_path / "fixed.pt2", Small(), noise(), sizes=sizes)
    refuse(path, "this export only takes up to 600 pixels along Y")


def test_a_program_for_squares_says_so(tmp_path: Path) -> None:
    side = 2 * torch.export.Dim("side")
    path = write_exported(
        tmp_path / "square.pt2", Small(), noise(2, 32, 32), sizes=({2: side, 3: side},)
    )
    refuse(path, "sides depend on each other")


def test_the_size_of_a_traced_graph_is_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_traced(tmp_path / "traced.pt", FixedInside(), noise(2, 176, 176))
    network = open_network(path).network
    assert explain_fixed_size(network, 2, 2) == "this export only takes 176 x 176 pixels"
    path = write_traced(tmp_path / "oblong.pt", FixedInside(), noise(2, 48, 80))
    network = open_network(path).network
    assert explain_fixed_size(network, 2, 2) == "this export only takes 48 x 80 pixels"
    assert capfd.readouterr() == ("", "")


def test_the_size_of_a_graph_that_returns_one_size_is_found(tmp_path: Path) -> None:
    path = write_traced(tmp_path / "traced.pt", FixedOutput(), noise())
    said = "this export returns 32 x 48 pixels whatever the size of the image"
    assert explain_fixed_size(open_network(path).network, 2, 2) == said


@pytest.mark.parametrize("channels", [2, 5])
def test_no_size_is_made_up(tmp_path: Path, channels: int) -> None:
    network = open_network(write_scripted(tmp_path / "free.pt", Small())).network
    assert explain_fixed_size(network, channels, 2) is None


# What would be executed


def test_torchscript_that_writes_files_is_refused_before_it_runs(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("")

    class Writing(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            torch.save(image, "written")
            return image

    path = write_scripted(tmp_path / "writing.pt", Writing())
    refuse(path, "its code calls torch.save, which is no operator of torch's networks")


def nodes(program: dict[str, Any]) -> list[dict[str, Any]]:
    return program["graph_module"]["graph"]["nodes"]


def call(target: str) -> Callable[[dict[str, Any]], None]:
    return lambda program: nodes(program)[0].update(target=target)


def guard(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda program: program.update(guards_code=[text])


def rename(program: dict[str, Any]) -> None:
    program["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [
        "image=print(1)"
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (call("torch.os.system"), "it calls torch.os.system"),
        (call("torchvision.os.system"), "it calls torchvision.os.system"),
        (call("_operator.methodcaller"), "it calls _operator.methodcaller"),
        (call("torch.ops.aten.from_file.default"), "it calls torch.ops.aten.from_file.default"),
        (guard("__import__('os').system('x')"), "an expression about sizes is"),
        (guard("L['image'].size()[2] == (lambda: 1)()"), "an expression about sizes is"),
        (guard("L['image'].__class__ == 1"), "an expression about sizes is"),
        (rename, "a name is 'image=print(1)'"),
    ],
)
def test_a_program_with_code_is_refused(
    tmp_path: Path, exported: Path, change: Callable[..., None], said: str
) -> None:
    path = rewrite(exported, tmp_path / "evil.pt2", {"models/model.json": change})
    refuse(path, said, "loading it could execute code from the file, which is never done here")


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("member", ["data/constants/model.pt", "data/weights/model.pt"])
def test_pickles_in_a_program_are_not_executed(tmp_path: Path, exported: Path, member: str) -> None:
    sprung = tmp_path / "sprung"
    path = rewrite(exported, tmp_path / "evil.pt2", {member: pickled((Trap(sprung),))})
    refuse(path, f"{member} holds other pickled objects than tensors")
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["custom_obj_0", "opaque_obj_0", "../../weight_0"])
def test_objects_among_the_constants_of_a_program_are_refused(
    tmp_path: Path, exported: Path, name: str
) -> None:
    def add(config: dict[str, Any]) -> None:
        entry = {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": None}
        config["config"]["object"] = entry

    member = "data/constants/model_constants_config.json"
    path = rewrite(exported, tmp_path / "evil.pt2", {member: add})
    refuse(path, f"{name} is a pickled object")


def test_compiled_code_in_a_program_is_refused(tmp_path: Path, exported: Path) -> None:
    path = rewrite(exported, tmp_path / "evil.pt2", {"data/aotinductor/model/a.so": b"\x7fELF"})
    refuse(path, "it holds compiled code")


# Damage


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_a_truncated_file_is_named(tmp_path: Path, exported: Path, kind: str, part: float) -> None:
    whole = exported if kind == "exported" else write_scripted(tmp_path / "whole", Small())
    content = whole.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(content[: int(part * len(content))])
    refuse(path, "is truncated or damaged")


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("models/model.json", b"{", "its graph is damaged"),
        ("models/model.json", b"{}", "cannot be loaded as a program of torch.export"),
        ("data/weights/model_weights_config.json", b"{}", "is damaged; export the network again"),
        ("data/weights/weight_0", b"abc", "cannot be loaded as a program of torch.export"),
        ("archive_version", b"99", "cannot be loaded as a program of torch.export"),
    ],
)
def test_a_damaged_program_is_named(
    tmp_path: Path, exported: Path, member: str, content: bytes, said: str
) -> None:
    refuse(rewrite(exported, tmp_path / "bad.pt2", {member: content}), said)


def test_damaged_torchscript_is_named(tmp_path: Path) -> None:
    whole = write_scripted(tmp_path / "whole.pt", Small())
    path = rewrite(whole, tmp_path / "bad.pt", {"data.pkl": b"\x80\x02."})
    refuse(path, "cannot be loaded as TorchScript")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "whole.pt", Small())
    twice = rewrite(path, tmp_path / "twice.pt", {"DATA.PKL": b"\x80\x02."})
    refuse(twice, "holds two members of one name")


def test_what_a_trap_would_do_is_what_the_tests_say(tmp_path: Path) -> None:
    """The traps of these tests do spring where pickles are trusted."""
    torch.load(io.BytesIO(pickled(Trap(tmp_path / "sprung"))), weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_a_folder_with_one_model_is_that_model(tmp_path: Path) -> None:
    torch.jit.script(Small().eval()).save(str(tmp_path / "only.pt"))
    (tmp_path / "README.md").write_text("the model of the folder")
    assert open_network(tmp_path).sha256 == open_network(tmp_path / "only.pt").sha256
