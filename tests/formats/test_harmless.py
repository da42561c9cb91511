"""No code in a model's file ever runs: each payload here would leave a file, and none is left.

The payloads are real. What each does where files are trusted is tried at the end.
"""

from __future__ import annotations

import ctypes
import io
import json
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from format_networks import Small, noise, refuse, rewrite, same, write_exported, write_scripted
from torch import Tensor, nn

from exactile.errors import ModelError
from exactile.isolation import Tell
from exactile.models.formats import open_network
from exactile.models.formats.exported_archive import harmless_archive
from exactile.models.formats.operators import OPERATORS, is_operator
from exactile.models.formats.script_archive import harmless_script
from exactile.models.formats.script_code import ForbiddenError, check_code
from exactile.models.formats.trial import try_out

MODEL = "models/model.json"


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


class Saving(Small):
    """Writes a file when it runs."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    def forward(self, image: Tensor) -> Tensor:
        torch.save("any text", self.target)
        fine = torch.relu(self.first(image))
        return self.last(torch.cat([fine, fine], dim=1))


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("scripted") / "small.pt", Small())


@pytest.fixture(scope="module")
def saving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saving")
    return write_scripted(folder / "saving.pt", Saving(str(folder / "sprung")))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exported(tmp_path_factory.mktemp("exported") / "small.pt2", Small(), noise())


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def recoded(source: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """Copy TorchScript with all of its code changed."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith(".py") else content)
    return target


def without(source: Path, target: Path, member: str) -> Path:
    """Copy an archive without the member of this name in any case."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for name in old.namelist():
            if name.partition("/")[2].lower() != member.lower():
                new.writestr(name, old.read(name))
    return target


# TorchScript

WAYS = {
    "by name": "torch.save(",
    "by getattr": 'getattr(torch, "save")(',
    "by a name in two strings": 'getattr(torch, "sa" "ve")(',
    "by a name in an escape": 'getattr(torch, "\\x73ave")(',
    "by the space of its operator": "ops.aten.save(",
    "by getattr of the space": 'getattr(ops.aten, "save")(',
    "by getattr of the spaces": 'getattr(getattr(ops, "aten"), "save")(',
    "behind brackets": "(torch.save)(",
    "behind brackets twice": "((torch).save)(",
    "over two lines": "torch.\\\n    save(",
    "behind a comment": "torch.save( # text\n   ",
    "as a method": '("any text").save(',
    "of another space": "ops.inductor._mm_plus_mm(",
    "of a library": "ops.c10d.broadcast_(",
    "of Python": "ops.prim.PythonOp(",
    "of quantised networks": "ops.quantized.conv2d_prepack(",
    "of another process": "ops.prim.rpc_async(",
    "of a fork": "fork(",
    "that prints": "ops.prim.Print(",
    "that opens": "torch.from_file(",
    "of a class of torch": "__torch__.torch.classes.dist_c10d.FileStore(",
    "of a class that is not there": "__torch__.Other.save(",
    "of Unicode that is read as it": "torch.\u017fave(",
    "of wide letters": "torch.\uff53ave(",
}


@pytest.mark.parametrize("way", WAYS)
def test_an_operator_that_is_not_listed_is_not_called(
    tmp_path: Path, saving: Path, way: str
) -> None:
    path = recoded(
        saving, tmp_path / "evil.pt", lambda c: c.replace(b"torch.save(", WAYS[way].encode())
    )
    refuse(path, "its code ", "export the network again")
    assert not (saving.parent / "sprung").exists()


ALIASES = {
    "torch": ("f = torch", "f.save("),
    "an operator": ("f = torch.save", "f("),
    "a space": ("f = ops.aten", "f.save("),
    "a word of the language": ("f = getattr", 'f(torch, "save")('),
    "a tuple": ("f = (torch, 1)", "f[0].save("),
    "a list": ("f = [torch.save]", "f[0]("),
    "a condition": ("f = torch if True else torch", "f.save("),
    "a loop": ("for f in [torch]:\n      pass", "f.save("),
    "another name first": ("f = __torch__.Saving\n    f = torch.save", "f("),
}


@pytest.mark.parametrize("alias", ALIASES)
def test_no_other_name_leads_to_an_operator(tmp_path: Path, saving: Path, alias: str) -> None:
    before, call = ALIASES[alias]

    def change(code: bytes) -> bytes:
        lines = code.decode().split("\n")
        places = [n for n, line in enumerate(lines) if "torch.save(" in line]
        for place in places:
            lines[place] = f"    {before}\n{lines[place].replace('torch.save(', call)}"
        return "\n".join(lines).encode()

    refuse(recoded(saving, tmp_path / "evil.pt", change), "its code ")
    assert not (saving.parent / "sprung").exists()


def test_methods_that_run_while_a_file_is_loaded_are_refused(tmp_path: Path, saving: Path) -> None:
    sprung = saving.parent / "sprung"
    loading = (
        "class Saving(Module):",
        "  def __setstate__(self: __torch__.Saving, state: int) -> NoneType:\n"
        f'    _0 = torch.save("x", "{sprung}")\n    return None\n'
        "  def __getstate__(self: __torch__.Saving) -> int:\n    return 1\n",
    )

    def change(code: bytes) -> bytes:
        return code.decode().replace(loading[0] + "\n", "\n".join(loading)).encode()

    refuse(recoded(saving, tmp_path / "evil.pt", change), "its code has a method __")
    assert not sprung.exists()


SYNTAX = {
    "imports": b"import os\n",
    "decorators": b"@x\ndef f(a: Tensor) -> Tensor:\n  return a\n",
    "functions without a name": b"def f(a: Tensor) -> Tensor:\n  return (lambda b: b)(a)\n",
    "texts with code in them": b'def f(a: Tensor) -> Tensor:\n  return f"{a}"\n',
    "comprehensions": b"def f(a: Tensor) -> Tensor:\n  return [b for b in a]\n",
    "attempts": b"def f(a: Tensor) -> Tensor:\n  try:\n    pass\n  finally:\n    pass\n",
    "names that are assigned": b"def f(a: Tensor) -> Tensor:\n  torch = a\n  return a\n",
    "arguments called torch": b"def f(torch: Tensor) -> Tensor:\n  return torch\n",
    "types of torch's classes": b"def f(a: __torch__.torch.classes.x.Y) -> int:\n  return 1\n",
    "unknown names": b"def f(a: Tensor) -> Tensor:\n  return open\n",
    "computed names": b"def f(a: Tensor, b: str) -> Tensor:\n  return getattr(a, b)\n",
    "methods called as an operator": b"class A(Module):\n  def save(self) -> int:\n    return 1\n",
    "zeros": b"a = 1\0\n",
    "carriage returns": b"a = 1\r\n",
    "depth": b"a = " + b"(" * 5000 + b"1" + b")" * 5000 + b"\n",
}


@pytest.mark.parametrize("kind", SYNTAX)
def test_what_networks_do_not_have_is_no_code(kind: str) -> None:
    with pytest.raises(ForbiddenError):
        check_code({"__torch__.py": SYNTAX[kind]})


def test_classes_under_the_name_of_torchs_own_are_refused() -> None:
    with pytest.raises(ForbiddenError, match="under the name of torch's own"):
        check_code({"__torch__/torch/classes/x.py": b"class Y(Module):\n  a : int\n"})


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl"])
def test_pickles_of_torchscript_build_tensors_alone(
    tmp_path: Path, scripted: Path, member: str
) -> None:
    evil = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
    path = rewrite(scripted, tmp_path / "evil.pt", {member: evil})
    refuse(path, f"its member {member} names ")
    custom = b"\x80\x02c__torch__.torch.classes.dist_c10d\nFileStore\n)\x81."
    refuse(
        rewrite(scripted, tmp_path / "custom.pt", {member: custom}), f"its member {member} names"
    )
    assert not (tmp_path / "sprung").exists()


def test_nothing_else_of_an_archive_is_kept(tmp_path: Path, scripted: Path) -> None:
    extra = {"extra/run.py": b"x", "code/__torch__.py.debug_pkl": b"x", "data/../x": b"x"}
    path = rewrite(scripted, tmp_path / "more.pt", extra | {"code/__torch__/x.so": b"x"})
    with ZipFile(io.BytesIO(harmless_script(path.read_bytes(), "m"))) as kept:
        names = kept.namelist()
    with ZipFile(io.BytesIO(harmless_script(scripted.read_bytes(), "m"))) as plain:
        assert names == plain.namelist()
    assert same(open_network(path), Small(), noise())


def test_networks_with_control_flow_and_functions_are_loaded(tmp_path: Path) -> None:
    class Busy(Small):
        def forward(self, image: Tensor) -> Tensor:
            kept: list[Tensor] = []
            for factor in range(2):
                if image.dim() == 4 and not image.is_complex():
                    kept.append(nn.functional.gelu(self.first(image)) * float(factor))
            fine = torch.stack(kept).sum(0)
            assert fine.shape[1] == 4, "four"
            low = nn.functional.interpolate(self.pool(fine), scale_factor=2.0, mode="bilinear")
            return self.last(torch.cat([fine, low], dim=1)).clamp(max=float("inf"))

    network = Busy()
    assert same(open_network(write_scripted(tmp_path / "busy.pt", network)), network, noise())


def test_operators_that_reach_further_than_memory_are_not_listed() -> None:
    others = ("save", "from_file", "set_", "set_data", "seed", "manual_seed", "_print", "wait")
    assert not any(is_operator(name) for name in others)
    registered = {schema.name for schema in torch._C._jit_get_all_schemas()}
    assert not [name for name in OPERATORS if not {f"aten::{name}", f"aten::{name}_"} & registered]


# Programs of torch.export


def inserted(operator: str, target: str, *given: dict[str, Any]) -> Callable[[Any], None]:
    """Return a change that puts a call before all others."""
    inputs = [{"name": "", "arg": argument, "kind": 1} for argument in given]
    node = {"target": target, "inputs": inputs, "outputs": [], "metadata": {}, "name": "evil"}
    node["is_hop_single_tensor_return"] = None

    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"].insert(0, node)

    return change


@pytest.mark.parametrize(
    "operator",
    ["torch.ops.aten.save.default", "torch.ops.aten.from_file.default", "torch.os.system"],
)
@pytest.mark.parametrize("kind", ["as_operator", "as_custom_obj", "as_string_to_argument"])
def test_an_operator_is_not_an_argument(
    tmp_path: Path, exported: Path, operator: str, kind: str
) -> None:
    sprung = tmp_path / "sprung"
    given = ({"as_bool": True}, {kind: operator}, {"as_string": "x"}, {"as_string": str(sprung)})
    target = "torch.ops.higher_order.wrap_with_set_grad_enabled"
    change = inserted(operator, target, *given)
    path = rewrite(exported, tmp_path / "evil.pt2", {MODEL: change})
    refuse(path, f"an operator is given '{kind.removeprefix('as_')}'")
    assert not sprung.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.save.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten.manual_seed.default",
        "torch.ops.prims.device_put.default",
        "torch.ops.higher_order.cond",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "torch.ops.inductor._mm_plus_mm.default",
        "torch.ops.load_library",
        "torch.ops.aten.add.Tensor.__class__",
        "_operator.call",
        "_operator.attrgetter",
        "math.__loader__",
        "torch.ops.aten.add.Tensor\n",
        "#import:os.system",
    ],
)
def test_a_program_calls_listed_operators_alone(
    tmp_path: Path, exported: Path, target: str
) -> None:
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    refuse(rewrite(exported, tmp_path / "evil.pt2", {MODEL: change}), "it calls ")


@pytest.mark.parametrize(
    "member",
    [
        "data/sample_inputs/model.pt",
        "data/sample_inputs/MODEL.PT",
        "data/Sample_Inputs/model.pt",
        "data/weights/MODEL.pt",
        "data/constants/Model.pt",
        "data\\constants\\model.pt",
        "data//constants/model.pt",
        "data/./constants/model.pt",
        "data/constants/model.pt/",
        "data/constants/opaque_obj_0",
        "data/constants/custom_obj_0",
        "extra/model.pt",
    ],
)
def test_members_of_other_names_are_left_out_unread(
    tmp_path: Path, exported: Path, member: str
) -> None:
    sprung = tmp_path / "sprung"
    path = rewrite(
        without(exported, tmp_path / "less.pt2", member),
        tmp_path / "evil.pt2",
        {member: pickled((Trap(sprung),))},
    )
    assert same(open_network(path), Small(), noise())
    assert not sprung.exists()
    with ZipFile(io.BytesIO(harmless_archive(path.read_bytes(), "m"))) as kept:
        assert kept.read("model/data/sample_inputs/model.pt") == b""
        assert sprung.name.encode() not in b"".join(map(kept.read, kept.namelist()))


@pytest.mark.parametrize("kind", ["scripted", "exported"])
def test_members_in_two_folders_are_refused(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "two"
    path.write_bytes(request.getfixturevalue(kind).read_bytes())
    with ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", pickled((Trap(tmp_path / "sprung"),)))
    refuse(path, "its members lie in several folders")


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, scripted: Path) -> None:
    path = tmp_path / "bomb.pt"
    path.write_bytes(scripted.read_bytes())
    with ZipFile(path, "a", ZIP_DEFLATED) as archive:
        archive.writestr("small/data/99", bytes(200 << 20))
    begun = time.monotonic()
    refuse(path, "as no model does")
    assert time.monotonic() - begun < 5


# What would end the process


class Listed(Small):
    """Makes a tensor of a list that is known only when it runs."""

    def forward(self, image: Tensor) -> Tensor:
        sizes = torch.tensor([float(image.shape[1]), 1.0, 2.0])
        fine = torch.relu(self.first(image))
        return self.last(torch.cat([fine, fine], dim=1)) + sizes.view(1, 3, 1, 1)


def test_a_network_that_would_end_the_process_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "listed.pt", Listed())
    refuse(
        path,
        "its code makes a tensor of a list of numbers that are computed",
        "keep them in a buffer (register_buffer)",
    )


def test_a_crash_while_a_network_is_tried_is_a_sentence() -> None:
    def load(tell: Tell) -> tuple[nn.Module, int | None, int | None]:
        tell("its operators were traced")
        ctypes.string_at(0)
        return Small(), 2, 2

    with pytest.raises(ModelError) as caught:
        try_out(load, 1, "model.pt")
    for said in (
        "model.pt: cannot be run: the process that tried it did not come to its end while its "
        "operators were traced",
        "SIGSEGV (memory that is not there)",
    ):
        assert said in str(caught.value)


def test_a_network_that_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exactile.models.formats.trial.try_out.__defaults__", (1,))

    class Loop(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            while bool(image.numel() > 0):
                image = image + 1
            return image

    refuse(write_scripted(tmp_path / "endless.pt", Loop()), "it was not done after 1 s")


# What the payloads do


def test_the_payloads_do_spring_where_files_are_trusted(
    saving: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    sprung = saving.parent / "sprung"
    torch.jit.load(str(saving))(noise())
    assert sprung.exists()
    sprung.unlink()
    getattr_way = recoded(
        saving,
        saving.parent / "getattr.pt",
        lambda code: code.replace(b"torch.save(", b'getattr(torch, "sa" "ve")('),
    )
    torch.jit.load(str(getattr_way))(noise())
    assert sprung.exists()
    sprung.unlink()
    evil = rewrite(
        exported,
        saving.parent / "evil.pt2",
        {"data/sample_inputs/model.pt": pickled((Trap(sprung),))},
    )
    torch.export.load(evil)
    assert sprung.exists()
    sprung.unlink()


def test_canonical_programs_have_no_second_meaning(tmp_path: Path, exported: Path) -> None:
    """Of two entries of one name in JSON, readers may take either: one is left."""
    with ZipFile(exported) as archive:
        name = next(n for n in archive.namelist() if n.endswith(MODEL))
        text = archive.read(name).decode()
    twice = text.replace('"target":', '"target": "torch.os.system", "target":', 1)
    path = rewrite(exported, tmp_path / "twice.pt2", {MODEL: twice.encode()})
    with ZipFile(io.BytesIO(harmless_archive(path.read_bytes(), "m"))) as kept:
        program = kept.read(f"model/{MODEL}")
    assert b"torch.os.system" not in program
    assert json.loads(program)
